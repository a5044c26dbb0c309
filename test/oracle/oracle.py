"""The reference that the array language is tested against: evaluates jax expressions on given arrays.

Frames on stdin and stdout are a 32-bit little-endian length and a MessagePack map. An array has `dtype`, `shape`
and `data` (dense, row-major, little-endian). The expressions of one request are traced into one program.
"""

import os
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import msgpack
import numpy as np
import training
from jax import lax, nn
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir

jax.config.update("jax_threefry_partitionable", True)

NAMES = {"jax": jax, "jnp": jnp, "lax": lax, "nn": nn, "np": np, "jsp": jsp, "training": training}


def unpack(array: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(array["data"], dtype=jnp.dtype(array["dtype"])).reshape(array["shape"])


def pack(value: Any) -> dict[str, Any]:
    array = np.asarray(value)
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": array.tobytes()}


def message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0]


def evaluate(expressions: list[dict[str, Any]], x64: bool, jit: bool) -> list[dict[str, Any]]:
    """Each expression's leaves, or its error."""
    inputs = [{name: unpack(array) for name, array in e["inputs"].items()} for e in expressions]
    codes = [compile(e["code"], "<expression>", "eval") for e in expressions]
    errors: dict[int, str] = {}

    def run(values: list[dict[str, Any]]) -> list[list[Any]]:
        results = []
        for i, (code, given) in enumerate(zip(codes, values, strict=True)):
            try:
                results.append(jax.tree.leaves(eval(code, {**NAMES, **given})))  # noqa: S307
            except Exception as error:
                errors[i] = message(error)
                results.append([])
        return results

    with jax.enable_x64(x64):
        given = [{name: jnp.asarray(a) for name, a in values.items()} for values in inputs]
        results = jax.jit(run)(given) if jit else run(given)
        return [
            {"error": errors[i]} if i in errors else {"values": [pack(v) for v in values]}
            for i, values in enumerate(results)
        ]


def verify(modules: list[str]) -> list[str | None]:
    """For each module what is wrong with it, if anything."""

    def check(text: str) -> str | None:
        with mlir.make_ir_context():
            try:
                ir.Module.parse(text).operation.verify()
            except Exception as error:
                return str(error)
        return None

    return [check(text) for text in modules]


def main(source: BinaryIO, sink: BinaryIO) -> None:
    operations: dict[str, Callable[..., Any]] = {"evaluate": evaluate, "verify": verify}
    while header := source.read(4):
        request = msgpack.unpackb(source.read(struct.unpack("<I", header)[0]))
        try:
            reply = {"result": operations[request.pop("operation")](**request)}
        except Exception:
            reply = {"error": traceback.format_exc()}
        body = msgpack.packb(reply)
        sink.write(struct.pack("<I", len(body)) + body)
        sink.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
