"""The Llama of core/src/models/llm/llama.ts and its training with AdamW, written in plain JAX: an independent oracle.

Reads a request (JSON: config, optimizer, and the safetensors files of batches and initial parameters; with
"float64": true all is computed in float64) from the path in argv[1]; writes the first step's gradients as safetensors
to argv[2] and prints {"losses": [...], "norms": [...]}.
"""

import json
import struct
import sys

import jax
import jax.numpy as jnp
import numpy as np

DTYPES = {"F32": np.float32, "I32": np.int32}


def read_safetensors(path: str) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(data[start:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def write_safetensors(path: str, arrays: dict[str, np.ndarray]) -> None:
    header, blobs, at = {}, [], 0
    for name, array in arrays.items():
        blob = np.ascontiguousarray(array, np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def rms_norm(x: jax.Array, weight: jax.Array, epsilon: float) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + epsilon) * weight


def rotate(x: jax.Array, theta: float) -> jax.Array:
    _, time, _, dim = x.shape
    frequencies = theta ** (-jnp.arange(0, dim, 2, dtype=x.dtype) / dim)
    angles = jnp.arange(time, dtype=x.dtype)[:, None] * frequencies[None, :]
    cosine, sine = jnp.cos(angles)[None, :, None, :], jnp.sin(angles)[None, :, None, :]
    first, second = x[..., : dim // 2], x[..., dim // 2 :]
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)


def forward(p: dict[str, jax.Array], tokens: jax.Array, c: dict) -> jax.Array:
    batch, time = tokens.shape
    x = p["model.embed_tokens.weight"][tokens]
    for i in range(c["layers"]):
        at = f"model.layers.{i}."
        y = rms_norm(x, p[at + "input_layernorm.weight"], c["normEpsilon"])
        q, k, v = (
            (y @ p[at + f"self_attn.{name}_proj.weight"].T).reshape(batch, time, -1, c["headDim"]) for name in "qkv"
        )
        q, k = rotate(q, c["ropeTheta"]), rotate(k, c["ropeTheta"])
        k, v = (jnp.repeat(z, c["heads"] // c["keyValueHeads"], axis=2) for z in (k, v))
        scores = jnp.einsum("bqnh,bknh->bnqk", q, k) / np.sqrt(c["headDim"])
        scores = jnp.where(jnp.tril(jnp.ones((time, time), bool)), scores, -jnp.inf)
        mixed = jnp.einsum("bnqk,bknh->bqnh", jax.nn.softmax(scores, -1), v).reshape(batch, time, -1)
        x = x + mixed @ p[at + "self_attn.o_proj.weight"].T
        y = rms_norm(x, p[at + "post_attention_layernorm.weight"], c["normEpsilon"])
        gate, up = (y @ p[at + f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        x = x + (jax.nn.silu(gate) * up) @ p[at + "mlp.down_proj.weight"].T
    x = rms_norm(x, p["model.norm.weight"], c["normEpsilon"])
    head = p["model.embed_tokens.weight"] if c["tieEmbeddings"] else p["lm_head.weight"]
    return x @ head.T


def loss_of(p: dict[str, jax.Array], inputs: jax.Array, targets: jax.Array, c: dict) -> jax.Array:
    logarithms = jax.nn.log_softmax(forward(p, inputs, c), -1)
    return -jnp.mean(jnp.take_along_axis(logarithms, targets[..., None], -1))


def main() -> None:
    with open(sys.argv[1]) as file:
        request = json.load(file)
    c, o = request["config"], request["optimizer"]
    if request.get("float64"):
        jax.config.update("jax_enable_x64", True)
    wide = np.float64 if request.get("float64") else np.float32
    p = {name: jnp.asarray(array, wide) for name, array in read_safetensors(request["parameters"]).items()}
    batches = read_safetensors(request["batches"])
    steps = request["steps"]

    def learning_rate(step: jax.Array) -> jax.Array:
        rising = o["peak"] * (step + 1) / max(o["warmup"], 1)
        progress = jnp.clip((step - o["warmup"]) / (steps - o["warmup"]), 0, 1)
        falling = o["final"] + 0.5 * (o["peak"] - o["final"]) * (1 + jnp.cos(jnp.pi * progress))
        return jnp.where(step < o["warmup"], rising, falling)

    @jax.jit
    def update(
        p: dict, m: dict, v: dict, step: jax.Array, inputs: jax.Array, targets: jax.Array
    ) -> tuple[dict, dict, dict, jax.Array, jax.Array]:
        loss, g = jax.value_and_grad(loss_of)(p, inputs, targets, c)
        norm = jnp.sqrt(sum(jnp.sum(x * x) for x in g.values()))
        g = {k: x * jnp.minimum(1.0, o["clipNorm"] / (norm + 1e-6)) for k, x in g.items()}
        m = {k: o["beta1"] * m[k] + (1 - o["beta1"]) * g[k] for k in g}
        v = {k: o["beta2"] * v[k] + (1 - o["beta2"]) * g[k] ** 2 for k in g}
        rate, n = learning_rate(step), step + 1
        new = {}
        for k in p:
            direction = (m[k] / (1 - o["beta1"] ** n)) / (jnp.sqrt(v[k] / (1 - o["beta2"] ** n)) + o["epsilon"])
            decay = o["weightDecay"] * p[k] if p[k].ndim >= 2 else 0.0
            new[k] = p[k] - rate * (direction + decay)
        return new, m, v, loss, norm

    inputs, targets = batches["inputs"], batches["targets"]
    first = jax.jit(jax.grad(lambda q: loss_of(q, inputs[0], targets[0], c)))(p)
    write_safetensors(sys.argv[2], {k: np.asarray(x) for k, x in first.items()})
    m = v = {k: jnp.zeros_like(x) for k, x in p.items()}
    losses, norms = [], []
    for step in range(steps):
        p, m, v, loss, norm = update(p, m, v, jnp.asarray(step, wide), inputs[step], targets[step])
        losses.append(float(loss))
        norms.append(float(norm))
    print(json.dumps({"losses": losses, "norms": norms}))


if __name__ == "__main__":
    main()
