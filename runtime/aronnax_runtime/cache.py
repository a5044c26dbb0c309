"""Serialized executables on disk.

An entry is code that the process will run, so the folder and all above it must be the user's alone, which is checked
at each use, and an entry is used only if its digest holds. A damaged or stale entry is recompiled; a disk that is full
or read-only only costs the next compile.
"""

import hashlib
import logging
import os
import platform
import struct
import time
from pathlib import Path
from typing import Any

import msgpack

from .ownfolder import NotOurs, open_own_folder, read_own_file, write_own_file
from .workers import pack_signature, unpack_signature
from .xla import Backend, Signature

log = logging.getLogger(__name__)

_MAGIC = b"ARXCACHE"
_FORMAT = 2
_PREFIX = struct.Struct("<8sIQ32s")  # magic, length of the description, length of the executable, digest of both
_DEFAULT_LIMIT = 8 << 30
# Seconds after which a draft is one that a process left when it was killed.
_STALE = 3600


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
        self._refused = ""
        opened = self._open()
        if opened is not None:
            self._clear_up(opened)
            os.close(opened)

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
        folder = self._open()
        if folder is None:
            return None
        try:
            data = read_own_file(folder, _name(key))
            os.utime(_name(key), dir_fd=folder, follow_symlinks=False)  # What is used stays longest.
        except NotOurs as error:
            self._refuse(str(error))
            return None
        except OSError:
            return None
        finally:
            os.close(folder)
        try:
            return _decode(data)
        except Exception as error:
            self.discard(key, str(error))
            return None

    def store(self, key: str, signature: Signature, blob: bytes) -> None:
        folder = self._open()
        if folder is None:
            return
        try:
            write_own_file(folder, _name(key), *_encode(signature, blob))
            self._prune(folder)
        except OSError as error:
            log.warning("program cache: cannot write to %s: %s", self._folder, error)
        finally:
            os.close(folder)

    def discard(self, key: str, reason: str) -> None:
        log.warning("program cache: entry %s is unusable (%s) and is recompiled", key[:12], reason)
        folder = self._open()
        if folder is None:
            return
        try:
            os.unlink(_name(key), dir_fd=folder)
        except OSError:
            pass
        finally:
            os.close(folder)

    def _open(self) -> int | None:
        """The folder, if it is there for us alone."""
        try:
            folder = open_own_folder(self._folder)
        except (NotOurs, OSError) as error:
            self._refuse(str(error))
            return None
        self._refused = ""
        return folder

    def _refuse(self, reason: str) -> None:
        if reason != self._refused:
            self._refused = reason
            log.warning("program cache: not used, %s: %s", self._folder, reason)

    def _clear_up(self, folder: int) -> None:
        for name in os.listdir(folder):
            if name.endswith(".part"):
                try:
                    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < time.time() - _STALE:
                        os.unlink(name, dir_fd=folder)
                except OSError:
                    pass

    def _prune(self, folder: int) -> None:
        """Drops the entries used longest ago until the rest fits the limit."""
        entries = []
        for name in os.listdir(folder):
            if not name.endswith(".xla"):
                continue
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                continue
            entries.append((status.st_mtime, status.st_size, name))
        total = sum(size for _, size, _ in entries)
        for _, size, name in sorted(entries):
            if total <= self._limit:
                return
            os.unlink(name, dir_fd=folder)
            total -= size


def _name(key: str) -> str:
    return f"{key}.xla"


def _encode(signature: Signature, blob: bytes) -> tuple[bytes, bytes]:
    description = msgpack.packb(pack_signature(signature))
    digest = hashlib.sha256(description)
    digest.update(blob)
    return _PREFIX.pack(_MAGIC, len(description), len(blob), digest.digest()) + description, blob


def _decode(data: bytes) -> tuple[Signature, bytes]:
    magic, described, length, digest = _PREFIX.unpack_from(data)
    body = data[_PREFIX.size :]
    if magic != _MAGIC or len(body) != described + length or hashlib.sha256(body).digest() != digest:
        raise ValueError("damaged")
    return unpack_signature(msgpack.unpackb(body[:described])), body[described:]


def _host_processor() -> str:
    """The model and features of the processor: XLA's CPU code is made for them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features")))
