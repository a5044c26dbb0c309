"""`python -m aronnax_runtime --directory DIR --devices SET`: starts the runtime of one device set.

Ends with status 75 if another process has the lock already. jax is imported in the child only.
"""

import argparse
import fcntl
import os
import re
import sys
from pathlib import Path

from .supervisor import supervise

ALREADY_RUNNING = 75


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="aronnax_runtime", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="folder of the socket, lock and log (0700)")
    parser.add_argument("--devices", required=True, help="cpu, cpu:N, cuda or cuda:0,1")
    parser.add_argument(
        "--idle-timeout",
        type=float,
        default=float(os.environ.get("ARONNAX_RUNTIME_IDLE_SECONDS", "0")),
        help="seconds without a client and without a workspace after which it ends; 0 is never (default)",
    )
    arguments = parser.parse_args()
    if not re.fullmatch(r"cpu(:\d+)?|cuda(:\d+(,\d+)*)?", arguments.devices):
        parser.error(f"--devices {arguments.devices}: expected cpu, cpu:N, cuda or cuda:0,1")
    return arguments


def main() -> None:
    arguments = _arguments()
    os.umask(0o077)
    directory: Path = arguments.directory
    status = directory.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        sys.exit(f"error: {directory} must belong to user {os.getuid()} and have mode 0700")
    base = directory / arguments.devices.replace(":", "-").replace(",", "-")
    lock = os.open(f"{base}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(ALREADY_RUNNING)
    supervise(Path(f"{base}.log"), Path(f"{base}.exit.json"), lock)

    from .server import serve

    sys.exit(serve(arguments.devices, base, arguments.idle_timeout))


if __name__ == "__main__":
    main()
