"""Profiles of the devices, in the form that XProf, TensorBoard and Perfetto read."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from .errors import InvalidArgument
from .fields import Header
from .storage import absolute_path

if TYPE_CHECKING:
    from .session import Session


class Profiler:
    """One profile at a time: the profiler is the process's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._owner: Any = None

    def start(self, folder: Path, owner: Any) -> None:
        with self._lock:
            if self._folder is not None:
                raise InvalidArgument(f"a profile into {self._folder} is being taken", "Stop it first.")
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidArgument(f"cannot write a profile to {folder}: {error.strerror}") from None
            jax.profiler.start_trace(str(folder))
            self._folder, self._owner = folder, owner

    def stop(self) -> list[str]:
        """Ends the profile and returns its files."""
        with self._lock:
            folder, self._folder = self._folder, None
            if folder is None:
                raise InvalidArgument("no profile is being taken", "Start one first.")
            jax.profiler.stop_trace()
            return sorted(str(file) for file in folder.rglob("*") if file.is_file())

    def abandon(self, owner: Any) -> None:
        """Ends the profile of a client that has gone."""
        with self._lock:
            if self._folder is not None and self._owner is owner:
                self._folder = None
                jax.profiler.stop_trace()


def start(session: "Session", header: Header) -> None:
    session.server.profiler.start(absolute_path(header.get("path")), session)
    session.closers.append(lambda: session.server.profiler.abandon(session))
    session.reply(header)


def stop(session: "Session", header: Header) -> None:
    # After what was queued before it has run.
    arrays = [buffer.array for buffer in session.buffers.values() if buffer.array is not None]

    def finish() -> tuple[Any, None]:
        for array in arrays:
            if not array.is_deleted():
                try:
                    array.block_until_ready()
                except Exception:  # The error of the computation is its own reader's matter.
                    pass
        return {"files": session.server.profiler.stop()}, None

    session.later(header, finish)
