"""Where the time of an execute goes: jaxlib's call, the runtime's `Program.run` around it, `jax.jit` beside them.

    python3 bench/runtime/dispatch.py --devices cuda:0,1          on a machine with two GPUs
    .venv/bin/python bench/runtime/dispatch.py --devices cpu:4    on virtual CPU devices

The settings that the runtime makes and jax does not are taken one at a time, each in a process of its own. Prints a
line for each, and for each number of devices (1, 2, 4 ... all): microseconds of a run, and in brackets those that the
calling thread computes.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

RUNS = 3000
TURNS = 5
# What each variant changes of the runtime's own settings.
VARIANTS = {
    "as the runtime": {},
    "malloc as it comes": {"DISPATCH_MALLOC": "default"},
    "one malloc arena": {"DISPATCH_MALLOC": "one arena"},
    "8 threads in XLA's pools": {"PJRT_NPROC": "8"},
    "effort as XLA's own": {"DISPATCH_EFFORT": "none"},
    # Faster, and not for training: a step that fits alone finds no memory, perhaps since queued runs hold theirs.
    "launches on other threads": {"PJRT_GPU_ENABLE_ASYNC_DISPATCH": "1"},
}


def measure(device_set: str) -> None:
    """Prints the figures of this process's settings."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
    from aronnax_runtime.hostmemory import keep_pages

    malloc = os.environ.get("DISPATCH_MALLOC")
    if malloc != "default":
        keep_pages(device_set.startswith("cpu") or malloc == "one arena")
    from aronnax_runtime.xla import Backend

    backend = Backend(device_set)
    count = 1
    while count <= len(backend.devices):
        _measure(backend, count)
        count *= 2


def _measure(backend, count: int) -> None:  # noqa: ANN001
    import jax
    import numpy as np
    from aronnax_runtime.buffers import Buffer, Pins
    from aronnax_runtime.programs import Described, Program
    from aronnax_runtime.programtext import read_program
    from jax.sharding import Mesh, NamedSharding
    from jax.sharding import PartitionSpec as P

    devices = tuple(backend.devices[:count])
    float32 = np.dtype(np.float32)
    layout = backend.named([("x", count)], [("x",)], devices)
    split = 'sdy.sharding = #sdy.sharding<@mesh, [{"x"}]>'
    text = f"""module @step {{ sdy.mesh @mesh = <["x"={count}]>
      func.func public @main(%a: tensor<8xf32> {{{split}, tf.aliasing_output = 0 : i32}}, %b: tensor<8xf32> {{{split}}})
        -> (tensor<8xf32> {{{split}}}) {{
        %0 = stablehlo.add %a, %b : tensor<8xf32>
        return %0 : tensor<8xf32> }} }}"""
    level = None if count == 1 or os.environ.get("DISPATCH_EFFORT") == "none" else 1
    signature = read_program(text, backend.platform, "step")
    executable = backend.compile(text, signature, devices, level, {}, "step")
    aval = backend.aval((8,), float32, layout)
    program = Program(backend, executable, [Described((8,), float32, layout, "other", "")], "step")
    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
    one, pins = Buffer(backend.put(aval, ones), aval, "other", ""), Pins()

    def jaxlib(runs: int) -> None:
        x = backend.put(aval, zeros)
        for _ in range(runs):
            x = executable.loaded.execute_sharded([x, one.array]).consume_with_handlers(program.handlers)[0]
        x.block_until_ready()

    def run(runs: int) -> None:
        x = Buffer(backend.put(aval, zeros), aval, "other", "")
        for _ in range(runs):
            x = program.run([x, one], pins)[0]
        x.array.block_until_ready()

    sharding = NamedSharding(Mesh(np.array(devices), ("x",)), P("x"))
    step = jax.jit(lambda x, y: x + y, donate_argnums=0)
    jax_one = jax.device_put(ones, sharding)

    def jit(runs: int) -> None:
        x = jax.device_put(zeros, sharding)
        for _ in range(runs):
            x = step(x, jax_one)
        x.block_until_ready()

    ways: dict[str, Callable[[int], None]] = {"jaxlib": jaxlib, "Program.run": run, "jax.jit": jit}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for way in ways.values():
        way(RUNS // 5)
    for _ in range(TURNS):
        for name, way in ways.items():
            start, thread = time.perf_counter(), time.thread_time()
            way(RUNS)
            ended = (time.perf_counter() - start, time.thread_time() - thread)
            taken[name].append((ended[0] / RUNS * 1e6, ended[1] / RUNS * 1e6))
    figures = []
    for name, pairs in taken.items():
        wall, thread = (sorted(column)[TURNS // 2] for column in zip(*pairs, strict=True))
        figures.append(f"{name} {wall:6.1f} ({thread:5.1f})")
    print(f"{os.environ.get('DISPATCH_NAME', ''):<27}{count} devices  {'  '.join(figures)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", required=True, help="cpu:N or cuda:0,1")
    parser.add_argument("--turns", type=int, default=1, help="processes of each variant")
    arguments = parser.parse_args()
    devices = arguments.devices
    if "DISPATCH_NAME" in os.environ:
        measure(devices)
        return
    for _ in range(arguments.turns):
        for name, settings in VARIANTS.items():
            environment = {**os.environ, "DISPATCH_NAME": name, **settings}
            subprocess.run([sys.executable, __file__, "--devices", devices], env=environment, check=False)


if __name__ == "__main__":
    main()
