"""Folders that only this user can change, opened so that nobody can swap them on the way.

Each folder from the root on is opened in the one before and checked through its descriptor: whoever could write to one
of them could put another in the place of what is below.
"""

import grp
import os
import pwd
import stat
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a pipe of this name would hold the process up.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotOurs(Exception):
    """Somebody else can write where only this user may."""


def open_own_folder(path: Path) -> int:
    """A descriptor of a folder, which is made if it is not there. Raises NotOurs, OSError."""
    parts = Path(os.path.realpath(path)).parts
    folder = os.open(parts[0], _FOLDER)
    try:
        for depth, part in enumerate(parts[1:], 2):
            try:
                below = os.open(part, _FOLDER, dir_fd=folder)
            except FileNotFoundError:
                os.mkdir(part, 0o700, dir_fd=folder)
                below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
            _check(os.fstat(folder), Path(*parts[:depth]), depth == len(parts))
    except BaseException:
        os.close(folder)
        raise
    return folder


def _check(status: os.stat_result, path: Path, last: bool) -> None:
    owners = (os.getuid(),) if last else (os.getuid(), 0)
    if status.st_uid not in owners:
        raise NotOurs(f"{path} belongs to user {status.st_uid}")
    # In a folder like /tmp others can add, but not replace what is ours.
    if (not status.st_mode & stat.S_ISVTX or last) and _others_write(status):
        raise NotOurs(f"others may write to {path}")


def _others_write(status: os.stat_result) -> bool:
    if status.st_mode & 0o002:
        return True
    return bool(status.st_mode & 0o020) and not _is_private_group(status.st_gid)


def _is_private_group(group: int) -> bool:
    """Whether a group is the one that many systems make for each user alone."""
    try:
        found, user = grp.getgrgid(group), pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return found.gr_gid == user.pw_gid and found.gr_name == user.pw_name and not set(found.gr_mem) - {user.pw_name}


def read_own_file(folder: int, name: str) -> bytes:
    """A file that this user wrote into a folder of `open_own_folder`. Raises NotOurs, OSError."""
    descriptor = os.open(name, _FILE, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or _others_write(status):
            raise NotOurs(f"{name} is no file that only user {os.getuid()} writes")
        return file.read()


def write_own_file(folder: int, name: str, *parts: bytes | memoryview) -> None:
    """Writes a file whole or not at all. Raises OSError."""
    draft = f".{name}.{os.urandom(8).hex()}.part"
    descriptor = os.open(
        draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(draft, dir_fd=folder)
        raise
