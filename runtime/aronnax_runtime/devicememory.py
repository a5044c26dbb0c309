"""The memory of GPUs: how much of it this process takes at its start, and refusing what there is no room for later.

XLA takes one pool a GPU and measures it by the whole memory. Where somebody else holds a part, it would take what it
gets, still name the size it wanted as its limit, and try for ten seconds at every allocation beyond the real one.
"""

import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import InvalidArgument, OutOfDeviceMemory
from .nvml import Nvml
from .xla import Backend

log = logging.getLogger(__name__)

_VARIABLE, _OLD_VARIABLE = "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"
_FRACTION = 0.85
# Contexts, kernels, and the workspaces of cuDNN and NCCL lie outside the pool.
_OUTSIDE_POOL = 1536 << 20
_SMALLEST_POOL = 256 << 20
# Seconds that the memory of a process which is just ending is waited for.
_PATIENCE = 3.0
# A run or an array that needs less is left to XLA.
CHECK_ABOVE = 64 << 20
# How often, 20 ms apart, memory that is short is asked for: what was freed goes when the programs before have run.
_TRIES = 25


def take_share(nvml: Nvml | None) -> str:
    """Sets the share of each GPU's memory that XLA takes, before it starts: what the user says, and no more than is
    free. Returns a sentence on who holds the rest, empty where that leaves the share as it is. Raises InvalidArgument
    for a share that is none, OutOfDeviceMemory where next to nothing is free."""
    text = os.environ.get(_VARIABLE) or os.environ.get(_OLD_VARIABLE) or str(_FRACTION)
    # jaxlib refuses to start where both are set.
    os.environ.pop(_OLD_VARIABLE, None)
    os.environ[_VARIABLE] = text
    try:
        wanted = float(text)
    except ValueError:
        wanted = 0.0
    if not wanted > 0:
        raise InvalidArgument(f"{_VARIABLE}={text} is no share of the GPUs' memory", "Set it to, say, 0.85.")
    if nvml is None or wanted > 1:  # Over 1: unified memory, as the user asks for it.
        return ""
    deadline = time.monotonic() + _PATIENCE
    while (share := share_of(nvml.memory(), wanted)) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    if share >= wanted:
        return ""
    memory = nvml.memory()
    position = min(range(len(memory)), key=lambda i: share_of([memory[i]], wanted))
    free, total = memory[position]
    holders = ", ".join(_describe(pid, size) for pid, size in nvml.holders(position)) or "other processes"
    note = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB of GPU {position} were free at the start; held by {holders}"
    if share * total < _SMALLEST_POOL:
        raise OutOfDeviceMemory(
            f"too little memory is free: {note}",
            "End the other process (`npx aronnax runtime stop --devices SET` for a runtime), or choose other GPUs "
            "with ARONNAX_DEVICES.",
        )
    os.environ[_VARIABLE] = f"{share:.4f}"
    log.warning("takes %.3f of each GPU's memory, not %.3f: %s", share, wanted, note)
    return note


def share_of(memory: list[tuple[int, int]], wanted: float) -> float:
    """The largest share, up to `wanted`, that fits into what is free on every GPU: pairs of free and all bytes."""
    fits = [max(0, free - _OUTSIDE_POOL) / total for free, total in memory if total > 0]
    return min([wanted, *fits])


def _describe(pid: int, size: int | None) -> str:
    """A process in words; which runtime it is, where it is one."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        command = []
    what = Path(command[0]).name if command and command[0] else "unknown"
    if "aronnax_runtime" in command and "--devices" in command[:-1]:
        what = f"the runtime of {command[command.index('--devices') + 1]}"
    return f"process {pid} ({what}{'' if size is None else f', {size / 2**30:.1f} GiB'})"


def require_device_memory(backend: Backend, devices: Iterable[Any], size: int, what: str) -> None:
    """Refuses what has no room on one of these devices: XLA tries for ten seconds and more before it gives up."""
    if size < CHECK_ABOVE:
        return
    local = [device for device in devices if device in backend.local]
    free = 0
    for _ in range(_TRIES):
        stats = [backend.memory_stats(device) for device in local]
        free = min((stat["limit"] - stat["inUse"] for stat in stats if {"limit", "inUse"} <= stat.keys()), default=size)
        if size <= free:
            return
        time.sleep(0.02)
    raise OutOfDeviceMemory(
        f"{what}: {size / 2**30:.1f} GiB are needed on each device, and {free / 2**30:.1f} GiB are free",
        "Free buffers, take smaller batches, shard over more devices, or recompute activations (checkpoint); "
        "the table says what holds the memory.",
        requested=size,
    )
