"""The safetensors format (https://github.com/huggingface/safetensors#format), read strictly and written atomically.

A file is 8 bytes of header length, a JSON header, and the data. Files are read by `pread`, never mapped: a file that is
truncated while it is read gives an error, where a mapping would kill the process.
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InvalidArgument, StorageError
from .xla import DTYPES

_MAX_HEADER = 100_000_000
# One call reads or writes at most this much; Linux stops at 2 GiB.
_CHUNK = 256 << 20
# A file that nobody has made before, whatever lies in its place.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
_CODES = {name: code for code, name in _NAMES.items()}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file. `dtype` is None for an element type that no buffer has."""

    file: Path
    name: str
    code: str
    dtype: np.dtype | None
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Tensor:
    """One tensor to write: pieces that follow each other in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    nbytes: int
    pieces: list[np.ndarray]


@dataclass(frozen=True)
class Contents:
    files: list[Path]
    tensors: dict[str, Entry]
    metadata: dict[str, str]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, int]]:
    """Descriptor and size of a regular file."""
    try:
        # Without O_NONBLOCK a pipe of this name would hold the runtime up.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StorageError(f"cannot read {path}: it is no regular file")
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def read_file(path: Path) -> Contents:
    """The tensors of one file, with every claim of its header checked against its size."""
    with _opened(path) as (descriptor, size):
        if size < 8:
            raise _bad(path, f"it has {size} bytes, and a file has 8 at least")
        length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
        if length > _MAX_HEADER or length > size - 8:
            raise _bad(path, f"its header claims {length} bytes, and {size - 8} are left")
        text = os.pread(descriptor, length, 8)
    if len(text) < length:
        raise _bad(path, "it ends inside its header")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its header is no valid JSON: {error}") from None
    if not isinstance(header, dict):
        raise _bad(path, "its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _bad(path, "__metadata__ must map texts to texts")
    start, room = 8 + length, size - 8 - length
    tensors = {name: _entry(path, name, fields, start, room) for name, fields in header.items()}
    _check_cover(path, tensors.values(), start, room)
    return Contents([path], tensors, metadata)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _entry(path: Path, name: str, fields: Any, start: int, room: int) -> Entry:
    if not isinstance(fields, dict):
        raise _bad(path, f"the entry of {name!r:.100} is no object")
    code, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(code, str):
        raise _bad(path, f"{name!r:.100} has no dtype")
    if not _sizes(shape) or len(shape) > 64:
        raise _bad(path, f"{name!r:.100} has the shape {shape!r:.100}")
    if not _sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= room:
        raise _bad(path, f"{name!r:.100} lies at {offsets!r:.100}, and the file has {room} bytes of data")
    dtype = DTYPES[_NAMES[code]] if code in _NAMES else None
    nbytes = offsets[1] - offsets[0]
    if dtype is not None and math.prod(shape) * dtype.itemsize != nbytes:
        raise _bad(path, f"{name!r:.100} is {code}{shape!r:.100}, which are not {nbytes} bytes")
    return Entry(path, name, code, dtype, tuple(shape), start + offsets[0], nbytes)


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 62 for item in value)


def _check_cover(path: Path, entries: Iterable[Entry], start: int, room: int) -> None:
    """The format wants the data indexed whole: no overlap, no hole."""
    end = start
    for entry in sorted(entries, key=lambda entry: (entry.offset, entry.nbytes)):
        if entry.offset != end:
            relation = "overlaps another tensor" if entry.offset < end else "leaves a hole before it"
            raise _bad(path, f"{entry.name!r:.100} {relation}")
        end += entry.nbytes
    if end != start + room:
        raise _bad(path, f"{start + room - end} bytes at its end belong to no tensor")


def _bad(path: Path, reason: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path} is no valid safetensors file: {reason}",
        "The file is damaged or was not written completely: fetch or save it again.",
    )


def read(path: Path) -> Contents:
    """The tensors of a file, of an index (`*.index.json`), or of a folder with either."""
    if path.is_dir():
        indices = sorted(path.glob("*.safetensors.index.json"))
        if len(indices) > 1:
            raise InvalidArgument(f"{path} holds {len(indices)} indices", "Name one of them.")
        if indices:
            return _read_index(indices[0])
        files = sorted(path.glob("*.safetensors"))
        _refuse_pieces(path, files)
        if not files:
            raise StorageError(f"{path} holds no safetensors file")
        return _merge(read_file(file) for file in files)
    if path.name.endswith(".index.json"):
        return _read_index(path)
    return read_file(path)


_PIECE = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")


def _refuse_pieces(folder: Path, files: list[Path]) -> None:
    """Pieces of a whole, without the index that says what there is: some may be missing, and nobody would notice."""
    for file in files:
        found = _PIECE.fullmatch(file.name)
        if found:
            raise InvalidArgument(
                f"{folder} holds {file.name}, one of {int(found[2])} files, and no index that says what is in them",
                "Fetch model.safetensors.index.json into the folder. Where a save was broken off, save again.",
            )


def _read_index(path: Path) -> Contents:
    with _opened(path) as (descriptor, size):
        if size > _MAX_HEADER:
            raise InvalidArgument(f"the index {path} has {size} bytes, more than {_MAX_HEADER}")
        text = os.pread(descriptor, size, 0)
    try:
        index = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
        weight_map = index["weight_map"]
        files = sorted(set(weight_map.values()))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"{path} is no valid safetensors index: {error}") from None
    for file in files:
        if not isinstance(file, str) or Path(file).name != file or file in ("", ".", "..") or "\0" in file:
            raise InvalidArgument(f"the index {path} names {file!r:.100}, which is no file of its folder")
    everything = _merge(read_file(path.parent / file) for file in files)
    for name, file in weight_map.items():
        found = everything.tensors.get(name)
        if found is None or found.file.name != file:
            raise InvalidArgument(f"the index {path} says that {name!r:.100} is in {file}, and it is not")
    return everything


def _merge(parts: Iterable[Contents]) -> Contents:
    merged = Contents([], {}, {})
    for part in parts:
        for name, entry in part.tensors.items():
            if name in merged.tensors:
                raise InvalidArgument(f"{name!r:.100} is in {merged.tensors[name].file} and in {entry.file}")
            merged.tensors[name] = entry
        merged.files.extend(part.files)
        merged.metadata.update(part.metadata)
    return merged


def read_into(entry: Entry, target: memoryview) -> None:
    """The bytes of a tensor. The file may have changed since its header was read: what is short is an error."""
    with _opened(entry.file) as (descriptor, _):
        done = 0
        while done < entry.nbytes:
            count = os.preadv(descriptor, [target[done : min(done + _CHUNK, entry.nbytes)]], entry.offset + done)
            if count == 0:
                raise StorageError(f"{entry.file} ended inside {entry.name}: it was changed while it was read")
            done += count


def write_file(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a file beside its place, syncs it, and moves it there: a reader sees the old one or the new one whole."""
    _clear_up(path)
    draft = _draft(path)
    # The larger elements first, so that every tensor is aligned to its element.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name in names:
        tensor = tensors[name]
        header[name] = {
            "dtype": _CODES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    try:
        descriptor = os.open(draft, _NEW, 0o666)
        try:
            _write(descriptor, len(text).to_bytes(8, "little") + text)
            for name in names:
                for piece in tensors[name].pieces:
                    _write(descriptor, np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StorageError(
            f"cannot save {path}: {error.strerror}",
            "What was there before is untouched. Free space or choose another folder, then save again.",
        ) from None


def write_folder(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str], limit: int) -> list[Path]:
    """Writes files of about `limit` bytes and an index, which moves into place last and makes the save valid."""
    groups: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if groups[-1] and filled + tensor.nbytes > limit:
            groups.append({})
            filled = 0
        groups[-1][name] = tensor
        filled += tensor.nbytes
    index = folder / "model.safetensors.index.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror}") from None
    before = _indexed_files(index)
    # Names of their own, so that the files of the save before stay whole until the new index stands.
    mark = os.urandom(4).hex()
    paths = [folder / f"model-{mark}-{n:05}-of-{len(groups):05}.safetensors" for n in range(1, len(groups) + 1)]
    try:
        for path, group in zip(paths, groups, strict=True):
            write_file(path, group, metadata)
        weight_map = {name: path.name for path, group in zip(paths, groups, strict=True) for name in group}
        total = sum(tensor.nbytes for tensor in tensors.values())
        _write_text(index, json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=1))
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    for path in before - set(paths):
        path.unlink(missing_ok=True)
    return [*paths, index]


