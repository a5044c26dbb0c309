"""The same training as bench/train/llama-train.ts by hand in JAX: the peer.

Layers unrolled, cuDNN attention, bfloat16 compute, float32 AdamW. With `--data N` or `--fsdp N` over N devices.
"""

import argparse
import json
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

SIZES = {
    "llama1b": dict(vocab=32000, hidden=2048, mlp=5632, layers=22, heads=32, kv=4),
    "tiny": dict(vocab=257, hidden=128, mlp=352, layers=5, heads=4, kv=2),
}


def init(key: jax.Array, c: dict) -> dict[str, jax.Array]:
    dim = c["hidden"] // c["heads"]
    shapes = {"embed": (c["vocab"], c["hidden"]), "head": (c["vocab"], c["hidden"]), "norm": (c["hidden"],)}
    for i in range(c["layers"]):
        shapes |= {
            f"{i}.q": (c["heads"] * dim, c["hidden"]),
            f"{i}.k": (c["kv"] * dim, c["hidden"]),
            f"{i}.v": (c["kv"] * dim, c["hidden"]),
            f"{i}.o": (c["hidden"], c["heads"] * dim),
            f"{i}.gate": (c["mlp"], c["hidden"]),
            f"{i}.up": (c["mlp"], c["hidden"]),
            f"{i}.down": (c["hidden"], c["mlp"]),
            f"{i}.n1": (c["hidden"],),
            f"{i}.n2": (c["hidden"],),
        }
    keys = jax.random.split(key, len(shapes))
    return {
        name: jnp.ones(s) if len(s) == 1 else 0.02 * jax.random.normal(k, s)
        for k, (name, s) in zip(keys, shapes.items(), strict=True)
    }


def norm(x: jax.Array, w: jax.Array) -> jax.Array:
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-5)).astype(x.dtype) * w


def rope(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    a, b = jnp.split(x, 2, -1)
    return x * cos + jnp.concatenate([-b, a], -1) * sin


def forward(p: dict, tokens: jax.Array, c: dict, implementation: str | None) -> jax.Array:
    b, t = tokens.shape
    dim = c["hidden"] // c["heads"]
    angles = jnp.arange(t)[:, None] * 10000.0 ** (-jnp.arange(0, dim, 2) / dim)
    angles = jnp.concatenate([angles, angles], -1)[None, :, None, :]
    cos, sin = jnp.cos(angles).astype(jnp.bfloat16), jnp.sin(angles).astype(jnp.bfloat16)
    x = p["embed"][tokens]
    for i in range(c["layers"]):
        y = norm(x, p[f"{i}.n1"])
        q, k, v = ((y @ p[f"{i}.{n}"].T).reshape(b, t, -1, dim) for n in "qkv")
        a = jax.nn.dot_product_attention(
            rope(q, cos, sin), rope(k, cos, sin), v, is_causal=True, implementation=implementation
        )
        x = x + a.reshape(b, t, -1) @ p[f"{i}.o"].T
        y = norm(x, p[f"{i}.n2"])
        x = x + (jax.nn.silu(y @ p[f"{i}.gate"].T) * (y @ p[f"{i}.up"].T)) @ p[f"{i}.down"].T
    return norm(x, p["norm"]) @ p["head"].T


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--model", default="llama1b")
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--time", type=int, default=2048)
    arguments.add_argument("--steps", type=int, default=40)
    arguments.add_argument("--data", type=int, default=1)
    arguments.add_argument("--fsdp", type=int, default=1)
    a = arguments.parse_args()
    c = SIZES[a.model]
    implementation = "cudnn" if jax.default_backend() == "gpu" else None
    several = a.data * a.fsdp > 1
    devices = np.array(jax.devices()[: a.data * a.fsdp]).reshape(a.data, a.fsdp)
    mesh = Mesh(devices, ("data", "fsdp"))
    whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P(("data", "fsdp")))

    def place(w: jax.ShapeDtypeStruct) -> NamedSharding:
        """Parameters in parts along their width."""
        dims = [None] * w.ndim
        for i, size in enumerate(w.shape):
            if size == c["hidden"]:
                dims[i] = "fsdp"
                break
        return NamedSharding(mesh, P(*dims))

    def loss_of(p: dict, x: jax.Array, y: jax.Array) -> jax.Array:
        half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), p)
        if several:
            half = jax.lax.with_sharding_constraint(half, whole)
        logits = forward(half, x, c, implementation).astype(jnp.float32)
        picked = jnp.take_along_axis(logits, y[..., None], -1)[..., 0]
        return jnp.mean(jax.nn.logsumexp(logits, -1) - picked)

    shapes = jax.eval_shape(partial(init, c=c), jax.random.key(0))
    places = {k: place(w) for k, w in shapes.items()}

    outputs = {"out_shardings": (places, places, places, whole)} if several else {}

    @partial(jax.jit, donate_argnums=(0, 1, 2), **outputs)
    def update(
        p: dict, m: dict, v: dict, n: jax.Array, x: jax.Array, y: jax.Array
    ) -> tuple[dict, dict, dict, jax.Array]:
        loss, g = jax.value_and_grad(loss_of)(p, x, y)
        size = jnp.sqrt(sum(jnp.sum(w * w) for w in g.values()))
        g = jax.tree.map(lambda w: w * jnp.minimum(1, 1 / (size + 1e-6)), g)
        m = jax.tree.map(lambda u, w: 0.9 * u + 0.1 * w, m, g)
        v = jax.tree.map(lambda u, w: 0.95 * u + 0.05 * w * w, v, g)
        rate = 3e-4
        new = {
            k: p[k]
            - rate
            * (m[k] / (1 - 0.9**n) / (jnp.sqrt(v[k] / (1 - 0.95**n)) + 1e-8) + (0.1 * p[k] if p[k].ndim > 1 else 0))
            for k in p
        }
        return new, m, v, loss

    p = jax.jit(partial(init, c=c), out_shardings=places)(jax.random.key(0))
    zeros = jax.jit(lambda: jax.tree.map(lambda w: jnp.zeros(w.shape, w.dtype), shapes), out_shardings=places)
    m, v = zeros(), zeros()
    rng = np.random.default_rng(0)
    times, losses, pending = [], [], []
    start = time.perf_counter()
    for step in range(a.steps):
        x, y = (jax.device_put(rng.integers(0, c["vocab"], (a.batch, a.time), dtype=np.int32), rows) for _ in range(2))
        p, m, v, loss = update(p, m, v, jnp.float32(step + 1), x, y)
        pending.append(loss)
        if len(pending) > 2 or step == a.steps - 1:
            for value in pending if step == a.steps - 1 else [pending.pop(0)]:
                losses.append(float(value))
                now = time.perf_counter()
                times.append(now - start)
                start = now
    timed = sorted(times[10:-2])
    median = timed[len(timed) // 2]
    stats = jax.devices()[0].memory_stats() or {}
    print(
        json.dumps(
            {
                "what": f"jax {jax.__version__}",
                "model": a.model,
                "batch": a.batch,
                "data": a.data,
                "fsdp": a.fsdp,
                "stepMilliseconds": {"median": median * 1000, "mean": sum(timed) / len(timed) * 1000},
                "tokensPerSecond": a.batch * a.time / median,
                "firstStepSeconds": times[0],
                "loss": {"first": losses[0], "last": losses[-1]},
                "peakBytes": stats.get("peak_bytes_in_use"),
            }
        )
    )


if __name__ == "__main__":
    main()
