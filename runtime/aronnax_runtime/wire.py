"""Frames: a prefix of 16 bytes, a MessagePack header, a raw payload. PROTOCOL.md is the description."""

import io
import select
import socket
import struct
import threading
import time
from typing import Any

import msgpack
import numpy as np

from .errors import InvalidArgument, ProtocolError

_PREFIX = struct.Struct("<IIQ")
_MAGIC = 0x31585241  # "ARX1"
# Of an answer, and of a request: freeing what a larger one holds would keep all clients waiting.
MAX_HEADER = 16 << 20
MAX_REQUEST = 4 << 20
# Of a hello, before it is known who sends it.
MAX_GREETING = 4096
# A header is read in pieces of so many bytes, between which other clients have their turn.
_PIECE = 64 << 10
MAX_PAYLOAD = 1 << 40
_READ_BUFFER = 256 << 10
# Larger ones are slower: what is under way no longer fits the processor's cache.
_SOCKET_BUFFER = 1 << 20
# Payloads below this go out in one piece with their header.
_JOIN_BELOW = 64 << 10

Bytes = bytes | bytearray | memoryview
# One piece, or several that follow each other.
Payload = Bytes | list[Bytes]
# A result and its payload.
Answer = tuple[Any, Payload | None]


class FrameReader:
    """Reads a client's frames. The payload of a frame is read, or skipped, before the next header."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream: Any = None
        self._left = 0

    def greeting(self, longest: int, deadline: float) -> dict[str, Any] | None:
        """The first header, of somebody who is not known yet: short, without a payload, and all of it by a time of
        `time.monotonic`. Raises TimeoutError, ProtocolError."""

        def exactly(count: int) -> bytes:
            data = b""
            while len(data) < count:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._connection.settimeout(left)
                piece = self._connection.recv(count - len(data))
                if not piece:
                    break
                data += piece
            return data

        prefix = exactly(16)
        if not prefix:
            return None
        if len(prefix) < 16:
            raise EOFError
        length = self._measure(prefix, longest)
        if self._left:
            raise ProtocolError("the first request must be hello, without a payload")
        body = exactly(length)
        if len(body) < length:
            raise EOFError
        return self._unpacked(body)

    def trusted(self) -> None:
        """From now on the client is one of ours, and frames are read in large pieces."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        self._stream = io.BufferedReader(socket.SocketIO(self._connection, "r"), _READ_BUFFER)

    def header(self) -> dict[str, Any] | None:
        """The next header, or None at a clean end. Raises ProtocolError for bytes that are no frame."""
        if self._left:
            self.skip()
        stream = self._stream
        prefix = stream.read(16)
        if not prefix:
            return None
        if len(prefix) < 16:
            raise EOFError
        length = self._measure(prefix, MAX_REQUEST)
        body = stream.read(length)
        if len(body) < length:
            raise EOFError
        return self._unpacked(body)

    def _measure(self, prefix: bytes, longest: int) -> int:
        """The length of the header that follows a prefix."""
        magic, length, self._left = _PREFIX.unpack(prefix)
        if magic != _MAGIC:
            raise ProtocolError(f"a frame starts with {magic:#010x}, not with {_MAGIC:#010x}")
        if not 0 < length <= longest:
            raise ProtocolError(f"a header of {length} bytes is outside 1..{longest}")
        if self._left > MAX_PAYLOAD:
            raise ProtocolError(f"a payload of {self._left} bytes is over {MAX_PAYLOAD}")
        return length

    def _unpacked(self, body: bytes) -> dict[str, Any]:
        try:
            header = msgpack.unpackb(body, strict_map_key=True) if len(body) <= _PIECE else _unpack_slowly(body)
        except Exception as error:
            raise ProtocolError(f"a header is not valid MessagePack: {error}") from error
        if not isinstance(header, dict):
            raise ProtocolError(f"a header is a {type(header).__name__}, not a map")
        return header

    @property
    def payload_length(self) -> int:
        """Bytes of this frame's payload that are not read yet."""
        return self._left

    def payload_into(self, target: memoryview) -> None:
        """Reads the next `len(target)` bytes of the payload."""
        if len(target) > self._left:
            raise ProtocolError(f"{len(target)} bytes of payload were expected, {self._left} are there")
        filled = 0
        while filled < len(target):
            count = self._stream.readinto(target[filled:])
            if not count:
                raise EOFError
            filled += count
            self._left -= count

    def payload(self) -> bytes:
        data = self._stream.read(self._left)
        if len(data) < self._left:
            raise EOFError
        self._left = 0
        return data

    def skip(self) -> None:
        """Reads the rest of the payload and drops it."""
        sink = memoryview(bytearray(min(self._left, 1 << 20)))
        while self._left:
            count = self._stream.readinto(sink[: min(self._left, len(sink))])
            if not count:
                raise EOFError
            self._left -= count


