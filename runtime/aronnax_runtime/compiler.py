"""Compiling in the background, each program once."""

import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from .cache import ProgramCache
from .errors import InvalidArgument
from .programs import Described, Program
from .xla import Backend, Executable

log = logging.getLogger(__name__)

# Compiles run side by side so that a long one does not hold up a short one.
_WORKERS = 4
# Executables that are kept though no client holds them.
_KEPT = 64


@dataclass(frozen=True)
class CompileJob:
    text: str
    outputs: list[Described]
    devices: tuple[Any, ...]
    options: dict[str, Any]
    name: str


class Compiler:
    def __init__(self, backend: Backend, driver: str | None) -> None:
        self._backend = backend
        self._disk = ProgramCache(backend, driver)
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="compile")
        self._lock = threading.Lock()
        # By key, the one used longest ago first. A future that has failed is not kept.
        self._memory: OrderedDict[str, Future[Executable]] = OrderedDict()

    def submit(self, job: CompileJob) -> "Future[Program]":
        """Starts compiling. Raises InvalidArgument for options that do not exist."""
        level, flags, cached = _options(job.options, len(job.devices))
        return self._pool.submit(self._make, job, level, flags, cached)

    def _make(self, job: CompileJob, level: int | None, flags: dict[str, Any], cached: bool) -> Program:
        start = time.perf_counter()
        self._backend.prepare(job.text)
        source: str | bool = False
        if cached:
            executable, source = self._cached(job, level, flags)
        else:
            executable = self._backend.compile(job.text, job.devices, level, flags, job.name)
        program = Program(self._backend, executable, job.outputs, job.name)
        program.info = program.describe(source, time.perf_counter() - start)
        return program

    def _cached(self, job: CompileJob, level: int | None, flags: dict[str, Any]) -> tuple[Executable, str | bool]:
        key = self._disk.key(job.text, job.devices, level, flags)
        with self._lock:
            future = self._memory.get(key)
            if future is None:
                mine = self._memory[key] = Future()
            else:
                self._memory.move_to_end(key)
        if future is not None:
            # Another thread makes it, or has made it.
            return future.result(), "memory"
        try:
            executable, source = self._load_or_compile(key, job, level, flags)
        except BaseException as error:
            with self._lock:
                self._memory.pop(key, None)
            mine.set_exception(error)
            raise
        mine.set_result(executable)
        with self._lock:
            while len(self._memory) > _KEPT:
                oldest = next(iter(self._memory))
                if not self._memory[oldest].done():
                    break
                del self._memory[oldest]
        return executable, source

    def _load_or_compile(
        self, key: str, job: CompileJob, level: int | None, flags: dict[str, Any]
    ) -> tuple[Executable, str | bool]:
        found = self._disk.load(key)
        if found is not None:
            try:
                return self._backend.load(found[1], found[0], job.devices), "disk"
            except Exception as error:
                self._disk.discard(key, str(error))
        executable = self._backend.compile(job.text, job.devices, level, flags, job.name)
        try:
            self._disk.store(key, executable.signature, self._backend.serialize(executable))
        except Exception as error:  # Some executables cannot be serialized, e.g. those with host callbacks.
            log.info("program cache: %s is not kept: %s", job.name, error)
        return executable, False


def _options(options: dict[str, Any], devices: int) -> tuple[int | None, dict[str, Any], bool]:
    unknown = set(options) - {"optimizationLevel", "flags", "noCache"}
    if unknown:
        raise InvalidArgument(f"there is no compile option {', '.join(sorted(unknown))}")
    # What level 1 adds hides communication. On one GPU it multiplied the compile time and gained nothing.
    level = options.get("optimizationLevel", None if devices == 1 else 1)
    if level is not None and (type(level) is not int or level not in (0, 1, 2, 3)):
        raise InvalidArgument(f"optimizationLevel must be 0, 1, 2 or 3, not {level!r:.20}")
    flags = options.get("flags") or {}
    if not isinstance(flags, dict) or not all(
        isinstance(key, str) and type(value) in (str, int, float, bool) for key, value in flags.items()
    ):
        raise InvalidArgument("flags must map names to texts, numbers or booleans")
    return level, flags, options.get("noCache") is not True
