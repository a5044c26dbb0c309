"""Requests that move tensors between files and devices."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import fields, safetensors
from .buffers import Buffer
from .devicememory import require_device_memory
from .errors import InvalidArgument
from .fields import Header
from .hostmemory import require_host_memory
from .safetensors import Entry, Tensor
from .wire import aligned_bytes
from .xla import Aval

if TYPE_CHECKING:
    from .session import Session

_READERS = 8
_DEFAULT_FILE_BYTES = 5_000_000_000

# Shared by all clients: disks and memory do not get faster with more of them.
_readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")


def absolute_path(value: Any) -> Path:
    path = Path(fields.text(value, "`path`"))
    if not path.is_absolute() or "\0" in str(path):
        raise InvalidArgument(f"a path must be absolute, not {str(path)!r:.200}")
    return path


def index(session: "Session", header: Header) -> None:
    """Names, types and shapes of the tensors of a file, an index or a folder."""
    contents = safetensors.read(absolute_path(header.get("path")))
    tensors = {
        name: {
            "dtype": entry.code if entry.dtype is None else entry.dtype.name,
            "shape": list(entry.shape),
            "file": entry.file.name,
        }
        for name, entry in contents.tensors.items()
    }
    session.reply(
        header,
        {"tensors": tensors, "metadata": contents.metadata, "files": [str(file) for file in contents.files]},
    )


def load(session: "Session", header: Header) -> None:
    """Tensors from files to devices. Later requests of this client wait, so that they may use the buffers."""
    wanted = header.get("tensors")
    if not isinstance(wanted, list):
        raise InvalidArgument("`tensors` must be a list")
    path = absolute_path(header.get("path"))
    if session.lane.idle:
        # The disk may be slow: the reading thread goes on.
        session.in_lane(header, lambda: _load(session, header, path, wanted))
    else:
        _load(session, header, path, wanted)


def _load(session: "Session", header: Header, path: Path, wanted: list[Any]) -> None:
    contents = safetensors.read(path)
    jobs: list[tuple[Entry, Aval, str, str]] = []
    for item in wanted:
        request = fields.mapping(item, "an entry of `tensors`")
        entry = contents.tensors.get(fields.text(request.get("tensor"), "`tensor`"))
        if entry is None:
            raise InvalidArgument(
                f"{header['path']} has no tensor {request['tensor']!r:.200}",
                f"It has {len(contents.tensors)}: {', '.join(list(contents.tensors)[:8])}, ...",
            )
        if entry.dtype is None:
            raise InvalidArgument(f"{entry.name} has elements of type {entry.code}, which no buffer can hold")
        jobs.append((entry, _wanted_aval(session, request, entry), *_labels(request)))
    sizes = sorted((entry.nbytes for entry, *_ in jobs), reverse=True)
    if session.backend.platform != "cpu":
        del sizes[2 * _READERS :]  # Those that are being read, and those on their way to the devices.
    require_host_memory(sum(sizes), f"loading {header['path']}")
    for device in session.backend.local:
        size = sum(aval.shard_nbytes for _, aval, *_ in jobs if device in aval.layout.devices)
        require_device_memory(session.backend, [device], size, f"loading {header['path']}")

    def read(job: tuple[Entry, Aval, str, str]) -> Buffer:
        entry, aval, tag, name = job
        return Buffer(session.backend.put(aval, _read(entry, aval)), aval, tag, name)

    session.bind(header.get("buffers"), list(_readers.map(read, jobs)))
    session.reply(header, {"bytes": sum(entry.nbytes for entry, *_ in jobs)})


def _labels(request: Header) -> tuple[str, str]:
    return fields.tag(request.get("tag")), fields.name(request.get("name"))


def _wanted_aval(session: "Session", request: Header, entry: Entry) -> Aval:
    aval = fields.aval({"shape": list(entry.shape), "dtype": entry.dtype.name, **request}, session.backend)
    if math.prod(aval.shape) != math.prod(entry.shape):
        raise InvalidArgument(f"{entry.name} is {list(entry.shape)}, which cannot become {list(aval.shape)}")
    return aval


def _read(entry: Entry, aval: Aval) -> np.ndarray:
    raw = aligned_bytes(entry.nbytes)
    safetensors.read_into(entry, memoryview(raw))
    if entry.dtype == np.bool_:
        return (raw != 0).reshape(aval.shape)  # Any other byte is no boolean to XLA.
    return raw.view(entry.dtype).reshape(aval.shape).astype(aval.dtype, copy=False)


def save(session: "Session", header: Header) -> None:
    """Buffers to a file (`*.safetensors`) or a folder, after this client's saves before. Answers when all is on the
    disk; the queue goes on meanwhile."""
    path = absolute_path(header.get("path"))
    named = fields.mapping(header.get("tensors"), "`tensors`")
    metadata = fields.mapping(header.get("metadata") or {}, "`metadata`")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidArgument("`metadata` must map texts to texts")
    if "__metadata__" in named:
        raise InvalidArgument("no tensor may be named __metadata__")
    limit = int(fields.number(header.get("maxFileBytes", _DEFAULT_FILE_BYTES), "`maxFileBytes`", 1, 1 << 50))
    buffers = {name: session.buffer(number) for name, number in named.items()}
    arrays = {name: (buffer.live(), buffer.aval) for name, buffer in buffers.items()}
    if session.backend.platform != "cpu":
        require_host_memory(sum(aval.nbytes for _, aval in arrays.values()), f"saving {path}")
    pins = session.server.pins
    pins.add(buffers.values())

    def run() -> None:
        try:
            try:
                # Once all is on the host the next step may take the buffers: writing goes on without them.
                tensors = {
                    name: Tensor(aval.shape, aval.dtype, aval.nbytes, session.backend.to_host(array, aval))
                    for name, (array, aval) in arrays.items()
                }
            finally:
                arrays.clear()
                pins.remove(buffers.values())
            if path.suffix == ".safetensors":
                safetensors.write_file(path, tensors, metadata)
                files = [path]
            else:
                files = safetensors.write_folder(path, tensors, metadata, limit)
            size = sum(tensor.nbytes for tensor in tensors.values())
            session.answer(header, {"files": [str(file) for file in files], "bytes": size})
        except Exception as error:
            session.answer_error(header, error)

    session.saver.put(run, header)