def _indexed_files(index: Path) -> set[Path]:
    """Files of ours that an index names."""
    try:
        with _opened(index) as (descriptor, size):
            text = os.pread(descriptor, min(size, _MAX_HEADER), 0)
        names = set(json.loads(text)["weight_map"].values())
        return {index.parent / name for name in names if Path(name).name == name and name.startswith("model-")}
    except (OSError, StorageError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _write_text(path: Path, text: str) -> None:
    draft = _draft(path)
    try:
        descriptor = os.open(draft, _NEW, 0o666)
        try:
            _write(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StorageError(f"cannot save {path}: {error.strerror}") from None


def _draft(path: Path) -> Path:
    """A name beside a file that nobody knows before, of this process and host."""
    return path.with_name(f".{path.name}.{_owner()}.{os.urandom(8).hex()}.part")


def _owner() -> str:
    """This process, for others on the same host and in the same namespace: their words only say whether it lives."""
    host = hashlib.sha256(f"{_read_line('/proc/sys/kernel/random/boot_id')} {_namespace()}".encode()).hexdigest()[:12]
    return f"{host}-{os.getpid()}-{_started(os.getpid())}"


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _read_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began, in the system's own count; "0" for none."""
    fields = _read_line(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else "0"


def _clear_up(path: Path) -> None:
    """Removes the drafts of this file that killed processes left: of this host and namespace, where it can be known."""
    host, _, _ = _owner().split("-")
    pattern = re.compile(re.escape(f".{path.name}.{host}-") + r"(\d+)-(\d+)\.[0-9a-f]{16}\.part")
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return
    for name in names:
        found = pattern.fullmatch(name)
        if found and _started(int(found[1])) != found[2]:
            path.with_name(name).unlink(missing_ok=True)


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[:_CHUNK]) :]


def sync_folder(folder: Path) -> None:
    """Makes a rename in the folder last over a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
