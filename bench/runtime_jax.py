"""The figures of bench/runtime.ts that jax itself has, in one process: `runtime_jax.py SIZE RUNS` prints JSON."""

import json
import sys
import time

import jax
import jax.numpy as jnp


def main() -> None:
    size, runs = int(sys.argv[1]), int(sys.argv[2])
    a = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    product = jax.jit(lambda a, b: a @ b)
    product(a, a).block_until_ready()

    flops = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(runs):
            out = product(a, a)
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
