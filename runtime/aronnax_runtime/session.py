"""One client: its handles, and its requests carried out in order.

The reading thread queues work on the devices and never waits for it. Programs that could hold it up, and what comes
after them, go to the client's lane. What must wait for results (get, sync) goes to another thread, in order; small
results that are ready are answered at once. Saves have a thread of their own.
"""

import logging
import queue
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import PROTOCOL_VERSION, fields
from .buffers import Buffer
from .errors import Fault, InvalidArgument, OutOfDeviceMemory, ProtocolError, execution_fault
from .fields import Header, lookup
from .hostmemory import give_back_pages
from .lane import Lane
from .operations import AT_ONCE, OPERATIONS
from .programs import PendingProgram, missing_buffer
from .recovery import lost_fault
from .wire import MAX_GREETING, MAX_PAYLOAD, Answer, FrameReader, FrameWriter, Payload

if TYPE_CHECKING:
    from .server import Server

log = logging.getLogger(__name__)

# An error tells of so many inputs that outlived their donation.
_MOST_KEPT = 20_000
# Who connects says hello within this time, or is let go.
_GREETING_SECONDS = 10
# Answers that may wait for their results before the client is no longer served.
_MOST_WAITING = 4096


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
        # What another process of this runtime keeps the session's buffers under.
        self.token = secrets.token_hex(16)
        self.gone = False
        self.resumed = False
        self.lane = Lane(f"lane-{number}", self._hung_up)
        self.saver = Lane(f"saver-{number}", self._hung_up)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._submitting = threading.Lock()
        self._submitted = 0
        self._finished = 0  # Counted by the waiting thread alone.
        self._waiter: threading.Thread | None = None

    # The loop

    def run(self) -> None:
        """Serves the client until it goes."""
        try:
            self._greet()
            self.connection.settimeout(None)
            while (header := self.reader.header()) is not None:
                self._serve(header)
        except Fault as fault:
            log.warning("client %d (%s): %s", self.number, self.client, fault)
            self._farewell(fault)
        except (EOFError, ConnectionError, TimeoutError):
            log.info("client %d (%s) broke off", self.number, self.client)
        except Exception:
            log.exception("client %d (%s)", self.number, self.client)
        finally:
            self._close()

    def _serve(self, header: Header) -> None:
        name = header.get("op")
        operation = lookup(OPERATIONS, name)
        try:
            if operation is None:
                raise ProtocolError(f"there is no operation {name!r:.100}")
            if self.lane.idle or name in AT_ONCE:
                operation(self, header)
                return
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            self.failed(header, error)
            return
        self.in_lane(header, lambda: operation(self, header))

    def in_lane(self, header: Header, job: Callable[[], None], size: int = 0) -> None:
        """Does a part of a request on the client's lane, after what is there."""

        def guarded() -> None:
            try:
                job()
            except OSError as error:
                if not isinstance(error, ConnectionError):
                    self.failed(header, error)
            except Exception as error:
                self.failed(header, error)

        self.lane.put(guarded, header, size)

    def in_order(self, header: Header, job: Callable[[], None], size: int = 0) -> None:
        """Does a part of a request now, or after what is in the lane."""
        if self.lane.idle:
            job()
        else:
            self.in_lane(header, job, size)

    def _hung_up(self) -> bool:
        """Whether the client has gone, though the reading thread has not come to that yet."""
        look = select.poll()
        look.register(self.connection, select.POLLRDHUP)
        return bool(look.poll(0))

    def _greet(self) -> None:
        deadline = time.monotonic() + _GREETING_SECONDS
        header = self.reader.greeting(MAX_GREETING, deadline)
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
        if not self.server.admit(self):
            raise ProtocolError(f"{self.server.most_clients} clients are attached already")
        self.connection.settimeout(None)
        self.reader.trusted()
        self.writer.trusted()
        if "maxPayload" in header:
            self.writer.max_payload = fields.integer(header["maxPayload"], "`maxPayload`", 1, MAX_PAYLOAD)
        self.client = f"{header.get('client', 'unknown')!s:.100} pid {header.get('pid', '?')!s:.20}"
        log.info("client %d attached: %s", self.number, self.client)
        lost = self.server.resume(self, header.get("resume"))
        answer = {**self.server.info(), "client": self.number, "session": self.token}
        if lost is not None:
            answer["lost"] = lost
        self.writer.send({"id": header.get("id", 0), "result": answer})

    def _farewell(self, fault: Fault) -> None:
        try:
            self.writer.send({"error": fault.to_wire()})
        except OSError:
            pass

    def _close(self) -> None:
        self.gone = True
        self.lane.close()
        self.saver.close()
        self.server.compiler.drop(self)
        for close in self.closers:
            try:
                close()
            except Exception:  # E.g. the disk that its profile goes to is full.
                log.exception("client %d", self.number)
        # One by one: others have their turn between.
        for held in (self.buffers, self.programs):
            while held:
                try:
                    held.popitem()
                except KeyError:
                    break
        self.server.forget(self)
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if self._waiter is not None:
            self._jobs.put(None)
            self._waiter.join()
        self.connection.close()
        give_back_pages()
        log.info("client %d gone", self.number)

    # Answers

    def reply(self, header: Header, result: Any = None, payload: Payload | None = None) -> None:
        """Answers a request; does nothing for one that wants no answer."""
        if "id" in header:
            self.writer.send({"id": header["id"], "result": result}, payload)

    def failed(self, header: Header, error: Exception) -> None:
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
            self._note_kept(header, pending, fault)
            self._poison(header.get("outputs"), pending.outputs if pending else 0, fault)

    def _note_kept(self, header: Header, pending: PendingProgram | None, fault: Fault) -> None:
        """Adds to the fault the inputs that the run would have taken by donation and that are still there: the client
        has given them up. All inputs, where the program that would say which failed itself."""
        inputs = header.get("inputs")
        if not isinstance(inputs, list):
            return
        donated = pending.donated() if pending else None
        kept = fault.details.setdefault("kept", [])
        # Many runs may fail by one fault; the first are those whose inputs matter.
        for position, number in enumerate(inputs[: max(0, _MOST_KEPT - len(kept))]):
            buffer = lookup(self.buffers, number)
            if buffer is not None and buffer.array is not None and (donated is None or position in donated):
                kept.append([header.get("outputs"), number])

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
        elif isinstance(error, MemoryError | OSError) or _is_of_jax(error):
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

    def answer(self, header: Header, result: Any) -> None:
        """Answers from a thread that serves all clients: where this one does not read, its own thread waits."""
        if "id" in header and not self.offer({"id": header["id"], "result": result}):
            self._later(header, lambda: (result, None))

    def answer_error(self, header: Header, error: BaseException) -> None:
        """`answer` for what failed."""
        fault = self.fault(error, header["op"])

        def fail() -> Answer:
            raise fault

        if "id" in header and not self.offer({"id": header["id"], "error": fault.to_wire()}):
            self._later(header, fail)

    def offer(self, answer: dict[str, Any]) -> bool:
        """Sends a frame unless that would wait for the client; whether it is sent, or needs not be."""
        try:
            return self.writer.offer(answer)
        except OSError:
            return True  # A client that has gone is the reading thread's matter.

    def _reply_error(self, header: Header, error: Exception) -> None:
        fault = self.fault(error, str(header.get("op")))
        if "id" in header:
            self.writer.send({"id": header["id"], "error": fault.to_wire()})

    # Waiting

    def later(self, header: Header, job: Callable[[], Answer]) -> None:
        """Answers with what `job` returns, on the waiting thread, after the jobs before it. Waits where too many do:
        the client asks for more than it reads."""
        while self._submitted - self._finished >= _MOST_WAITING and not self.gone:
            time.sleep(0.002)
        self._later(header, job)

    def _later(self, header: Header, job: Callable[[], Answer]) -> None:

        def answer() -> None:
            try:
                result, payload = job()
            except Exception as error:
                self._reply_error(header, error)
                return
            try:
                self.reply(header, result, payload)
            except Fault as fault:  # It is over a limit of frames.
                self._reply_error(header, fault)

        with self._submitting:
            if self._waiter is None:
                self._waiter = threading.Thread(target=self._wait, name=f"waiter-{self.number}", daemon=True)
                self._waiter.start()
            self._submitted += 1
        self._jobs.put(answer)

    def _wait(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if not self.gone:
                    job()
            except OSError:
                pass  # A client that has gone is the reading thread's matter.
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
            if self.resumed:
                raise lost_fault("", f"handle {fields.handle(number)} was not computed yet")
            raise missing_buffer(fields.handle(number))
        return found

    def bind(self, first: Any, made: list[Buffer]) -> None:
        """Gives buffers the handles from `first` on."""
        if self.gone:
            return
        number = fields.handle(first) if made else 0
        for offset, buffer in enumerate(made):
            if number + offset in self.buffers:
                raise InvalidArgument(f"handle {number + offset} is in use")
            self.buffers[number + offset] = buffer

    def take_failure(self) -> Fault | None:
        failure, self._failure = self._failure, None
        return failure


def _is_of_jax(error: BaseException) -> bool:
    """Whether jax says what went wrong on a device, or that an array is donated, which another client may have done."""
    return type(error).__name__ == "JaxRuntimeError" or "has been deleted" in str(error)


def refuse(connection: socket.socket, reason: str, patience: float = 0) -> None:
    """Tells a client why it is not served, and closes. One that still writes its hello would not read the reason: that
    is waited for, so many seconds at most."""
    try:
        if patience:
            connection.settimeout(patience)
            connection.recv(1 << 16)
        FrameWriter(connection).send({"error": ProtocolError(reason).to_wire()})
    except OSError:
        pass
    connection.close()
