"""Serialized executables on disk.

An entry is code that the process will run, so the folder must be the user's alone, and an entry is used only if its
digest holds. A damaged or stale entry is recompiled; a disk that is full or read-only only costs the next compile.
"""

import hashlib
import logging
import os
import platform
import struct
import tempfile
from pathlib import Path
from typing import Any

import msgpack

from .xla import DTYPES, Backend, Signature

log = logging.getLogger(__name__)

_MAGIC = b"ARXCACHE"
_FORMAT = 1
_PREFIX = struct.Struct("<8sIQ32s")  # magic, length of the description, length of the executable, digest of both
_DEFAULT_LIMIT = 8 << 30


def cache_folder() -> Path:
    """ARONNAX_CACHE_DIR, else the user's cache folder, or one in /tmp for a user who has no home."""
    chosen = os.environ.get("ARONNAX_CACHE_DIR")
    if chosen:
        return Path(chosen) / "programs"
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        caches = Path(f"/tmp/aronnax-{os.getuid()}")
    return caches / "aronnax" / "programs"


class ProgramCache:
    def __init__(self, backend: Backend, driver: str | None, folder: Path | None = None) -> None:
        self._backend = backend
        self._folder = folder or cache_folder()
        self._limit = int(os.environ.get("ARONNAX_CACHE_BYTES") or _DEFAULT_LIMIT)
        self._environment = [
            _FORMAT,
            backend.versions(),
            backend.platform,
            driver,
            os.environ.get("XLA_FLAGS", ""),
            [(device.device_kind, device.process_index) for device in backend.devices],
            backend.client.process_index(),
            _host_processor() if backend.platform == "cpu" else "",
        ]
        self._usable = self._prepare()

    def key(self, text: str, devices: tuple[Any, ...], level: int | None, flags: dict[str, Any]) -> str:
        """Everything that decides what the compiler makes of a program."""
        fields = [
            *self._environment,
            [self._backend.number(device) for device in devices],
            level,
            sorted(flags.items()),
        ]
        digest = hashlib.sha256(msgpack.packb(fields))
        digest.update(text.encode())
        return digest.hexdigest()

    def load(self, key: str) -> tuple[Signature, bytes] | None:
        """A program's signature and serialized executable, None if there is no whole entry."""
        if not self._usable:
            return None
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        try:
            entry = _decode(data)
            os.utime(path)  # What is used stays longest.
            return entry
        except Exception as error:
            self.discard(key, str(error))
            return None

    def store(self, key: str, signature: Signature, blob: bytes) -> None:
        if not self._usable:
            return
        data = _encode(signature, blob)
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as file:
                try:
                    file.write(data)
                    file.close()
                    Path(file.name).replace(self._path(key))
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
            self._prune()
        except OSError as error:
            log.warning("program cache: cannot write to %s: %s", self._folder, error)

    def discard(self, key: str, reason: str) -> None:
        log.warning("program cache: entry %s is unusable (%s) and is recompiled", key[:12], reason)
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError:
            pass

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.xla"

    def _prepare(self) -> bool:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = self._folder.lstat()
            if status.st_uid != os.getuid() or status.st_mode & 0o022:
                log.warning("program cache: off, because others may write to %s", self._folder)
                return False
            for stale in self._folder.glob("*.part"):
                stale.unlink(missing_ok=True)
        except OSError as error:
            log.warning("program cache: off, %s: %s", self._folder, error)
            return False
        return True

    def _prune(self) -> None:
        """Drops the entries used longest ago until the rest fits the limit."""
        entries = []
        for path in self._folder.glob("*.xla"):
            try:
                status = path.stat()
            except OSError:
                continue
            entries.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries, key=lambda entry: entry[0]):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= size


def _encode(signature: Signature, blob: bytes) -> bytes:
    def types(avals: list[Any]) -> list[Any]:
        return [[list(shape), dtype.name] for shape, dtype in avals]

    description = msgpack.packb([types(signature.inputs), types(signature.outputs), signature.donated])
    digest = hashlib.sha256(description + blob).digest()
    return _PREFIX.pack(_MAGIC, len(description), len(blob), digest) + description + blob


def _decode(data: bytes) -> tuple[Signature, bytes]:
    magic, described, length, digest = _PREFIX.unpack_from(data)
    body = data[_PREFIX.size :]
    if magic != _MAGIC or len(body) != described + length or hashlib.sha256(body).digest() != digest:
        raise ValueError("damaged")
    inputs, outputs, donated = msgpack.unpackb(body[:described])

    def types(avals: list[Any]) -> list[Any]:
        return [(tuple(shape), DTYPES[name]) for shape, name in avals]

    return Signature(types(inputs), types(outputs), donated), body[described:]


def _host_processor() -> str:
    """The model and features of the processor: XLA's CPU code is made for them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features")))
