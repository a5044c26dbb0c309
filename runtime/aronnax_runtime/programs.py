"""Programs: compiling, checking arguments, running."""

import os
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from .buffers import Buffer, Pins
from .devicememory import CHECK_ABOVE, require_device_memory
from .errors import BufferDeleted, Fault, InvalidArgument, execution_fault
from .hostmemory import require_host_memory
from .xla import Aval, Backend, Executable, Layout


@dataclass(frozen=True)
class Described:
    """An output as the client describes it."""

    shape: tuple[int, ...]
    dtype: Any
    layout: Layout | None
    tag: str
    name: str


class Program:
    """An executable with the outputs that one client expects of it."""

    def __init__(self, backend: Backend, executable: Executable, outputs: list[Described], name: str) -> None:
        self.backend = backend
        self.executable = executable
        self.signature = executable.signature
        self.name = name
        self.outputs = outputs
        self.info: dict[str, Any] = {}
        output_avals = self._check_outputs()
        self.handlers = backend.handlers(output_avals)
        self._made = [
            (aval, described.tag, described.name) for aval, described in zip(output_avals, outputs, strict=True)
        ]
        # The aval that each input had when it was checked last: identity is the fast path.
        self._accepted: list[Aval | None] = [None] * len(self.signature.inputs)
        self._on_host = backend.platform == "cpu"
        self._local = [device for device in executable.devices if device in backend.local]
        if not self._local:
            raise InvalidArgument(f"{name} runs on no device of this process", "Let it run on some of every node.")
        self._needed = executable.bytes_needed
        self._check_above = 1 << 20 if self._on_host and os.environ.get("ARONNAX_RUNTIME_HOST_BYTES") else CHECK_ABOVE
        if self._on_host:
            self._needed *= len(self._local)

    def _check_outputs(self) -> list[Aval]:
        executable = self.executable
        if len(self.outputs) != len(self.signature.outputs):
            raise InvalidArgument(
                f"{self.name} has {len(self.signature.outputs)} results, but {len(self.outputs)} outputs are described"
            )
        avals = []
        for i, described in enumerate(self.outputs):
            shape, dtype = self.signature.outputs[i]
            chosen = executable.output_layouts[i]
            if (described.shape, described.dtype) != (shape, dtype):
                raise InvalidArgument(
                    f"output {i} of {self.name} is described as {described.dtype.name}{list(described.shape)}, "
                    f"but the program returns {dtype.name}{list(shape)}"
                )
            if described.layout is not None and not described.layout.same(chosen, shape):
                raise InvalidArgument(
                    f"output {i} of {self.name} is described to lie on {described.layout.text}, "
                    f"but the program leaves it on {chosen.text}",
                    "Give the result the same sdy.sharding in the program's text.",
                )
            avals.append(self.backend.aval(shape, dtype, described.layout or chosen))
        return avals

    def run(self, inputs: list[Buffer], pins: Pins) -> list[Buffer]:
        """Queues a run. Raises the fault of a poisoned input, InvalidArgument, OutOfDeviceMemory, ExecutionError."""
        accepted = self._accepted
        if len(inputs) != len(accepted):
            raise InvalidArgument(f"{self.name} takes {len(accepted)} inputs, not {len(inputs)}")
        arrays = []
        for i, buffer in enumerate(inputs):
            array = buffer.array
            if array is None:
                buffer.live()
            if buffer.aval is not accepted[i]:
                self._accept(i, buffer)
            arrays.append(array)
        donated = self.signature.donated
        if self._needed >= self._check_above:
            self._require_memory()
        if donated:
            self._refuse_twice(inputs)
            pins.take([inputs[i] for i in donated], self.name)
        try:
            results = self.backend.run(self.executable, arrays, self.handlers)
        except Exception as error:
            # It may have taken some already.
            for i in donated:
                if not arrays[i].is_deleted():
                    inputs[i].array = arrays[i]
            raise execution_fault(error, self.name) from None
        return [Buffer(array, *made) for array, made in zip(results, self._made, strict=True)]

    def may_wait(self, inputs: list[Buffer]) -> bool:
        """Whether `run` may hold up the thread that calls it."""
        return self.backend.may_wait(self.executable) or any(
            inputs[i].pins for i in self.signature.donated if i < len(inputs)
        )

    def _require_memory(self) -> None:
        if self._on_host:
            require_host_memory(self._needed, self.name)
        else:
            require_device_memory(self.backend, self._local, self._needed, self.name)

    def _accept(self, i: int, buffer: Buffer) -> None:
        """XLA takes any argument of the right size, and crashes on some wrong shardings: all is compared here."""
        shape, dtype = self.signature.inputs[i]
        layout = self.executable.input_layouts[i]
        aval = buffer.aval
        assert aval is not None
        if aval.shape != shape or aval.dtype != dtype:
            raise InvalidArgument(
                f"input {i} of {self.name} must be {dtype.name}{list(shape)}, "
                f"but {buffer.name or 'the buffer'} is {aval.dtype.name}{list(aval.shape)}"
            )
        if not aval.layout.same(layout, shape):
            raise InvalidArgument(
                f"input {i} of {self.name} must lie on {layout.text}, "
                f"but {buffer.name or 'the buffer'} lies on {aval.layout.text}",
                "Put the buffer with the sharding that the program's argument has (sdy.sharding in its text), "
                "or annotate the argument.",
            )
        self._accepted[i] = aval

    def _refuse_twice(self, inputs: list[Buffer]) -> None:
        """Refuses a buffer that is taken by donation and passed a second time."""
        if len(set(map(id, inputs))) < len(inputs):
            for i in self.signature.donated:
                uses = [j for j, buffer in enumerate(inputs) if buffer is inputs[i]]
                if len(uses) > 1:
                    raise InvalidArgument(
                        f"inputs {uses} of {self.name} are one buffer, and input {i} is taken by donation",
                        "Pass the buffer once, or do not donate it.",
                    )

    def describe(self, cached: str | bool, seconds: float) -> dict[str, Any]:
        """ProgramInfo of the protocol."""
        executable = self.executable

        def avals(types: list[Any], layouts: list[Layout]) -> list[dict[str, Any]]:
            return [
                {"shape": list(shape), "dtype": dtype.name, "sharding": layout.text}
                for (shape, dtype), layout in zip(types, layouts, strict=True)
            ]

        return {
            "name": self.name,
            "cached": cached,
            "compileSeconds": seconds,
            "donated": self.signature.donated,
            "inputs": avals(self.signature.inputs, executable.input_layouts),
            "outputs": avals(self.signature.outputs, executable.output_layouts),
            "memory": executable.memory,
            "cost": executable.cost,
        }


