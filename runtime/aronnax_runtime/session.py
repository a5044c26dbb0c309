"""One client: its handles, and its requests carried out in order.

The reading thread queues work on the devices and never waits for it. What must wait for results (get, sync, save) goes
to a second thread, in order; small results that are ready are answered at once.
"""

import gc
import logging
import queue
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from . import PROTOCOL_VERSION, fields, profiling, storage, telemetry, workspaces
from .buffers import Buffer
from .compiler import CompileJob
from .errors import Fault, InvalidArgument, OutOfDeviceMemory, ProtocolError, execution_fault
from .fields import Header
from .hostmemory import give_back_pages, require_host_memory
from .programs import Described, PendingProgram, missing_buffer
from .wire import MAX_PAYLOAD, Bytes, FrameReader, FrameWriter, Payload, aligned_bytes
from .xla import wait

if TYPE_CHECKING:
    from .server import Server

log = logging.getLogger(__name__)

# A ready result up to this size is answered by the reading thread.
_ANSWER_AT_ONCE = 1 << 20
_MAX_TEXT = 1 << 30

T = TypeVar("T")
Answer = tuple[Any, Payload | None]
Operation = Callable[["Session", Header], None]


class Session:
    def __init__(self, server: "Server", connection: socket.socket, number: int) -> None:
        self.server = server
        self.backend = server.backend
        self.number = number
        self.client = "unknown"
        self.connection = connection
        self.reader = FrameReader(connection)
        self.writer = FrameWriter(connection)
        self.buffers: dict[int, Buffer] = {}
        self.programs: dict[int, PendingProgram] = {}
        self.closers: list[Callable[[], None]] = []
        self._failure: Fault | None = None
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._submitted = 0  # Counted by the reading thread
        self._finished = 0  # and by the waiting thread.
        self._waiter: threading.Thread | None = None

    # The loop

    def run(self) -> None:
        """Serves the client until it goes."""
        try:
            self._greet()
            operations = OPERATIONS
            while (header := self.reader.header()) is not None:
                operation = lookup(operations, header.get("op"))
                try:
                    if operation is None:
                        raise ProtocolError(f"there is no operation {header.get('op')!r:.100}")
                    operation(self, header)
                except (EOFError, ConnectionError):
                    raise
                except Exception as error:
                    self._failed(header, error)
        except Fault as fault:
            log.warning("client %d (%s): %s", self.number, self.client, fault)
            self._farewell(fault)
        except (EOFError, ConnectionError):
            log.info("client %d (%s) broke off", self.number, self.client)
        except Exception:
            log.exception("client %d (%s)", self.number, self.client)
        finally:
            self._close()

    def _greet(self) -> None:
        header = self.reader.header()
        if header is None:
            raise EOFError
        if header.get("op") != "hello":
            raise ProtocolError("the first request must be hello")
        if header.get("protocol") != PROTOCOL_VERSION:
            raise ProtocolError(
                f"this runtime speaks protocol {PROTOCOL_VERSION}, the client {header.get('protocol')!r:.20}",
                "Run `npx aronnax runtime restart`: the running process is of another release.",
            )
        if not self.server.knows(header.get("token"), self.connection):
            raise ProtocolError("the token is wrong", "Set ARONNAX_RUNTIME_TOKEN to what the nodes were started with.")
        if not self.server.drive(self):
            raise ProtocolError("another client drives these nodes", "End it first: one client may at a time.")
        if "maxPayload" in header:
            self.writer.max_payload = fields.integer(header["maxPayload"], "`maxPayload`", 1, MAX_PAYLOAD)
        self.client = f"{header.get('client', 'unknown')!s:.100} pid {header.get('pid', '?')!s:.20}"
        log.info("client %d attached: %s", self.number, self.client)
        self.writer.send({"id": header.get("id", 0), "result": self.server.info()})

    def _farewell(self, fault: Fault) -> None:
        try:
            self.writer.send({"error": fault.to_wire()})
        except OSError:
            pass

    def _close(self) -> None:
        self._jobs.put(None)
        for close in self.closers:
            close()
        self.buffers.clear()
        self.programs.clear()
        self.server.forget(self)
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if self._waiter is not None:
            self._waiter.join()
        self.connection.close()
        gc.collect()
        give_back_pages()
        log.info("client %d gone", self.number)

    # Answers

    def reply(self, header: Header, result: Any = None, payload: Payload | None = None) -> None:
        """Answers a request; does nothing for one that wants no answer."""
        if "id" in header:
            self.writer.send({"id": header["id"], "result": result}, payload)

    def _failed(self, header: Header, error: Exception) -> None:
        """Answers with the error, or poisons the outputs of a request that wants no answer."""
        fault = self.fault(error, str(header.get("op")))
        if header.get("op") == "compile":
            self._poison_program(header, fault)
        if "id" in header:
            self.writer.send({"id": header["id"], "error": fault.to_wire()})
            return
        if self._failure is None:
            self._failure = fault
        op = header.get("op")
        if op in ("put", "copy"):
            self._poison(header.get("buffer"), 1, fault)
        elif op == "execute":
            pending = lookup(self.programs, header.get("program"))
            self._poison(header.get("outputs"), pending.outputs if pending else 0, fault)

    def _poison_program(self, header: Header, fault: Fault) -> None:
        """Runs of a program that was refused are queued already: they fail with its error."""
        outputs = header.get("outputs")
        try:
            number = fields.handle(header.get("program"))
        except InvalidArgument:
            return
        self.programs.setdefault(number, PendingProgram.failed(fault, len(outputs) if isinstance(outputs, list) else 0))

    def _poison(self, first: Any, count: int, fault: Fault) -> None:
        try:
            number = fields.handle(first)
        except InvalidArgument:
            return
        for offset in range(count):
            self.buffers.setdefault(number + offset, Buffer.poisoned(fault))

    def fault(self, error: BaseException, what: str) -> Fault:
        """The error as a client is to see it."""
        if isinstance(error, Fault):
            fault = error
        elif isinstance(error, MemoryError | OSError) or type(error).__name__ == "JaxRuntimeError":
            fault = execution_fault(error, what)
        else:
            log.error("client %d: %s failed", self.number, what, exc_info=error)
            fault = Fault(
                f"{what} failed inside the runtime: {type(error).__name__}: {error}",
                "This is a fault of the runtime: its log has the traceback (`npx aronnax runtime logs`).",
            )
        # Frames of a traceback hold arrays, and a fault may live as long as the buffers it poisons.
        fault.with_traceback(None)
        fault.__context__ = fault.__cause__ = None
        error.__traceback__ = error.__context__ = None
        if isinstance(fault, OutOfDeviceMemory) and "table" not in fault.details:
            self.server.explain_memory(fault)
        return fault

    def answer(self, header: Header, result: Any = None, payload: Payload | None = None) -> None:
        """`reply` for other threads: a client that has gone is the reading thread's matter."""
        try:
            self.reply(header, result, payload)
        except Fault as fault:
            self.answer_error(header, fault)
        except OSError:
            pass

    def answer_error(self, header: Header, error: BaseException) -> None:
        fault = self.fault(error, header["op"])
        if "id" not in header:
            return
        try:
            self.writer.send({"id": header["id"], "error": fault.to_wire()})
        except OSError:
            pass

    # Waiting

    def later(self, header: Header, job: Callable[[], Answer]) -> None:
        """Answers with what `job` returns, on the waiting thread, after the jobs before it."""

        def answer() -> None:
            try:
                result, payload = job()
            except Exception as error:
                self.answer_error(header, error)
            else:
                self.answer(header, result, payload)

        if self._waiter is None:
            self._waiter = threading.Thread(target=self._wait, name=f"waiter-{self.number}", daemon=True)
            self._waiter.start()
        self._submitted += 1
        self._jobs.put(answer)

    def _wait(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            self._finished += 1
            del job  # It holds arrays.

    @property
    def idle(self) -> bool:
        """Whether nothing waits, so that an answer may go out at once without overtaking another."""
        return self._submitted == self._finished

    # Handles

    def buffer(self, number: Any) -> Buffer:
        found = lookup(self.buffers, number)
        if found is None:
            raise missing_buffer(fields.handle(number))
        return found

    def bind(self, first: Any, made: list[Buffer]) -> None:
        """Gives buffers the handles from `first` on."""
        number = fields.handle(first) if made else 0
        for offset, buffer in enumerate(made):
            if number + offset in self.buffers:
                raise InvalidArgument(f"handle {number + offset} is in use")
            self.buffers[number + offset] = buffer

    def take_failure(self) -> Fault | None:
        failure, self._failure = self._failure, None
        return failure


def lookup(table: dict[Any, T], key: Any) -> T | None:
    """The entry of a key that a client sent: a list or a map is no key at all."""
    try:
        return table.get(key)
    except TypeError:
        return None


def refuse(connection: socket.socket, reason: str) -> None:
    """Tells a client why it is not served, and closes."""
    try:
        FrameWriter(connection).send({"error": ProtocolError(reason).to_wire()})
    except OSError:
        pass
    connection.close()


# Operations


def _ping(session: Session, header: Header) -> None:
    session.reply(header)


def _put(session: Session, header: Header) -> None:
    aval = fields.aval(header, session.backend)
    tag, name = fields.tag(header.get("tag")), fields.name(header.get("name"))
    reader = session.reader
    shards = header.get("shards") is True
    expected = aval.shard_nbytes * len(aval.layout.devices) if shards else aval.nbytes
    if reader.payload_length != expected:
        raise InvalidArgument(f"put: {aval} takes {expected} bytes, but {reader.payload_length} came")
    require_host_memory(expected, f"put of {aval}")

    def receive(shape: tuple[int, ...], size: int) -> np.ndarray:
        raw = aligned_bytes(size)
        reader.payload_into(memoryview(raw))
        return raw.view(aval.dtype).reshape(shape)

    if shards:
        shape = aval.layout.shard_shape(aval.shape)
        parts = [receive(shape, aval.shard_nbytes) for _ in aval.layout.devices]
        array = session.backend.put_shards(aval, parts)
    else:
        array = session.backend.put(aval, receive(aval.shape, aval.nbytes))
    session.bind(header.get("buffer"), [Buffer(array, aval, tag, name)])
    session.reply(header)


def _copy(session: Session, header: Header) -> None:
    aval = fields.aval(header, session.backend)
    source = session.buffer(header.get("source"))
    array = source.live()
    if (aval.shape, aval.dtype) != (source.aval.shape, source.aval.dtype):
        raise InvalidArgument(f"copy: {source.aval} cannot become {aval}", "A copy has its source's shape and dtype.")
    tag, name = fields.tag(header.get("tag")), fields.name(header.get("name"))
    session.bind(header.get("buffer"), [Buffer(session.backend.copy(array, aval), aval, tag, name)])
    session.reply(header)


def _get(session: Session, header: Header) -> None:
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


def _free(session: Session, header: Header) -> None:
    for number in fields.handles(header.get("handles")):
        session.buffers.pop(number, None)


def _delete(session: Session, header: Header) -> None:
    for number in fields.handles(header.get("handles")):
        session.programs.pop(number, None)


def _compile(session: Session, header: Header) -> None:
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
    future = session.server.compiler.submit(job)
    session.programs[number] = PendingProgram(future, len(outputs))

    def answer(done: Any) -> None:
        error = done.exception()
        if error is None:
            session.answer(header, done.result().info)
        else:
            session.answer_error(header, error)

    future.add_done_callback(answer)


def _described(session: Session, output: Header) -> Described:
    shape = fields.shape(output.get("shape"))
    return Described(
        shape,
        fields.dtype(output.get("dtype")),
        fields.layout(output.get("sharding"), len(shape), session.backend),
        fields.tag(output.get("tag")),
        fields.name(output.get("name")),
    )


def _program(session: Session, number: Any) -> PendingProgram:
    found = lookup(session.programs, number)
    if found is None:
        raise InvalidArgument(f"there is no program with handle {fields.handle(number)}")
    return found


def _execute(session: Session, header: Header) -> None:
    program = _program(session, header.get("program")).program()
    buffers = session.buffers
    try:
        inputs = [buffers[number] for number in header["inputs"]]
    except KeyError:
        inputs = [session.buffer(number) for number in fields.handles(header.get("inputs"))]
    except TypeError:
        raise InvalidArgument("`inputs` must be the list of the program's input handles") from None
    session.bind(header.get("outputs"), program.run(inputs, session.server.pins))
    session.reply(header)


def _hlo(session: Session, header: Header) -> None:
    """The optimized HLO of a program, as the payload of the answer."""
    pending = _program(session, header.get("program"))
    session.later(header, lambda: (None, pending.program().executable.optimized_hlo().encode()))


def _sync(session: Session, header: Header) -> None:
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
            # A donated array is part of a later computation that is waited for too.
            if not array.is_deleted():
                wait(array)
        if failure is not None:
            raise failure
        return None, None

    if session.idle and all(array.is_deleted() or array.is_ready() for array in arrays):
        job()
        session.reply(header)
    else:
        session.later(header, job)


def _memory(session: Session, header: Header) -> None:
    session.reply(header, session.server.memory())


def _status(session: Session, header: Header) -> None:
    session.reply(header, session.server.status())


def _shutdown(session: Session, header: Header) -> None:
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
