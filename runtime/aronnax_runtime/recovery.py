"""Ending a program that does not end: XLA cannot stop one, so the process is restarted, with what it held.

What can be read of workspaces and of clients' buffers goes to a file; the next process of the same place takes it up,
and clients find their buffers and programs under the same handles when they come back.
"""

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from . import fields
from .buffers import Buffer
from .cache import cache_folder
from .compiler import CompileJob
from .errors import Fault, InvalidArgument
from .ownfolder import open_own_folder, read_own_file
from .programs import Described
from .wire import aligned_bytes
from .xla import Backend

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger(__name__)

_VERSION = 1
# Seconds that a device is given to hand out an array; then it is taken to hang, and the rest to be lost.
_PATIENCE = 30
_SPARE = 64 << 20
_ALIGNMENT = 64


class Kept:
    """What a process left for the sessions of its clients, until they come back."""

    def __init__(self) -> None:
        self.buffers: dict[int, Buffer] = {}
        self.programs: dict[int, CompileJob] = {}
        self.lost: list[dict[str, Any]] = []


def state_folder(base: Path) -> Path:
    return Path(f"{base}.kept")


def keep(
    base: Path, backend: Backend, sessions: Iterable["Session"], workspaces: dict[str, tuple[dict[str, Buffer], Any]]
) -> dict[str, Any]:
    """Writes everything that can be read, and returns what the client is told. Raises Fault, OSError."""
    sessions = list(sessions)
    held = {session.token: session.buffers.copy() for session in sessions}
    wanted: dict[int, Buffer] = {}
    for buffers in [*(named for named, _ in workspaces.values()), *held.values()]:
        wanted.update({id(buffer): buffer for buffer in buffers.values()})
    readable = [buffer for buffer in wanted.values() if _why_lost(buffer, backend) is None]
    size = sum(buffer.aval.nbytes + _ALIGNMENT for buffer in readable if buffer.aval is not None)
    folder = _folder_with_room(base, size)
    name = f"{os.urandom(8).hex()}.arrays"
    places, lost = _write_arrays(folder / name, readable, backend)

    def place(buffers: dict[Any, Buffer]) -> tuple[dict[Any, int], list[dict[str, Any]]]:
        there, gone = {}, []
        for key, buffer in buffers.items():
            if id(buffer) in places:
                there[key] = places[id(buffer)]["number"]
            else:
                reason = lost.get(id(buffer)) or _why_lost(buffer, backend) or "it was made in the last moment"
                gone.append({"buffer": key, "name": buffer.name, "reason": reason})
        return there, gone

    state: dict[str, Any] = {"version": _VERSION, "arrays": str(folder / name), "workspaces": {}, "sessions": {}}
    state["table"] = [entry for entry in places.values()]
    gone_of_workspaces = []
    for workspace, (buffers, metadata) in workspaces.items():
        there, gone = place(buffers)
        state["workspaces"][workspace] = [there, metadata]
        gone_of_workspaces += [{"workspace": workspace, **entry} for entry in gone]
    gone_of_clients = []
    for session in sessions:
        there, gone = place(held[session.token])
        programs = {
            number: _job_to_wire(pending.job, backend)
            for number, pending in session.programs.copy().items()
            if pending.job is not None
        }
        state["sessions"][session.token] = [there, gone, programs]
        gone_of_clients += [{"client": session.client, **entry} for entry in gone]
    own = state_folder(base)
    descriptor = open_own_folder(own)
    os.close(descriptor)
    draft = own / f"{os.urandom(8).hex()}.part"
    draft.write_bytes(msgpack.packb(state))
    draft.replace(own / "state")
    return {"buffers": len(places), "bytes": size, "lost": [*gone_of_workspaces, *gone_of_clients][:1000]}


def _why_lost(buffer: Buffer, backend: Backend) -> str | None:
    if buffer.fault is not None:
        return buffer.fault.message
    array, aval = buffer.array, buffer.aval
    if array is None or aval is None:
        return f"it was donated to {buffer.taken_by}"
    layout = aval.layout
    if layout.described is None and layout is not backend.single(backend.devices[0]):
        return "it lies as only the compiler has words for"
    try:
        if array.is_deleted():
            return "it was donated"
        return None if array.is_ready() else "it was not computed yet"
    except Exception as error:
        return str(error)


def _folder_with_room(base: Path, size: int) -> Path:
    for folder in (state_folder(base), cache_folder().parent / "kept"):
        descriptor = open_own_folder(folder)
        try:
            room = os.fstatvfs(descriptor)
        finally:
            os.close(descriptor)
        if room.f_bavail * room.f_frsize > size + _SPARE:
            return folder
    raise Fault(
        f"{size} bytes are to be kept, and neither {state_folder(base)} nor {folder} has room for them",
        "Free space there; or `npx aronnax runtime restart`, which keeps nothing.",
    )


