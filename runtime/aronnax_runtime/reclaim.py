"""Asks clients for buffers that are garbage there, before one of them is told that there is no memory.

A client frees what its user's language has collected, which that language does by its own memory and not by the
devices'.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from . import fields
from .fields import Header

if TYPE_CHECKING:
    from .session import Session

# How long clients are waited for: one whose thread computes does not answer.
_PATIENCE = 2.0
# Whoever asks again and again with nothing to be had is not waited for each time.
_PAUSE = 3.0


class Reclaim:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked: set[Session] = set()
        self._freed = 0
        self._in_vain = float("-inf")

    def ask(self, sessions: Iterable["Session"]) -> bool:
        """Asks all clients, and waits for those that answer; whether any gave something up."""
        with self._changed:
            if time.monotonic() - self._in_vain < _PAUSE:
                return False
            self._freed = 0
            self._asked = set(sessions)
            for session in list(self._asked):
                # Requests that wait may give buffers up too.
                self._freed += release(session, [])
                if not session.offer({"event": "reclaim"}):
                    self._asked.discard(session)
            deadline = time.monotonic() + _PATIENCE
            while any(not session.gone for session in self._asked) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._freed == 0:
                self._in_vain = time.monotonic()
            return self._freed > 0

    def answered(self, session: "Session", handles: list[int]) -> None:
        """A client's answer: the buffers that it has no use for."""
        freed = release(session, handles)
        with self._changed:
            self._freed += freed
            self._asked.discard(session)
            self._changed.notify_all()


def release(session: "Session", handles: list[int]) -> int:
    """Frees buffers of a client out of turn, and those that requests in its lane are to free, but for the ones that a
    request before names: their turn comes. Returns how many."""
    named: set[int] = set()
    unused: set[int] = set()
    for header in session.lane.waiting():
        if header.get("op") == "free":
            unused.update(number for number in _numbers(header.get("handles")) if number not in named)
        else:
            named.update(_numbers(header))
    unused.update(number for number in handles if number not in named)
    return sum(session.buffers.pop(number, None) is not None for number in unused)


def _numbers(value: Any) -> Iterator[int]:
    """All that may be a handle in a request."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _numbers(each)
    elif isinstance(value, list):
        for each in value:
            yield from _numbers(each)


def reclaimed(session: "Session", header: Header) -> None:
    """The operation that answers the event."""
    session.server.reclaim.answered(session, fields.handles(header.get("handles")))
