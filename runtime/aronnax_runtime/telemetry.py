"""What the host and its GPUs do, for clients that subscribe. A figure that is not to be had is absent, not zero."""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil

from . import fields
from .fields import Header
from .hostmemory import host_memory

if TYPE_CHECKING:
    from .server import Server
    from .session import Session

log = logging.getLogger(__name__)

_SLOWEST, _FASTEST = 0.1, 10.0
# Before the first sample, for the processors' load is measured over an interval.
_FIRST_INTERVAL = 0.1


class Telemetry:
    """Samples while somebody listens, as often as the fastest listener wants."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._nvml = server.nvml
        self._changed = threading.Condition()
        # By session and the client's number for the subscription: seconds between events, and when the next is due.
        self._listeners: dict[tuple[Session, int], list[float]] = {}
        self._thread: threading.Thread | None = None
        self._disk = _Rates()

    def subscribe(self, session: "Session", number: int, hertz: float) -> None:
        with self._changed:
            if not any(listener is session for listener, _ in self._listeners):
                session.closers.append(lambda: self._drop(session))
            self._listeners[session, number] = [1 / hertz, time.monotonic() + _FIRST_INTERVAL]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
                self._thread.start()
            self._changed.notify()

    def unsubscribe(self, session: "Session", number: int) -> None:
        with self._changed:
            self._listeners.pop((session, number), None)

    def _drop(self, session: "Session") -> None:
        with self._changed:
            for key in [key for key in self._listeners if key[0] is session]:
                del self._listeners[key]

    def _run(self) -> None:
        psutil.cpu_percent()
        while True:
            with self._changed:
                if not self._listeners:
                    while not self._listeners:
                        self._changed.wait()
                    psutil.cpu_percent()  # Sets the start of the interval, which psutil keeps for each thread.
                due = min(when for _, when in self._listeners.values())
                delay = due - time.monotonic()
                if delay > 0:
                    self._changed.wait(delay)
                now = time.monotonic()
                ready = [key for key, (_, when) in self._listeners.items() if when <= now]
                for key in ready:
                    # A sample that took long, or a machine that slept, is not made up for.
                    period, when = self._listeners[key]
                    self._listeners[key][1] = when + period if when + period > now else now + period
            if not ready:
                continue
            try:
                sample = self.sample()
            except Exception:
                log.exception("telemetry")
                time.sleep(1)
                continue
            for session, number in ready:
                try:
                    session.writer.offer({"subscription": number, "event": "telemetry", "data": sample})
                except OSError:
                    self._drop(session)

    def sample(self) -> dict[str, Any]:
        """TelemetrySample of the protocol."""
        host: dict[str, Any] = {
            "cpuUtilization": psutil.cpu_percent() / 100,
            "cpuCount": psutil.cpu_count() or 1,
            **host_memory(),
        }
        disk = psutil.disk_io_counters()
        if disk is not None:
            rates = self._disk.per_second({"read": disk.read_bytes, "write": disk.write_bytes})
            host.update({f"disk{name.capitalize()}BytesPerSecond": rate for name, rate in rates.items()})
        devices = []
        for position, device in enumerate(self._server.backend.local):
            figures = {"id": self._server.backend.number(device)}
            stats = self._server.backend.memory_stats(device)
            if "inUse" in stats:
                figures["memoryInUse"] = stats["inUse"]
            if self._nvml is not None:
                figures.update(self._nvml.sample(position))
            devices.append(figures)
        return {"time": time.time() * 1000, "host": host, "devices": devices}


class _Rates:
    """Differences of counters over time."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._at = 0.0

    def per_second(self, counters: dict[str, int]) -> dict[str, float]:
        now = time.monotonic()
        elapsed = now - self._at
        rates = {
            name: max(0, value - self._last[name]) / elapsed
            for name, value in counters.items()
            if name in self._last and elapsed > 0
        }
        self._last, self._at = counters, now
        return rates


def subscribe(session: "Session", header: Header) -> None:
    number = fields.handle(header.get("subscription"))
    hertz = fields.number(header.get("hertz", 1), "`hertz`", _SLOWEST, _FASTEST)
    session.server.telemetry.subscribe(session, number, hertz)
    session.reply(header)


def unsubscribe(session: "Session", header: Header) -> None:
    session.server.telemetry.unsubscribe(session, fields.handle(header.get("subscription")))
    session.reply(header)