class FrameWriter:
    """Writes whole frames from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        # The largest payload that the client takes: it may say so in its hello.
        self.max_payload = MAX_PAYLOAD
        self._lock = threading.Lock()
        self._writable = select.poll()
        self._writable.register(connection, select.POLLOUT)

    def trusted(self) -> None:
        """From now on the client is one of ours, and may have large frames."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)

    def send(self, header: dict[str, Any], payload: Payload | None = None) -> None:
        """Raises InvalidArgument, and sends nothing, if the frame is over a limit."""
        with self._lock:
            self._send(header, payload)

    def offer(self, header: dict[str, Any]) -> bool:
        """Sends unless that could block: for what a slow client may miss, or get later from a thread that may wait."""
        body = msgpack.packb(header)
        # What a socket that can be written to has room for at least.
        if len(body) > _JOIN_BELOW or not self._lock.acquire(blocking=False):
            return False
        try:
            if not self._writable.poll(0):
                return False
            self._send_encoded(body, [])
        finally:
            self._lock.release()
        return True

    def _send(self, header: dict[str, Any], payload: Payload | None) -> None:
        pieces = [] if payload is None else payload if isinstance(payload, list) else [payload]
        self._send_encoded(msgpack.packb(header), pieces)

    def _send_encoded(self, body: bytes, pieces: list[Bytes]) -> None:
        length = sum(map(len, pieces))
        if len(body) > MAX_HEADER:
            raise InvalidArgument(
                f"the answer's header has {len(body)} bytes, and a frame's at most {MAX_HEADER}",
                "Ask for less at a time.",
            )
        self.require_room(length)
        head = _PREFIX.pack(_MAGIC, len(body), length) + body
        if length <= _JOIN_BELOW:
            self._connection.sendall(b"".join([head, *pieces]))
            return
        self._connection.sendall(head)
        for piece in pieces:
            self._connection.sendall(piece)

    def require_room(self, length: int) -> None:
        """Raises InvalidArgument if the client takes no payload of this length."""
        if length > self.max_payload:
            raise InvalidArgument(
                f"a payload of {length} bytes is over the limit of {self.max_payload}",
                "Fetch the array part by part (`getShard`), or save it to a file (`saveSafetensors`).",
            )


def _unpack_slowly(body: bytes) -> Any:
    """A long header, piece by piece: decoding one whole would keep all other threads from running."""
    unpacker = msgpack.Unpacker(strict_map_key=True, max_buffer_size=len(body))
    view = memoryview(body)
    for start in range(0, len(body), _PIECE):
        unpacker.feed(view[start : start + _PIECE])
        try:
            header = unpacker.unpack()
        except msgpack.OutOfData:
            time.sleep(0)
            continue
        if start + _PIECE < len(body) or unpacker.tell() < len(body):
            raise ValueError("bytes follow the map")
        return header
    raise ValueError("it ends too early")


def aligned_bytes(length: int) -> np.ndarray:
    """Uninitialised bytes at a 64-byte boundary: XLA's CPU client takes such memory without copying it."""
    raw = np.empty(length + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + length]
