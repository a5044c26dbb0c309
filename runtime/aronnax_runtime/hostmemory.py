"""The host's memory: how much is left, and an allocator that keeps what it has touched.

The first touch of a page costs more than copying it, above all in a virtual machine. glibc gives every large array
pages of its own and hands them back at once, so each step of a program would touch its temporaries anew. Here large
arrays come from the heap and stay with it until there is nothing to do.
"""

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from .errors import OutOfDeviceMemory

_libc = ctypes.CDLL(None)
# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
# Requests below this are not worth asking the kernel for.
_CHECK_ABOVE = 256 << 20
_CHECK_LIMIT_ABOVE = 1 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MADV_POPULATE_WRITE = 23  # Linux 5.14
_TOUCH_ABOVE = 32 << 20
_TOUCHERS = 4
_touchers = ThreadPoolExecutor(_TOUCHERS, thread_name_prefix="toucher")
# Left for everything else on the host.
_RESERVE = 256 << 20
# Seconds after which memory that is short is taken to stay so.
_PATIENCE = 0.5


def keep_pages(programs_run_here: bool) -> None:
    """Sets the allocator up; to be called before threads and large arrays are made. Does nothing without glibc.

    Where programs run on the CPU their temporaries come from one arena, whichever thread asks. Where they run on GPUs
    one thread a device launches them, and they would wait for each other at the arena's lock."""
    if not hasattr(_libc, "mallopt"):
        return
    if programs_run_here:
        _libc.mallopt(_M_ARENA_MAX, 1)
    _libc.mallopt(_M_MMAP_MAX, 0)
    _libc.mallopt(_M_TRIM_THRESHOLD, 0x7FFFFFFF)


def touch_pages(address: int, size: int) -> None:
    """Has the kernel provide the pages of new memory on several threads, ahead of their use. Leaves what is in them."""
    if size < _TOUCH_ABOVE:
        return
    first, end = address & -_PAGE, address + size
    part = -(-(end - first) // _TOUCHERS) + _PAGE - 1 & -_PAGE
    # Errors, of an old kernel or of short memory, are left to the touch that follows.
    list(_touchers.map(lambda start: _madvise(start, min(part, end - start)), range(first, end, part)))


def _madvise(address: int, size: int) -> int:
    return _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _MADV_POPULATE_WRITE)


def give_back_pages() -> None:
    """Returns all free pages to the system."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


def host_memory() -> dict[str, int]:
    """Bytes of this process, and those available and in all: of the host, its cgroup, or ARONNAX_RUNTIME_HOST_BYTES."""
    total = psutil.virtual_memory().total
    available = _available(total)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "inactive_file":  # Page cache that the kernel gives back.
                    used -= int(value)
            total = min(total, int(limit))
            available = min(available, max(0, int(limit) - used))
    except (OSError, ValueError):
        pass
    resident = psutil.Process(os.getpid()).memory_info().rss
    limit = os.environ.get("ARONNAX_RUNTIME_HOST_BYTES")
    if limit:
        total = min(total, int(limit))
        available = min(available, max(0, int(limit) - resident))
    return {"processBytes": resident, "availableBytes": available, "totalBytes": total}


def _available(total: int) -> int:
    """What the kernel estimates, or what nobody holds if that is more: a virtual machine that gets its memory on
    demand counts as free only what it has been given so far."""
    fields = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0]) << 10
    held = sum(fields.get(name, 0) for name in ("AnonPages", "Shmem", "SUnreclaim", "PageTables", "KernelStack"))
    return max(fields.get("MemAvailable", 0), total - held)


# Bytes that are promised and not touched yet, which the process's figures do not show.
_promised = 0
# When memory was refused last, by `time.monotonic`.
_refused_at = float("-inf")
# Bytes that were granted since the last look, where the user has set a limit.
_unchecked = 0
_promises = threading.Lock()


@contextmanager
def reserved_host_memory(size: int, what: str) -> Iterator[None]:
    """`require_host_memory`, and counts the memory as taken while it is being filled."""
    _promise(size)
    try:
        require_host_memory(size, what, promised=True)
        yield
    finally:
        _promise(-size)


def _promise(size: int) -> None:
    global _promised
    with _promises:
        _promised += size


def require_host_memory(size: int, what: str, promised: bool = False) -> None:
    """Refuses what the host has no room for: Linux would grant it and kill the process at the first touch. What the
    user allows is kept to a few arrays that are too small to be looked at one by one."""
    global _unchecked, _refused_at
    limited = bool(os.environ.get("ARONNAX_RUNTIME_HOST_BYTES"))
    if limited:
        _unchecked += size
        if _unchecked < _CHECK_LIMIT_ABOVE:
            return
    elif size < _CHECK_ABOVE:
        return
    needed = size if limited else size + _RESERVE

    def left() -> int:
        return host_memory()["availableBytes"] - _promised + (size if promised else 0)

    available = left()
    now = time.monotonic()
    # One who asks again and again is not waited for each time.
    deadline = now + (_PATIENCE if now - _refused_at > 2 * _PATIENCE else 0)
    while needed > available:
        # What was freed may still be in use by programs that run, and its pages may be with the allocator.
        give_back_pages()
        available = left()
        if needed <= available or time.monotonic() >= deadline:
            break
        time.sleep(0.02)
    if needed > available:
        _refused_at = time.monotonic()
        raise OutOfDeviceMemory(
            f"{what}: {size / 2**30:.1f} GiB are needed and {max(0, available) / 2**30:.1f} GiB are available on the "
            "host",
            "Free buffers, or take smaller arrays; the table says what holds the memory.",
            requested=size,
        )
    # What is refused leaves the next to be looked at as well.
    _unchecked = 0