def _write_arrays(
    path: Path, buffers: list[Buffer], backend: Backend
) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """Where each buffer lies in the file, and why others do not."""
    places: dict[int, dict[str, Any]] = {}
    lost: dict[int, str] = {}
    # One that hangs must not hold up the rest: it is left behind, as the whole process is soon.
    reader = ThreadPoolExecutor(1, thread_name_prefix="keeper")
    hangs = False
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for buffer in buffers:
            array, aval = buffer.array, buffer.aval
            if hangs or array is None or aval is None:
                lost[id(buffer)] = "the device gave nothing any more"
                continue
            try:
                pieces = reader.submit(backend.to_host, array, aval).result(_PATIENCE)
            except TimeoutError:
                hangs = True
                lost[id(buffer)] = "the device did not give it"
                continue
            except Exception as error:
                lost[id(buffer)] = str(error)[:500]
                continue
            file.write(bytes(-file.tell() % _ALIGNMENT))
            places[id(buffer)] = {
                "number": len(places),
                "offset": file.tell(),
                "shape": list(aval.shape),
                "dtype": aval.dtype.name,
                "sharding": aval.layout.described,
                "tag": buffer.tag,
                "name": buffer.name,
            }
            for piece in pieces:
                file.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
    return places, lost


def _job_to_wire(job: CompileJob, backend: Backend) -> dict[str, Any]:
    return {
        "text": job.text,
        "outputs": [
            [
                list(output.shape),
                output.dtype.name,
                None if output.layout is None else output.layout.described,
                output.tag,
                output.name,
            ]
            for output in job.outputs
        ],
        "devices": [backend.number(device) for device in job.devices],
        "options": job.options,
        "name": job.name,
    }


def restore(base: Path, backend: Backend) -> tuple[dict[str, tuple[dict[str, Buffer], Any]], dict[str, Kept]]:
    """Workspaces, and sessions by their tokens, as the process before left them; its files are removed."""
    folder = state_folder(base)
    if not folder.exists():
        return {}, {}
    descriptor = open_own_folder(folder)
    try:
        state = msgpack.unpackb(read_own_file(descriptor, "state"), strict_map_key=False)
    except FileNotFoundError:
        state = {}
    # Taken up once, whatever comes of it; what is left of a process that was killed while it kept is of no use.
    for name in [entry.name for entry in folder.iterdir()]:
        if str(folder / name) != state.get("arrays"):
            os.unlink(name, dir_fd=descriptor)
    os.close(descriptor)
    if state.get("version") != _VERSION:
        return {}, {}
    arrays = Path(state["arrays"])
    buffers = _read_arrays(arrays, state["table"], backend)
    arrays.unlink()
    workspaces = {
        name: ({key: buffers[number] for key, number in there.items()}, metadata)
        for name, (there, metadata) in state["workspaces"].items()
    }
    sessions = {}
    for token, (there, lost, programs) in state["sessions"].items():
        kept = sessions[token] = Kept()
        kept.buffers = {number: buffers[at] for number, at in there.items()}
        kept.lost = lost
        for entry in lost:
            kept.buffers[entry["buffer"]] = Buffer.poisoned(lost_fault(entry["name"], entry["reason"]))
        kept.programs = {number: _job_from_wire(job, backend) for number, job in programs.items()}
    log.info("took up %d buffers of %d clients and %d workspaces", len(buffers), len(sessions), len(workspaces))
    return workspaces, sessions


def lost_fault(name: str, reason: str) -> Fault:
    return InvalidArgument(
        f"the buffer {name or '(no name)'} was lost when the runtime was restarted to end a program: {reason}",
        "Compute it again.",
    )


def _read_arrays(path: Path, table: list[dict[str, Any]], backend: Backend) -> dict[int, Buffer]:
    folder = open_own_folder(path.parent)
    try:
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    buffers = {}
    with os.fdopen(descriptor, "rb") as file:
        for entry in table:
            aval = fields.aval(entry, backend)
            raw = aligned_bytes(aval.nbytes)
            file.seek(entry["offset"])
            if file.readinto(memoryview(raw)) != aval.nbytes:
                raise EOFError(f"{path} ends early")
            array = backend.put(aval, raw.view(aval.dtype).reshape(aval.shape))
            buffers[entry["number"]] = Buffer(array, aval, entry["tag"], entry["name"])
    return buffers


def _job_from_wire(wire: dict[str, Any], backend: Backend) -> CompileJob:
    outputs = [
        Described(tuple(shape), fields.dtype(dtype), fields.layout(sharding, len(shape), backend), tag, name)
        for shape, dtype, sharding, tag, name in wire["outputs"]
    ]
    devices = tuple(backend.device(number) for number in wire["devices"])
    return CompileJob(wire["text"], outputs, devices, wire["options"], wire["name"])
