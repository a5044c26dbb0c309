"""A client's thread for what may take long: programs that run on the thread that starts them, and waits for others.

The thread that reads from the client goes on meanwhile: it answers what needs no device, and queues the rest behind.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .fields import Header

log = logging.getLogger(__name__)

# What may wait in a lane before its client is no longer read from.
_MOST_JOBS = 65_536
_MOST_BYTES = 1 << 30
# Seconds between looks at whether the client of a full lane is still there.
_LOOK_EVERY = 1.0


class Lane:
    def __init__(self, name: str, hung_up: Callable[[], bool]) -> None:
        self._name = name
        self._hung_up = hung_up
        self._changed = threading.Condition()
        # Each with what it holds in bytes and the request that it is a part of.
        self._jobs: deque[tuple[Callable[[], None], int, Header]] = deque()
        self._bytes = 0
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits here; asked by the reading thread, which alone puts jobs in."""
        return not self._busy

    def waiting(self) -> list[Header]:
        """The requests that have not begun, in their order."""
        with self._changed:
            return [header for _, _, header in self._jobs]

    def put(self, job: Callable[[], None], header: Header, size: int = 0) -> None:
        """Does a part of a request after those before it; waits where too many do. `size` is what it holds in bytes.
        Raises ConnectionError where the client goes meanwhile."""
        with self._changed:
            while (len(self._jobs) >= _MOST_JOBS or self._bytes > _MOST_BYTES) and not self._closed:
                self._changed.wait(_LOOK_EVERY)
                if self._hung_up():
                    raise ConnectionError
            if self._closed:
                return
            self._busy = True
            self._jobs.append((job, size, header))
            self._bytes += size
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Forgets what has not begun. What runs cannot be stopped."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._busy = False
                    self._changed.wait()
                if self._closed:
                    return
                job, size, _ = self._jobs.popleft()
                self._bytes -= size
                self._changed.notify_all()
            try:
                job()
            except Exception:
                log.exception("%s", self._name)
            del job  # It holds arrays.


@dataclass(eq=False)
class Run:
    """A program that holds up its client, and whatever shares its devices."""

    session: Any
    program: str
    devices: list[int]
    started: float = field(default_factory=time.time)


class Runs:
    """The programs that run on lanes now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: set[Run] = set()

    @contextmanager
    def noted(self, run: Run) -> Iterator[None]:
        with self._lock:
            self._now.add(run)
        try:
            yield
        finally:
            with self._lock:
                self._now.discard(run)

    def all(self) -> list[Run]:
        with self._lock:
            return sorted(self._now, key=lambda run: run.started)
