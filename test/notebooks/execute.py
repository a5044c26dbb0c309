"""Runs a notebook from its first cell to its last and writes what came out of it.

usage: execute.py NOTEBOOK RESULT SECONDS_A_CELL
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(notebook: Path, result: Path, seconds: int) -> None:
    """Runs all cells, those after an error too, so that the result shows every error at once."""
    node = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(notebook.parent)}}
    client = NotebookClient(node, timeout=seconds, allow_errors=True, coalesce_streams=True, resources=resources)
    client.execute()
    nbformat.write(node, result)


if __name__ == "__main__":
    execute(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
