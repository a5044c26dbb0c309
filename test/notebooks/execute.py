"""Runs a notebook from its first cell to its last and writes what came out of it.

usage: execute.py NOTEBOOK RESULT SECONDS_A_CELL

Before a cell tagged `restart-kernel` the kernel is killed and started again, as the user is asked to do there.
"""

import sys
from pathlib import Path

import nbformat
from jupyter_core.utils import run_sync
from nbclient import NotebookClient


def execute(notebook: Path, result: Path, seconds: int) -> nbformat.NotebookNode:
    """Runs all cells, those after an error too, so that the result shows every error at once; returns the notebook."""
    node = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(notebook.parent)}}
    client = NotebookClient(node, timeout=seconds, allow_errors=True, resources=resources)
    client.reset_execution_trackers()
    with client.setup_kernel():
        for index, cell in enumerate(node.cells):
            if "restart-kernel" in cell.metadata.get("tags", []):
                run_sync(client.km.restart_kernel)(now=True)
                run_sync(client.kc.wait_for_ready)(timeout=seconds)
            client.execute_cell(cell, index)
    # By nbclient itself this would move the displays that a later cell brings up to date.
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    # What the kernel says of itself is set by `NotebookClient.execute` alone.
    nbformat.write(node, result)
    return node


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs with neighbouring texts of one stream as one."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = kept[-1] if kept else None
        if last is not None and output.output_type == "stream" == last.output_type and output.name == last.name:
            last.text += output.text
        else:
            kept.append(output)
    return kept


if __name__ == "__main__":
    execute(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
