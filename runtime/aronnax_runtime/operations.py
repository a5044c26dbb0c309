"""What a client may ask for: a function for each operation of the protocol, and the table of them all."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import fields, profiling, storage, telemetry, workspaces
from .buffers import Buffer
from .compiler import CompileJob
from .devicememory import require_device_memory
from .errors import InvalidArgument, OutOfDeviceMemory
from .fields import Header, lookup
from .hostmemory import give_back_pages, require_host_memory, reserved_host_memory, touch_pages
from .lane import Run
from .programs import Described, PendingProgram, Program
from .reclaim import reclaimed
from .supervisor import EXIT_RECOVERED
from .wire import Answer, Bytes, aligned_bytes
from .xla import wait

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger(__name__)

# A ready result up to this size is answered by the reading thread.
_ANSWER_AT_ONCE = 1 << 20
_MAX_TEXT = 1 << 30

Operation = Callable[["Session", Header], None]


def _ping(session: "Session", header: Header) -> None:
    session.reply(header)


def _put(session: "Session", header: Header) -> None:
    aval = fields.aval(header, session.backend)
    tag, name = fields.tag(header.get("tag")), fields.name(header.get("name"))
    reader = session.reader
    shards = header.get("shards") is True
    expected = aval.shard_nbytes * len(aval.layout.devices) if shards else aval.nbytes
    if reader.payload_length != expected:
        raise InvalidArgument(f"put: {aval} takes {expected} bytes, but {reader.payload_length} came")
    require_device_memory(session.backend, aval.layout.devices, aval.shard_nbytes, f"put of {aval}")

    def receive(shape: tuple[int, ...], size: int) -> np.ndarray:
        raw = aligned_bytes(size)
        touch_pages(raw.ctypes.data, size)
        reader.payload_into(memoryview(raw))
        return raw.view(aval.dtype).reshape(shape)

    with reserved_host_memory(expected, f"put of {aval}"):
        if shards:
            shape = aval.layout.shard_shape(aval.shape)
            parts = [receive(shape, aval.shard_nbytes) for _ in aval.layout.devices]
        else:
            parts = [receive(aval.shape, aval.nbytes)]

    def finish() -> None:
        array = session.backend.put_shards(aval, parts) if shards else session.backend.put(aval, parts[0])
        session.bind(header.get("buffer"), [Buffer(array, aval, tag, name)])
        session.reply(header)

    session.in_order(header, finish, expected)


def _copy(session: "Session", header: Header) -> None:
    aval = fields.aval(header, session.backend)
    source = session.buffer(header.get("source"))
    array = source.live()
    if (aval.shape, aval.dtype) != (source.aval.shape, source.aval.dtype):
        raise InvalidArgument(f"copy: {source.aval} cannot become {aval}", "A copy has its source's shape and dtype.")
    tag, name = fields.tag(header.get("tag")), fields.name(header.get("name"))
    require_device_memory(session.backend, aval.layout.devices, aval.shard_nbytes, f"copy of {source.aval}")
    session.bind(header.get("buffer"), [Buffer(session.backend.copy(array, aval), aval, tag, name)])
    session.reply(header)


def _get(session: "Session", header: Header) -> None:
    buffer = session.buffer(header.get("buffer"))
    array, aval = buffer.live(), buffer.aval
    assert aval is not None
    device = None if header.get("device") is None else session.backend.device(header["device"])

    size = aval.nbytes if device is None else aval.shard_nbytes
    session.writer.require_room(size)
    if session.backend.platform != "cpu":
        require_host_memory(size, f"get of {aval}")

    def fetch() -> Answer:
        if device is not None:
            host, index = session.backend.shard_to_host(array, device)
            return _bounds(index, aval.shape), [_raw(host)]
        if session.backend.is_whole(array):
            return None, [_raw(piece) for piece in session.backend.to_host(array, aval)]
        parts = session.backend.parts_to_host(array)
        return {"parts": [_bounds(index, aval.shape) for _, index in parts]}, [_raw(part) for part, _ in parts]

    if session.idle and aval.nbytes <= _ANSWER_AT_ONCE and array.is_ready():
        session.reply(header, *fetch())
        return
    pins = session.server.pins
    pins.add([buffer])

    def job() -> Answer:
        try:
            return fetch()
        finally:
            pins.remove([buffer])

    session.later(header, job)


def _raw(host: np.ndarray) -> Bytes:
    return memoryview(np.ascontiguousarray(host).reshape(-1).view(np.uint8))


def _bounds(index: tuple[slice, ...], shape: tuple[int, ...]) -> list[list[int]]:
    return [list(part.indices(size)[:2]) for part, size in zip(index, shape, strict=True)]


def _free(session: "Session", header: Header) -> None:
    for number in fields.handles(header.get("handles")):
        session.buffers.pop(number, None)


def _delete(session: "Session", header: Header) -> None:
    for number in fields.handles(header.get("handles")):
        session.programs.pop(number, None)


def _compile(session: "Session", header: Header) -> None:
    number = fields.handle(header.get("program"))
    if number in session.programs:
        raise InvalidArgument(f"handle {number} is in use")
    size = session.reader.payload_length
    if not 0 < size <= _MAX_TEXT:
        raise InvalidArgument(f"a program's text has 1 to {_MAX_TEXT} bytes, not {size}")
    try:
        text = session.reader.payload().decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"a program's text must be UTF-8: {error}") from None
    outputs = header.get("outputs")
    if not isinstance(outputs, list):
        raise InvalidArgument("`outputs` must be the list of the program's results")
    job = CompileJob(
        text=text,
        outputs=[_described(session, fields.mapping(output, "an output")) for output in outputs],
        devices=fields.devices(header.get("devices"), session.backend),
        options=fields.mapping(header.get("options") or {}, "`options`"),
        name=fields.name(header.get("name")) or "program",
    )
    start_compiling(session, number, job, header)


def start_compiling(session: "Session", number: int, job: CompileJob, header: Header) -> None:
    """Has a program compiled for a client, under a handle, and answers when that is done."""
    future = session.server.compiler.submit(session, job)
    session.programs[number] = PendingProgram(future, len(job.outputs), job)

    def answer(done: Any) -> None:
        error = done.exception()
        if error is None:
            session.answer(header, done.result().info)
        else:
            session.answer_error(header, error)

    future.add_done_callback(answer)


def _described(session: "Session", output: Header) -> Described:
    shape = fields.shape(output.get("shape"))
    return Described(
        shape,
        fields.dtype(output.get("dtype")),
        fields.layout(output.get("sharding"), len(shape), session.backend),
        fields.tag(output.get("tag")),
        fields.name(output.get("name")),
    )


def _program(session: "Session", number: Any) -> PendingProgram:
    found = lookup(session.programs, number)
    if found is None:
        raise InvalidArgument(f"there is no program with handle {fields.handle(number)}")
    return found


def _execute(session: "Session", header: Header) -> None:
    pending = _program(session, header.get("program"))
    if not pending.ready and session.lane.idle:
        session.in_lane(header, lambda: _run(session, header, pending, True))
        return
    _run(session, header, pending, not session.lane.idle)


def _run(session: "Session", header: Header, pending: PendingProgram, in_lane: bool) -> None:
    program = pending.program()
    buffers = session.buffers
    try:
        inputs = [buffers[number] for number in header["inputs"]]
    except KeyError:
        inputs = [session.buffer(number) for number in fields.handles(header.get("inputs"))]
    except TypeError:
        raise InvalidArgument("`inputs` must be the list of the program's input handles") from None
    pins = session.server.pins
    if not program.may_wait(inputs):
        try:
            made = program.run(inputs, pins)
        except OutOfDeviceMemory as fault:
            if in_lane:
                made = _run_again(session, program, inputs, fault)
            else:
                session.in_lane(header, lambda: _run(session, header, pending, True))
                return
        session.bind(header.get("outputs"), made)
        session.reply(header)
    elif in_lane:
        run = Run(session, program.name, [session.backend.number(device) for device in program.executable.devices])
        with session.server.runs.noted(run):
            try:
                made = program.run(inputs, pins)
            except OutOfDeviceMemory as fault:
                made = _run_again(session, program, inputs, fault)
            session.bind(header.get("outputs"), made)
            if program.signature.loops and session.backend.platform == "cpu":
                # What comes after would wait in XLA, which has room for so many programs of all clients.
                _wait_for(made)
        session.reply(header)
    else:
        session.in_lane(header, lambda: _run(session, header, pending, True))


def _run_again(session: "Session", program: Program, inputs: list[Buffer], fault: OutOfDeviceMemory) -> list[Buffer]:
    """The run, for which there was no memory, after clients have given up what they have no use for. Raises `fault`
    where they have nothing, or the run has taken inputs."""
    server = session.server
    if any(buffer.array is None for buffer in inputs) or not server.reclaim.ask(server.sessions()):
        raise fault
    return program.run(inputs, server.pins)


def _wait_for(made: list[Buffer]) -> None:
    for buffer in made:
        try:
            wait(buffer.array)
        except Exception:
            return  # Whoever reads the buffer is told.


def _hlo(session: "Session", header: Header) -> None:
    """The optimized HLO of a program, as the payload of the answer."""
    pending = _program(session, header.get("program"))
    session.later(header, lambda: (None, pending.program().executable.optimized_hlo().encode()))


def _sync(session: "Session", header: Header) -> None:
    numbers = header.get("buffers")
    if numbers is None:
        waited = [buffer for buffer in session.buffers.values() if buffer.array is not None]
        failure = session.take_failure()
    else:
        waited = [session.buffer(number) for number in fields.handles(numbers)]
        for buffer in waited:
            buffer.live()
        failure = None
    arrays = [buffer.array for buffer in waited]

    def job() -> Answer:
        for array in arrays:
            wait(array)
        if failure is not None:
            raise failure
        return None, None

    if session.idle and all(array.is_deleted() or array.is_ready() for array in arrays):
        job()
        session.reply(header)
    else:
        session.later(header, job)


def _memory(session: "Session", header: Header) -> None:
    def report() -> None:
        if header.get("trim") is True:
            give_back_pages()
        session.reply(header, session.server.memory())

    # While a program of the client's starts, what it took by donation is no buffer any more and its results are none
    # yet.
    session.in_order(header, report)


def _status(session: "Session", header: Header) -> None:
    session.reply(header, session.server.status())


def _running(session: "Session", header: Header) -> None:
    """What runs, and what is compiled, for whom."""
    session.reply(header, session.server.running())


def _give_up_compiling(session: "Session", header: Header) -> None:
    session.reply(header, session.server.compiler.drop(session))


def _recover(session: "Session", header: Header) -> None:
    """Keeps what can be read, and ends the process: the next one of this place has it again."""
    session.reply(header, session.server.keep())
    session.server.stop(EXIT_RECOVERED)


def _shutdown(session: "Session", header: Header) -> None:
    session.reply(header)
    log.info("client %d asks to stop", session.number)
    session.server.stop()


OPERATIONS: dict[str, Operation] = {
    "ping": _ping,
    "put": _put,
    "copy": _copy,
    "get": _get,
    "free": _free,
    "compile": _compile,
    "delete": _delete,
    "execute": _execute,
    "hlo": _hlo,
    "sync": _sync,
    "memory": _memory,
    "status": _status,
    "running": _running,
    "compile.give_up": _give_up_compiling,
    "recover": _recover,
    "reclaimed": reclaimed,
    "shutdown": _shutdown,
    "workspace.set": workspaces.put,
    "workspace.get": workspaces.fetch,
    "workspace.list": workspaces.contents,
    "workspace.delete": workspaces.drop,
    "safetensors.index": storage.index,
    "safetensors.load": storage.load,
    "safetensors.save": storage.save,
    "telemetry.subscribe": telemetry.subscribe,
    "telemetry.unsubscribe": telemetry.unsubscribe,
    "profile.start": profiling.start,
    "profile.stop": profiling.stop,
}

# What needs no device and no order: the reading thread does it at once, whatever the client's lane is at. `put` and
# `compile` read their payloads at once, and take their places in the order themselves.
AT_ONCE = frozenset(
    {
        "ping",
        "put",
        "compile",
        "memory",
        "status",
        "running",
        "compile.give_up",
        "recover",
        "reclaimed",
        "shutdown",
        "safetensors.index",
        "telemetry.subscribe",
        "telemetry.unsubscribe",
    }
)
