"""The process: its socket, its clients, and what they share."""

import errno
import gc
import hmac
import logging
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any

import psutil

from . import PROTOCOL_VERSION, __version__
from .buffers import Buffer, Pins, held_by, memory_by_device, memory_table
from .compiler import Compiler
from .devicememory import take_share
from .errors import Fault, InvalidArgument, OutOfDeviceMemory
from .hostmemory import host_memory, keep_pages
from .lane import Runs
from .logs import begin_log
from .nvml import Nvml
from .operations import start_compiling
from .profiling import Profiler
from .reclaim import Reclaim
from .recovery import Kept, keep, restore
from .session import Session, refuse
from .supervisor import EXIT_IDLE, EXIT_SIGNALLED, EXIT_STOPPED, EXIT_UNREACHABLE
from .telemetry import Telemetry
from .workers import Workers
from .workspaces import Workspaces
from .xla import Backend, Cluster

log = logging.getLogger(__name__)

_MAX_CLIENTS = 256
# Clients that may wait to be let in; Linux takes less where net.core.somaxconn says so.
_BACKLOG = 4096
# Seconds between looks at whether the process is still wanted.
_LOOK_EVERY = 1.0
_TABLE_ROWS_IN_MESSAGE = 5
# Programs of one client that its status tells of.
_MOST_PROGRAMS = 200
# Over TCP, so many may be about to say who they are.
_MOST_STRANGERS = 64
# New objects after which the young ones are looked through.
_COLLECT_ABOVE = 10_000
# How long clients have to come back after a restart for what was kept of theirs.
_KEPT_SECONDS = 600


def serve(
    devices: str, base: Path, idle_timeout: float, cluster: Cluster | None = None, listen: tuple[str, int] | None = None
) -> int:
    """Runs until stopped; returns the exit status that tells why."""
    begin_log()
    # Elsewhere a program is compiled by the devices that it is for.
    compiles = devices.startswith("cpu") and cluster is None
    workers = Workers(devices, compiles)
    keep_pages(devices.startswith("cpu"))
    _raise_descriptor_limit()
    log.info("runtime %s starts on %s, pid %d", __version__, devices, os.getpid())
    try:
        nvml, memory_note = None, ""
        if devices.startswith("cuda"):
            nvml = Nvml.open(devices.partition(":")[2])
            memory_note = take_share(nvml)
        if cluster is not None:
            log.info("joins %s as node %d of %d, and waits for the others", *astuple(cluster))
        backend = Backend(devices, cluster)
    except Exception as error:
        log.exception("no devices")
        reason = str(error) or "jax has no support for them here"
        print(f"error: cannot use the devices {devices}: {reason}", file=sys.stderr)
        if isinstance(error, Fault) and error.fix:
            print(f"fix: {error.fix}", file=sys.stderr)
        return 1
    if nvml is not None and nvml.count != len(backend.local):
        nvml = None
    compiler = Compiler(backend, nvml.driver_version() if nvml is not None else None, workers, compiles)
    server = Server(backend, devices, base, idle_timeout, compiler, listen, nvml, memory_note)
    server.take_up()
    # What the imports have made stays. Later collections are the accepting thread's: one that looks at all that clients
    # hold would keep them waiting.
    gc.collect()
    gc.freeze()
    gc.disable()
    return server.run()


def _process_name(pid: int) -> str:
    """The command of another process, as far as this user may know."""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return f"process {pid}"


