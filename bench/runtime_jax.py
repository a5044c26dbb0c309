"""The figures of bench/runtime.ts that jax itself has, in one process: `runtime_jax.py SIZE RUNS` prints JSON."""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np


def main() -> None:
    size, runs = int(sys.argv[1]), int(sys.argv[2])
    # The bits of bench/runtime.ts: the power that a product draws, and with it the clock, depends on them.
    bits = (0x3C00 + (np.arange(size * size, dtype=np.int64) * 40503 & 0x3FF)).astype(np.uint16)
    a = jnp.asarray(bits.view(jnp.bfloat16).reshape(size, size))
    product = jax.jit(lambda a, b: a @ b)
    b = jnp.copy(a)
    product(a, b).block_until_ready()

    flops = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(runs):
            out = product(a, b)
        out.block_until_ready()
        flops.append(2 * size**3 * runs / (time.perf_counter() - start))

    step = jax.jit(lambda x, y: x + y, donate_argnums=0)
    x, one = jnp.zeros(8), jnp.ones(8)
    x = step(x, one)
    start = time.perf_counter()
    for _ in range(20_000):
        x = step(x, one)
    x.block_until_ready()
    dispatch = (time.perf_counter() - start) / 20_000
    print(json.dumps({"matmul": {"size": size, "flopsPerSecond": flops}, "dispatchMicroseconds": dispatch * 1e6}))


if __name__ == "__main__":
    main()
