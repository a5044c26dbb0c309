"""Compiling in the background."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from .errors import InvalidArgument
from .programs import Described, Program
from .xla import Backend

# Compiles run side by side so that a long one does not hold up a short one.
_WORKERS = 4


@dataclass(frozen=True)
class CompileJob:
    text: str
    outputs: list[Described]
    devices: tuple[Any, ...]
    options: dict[str, Any]
    name: str


class Compiler:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="compile")

    def submit(self, job: CompileJob) -> "Future[Program]":
        """Starts compiling. Raises InvalidArgument for options that do not exist."""
        level, flags = _options(job.options)
        return self._pool.submit(self._compile, job, level, flags)

    def _compile(self, job: CompileJob, level: int, flags: dict[str, Any]) -> Program:
        start = time.perf_counter()
        executable = self._backend.compile(job.text, job.devices, level, flags, job.name)
        program = Program(self._backend, executable, job.outputs, job.name)
        program.info = program.describe(False, time.perf_counter() - start)
        return program


def _options(options: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    unknown = set(options) - {"optimizationLevel", "flags", "noCache"}
    if unknown:
        raise InvalidArgument(f"there is no compile option {', '.join(sorted(unknown))}")
    level = options.get("optimizationLevel", 1)
    if level not in (0, 1, 2, 3) or type(level) is not int:
        raise InvalidArgument(f"optimizationLevel must be 0, 1, 2 or 3, not {level!r:.20}")
    flags = options.get("flags") or {}
    if not isinstance(flags, dict) or not all(
        isinstance(key, str) and type(value) in (str, int, float, bool) for key, value in flags.items()
    ):
        raise InvalidArgument("flags must map names to texts, numbers or booleans")
    return level, flags
