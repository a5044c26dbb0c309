"""Small programs on handwritten digits, whole, in plain JAX: those of training.test.ts must equal them step by step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax, nn

Parameters = dict[str, Array]


def cross_entropy(logits: Array, labels: Array) -> Array:
    return -jnp.mean(jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], -1))


def mlp(p: Parameters, images: Array) -> Array:
    return nn.relu(images @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


def convolutional(p: Parameters, images: Array) -> Array:
    def conv(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def pool(x: Array, start: float, operation: Any) -> Array:
        return lax.reduce_window(x, start, operation, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    h = pool(nn.relu(conv(images.reshape(-1, 8, 8, 1), p["k1"])), -jnp.inf, lax.max)
    h = pool(nn.gelu(conv(h, p["k2"]), approximate=False), 0.0, lax.add) / 4
    return h.reshape(len(images), -1) @ p["w"]


def lstm(p: Parameters, images: Array) -> Array:
    """Reads an image from the upper row to the lowest."""

    def cell(state: tuple[Array, Array], row: Array) -> tuple[tuple[Array, Array], None]:
        h, c = state
        i, f, g, o = jnp.split(row @ p["wx"] + h @ p["wh"] + p["b"], 4, 1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return (nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((len(images), p["wh"].shape[0]))
    (h, _), _ = lax.scan(cell, (zeros, zeros), images.reshape(-1, 8, 8).swapaxes(0, 1))
    return h @ p["out"]


MODELS: dict[str, Callable[[Parameters, Array], Array]] = {"mlp": mlp, "convolutional": convolutional, "lstm": lstm}


def train(
    name: str, rate: float, batch: int, steps: int, test: int, images: Array, labels: Array, **parameters: Array
) -> Any:
    """Gradient descent on all but the last `test` examples, again and again: each step's loss and gradients' norm, how
    many of the test examples are right in the end, and the parameters."""
    model = MODELS[name]

    def step(p: Parameters, given: tuple[Array, Array]) -> tuple[Parameters, tuple[Array, Array]]:
        value, g = jax.value_and_grad(lambda p: cross_entropy(model(p, given[0]), given[1]))(p)
        norm = jnp.sqrt(sum(jnp.sum(x * x) for x in g.values()))
        return {k: p[k] - rate * g[k] for k in p}, (value, norm)

    order = jnp.arange(steps * batch).reshape(steps, batch) % (len(images) - test)
    batches = (images[order], labels[order])
    last, (losses, norms) = lax.scan(step, parameters, batches)
    right = jnp.sum(jnp.argmax(model(last, images[-test:]), -1) == labels[-test:])
    return losses, norms, right, [last[k] for k in parameters]


def newton(images: Array, labels: Array, w: Array) -> Any:
    """Regularised softmax regression by Newton's method, its systems solved by 10 steps of conjugate gradients on
    products with the Hessian: each step's loss, and the parameters after it."""

    def loss(w: Array) -> Array:
        return cross_entropy(images @ w, labels) + 0.02 * jnp.sum(w * w)

    def solve(w: Array, b: Array) -> Array:
        def step(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x, r, d = state
            hd = jax.jvp(jax.grad(loss), (w,), (d,))[1]
            rr = jnp.sum(r * r)
            alpha = rr / jnp.sum(d * hd)
            after = r - alpha * hd
            return x + alpha * d, after, after + jnp.sum(after * after) / rr * d

        return lax.fori_loop(0, 10, step, (jnp.zeros_like(b), b, b))[0]

    def iterate(w: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        after = w - solve(w, jax.grad(loss)(w))
        return after, (loss(w), after)

    return lax.scan(iterate, w, None, length=5)[1]
