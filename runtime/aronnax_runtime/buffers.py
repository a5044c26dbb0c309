"""Buffers: an array on the devices, or the error of what should have produced it; and what they hold in all."""

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from .errors import BufferDeleted, Fault
from .xla import Aval


class Buffer:
    """Clients and workspaces refer to buffers by handle and by name; the memory goes with the last reference."""

    __slots__ = ("array", "aval", "fault", "name", "pins", "tag", "taken_by")

    def __init__(self, array: Any, aval: Aval | None, tag: str, name: str) -> None:
        self.array = array
        self.aval = aval
        self.tag = tag
        self.name = name
        self.fault: Fault | None = None
        self.taken_by: str | None = None
        self.pins = 0

    @classmethod
    def poisoned(cls, fault: Fault) -> "Buffer":
        buffer = cls(None, None, "other", "")
        buffer.fault = fault
        return buffer

    def live(self) -> Any:
        """The array. Raises the fault of its producer, or BufferDeleted after a donation."""
        if self.array is not None:
            return self.array
        if self.fault is not None:
            raise self.fault
        label = f" {self.name}" if self.name else ""
        raise BufferDeleted(
            f"buffer{label} was donated to {self.taken_by} and no longer exists",
            "Use the program's outputs from now on, or compile it without donating this argument.",
        )


class Pins:
    """Keeps buffers from being donated while something still reads them: clients share those of workspaces."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def add(self, buffers: Collection[Buffer]) -> None:
        """Raises the fault of one that is not live."""
        with self._changed:
            for buffer in buffers:
                buffer.live()
            for buffer in buffers:
                buffer.pins += 1

    def remove(self, buffers: Iterable[Buffer]) -> None:
        with self._changed:
            for buffer in buffers:
                buffer.pins -= 1
            self._changed.notify_all()

    def take(self, buffers: list[Buffer], program: str) -> None:
        """Marks buffers as donated once nothing reads them. Raises the fault of one that is not live by then."""
        with self._lock:
            for buffer in buffers:
                if buffer.pins or buffer.array is None:
                    self._wait_free(buffers)
                    break
            for buffer in buffers:
                buffer.array = None
                buffer.taken_by = program

    def _wait_free(self, buffers: list[Buffer]) -> None:
        while any(buffer.pins for buffer in buffers):
            self._changed.wait()
        for buffer in buffers:
            buffer.live()


def memory_by_device(buffers: Iterable[Buffer]) -> dict[Any, dict[str, int]]:
    """Bytes by device and tag."""
    totals: dict[Any, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for buffer in buffers:
        if buffer.array is not None and buffer.aval is not None:
            for device in buffer.aval.layout.devices:
                totals[device][buffer.tag] += buffer.aval.shard_nbytes
    return totals


def held_by(name: str, kind: str, buffers: Iterable[Buffer], counted: set[int], **about: Any) -> dict[str, Any]:
    """What a client or workspace holds on each device, but for what is `counted` for another; adds to that."""
    totals: dict[Any, int] = defaultdict(int)
    number = 0
    for buffer in buffers:
        if buffer.array is None or buffer.aval is None or id(buffer) in counted:
            continue
        counted.add(id(buffer))
        number += 1
        for device in buffer.aval.layout.devices:
            totals[device] += buffer.aval.shard_nbytes
    return {"kind": kind, "name": name, **about, "buffers": number, "devices": totals}


def memory_table(buffers: Iterable[Buffer]) -> list[dict[str, Any]]:
    """What holds memory, by tag and name over all devices, largest first."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for buffer in buffers:
        if buffer.array is not None and buffer.aval is not None:
            row = rows[(buffer.tag, buffer.name)]
            row[0] += 1
            row[1] += buffer.aval.shard_nbytes * len(buffer.aval.layout.devices)
    table = [{"tag": tag, "name": name, "buffers": count, "bytes": size} for (tag, name), (count, size) in rows.items()]
    return sorted(table, key=lambda row: -row["bytes"])
