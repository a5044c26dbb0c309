"""What a call of a jitted function costs in JAX, as bench/array/dispatch.ts does: one line of JSON for each size."""

import json
import sys
import time

import jax
import jax.numpy as jnp

for count in [int(n) for n in (sys.argv[1] if len(sys.argv) > 1 else "1,300").split(",")]:
    step = jax.jit(lambda state: {name: x + 1 for name, x in state.items()})
    state = step({f"layer{i}.weight": jnp.zeros(4) for i in range(count)})
    times = []
    for i in range(300):
        start = time.perf_counter()
        state = step(state)
        times.append(1e6 * (time.perf_counter() - start))
        if i % 10 == 9:
            jax.block_until_ready(state)
    times.sort()
    print(json.dumps({"parameters": count, "median": times[150], "best": times[0]}), flush=True)
