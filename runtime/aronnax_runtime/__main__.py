"""`python -m aronnax_runtime --directory DIR --devices SET`: starts the runtime of one device set.

Ends with status 75 if another process has the lock already. jax is imported in the child only.
"""

import argparse
import fcntl
import os
import re
import stat
import sys
from pathlib import Path

from .supervisor import supervise

ALREADY_RUNNING = 75
LONGEST_SOCKET_PATH = 107


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="aronnax_runtime", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="folder of the socket, lock and log (0700)")
    parser.add_argument("--devices", required=True, help="cpu, cpu:N, cuda or cuda:0,1")
    parser.add_argument(
        "--idle-timeout",
        type=float,
        default=os.environ.get("ARONNAX_RUNTIME_IDLE_SECONDS") or "0",
        help="seconds without a client and without a workspace after which it ends; 0 is never (default)",
    )
    nodes = parser.add_argument_group("several nodes, which run every program together")
    nodes.add_argument("--coordinator", help="HOST:PORT where node 0 coordinates")
    nodes.add_argument("--num-nodes", type=int, default=1)
    nodes.add_argument("--node-rank", type=int, default=0)
    nodes.add_argument("--listen", help="HOST:PORT for the client; it must show ARONNAX_RUNTIME_TOKEN")
    arguments = parser.parse_args()
    if not re.fullmatch(r"cpu(:[1-9]\d*)?|cuda(:\d+(,\d+)*)?", arguments.devices):
        parser.error(f"--devices {arguments.devices}: expected cpu, cpu:N, cuda or cuda:0,1")
    if not arguments.idle_timeout >= 0:
        parser.error(f"--idle-timeout {arguments.idle_timeout}: expected seconds, 0 for never")
    for variable in ("ARONNAX_CACHE_BYTES", "ARONNAX_RUNTIME_HOST_BYTES", "PJRT_NPROC"):
        value = os.environ.get(variable, "")
        if value and not re.fullmatch(r"[1-9]\d*", value):
            parser.error(f"{variable}={value}: expected a whole number, without a unit")
    if arguments.num_nodes > 1 and not arguments.coordinator:
        parser.error("--num-nodes needs --coordinator HOST:PORT")
    if not 0 <= arguments.node_rank < arguments.num_nodes:
        parser.error(f"--node-rank {arguments.node_rank}: expected 0 to {arguments.num_nodes - 1}")
    for value in filter(None, (arguments.coordinator, arguments.listen)):
        if not re.fullmatch(r"\S+:\d+", value):
            parser.error(f"{value}: expected HOST:PORT")
    if arguments.listen and len(os.environ.get("ARONNAX_RUNTIME_TOKEN", "")) < 16:
        parser.error("--listen needs a token of 16 characters or more in ARONNAX_RUNTIME_TOKEN")
    return arguments


def main() -> None:
    arguments = _arguments()
    directory: Path = arguments.directory
    try:
        status = directory.lstat()
    except OSError as error:
        sys.exit(f"error: cannot use the folder {directory}: {error.strerror}")
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        sys.exit(f"error: {directory} must belong to user {os.getuid()} and have mode 0700")
    name = arguments.devices.replace(":", "-").replace(",", "-")
    if arguments.num_nodes > 1:
        name += f"-node{arguments.node_rank}"
    base = directory / name
    if len(os.fsencode(f"{base}.sock")) > LONGEST_SOCKET_PATH:
        sys.exit(f"error: {base}.sock is over the {LONGEST_SOCKET_PATH} bytes that a Unix socket's path may have")
    try:
        lock = os.open(f"{base}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        sys.exit(f"error: cannot open {base}.lock: {error.strerror}")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(ALREADY_RUNNING)
    supervise(Path(f"{base}.log"), Path(f"{base}.exit.json"), lock)

    from .server import serve
    from .xla import Cluster

    cluster = None
    if arguments.num_nodes > 1:
        cluster = Cluster(arguments.coordinator, arguments.node_rank, arguments.num_nodes)
    listen = None
    if arguments.listen:
        host, _, port = arguments.listen.rpartition(":")
        listen = (host, int(port))
    sys.exit(serve(arguments.devices, base, arguments.idle_timeout, cluster, listen))


if __name__ == "__main__":
    main()
