"""The figures of jax beside those of bench/runtime/runtime.ts, from a process that takes turns with the runtime.

Reads one JSON request a line, `{"do": NAME, ...arguments}`, and answers each with one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# Results of `jax.jit` that a later turn uses again.
_kept: dict[Any, Any] = {}


def _once(key: Any, make: Callable[[], Any]) -> Any:
    if key not in _kept:
        _kept[key] = make()
    return _kept[key]


def versions() -> dict[str, Any]:
    return {"jax": jax.__version__, "devices": len(jax.devices())}


def matmul(size: int, runs: int, turns: int) -> dict[str, Any]:
    """Floating-point operations a second of a bfloat16 product."""

    def make() -> tuple[Any, Any, Any]:
        # The bits of bench/runtime/runtime.ts: the power that a product draws, and with it the clock, depends on them.
        bits = (0x3C00 + (np.arange(size * size, dtype=np.int64) * 40503 & 0x3FF)).astype(np.uint16)
        a = jnp.asarray(bits.view(jnp.bfloat16).reshape(size, size))
        return jax.jit(lambda a, b: a @ b), a, jnp.copy(a)

    product, a, b = _once(("matmul", size), make)
    for _ in range(3):
        product(a, b).block_until_ready()
    flops = []
    for _ in range(turns):
        start = time.perf_counter()
        for _ in range(runs):
            out = product(a, b)
        out.block_until_ready()
        flops.append(2 * size**3 * runs / (time.perf_counter() - start))
    return {"flopsPerSecond": flops}


def dispatch(devices: int, runs: int) -> dict[str, Any]:
    """Microseconds that one run of `x + y` takes from Python, queued, on so many devices."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("x",))
    split = NamedSharding(mesh, P("x"))
    step = _once(("step", devices), lambda: jax.jit(lambda x, y: x + y, donate_argnums=0))
    x, one = jax.device_put(np.zeros(8, np.float32), split), jax.device_put(np.ones(8, np.float32), split)
    for _ in range(runs // 10):
        x = step(x, one)
    x.block_until_ready()
    start = time.perf_counter()
    for _ in range(runs):
        x = step(x, one)
    x.block_until_ready()
    return {"microseconds": (time.perf_counter() - start) / runs * 1e6}


def all_reduce(devices: int, elements: int, dtype: str, runs: int, turns: int) -> dict[str, Any]:
    """Seconds of one sum over the devices of `elements` on each, in place."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("x",))
    split = NamedSharding(mesh, P("x"))

    def make() -> tuple[Any, Any]:
        add = jax.shard_map(
            partial(jax.lax.psum, axis_name="x"), mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False
        )
        ones = jax.jit(lambda: jnp.ones((devices, elements), dtype), out_shardings=split)
        return jax.jit(add, donate_argnums=0), ones

    add, ones = _once(("all_reduce", devices, elements, dtype), make)
    x = add(add(ones()))
    x.block_until_ready()
    del x
    seconds = []
    for _ in range(turns):
        x = ones()
        x.block_until_ready()
        start = time.perf_counter()
        for _ in range(runs):
            x = add(x)
        x.block_until_ready()
        seconds.append((time.perf_counter() - start) / runs)
        value = float(x[0, 0])
        if value != float(devices) ** runs:
            raise ValueError(f"jax's sum is {value}, not {devices}^{runs}")
        del x
    return {"seconds": seconds}


_OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "versions": versions,
    "matmul": matmul,
    "dispatch": dispatch,
    "all_reduce": all_reduce,
}


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _OPERATIONS[request.pop("do")](**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