def _raise_descriptor_limit() -> None:
    """Each client takes a few descriptors, and so do the files that are read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            log.info("the limit of %d open files stays: %s", soft, error)


class Server:
    def __init__(
        self,
        backend: Backend,
        devices: str,
        base: Path,
        idle_timeout: float,
        compiler: Compiler,
        listen: tuple[str, int] | None = None,
        nvml: Nvml | None = None,
        memory_note: str = "",
    ) -> None:
        self.backend = backend
        self.device_set = devices
        self.socket_path = Path(f"{base}.sock")
        self.log_path = Path(f"{base}.log")
        self._listen = listen
        self._token = os.environ.get("ARONNAX_RUNTIME_TOKEN", "")
        self._driver: Session | None = None
        self.nvml = nvml
        self._memory_note = memory_note
        self.pins = Pins()
        self.workspaces = Workspaces()
        self._driver_version = self.nvml.driver_version() if self.nvml is not None else None
        self.compiler = compiler
        self.runs = Runs()
        self.reclaim = Reclaim()
        self.most_clients = _MAX_CLIENTS
        self._base = base
        self._kept: dict[str, Kept] = {}
        self._keeping = threading.Lock()
        self.telemetry = Telemetry(self)
        self.profiler = Profiler()
        self.started_at = time.time()
        self._started = time.monotonic()
        self._idle_timeout = idle_timeout
        self._idle_since = time.monotonic()
        self._sessions: set[Session] = set()
        # Those who have not said who they are, the first first.
        self._strangers: dict[Session, None] = {}
        self._lock = threading.Lock()
        self._exit = EXIT_STOPPED
        self._info = self._describe()

    # The socket

    def run(self) -> int:
        # The lock is held, so a socket that lies here is of a process that is gone.
        self.socket_path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.socket_path))
        self.socket_path.chmod(0o600)
        listener.listen(_BACKLOG)
        listeners = [listener]
        if self._listen is not None:
            listeners.append(socket.create_server(self._listen))
            log.info("nodes' clients may come to %s:%d", *self._listen)
        signal.signal(signal.SIGTERM, lambda *_: self.stop(EXIT_SIGNALLED))
        signal.signal(signal.SIGINT, lambda *_: self.stop(EXIT_SIGNALLED))
        self._wake_read, self._wake_write = socket.socketpair()
        # Given up to tell a client that there is no descriptor for it.
        self._spare = open(os.devnull)
        log.info("ready on %s: %d x %s", self.socket_path, len(self.backend.devices), self.backend.platform)
        try:
            self._accept(listeners)
        finally:
            self.socket_path.unlink(missing_ok=True)
        log.info("stopping")
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            try:
                session.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        logging.shutdown()
        # Threads may be inside XLA, whose destructors would wait for them.
        os._exit(self._exit)

    def _accept(self, listeners: list[socket.socket]) -> None:
        selector = selectors.DefaultSelector()
        for listener in listeners:
            selector.register(listener, selectors.EVENT_READ)
        selector.register(self._wake_read, selectors.EVENT_READ)
        number = 0
        while True:
            ready = {key.fileobj for key, _ in selector.select(_LOOK_EVERY)}
            if self._wake_read in ready:
                return
            for listener in listeners:
                if listener in ready:
                    number += 1
                    try:
                        self._admit(listener.accept()[0], number)
                    except (OSError, RuntimeError) as error:
                        self._turn_away(listener, error)
            if ready:
                continue
            self._keep_house()
            if self._is_idle():
                log.info("idle for %.0f s", self._idle_timeout)
                self._exit = EXIT_IDLE
                return
            if not self.socket_path.exists() and not self._sessions:
                log.info("%s is gone, and with it the way here", self.socket_path)
                self._exit = EXIT_UNREACHABLE
                return

    def _keep_house(self) -> None:
        """Collects what refers to itself: little, since what clients hold does not."""
        if gc.get_count()[0] > _COLLECT_ABOVE:
            gc.collect(1)
        if self._kept and time.monotonic() - self._started > _KEPT_SECONDS:
            with self._lock:
                self._kept.clear()

    def _turn_away(self, listener: socket.socket, error: Exception) -> None:
        """No descriptor or no thread is left for a client: those who are here go on, and it is told."""
        log.warning("cannot take a client: %s", error)
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            return
        self._spare.close()
        try:
            refuse(listener.accept()[0], f"the runtime cannot take another client: {error.strerror}", 0.2)
            self._spare = open(os.devnull)
        except OSError:
            time.sleep(0.1)  # Another thread was faster.

    def _admit(self, connection: socket.socket, number: int) -> None:
        if connection.family == socket.AF_UNIX:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, uid, _ = struct.unpack("3i", credentials)
            if uid != os.getuid():
                log.warning("refused process %d of user %d", pid, uid)
                refuse(connection, f"this runtime serves user {os.getuid()} only, not user {uid}")
                return
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = Session(self, connection, number)
        with self._lock:
            self._strangers[session] = None
            # Over TCP anybody may come, and be silent: the one who has been so longest makes room.
            silent = [other for other in self._strangers if other.connection.family != socket.AF_UNIX]
            crowd = silent[:-_MOST_STRANGERS] if len(silent) > _MOST_STRANGERS else []
        for other in crowd:
            try:
                other.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        try:
            threading.Thread(target=session.run, name=f"client-{number}", daemon=True).start()
        except RuntimeError as error:
            log.warning("cannot take a client: %s", error)
            self.forget(session)
            refuse(connection, f"the runtime cannot take another client: {error}", 0.2)

    def admit(self, session: Session) -> bool:
        """Whether there is room for a client that has shown who it is."""
        with self._lock:
            if len(self._sessions) >= _MAX_CLIENTS:
                return False
            self._strangers.pop(session, None)
            self._sessions.add(session)
            return True

    def take_up(self) -> None:
        """What the process before has kept of workspaces and clients."""
        try:
            workspaces, self._kept = restore(self._base, self.backend)
        except Exception:
            log.exception("what the runtime before has kept cannot be read")
            return
        for name, (buffers, metadata) in workspaces.items():
            self.workspaces.set(name, buffers, metadata, True)

    def resume(self, session: Session, token: Any) -> list[dict[str, Any]] | None:
        """Gives a client what it had in the process before; returns what of it is lost, None if nothing was kept."""
        if not isinstance(token, str):
            return None
        with self._lock:
            kept = self._kept.pop(token, None)
        if kept is None:
            return None
        session.token = token
        session.resumed = True
        session.buffers.update(kept.buffers)
        for number, job in kept.programs.items():
            start_compiling(session, number, job, {})
        return kept.lost

    def keep(self) -> dict[str, Any]:
        """Writes what can be read for the next process."""
        if len(self.backend.local) < len(self.backend.devices):
            raise InvalidArgument("the processes of several nodes cannot be restarted one by one", "Restart them all.")
        with self._keeping:
            with self._lock:
                sessions = [session for session in self._sessions if not session.gone]
            ended = [{"client": run.session.client, "program": run.program} for run in self.runs.all()]
            kept = keep(self._base, self.backend, sessions, self.workspaces.everything())
            log.info("keeps %d buffers, ends %s", kept["buffers"], ended)
            return {**kept, "ended": ended}

    def running(self) -> dict[str, Any]:
        """What runs and what is compiled, for whom: the oldest first."""
        now = time.time()

        def who(session: Session) -> dict[str, Any]:
            return {"client": session.client, "number": session.number, "gone": session.gone}

        return {
            "running": [
                {
                    **who(run.session),
                    "program": run.program,
                    "devices": run.devices,
                    "since": run.started * 1000,
                    "seconds": now - run.started,
                }
                for run in self.runs.all()
            ],
            "compiling": [
                {**who(session), "program": name, "seconds": seconds, "begun": begun}
                for session, name, seconds, begun in self.compiler.under_way()
            ],
        }

    def _is_idle(self) -> bool:
        with self._lock:
            busy = bool(self._sessions) or bool(self.workspaces.all())
            if busy:
                self._idle_since = time.monotonic()
        return bool(self._idle_timeout) and time.monotonic() - self._idle_since > self._idle_timeout

    def drive(self, session: Session) -> bool:
        """Whether a client may come in. With several nodes one may: two could send their programs to the nodes in
        different orders, and the nodes would wait for each other."""
        if len(self.backend.local) == len(self.backend.devices):
            return True
        with self._lock:
            if self._driver is None:
                self._driver = session
            return self._driver is session

    def knows(self, token: Any, connection: socket.socket) -> bool:
        """Whether a client may come in: over TCP it must show the token; a Unix socket has shown its user."""
        if connection.family == socket.AF_UNIX:
            return True
        return isinstance(token, str) and hmac.compare_digest(token.encode(), self._token.encode())

    def forget(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)
            self._strangers.pop(session, None)
            if self._driver is session:
                self._driver = None
            self._idle_since = time.monotonic()

    def stop(self, status: int = EXIT_STOPPED) -> None:
        """Ends the process soon; callable from any thread and from a signal handler."""
        self._exit = status
        self._wake_write.send(b"x")

    # What clients ask

    def info(self) -> dict[str, Any]:
        """RuntimeInfo of the protocol."""
        return self._info

    def _describe(self) -> dict[str, Any]:
        versions = {"runtime": __version__, "protocol": PROTOCOL_VERSION, **self.backend.versions()}
        if self._driver_version is not None:
            versions["driver"] = self._driver_version
        return {
            "platform": self.backend.platform,
            "devices": [self._describe_device(i, device) for i, device in enumerate(self.backend.devices)],
            "versions": versions,
            "pid": os.getpid(),
            "socket": str(self.socket_path),
            "log": str(self.log_path),
            "startedAt": self.started_at * 1000,
        }

    def _describe_device(self, number: int, device: Any) -> dict[str, Any]:
        described = {
            "id": number,
            "platform": self.backend.platform,
            "kind": device.device_kind,
            "process": device.process_index,
        }
        capability = getattr(device, "compute_capability", None)
        if capability is not None:
            described["computeCapability"] = str(capability)
        if device not in self.backend.local:
            return described
        limit = self.backend.memory_stats(device).get("limit")
        if limit is not None:
            described["memoryBytes"] = limit
        if self.nvml is not None:
            described["links"] = self.nvml.links(self.backend.local.index(device))
        return described

    def sessions(self) -> list[Session]:
        """Those of the clients that are attached."""
        with self._lock:
            return [session for session in self._sessions if not session.gone]

    def _buffers(self) -> list[Buffer]:
        """All buffers, each once."""
        with self._lock:
            sessions = list(self._sessions)
        found: dict[int, Buffer] = {}
        for session in sessions:
            for buffer in session.buffers.copy().values():
                found[id(buffer)] = buffer
        for held in self.workspaces.all().values():
            for buffer in held:
                found[id(buffer)] = buffer
        with self._lock:
            for kept in self._kept.values():
                found.update({id(buffer): buffer for buffer in kept.buffers.values()})
        return list(found.values())

    def memory(self) -> dict[str, Any]:
        """MemoryReport of the protocol."""
        buffers = self._buffers()
        totals = memory_by_device(buffers)
        devices = [
            {
                "id": self.backend.number(device),
                "byTag": dict(totals.get(device, {})),
                "buffers": sum(totals.get(device, {}).values()),
                **self.backend.memory_stats(device),
            }
            for device in self.backend.local
        ]
        return {"devices": devices, "table": memory_table(buffers), "host": host_memory()}

    def holders(self) -> list[dict[str, Any]]:
        """Who holds how much of each device: workspaces, clients (what is in no workspace), other processes on GPUs."""
        with self._lock:
            sessions = list(self._sessions)
        counted: set[int] = set()
        found = [held_by(name, "workspace", held, counted) for name, held in self.workspaces.all().items()]
        for session in sessions:
            held = session.buffers.copy().values()
            found.append(held_by(session.client, "client", held, counted, number=session.number))
        for holder in found:
            holder["devices"] = [
                {"id": self.backend.number(device), "bytes": size}
                for device, size in holder["devices"].items()
                if device in self.backend.local
            ]
        if self.nvml is not None:
            others: dict[int, list[dict[str, int]]] = {}
            for position, device in enumerate(self.backend.local):
                for pid, size in self.nvml.holders(position):
                    others.setdefault(pid, []).append({"id": self.backend.number(device), "bytes": size or 0})
            found += [
                {"kind": "process", "name": _process_name(pid), "number": pid, "buffers": 0, "devices": devices}
                for pid, devices in others.items()
            ]
        return found

    def programs(self) -> list[dict[str, Any]]:
        """The programs of the clients that are compiled, the newest of each client last."""
        with self._lock:
            sessions = list(self._sessions)
        found = []
        for session in sessions:
            for pending in list(session.programs.copy().values())[-_MOST_PROGRAMS:]:
                program = pending.compiled
                if program is None or not program.info:
                    continue
                info = program.info
                found.append(
                    {
                        "name": info["name"],
                        "client": session.client,
                        "number": session.number,
                        "cached": info["cached"],
                        "compileSeconds": info["compileSeconds"],
                        "devices": [self.backend.number(device) for device in program.executable.devices],
                        "temporaries": info["memory"]["temporaries"],
                        "code": info["memory"]["code"],
                    }
                )
        return found

    def explain_memory(self, fault: OutOfDeviceMemory) -> None:
        """Adds to the fault what holds the memory now."""
        table = memory_table(self._buffers())
        fault.details["table"] = table[:100]
        rows = [
            f"  {row['tag']:<10} {row['bytes'] / 2**20:>10.1f} MiB  {row['buffers']:>5} x {row['name'] or '(no name)'}"
            for row in table[:_TABLE_ROWS_IN_MESSAGE]
        ]
        if rows:
            fault.message += "\nwhat holds memory now:\n" + "\n".join(rows)
        if self._memory_note:
            fault.message += f"\n{self._memory_note}"

    def status(self) -> dict[str, Any]:
        """What `aronnax runtime status` shows."""
        with self._lock:
            clients = [session.client for session in self._sessions]
        workspaces = [
            {
                "name": name,
                "buffers": sum(buffer.array is not None for buffer in held),
                "bytes": sum(row["bytes"] for row in memory_table(held)),
            }
            for name, held in self.workspaces.all().items()
        ]
        return {
            **self._info,
            "deviceSet": self.device_set,
            "uptimeSeconds": time.monotonic() - self._started,
            "clients": clients,
            "activity": self.running(),
            "workspaces": workspaces,
            "holders": self.holders(),
            "programs": self.programs(),
            "memory": self.memory(),
        }
