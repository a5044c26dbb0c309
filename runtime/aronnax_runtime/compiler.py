"""Compiling in the background, each program once, in processes that may die (`workers`).

Where programs are for GPUs, or for several nodes, only the reading is done there: compiling them needs their devices.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .cache import ProgramCache
from .errors import CompileError, InvalidArgument
from .programs import Described, Program
from .workers import Worker, WorkerEnded, Workers, ended_fault
from .xla import Backend, Executable

log = logging.getLogger(__name__)

# Compiles run side by side so that a long one does not hold up a short one: so many in all, and so many of a client
# whatever others do.
_TOGETHER = 4
_OF_ONE = 2
_MOST = 64
# Executables that are kept though no client holds them.
_KEPT = 64
# Of threads that hand a program to XLA: a worker, whose stack is smaller, has survived the reading of it.
_STACK = 64 << 20


@dataclass(frozen=True)
class CompileJob:
    text: str
    outputs: list[Described]
    devices: tuple[Any, ...]
    options: dict[str, Any]
    name: str


@dataclass(eq=False)
class _Waiter:
    """Somebody who wants a program, and what is to be told of its making."""

    owner: Any
    job: CompileJob
    future: "Future[Program]" = field(default_factory=Future)
    start: float = field(default_factory=time.perf_counter)


@dataclass(eq=False)
class _Making:
    key: Hashable
    cached: bool
    level: int | None
    flags: dict[str, Any]
    waiters: list[_Waiter]
    running: bool = False
    dropped: bool = False
    worker: Worker | None = None


class Compiler:
    def __init__(self, backend: Backend, driver: str | None, workers: Workers, compiles: bool) -> None:
        self._backend = backend
        self._disk = ProgramCache(backend, driver)
        self._workers = workers
        self._compiles = compiles
        self._lock = threading.Lock()
        # By key, the one used longest ago first.
        self._made: OrderedDict[Hashable, Executable] = OrderedDict()
        # Those under way, in the order of their coming.
        self._making: dict[Hashable, _Making] = {}
        if not compiles:
            threading.stack_size(_STACK)
        self._pool = ThreadPoolExecutor(_MOST, thread_name_prefix="compile")
        self._pool.submit(self._warm)

    def _warm(self) -> None:
        try:
            self._workers.warm()
        except Exception:
            log.exception("no compiler process")

    def submit(self, owner: Any, job: CompileJob) -> "Future[Program]":
        """Starts compiling for a client. Raises InvalidArgument for options that do not exist."""
        level, flags, cached = _options(job.options, len(job.devices))
        waiter = _Waiter(owner, job)
        key: Hashable = self._disk.key(job.text, job.devices, level, flags) if cached else waiter
        with self._lock:
            executable = self._made.get(key)
            if executable is None:
                making = self._making.get(key)
                if making is None:
                    self._making[key] = _Making(key, cached, level, flags, [waiter])
                else:
                    making.waiters.append(waiter)
            else:
                self._made.move_to_end(key)
        if executable is not None:
            self._deliver(waiter, executable, "memory")
        else:
            self._start()
        return waiter.future

    def drop(self, owner: Any) -> int:
        """Gives up what a client waits for: what nobody else wants is not begun, or its process killed. Returns how
        many programs that were."""
        given_up: list[_Waiter] = []
        with self._lock:
            for making in list(self._making.values()):
                mine = [waiter for waiter in making.waiters if waiter.owner is owner]
                if not mine:
                    continue
                given_up += mine
                making.waiters = [waiter for waiter in making.waiters if waiter.owner is not owner]
                if making.waiters:
                    continue
                making.dropped = True
                if self._making.get(making.key) is making:
                    del self._making[making.key]
                if making.worker is not None:
                    making.worker.kill()
        for waiter in given_up:
            waiter.future.set_exception(
                CompileError(
                    f"{waiter.job.name} was given up while it was compiled", "Run the cell again to compile it."
                )
            )
        self._start()
        return len(given_up)

    def under_way(self) -> list[tuple[Any, str, float, bool]]:
        """For each program that somebody waits for: who, its name, for how many seconds, and whether it has begun."""
        now = time.perf_counter()
        with self._lock:
            return [
                (waiter.owner, waiter.job.name, now - waiter.start, making.running)
                for making in self._making.values()
                for waiter in making.waiters
            ]

    def _start(self) -> None:
        """Begins what may begin: the clients take turns."""
        with self._lock:
            running = [making for making in self._making.values() if making.running]
            of_owner: dict[int, int] = {}
            for making in running:
                of_owner[id(making.waiters[0].owner)] = of_owner.get(id(making.waiters[0].owner), 0) + 1
            together = len(running)
            for making in self._making.values():
                owner = id(making.waiters[0].owner)
                mine = of_owner.get(owner, 0)
                if making.running or together >= _MOST or (mine >= _OF_ONE and together >= _TOGETHER):
                    continue
                if mine >= _TOGETHER:
                    continue
                making.running = True
                of_owner[owner] = mine + 1
                together += 1
                self._pool.submit(self._make, making)

    def _make(self, making: _Making) -> None:
        executable: Executable | None = None
        failure: BaseException | None = None
        source: str | bool = False
        try:
            with self._lock:
                job = making.waiters[0].job if making.waiters else None
            if job is not None:
                executable, source = self._load_or_compile(making, job)
        except BaseException as error:
            failure = error
        with self._lock:
            waiters, making.waiters = making.waiters, []
            if self._making.get(making.key) is making:
                del self._making[making.key]
            if executable is not None and making.cached:
                self._made[making.key] = executable
                while len(self._made) > _KEPT:
                    self._made.popitem(last=False)
        self._start()
        for waiter in waiters:
            if executable is not None:
                self._deliver(waiter, executable, source)
                source = "memory"
            else:
                waiter.future.set_exception(failure)

    def _deliver(self, waiter: _Waiter, executable: Executable, source: str | bool) -> None:
        try:
            program = Program(self._backend, executable, waiter.job.outputs, waiter.job.name)
        except Exception as error:
            waiter.future.set_exception(error)
            return
        program.info = program.describe(source, time.perf_counter() - waiter.start)
        waiter.future.set_result(program)

    def _load_or_compile(self, making: _Making, job: CompileJob) -> tuple[Executable, str | bool]:
        if making.cached:
            found = self._disk.load(str(making.key))
            if found is not None:
                try:
                    self._backend.prepare(job.text)
                    return self._backend.load(found[1], found[0], job.devices), "disk"
                except Exception as error:
                    self._disk.discard(str(making.key), str(error))
        self._backend.prepare(job.text)
        signature, blob = self._ask_worker(making, job)
        if self._compiles:
            executable = self._backend.load(blob, signature, job.devices)
        else:
            executable = self._backend.compile(job.text, signature, job.devices, making.level, making.flags, job.name)
        if making.cached:
            try:
                self._disk.store(str(making.key), signature, blob or self._backend.serialize(executable))
            except Exception as error:  # Some executables cannot be serialized.
                log.info("program cache: %s is not kept: %s", job.name, error)
        return executable, False

    def _ask_worker(self, making: _Making, job: CompileJob) -> Any:
        worker = self._workers.take()
        with self._lock:
            making.worker = worker
            dropped = making.dropped
        try:
            if dropped:
                raise WorkerEnded
            answer = worker.ask(
                {
                    "text": job.text,
                    "name": job.name,
                    "devices": [self._backend.number(device) for device in job.devices],
                    "level": making.level,
                    "flags": making.flags,
                }
            )
        except WorkerEnded:
            worker.kill()
            raise ended_fault(job.name) from None
        except CompileError:
            self._release(making, worker)
            raise
        except BaseException:
            worker.kill()
            raise
        self._release(making, worker)
        return answer

    def _release(self, making: _Making, worker: Worker) -> None:
        with self._lock:
            making.worker = None
            dropped = making.dropped
        if dropped:
            worker.kill()
        else:
            self._workers.give_back(worker)


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