class PendingProgram:
    """A program that may still be compiling. Runs wait for it; if it failed, they fail with its error."""

    __slots__ = ("_program", "future", "job", "outputs")

    def __init__(self, future: "Future[Program]", outputs: int, job: Any = None) -> None:
        self.future = future
        self.outputs = outputs
        # What it is compiled from; None for one that failed before.
        self.job = job
        self._program: Program | None = None

    @classmethod
    def failed(cls, fault: Fault, outputs: int) -> "PendingProgram":
        future: Future[Program] = Future()
        future.set_exception(fault)
        return cls(future, outputs)

    @property
    def ready(self) -> bool:
        """Whether `program` returns at once."""
        return self._program is not None or self.future.done()

    @property
    def compiled(self) -> Program | None:
        """None while it is compiled, and if it failed."""
        if self._program is not None:
            return self._program
        return self.future.result() if self.future.done() and self.future.exception() is None else None

    def donated(self) -> list[int] | None:
        """Positions of the arguments that a run takes; None if the program failed."""
        return None if self._program is None else self._program.signature.donated

    def program(self) -> Program:
        if self._program is None:
            self._program = self.future.result()
        return self._program


def missing_buffer(number: int) -> Fault:
    return BufferDeleted(
        f"there is no buffer with handle {number}: it was freed, or never made",
        "Keep buffers until their last use.",
    )
