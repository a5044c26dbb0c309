"""Runs every notebook once through the real kernel, on a machine with Python and jax but no Node and no Jupyter.

usage: run.py --out FOLDER [--bundle build/notebooks] [--seconds-a-cell 600] [NOTEBOOK ...]

It unpacks what bench/notebooks/bundle.mjs has packed, and writes each notebook as it came out to FOLDER, with
notebooks.json: the machine, and of each cell how long it took, what it printed and which error it had. The status is 1
where a cell had an error.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# Characters of an output that the summary keeps.
KEPT = 2000


def unpack(bundle: Path, place: Path) -> None:
    """The framework, and the wheels: their content is importable as it is."""
    with tarfile.open(bundle / "aronnax.tar.xz") as packed:
        packed.extractall(place / "aronnax", filter="tar")
    for wheel in sorted((bundle / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(place / "site")


def write_kernelspec(place: Path) -> dict[str, str]:
    """The environment in which Jupyter finds the kernel."""
    root = place / "aronnax"
    spec = json.loads((REPOSITORY / "jupyter-config" / "kernel.json").read_text())
    named = {"{node}": str(root / "node"), "{repository}": str(root)}

    def filled(argument: str) -> str:
        for name, value in named.items():
            argument = argument.replace(name, value)
        return argument

    spec["argv"] = [filled(argument) for argument in spec["argv"]]
    spec["env"] = {**spec.get("env", {}), "ARONNAX_PYTHON": sys.executable, "PYTHONPATH": ""}
    folder = place / "jupyter" / "kernels" / "aronnax"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec))
    return {
        "JUPYTER_DATA_DIR": str(place / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(place / "jupyter" / "runtime"),
        "JUPYTER_CONFIG_DIR": str(place / "jupyter" / "config"),
        "ARONNAX_RUNTIME_DIR": str(place / "runtime"),
        "ARONNAX_CACHE_DIR": str(place / "cache"),
    }


def gpus() -> list[str]:
    """As the driver names them; none where there is no driver."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


def summary(cell: Any) -> dict[str, Any]:
    """What became of a code cell."""
    timing = cell.metadata.get("execution", {})
    begun, ended = (timing.get(key) for key in ("iopub.execute_input", "shell.execute_reply"))
    seconds = None
    if begun and ended:
        seconds = round((datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds(), 3)
    outputs = []
    for output in cell.outputs:
        if output.output_type == "stream":
            outputs.append({"stream": output.name, "text": output.text[-KEPT:]})
        elif output.output_type == "error":
            outputs.append({"error": output.ename, "text": output.evalue[:KEPT]})
        else:
            text = output.data.get("text/plain", "")
            outputs.append({"types": sorted(output.data), "text": text[:KEPT]})
    return {"source": cell.source[:200], "seconds": seconds, "outputs": outputs}


def run(names: list[str], bundle: Path, out: Path, seconds: int) -> int:
    """All notebooks; the exit status."""
    place = Path(tempfile.mkdtemp(prefix="aronnax-notebooks-"))
    unpack(bundle, place)
    os.environ.update(write_kernelspec(place))
    sys.path[:0] = [str(place / "site"), str(REPOSITORY / "test" / "notebooks")]
    from execute import execute  # The same that the tests run.

    folder = place / "notebooks"
    shutil.copytree(REPOSITORY / "notebooks", folder, ignore=shutil.ignore_patterns("runs", ".ipynb_checkpoints"))
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "gpus": gpus()},
        "notebooks": [],
    }
    failed = 0
    for name in names or sorted(path.name for path in folder.glob("*.ipynb")):
        begun = time.monotonic()
        entry: dict[str, Any] = {"name": name}
        try:
            node = execute(folder / name, out / name, seconds)
            cells = [summary(cell) for cell in node.cells if cell.cell_type == "code"]
            errors = sum("error" in output for cell in cells for output in cell["outputs"])
            entry.update({"errors": errors, "cells": cells})
        except Exception as error:
            errors = 1
            entry.update({"errors": 1, "failure": f"{type(error).__name__}: {error}"[:KEPT]})
        entry["seconds"] = round(time.monotonic() - begun, 1)
        failed += errors
        report["notebooks"].append(entry)
        (out / "notebooks.json").write_text(json.dumps(report, indent=1) + "\n")
        print(f"{name}: {len(entry.get('cells', []))} cells, {errors} errors, {entry['seconds']} s", flush=True)
        for cell in entry.get("cells", []):
            for output in cell["outputs"]:
                if "error" in output:
                    print(f"  {cell['source'][:60]!r}: {output['error']}: {output['text'][:500]}", flush=True)
        if "failure" in entry:
            print(f"  {entry['failure']}", flush=True)
    asked = [str(place / "aronnax" / "node"), str(place / "aronnax" / "core" / "bin" / "aronnax.js"), "runtime"]
    subprocess.run([*asked, "status"], check=False)
    subprocess.run([*asked, "stop"], check=False)
    shutil.rmtree(place, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("notebooks", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=REPOSITORY / "build" / "notebooks")
    parser.add_argument("--seconds-a-cell", type=int, default=600)
    chosen = parser.parse_args()
    sys.exit(run(chosen.notebooks, chosen.bundle, chosen.out, chosen.seconds_a_cell))
