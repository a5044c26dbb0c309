"""JAX's side of bench/array/trace.mjs: trace, differentiate and lower the same transformer. Prints JSON.

usage: trace_jax.py SIZE_AS_JSON REPEATS
"""

import json
import os
import sys
import time
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp

SIZE = json.loads(sys.argv[1])
REPEATS = int(sys.argv[2])
Tree = dict[str, Any]


def parameters() -> Tree:
    embed, mlp, vocab = SIZE["embed"], SIZE["mlp"], SIZE["vocab"]

    def aval(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def layer() -> Tree:
        return {
            "norm1": aval(embed),
            "query": aval(embed, embed),
            "key": aval(embed, embed),
            "value": aval(embed, embed),
            "out": aval(embed, embed),
            "norm2": aval(embed),
            "gate": aval(embed, mlp),
            "up": aval(embed, mlp),
            "down": aval(mlp, embed),
        }

    layers = [layer() for _ in range(SIZE["layers"])]
    return {"embedding": aval(vocab, embed), "layers": layers, "norm": aval(embed), "head": aval(embed, vocab)}


def norm(x: jax.Array, weight: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6) * weight


def loss(p: Tree, tokens: jax.Array, targets: jax.Array) -> jax.Array:
    batch, steps, heads, head, embed = (SIZE[k] for k in ("batch", "time", "heads", "head", "embed"))

    def dense(x: jax.Array, w: jax.Array) -> jax.Array:
        return x @ w.astype(jnp.bfloat16)

    mask = jnp.tril(jnp.ones((steps, steps), bool))
    x = p["embedding"].astype(jnp.bfloat16)[tokens]
    for layer in p["layers"]:
        h = norm(x, layer["norm1"].astype(jnp.bfloat16))
        q, k, v = (dense(h, layer[n]).reshape(batch, steps, heads, head) for n in ("query", "key", "value"))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * head**-0.5
        weights = jax.nn.softmax(jnp.where(mask, scores.astype(jnp.float32), -1e30), -1).astype(jnp.bfloat16)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, steps, embed)
        x = x + dense(mixed, layer["out"])
        m = norm(x, layer["norm2"].astype(jnp.bfloat16))
        x = x + dense(jax.nn.silu(dense(m, layer["gate"])) * dense(m, layer["up"]), layer["down"])
    logits = dense(norm(x, p["norm"].astype(jnp.bfloat16)), p["head"]).astype(jnp.float32)
    own = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, -1) - own)


def measure() -> dict[str, int]:
    tokens = jax.ShapeDtypeStruct((SIZE["batch"], SIZE["time"]), jnp.int32)
    times = []
    cpu = []
    lines = 0
    for _ in range(REPEATS):
        jax.clear_caches()
        start, used = time.perf_counter(), time.process_time()
        text = jax.jit(jax.value_and_grad(loss)).lower(parameters(), tokens, tokens).as_text()
        times.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - used))
        lines = text.count(" = ")
    return {
        "first_ms": round(times[0]),
        "best_ms": round(min(times)),
        "first_cpu_ms": round(cpu[0]),
        "best_cpu_ms": round(min(cpu)),
        "operations": lines,
    }


if __name__ == "__main__":
    results = {"22-layer transformer, loss and gradients": measure()}
    print(json.dumps({"versions": {"jax": jax.__version__, "python": sys.version.split()[0]}, "results": results}))
