"""The small parent of the runtime: keeps its log, waits for it, and notes how it ended.

The log is a pipe's other end because XLA writes to file descriptor 2 directly, which no Python logger could rotate.
"""

import ctypes
import json
import os
import select
import signal
import time
from pathlib import Path

LOG_BYTES = 8 << 20
LOG_FILES = 3

EXIT_STOPPED = 0
EXIT_IDLE = 20
EXIT_SIGNALLED = 21
EXIT_UNREACHABLE = 22
EXIT_RECOVERED = 23

_REASONS = {
    EXIT_STOPPED: "stopped on request",
    EXIT_IDLE: "stopped after its idle time-out",
    EXIT_SIGNALLED: "stopped by SIGTERM",
    EXIT_UNREACHABLE: "stopped because its socket was removed",
    EXIT_RECOVERED: "restarted to end a program",
}


# What would move a terminal's cursor, or end a line that it did not begin.
_CONTROLS = bytes(ord("?") if byte < 32 and byte not in (9, 10) else byte for byte in range(256))


class RotatingLog:
    """Appends to a file and moves it aside when it is full: `x.log`, `x.log.1`, `x.log.2`, ..."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        try:
            if os.fstat(self._file).st_size + len(data) > LOG_BYTES:
                self._rotate()
            os.write(self._file, data.translate(_CONTROLS))
        except OSError:
            pass  # A full disk must not stop the runtime.

    def _rotate(self) -> None:
        full = self._file
        for n in range(LOG_FILES - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{n}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{n + 1}"))
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._open()
        os.close(full)


def supervise(log_path: Path, exit_note: Path, lock: int) -> None:
    """Forks. Returns in the child, which is the runtime; the parent stays here and ends with it.

    Both hold the lock, so that nobody starts another runtime before this one's end is noted."""
    kills_before = _out_of_memory_kills()
    read_end, write_end = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os.dup2(write_end, 1)
        os.dup2(write_end, 2)
        os.close(write_end)
        # Without its supervisor nobody would read the log pipe.
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(EXIT_SIGNALLED)
        return
    os.close(write_end)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{child}\n".encode(), 0)
    # A signal meant for the runtime may be sent to either.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: os.kill(child, n))
    os._exit(_wait(child, read_end, RotatingLog(log_path), exit_note, kills_before))


def _wait(child: int, pipe: int, log: RotatingLog, exit_note: Path, kills_before: int) -> int:
    """Copies the log until the child has ended. The child's own children may hold the pipe open longer."""
    pidfd = os.pidfd_open(child)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    ended = False
    while not ended:
        for descriptor, _ in poll.poll():
            if descriptor == pidfd:
                ended = True
            elif data := os.read(pipe, 65536):
                log.write(data)
            else:
                poll.unregister(pipe)
    os.set_blocking(pipe, False)
    try:
        while data := os.read(pipe, 65536):
            log.write(data)
    except BlockingIOError:
        pass
    _, status = os.waitpid(child, 0)
    reason = _describe(status, kills_before)
    log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} runtime {child} ended: {reason}\n".encode())
    _note(exit_note, {"pid": child, "reason": reason, "at": time.time()})
    return os.waitstatus_to_exitcode(status) & 0xFF


def _note(path: Path, end: dict[str, object]) -> None:
    """Adds to the last few ends, so that a client that learns of one late still finds its reason."""
    try:
        earlier = json.loads(path.read_text())
    except (OSError, ValueError):
        earlier = []
    draft = path.with_suffix(".tmp")
    try:
        draft.write_text(json.dumps([*earlier, end][-8:]))
        draft.replace(path)
    except OSError:
        pass


def _describe(status: int, kills_before: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return _REASONS.get(code, f"ended with status {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code == signal.SIGKILL and _out_of_memory_kills() > kills_before:
        return f"killed by {name}, by the kernel's out-of-memory killer"
    if -code in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL):
        return f"crashed with {name}"
    return f"killed by {name}"


def _out_of_memory_kills() -> int:
    """How many processes of this cgroup the kernel has killed for memory, 0 where it does not say."""
    try:
        for line in Path("/sys/fs/cgroup/memory.events").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    except OSError:
        pass
    return 0
