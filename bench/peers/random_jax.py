"""The compile times of JAX for the programs of bench/array/random.ts: one line of JSON for each."""

import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def deep(k: jax.Array) -> jax.Array:
    for i in range(4):
        k = jax.random.split(jax.random.fold_in(k, i), 3)[1]
    return jax.random.truncated_normal(k, -2, 2, (64, 64))


CASES: dict[str, Callable[[jax.Array], Any]] = {
    "normal of a key of keys": lambda k: jax.random.normal(jax.random.split(k)[0], (128, 4)),
    "keys four deep": deep,
    "twenty draws": lambda k: [jax.random.normal(key, (32, 32)) for key in jax.random.split(k, 20)],
    "under vmap": lambda k: jax.vmap(lambda key: jax.random.normal(jax.random.split(key)[1], (8,)))(
        jax.random.split(k, 16)
    ),
    "integers and a permutation": lambda k: [
        jax.random.randint(jax.random.fold_in(k, 1), (64,), 0, 10),
        jax.random.permutation(jax.random.fold_in(k, 2), 64),
    ],
}

for name, draw in CASES.items():
    start = time.time()
    run = jax.jit(lambda step, draw=draw: draw(jax.random.fold_in(jax.random.fold_in(jax.random.key(5), step), 5)))
    jax.block_until_ready(run(jnp.int32(3)))
    print(json.dumps({"platform": jax.default_backend(), "name": name, "seconds": time.time() - start}), flush=True)
