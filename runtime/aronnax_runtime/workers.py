"""Processes that read and compile programs: a text may end one, and one can be killed, without harm to the runtime.

They are forked from a process that has imported jax and done nothing else, so that one is ready in a moment.
"""

import array
import ctypes
import logging
import os
import signal
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import msgpack

from .errors import CompileError, Fault, compile_fault, fault_from_wire
from .programtext import read_program
from .xla import DTYPES, Backend, Signature

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1
# Workers that are kept ready.
_KEPT = 2


class WorkerEnded(Exception):
    """The process is gone: the program crashed it, or it was killed."""


class Worker:
    """One process, and the way to it. Used by one thread at a time; `kill` is for any."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self._connection = connection
        self._process = os.pidfd_open(pid)
        self._lock = threading.Lock()

    def ask(self, request: dict[str, Any]) -> tuple[Signature, bytes]:
        """The signature of a program, and its executable if the worker compiles. Raises the worker's Fault,
        WorkerEnded."""
        try:
            _send(self._connection, msgpack.packb(request))
            answer = msgpack.unpackb(_receive(self._connection), strict_map_key=False)
        except (OSError, EOFError):
            raise WorkerEnded from None
        if "fault" in answer:
            raise fault_from_wire(answer["fault"])
        return unpack_signature(answer["signature"]), answer["executable"]

    def kill(self) -> None:
        with self._lock:
            if self._process < 0:
                return
            try:
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            except OSError:
                pass  # It has ended by itself.
            os.close(self._process)
            self._process = -1
        try:
            self._connection.shutdown(socket.SHUT_RDWR)  # Whoever waits for its answer stops waiting.
        except OSError:
            pass
        self._connection.close()


class Workers:
    """Made before the process has threads and devices."""

    def __init__(self, devices: str, compiles: bool, lock: int | None = None) -> None:
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        self._forking = threading.Lock()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        if os.fork() == 0:
            try:
                _follow(parent)
                _keep_only(theirs)
                _serve_forks(theirs, devices, compiles)
            finally:
                os._exit(0)
        theirs.close()
        self._nursery = ours

    def warm(self) -> None:
        """Has one ready for the first program."""
        self.give_back(self._fork())

    def take(self) -> Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._fork()

    def give_back(self, worker: Worker) -> None:
        with self._lock:
            if len(self._idle) < _KEPT:
                self._idle.append(worker)
                return
        worker.kill()

    def _fork(self) -> Worker:
        with self._forking:
            try:
                self._nursery.send(b"fork")
                data, descriptors, _, _ = socket.recv_fds(self._nursery, 64, 1)
            except OSError as error:
                raise Fault(
                    f"no compiler process can be started: {error.strerror}", "`npx aronnax runtime restart`."
                ) from None
        if not descriptors:
            raise Fault(
                f"no compiler process can be started: {data.decode() or 'its parent is gone'}",
                "Free memory or processes; then `npx aronnax runtime restart` if it does not go on.",
            )
        return Worker(socket.socket(fileno=descriptors[0]), int(data))


def pack_signature(signature: Signature) -> list[Any]:
    def types(avals: list[Any]) -> list[Any]:
        return [[list(shape), dtype.name] for shape, dtype in avals]

    return [types(signature.inputs), types(signature.outputs), signature.donated, signature.loops]


def unpack_signature(packed: list[Any]) -> Signature:
    inputs, outputs, donated, loops = packed

    def types(avals: list[Any]) -> list[Any]:
        return [(tuple(shape), DTYPES[name]) for shape, name in avals]

    return Signature(types(inputs), types(outputs), donated, loops)


# The other side


def _follow(parent: int) -> None:
    """Ends this process with the one that made it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _keep_only(connection: socket.socket) -> None:
    """Closes what was inherited, above all the lock of the runtime."""
    kept = connection.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 16)


def _serve_forks(nursery: socket.socket, devices: str, compiles: bool) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    here = os.getpid()
    while nursery.recv(16):
        try:
            theirs, ours = socket.socketpair()
            pid = os.fork()
        except OSError as error:
            nursery.send(str(error.strerror).encode())
            continue
        if pid == 0:
            try:
                _follow(here)
                _keep_only(ours)
                _first_to_go()
                _work(ours, devices, compiles)
            finally:
                os._exit(0)
        descriptor = array.array("i", [theirs.fileno()])
        nursery.sendmsg([str(pid).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)])
        theirs.close()
        ours.close()


def _first_to_go() -> None:
    """Where memory ends, the kernel is to take this process, not the one with the buffers."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass


def _work(connection: socket.socket, devices: str, compiles: bool) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    backend = Backend(devices) if compiles else None
    platform = devices.partition(":")[0]
    while True:
        try:
            request = msgpack.unpackb(_receive(connection))
        except (OSError, EOFError):
            return
        try:
            answer = _answer(backend, platform, request)
        except Fault as fault:
            answer = {"fault": fault.to_wire()}
        except Exception as error:
            answer = {"fault": compile_fault(error, request["name"]).to_wire()}
        _send(connection, msgpack.packb(answer))


def _answer(backend: Backend | None, platform: str, request: dict[str, Any]) -> dict[str, Any]:
    text, name = request["text"], request["name"]
    signature = read_program(text, platform, name)
    executable = b""
    if backend is not None:
        devices = tuple(backend.device(number) for number in request["devices"])
        backend.prepare(text)
        executable = backend.compile_to_bytes(text, devices, request["level"], request["flags"], name)
    return {"signature": pack_signature(signature), "executable": executable}


def _send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(data)))
    connection.sendall(data)


def _receive(connection: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    view, done = memoryview(data), 0
    while done < length:
        count = connection.recv_into(view[done:])
        if not count:
            raise EOFError
        done += count
    return bytes(data)


def ended_fault(name: str) -> CompileError:
    return CompileError(
        f"{name} ended the process that compiled it: it crashed XLA, or took more memory than there is",
        "Nothing else is lost. Look for what is nested or repeated very deeply in the program, and for operations with "
        "sizes that cannot be.",
    )
