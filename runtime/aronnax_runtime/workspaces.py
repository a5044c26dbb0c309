"""Named sets of buffers that outlive the clients that made them."""

import threading
from typing import TYPE_CHECKING, Any

from . import fields
from .buffers import Buffer
from .errors import InvalidArgument
from .fields import Header

if TYPE_CHECKING:
    from .session import Session


class Workspaces:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._named: dict[str, dict[str, Buffer]] = {}
        self._metadata: dict[str, Any] = {}

    def set(self, workspace: str, buffers: dict[str, Buffer], metadata: Any, replace_metadata: bool) -> None:
        with self._lock:
            self._named.setdefault(workspace, {}).update(buffers)
            if replace_metadata:
                self._metadata[workspace] = metadata

    def get(self, workspace: str, names: list[Any]) -> list[Buffer]:
        with self._lock:
            held = self._named.get(workspace, {})
            missing = [name for name in names if not isinstance(name, str) or name not in held]
            if missing:
                raise InvalidArgument(
                    f"workspace {workspace} holds no buffer named {missing[0]!r:.100}",
                    f"It holds: {', '.join(held) or 'nothing'}.",
                )
            return [held[name] for name in names]

    def delete(self, workspace: str, names: list[Any] | None) -> None:
        with self._lock:
            if names is None:
                self._named.pop(workspace, None)
                self._metadata.pop(workspace, None)
            else:
                held = self._named.get(workspace, {})
                for name in names:
                    held.pop(name, None)

    def describe(self, workspace: str) -> dict[str, Any]:
        """WorkspaceInfo of the protocol; buffers that were donated since are left out."""
        with self._lock:
            held = dict(self._named.get(workspace, {}))
            metadata = self._metadata.get(workspace)
        buffers = {
            name: {
                "shape": list(buffer.aval.shape),
                "dtype": buffer.aval.dtype.name,
                "tag": buffer.tag,
                **({"name": buffer.name} if buffer.name else {}),
                **({"sharding": buffer.aval.layout.described} if buffer.aval.layout.described else {}),
            }
            for name, buffer in held.items()
            if buffer.array is not None and buffer.aval is not None
        }
        return {"name": workspace, "buffers": buffers, "metadata": metadata}

    def everything(self) -> dict[str, tuple[dict[str, Buffer], Any]]:
        """Buffers and metadata by workspace."""
        with self._lock:
            return {name: (dict(held), self._metadata.get(name)) for name, held in self._named.items()}

    def all(self) -> dict[str, list[Buffer]]:
        with self._lock:
            return {name: list(held.values()) for name, held in self._named.items()}


# Operations


def put(session: "Session", header: Header) -> None:
    named = fields.mapping(header.get("buffers"), "`buffers`")
    buffers = {fields.text(key, "a name"): session.buffer(number) for key, number in named.items()}
    for buffer in buffers.values():
        buffer.live()
    session.server.workspaces.set(
        fields.text(header.get("workspace"), "`workspace`"),
        buffers,
        header.get("metadata"),
        "metadata" in header,
    )
    session.reply(header)


def fetch(session: "Session", header: Header) -> None:
    names = header.get("names")
    if not isinstance(names, list):
        raise InvalidArgument("`names` must be a list of the buffers' names")
    workspace = fields.text(header.get("workspace"), "`workspace`")
    found = session.server.workspaces.get(workspace, names)
    for buffer in found:
        buffer.live()
    session.bind(header.get("buffers"), found)
    session.reply(header)


def contents(session: "Session", header: Header) -> None:
    session.reply(header, session.server.workspaces.describe(fields.text(header.get("workspace"), "`workspace`")))


def drop(session: "Session", header: Header) -> None:
    names = header.get("names")
    if names is not None and not isinstance(names, list):
        raise InvalidArgument("`names` must be null or a list of the buffers' names")
    session.server.workspaces.delete(fields.text(header.get("workspace"), "`workspace`"), names)
    session.reply(header)
