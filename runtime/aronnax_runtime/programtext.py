"""What a program's text says, and what of it is refused: read in a process of its own, which a text may end.

XLA and the kernels behind custom calls trust what they are given. What reaches them is therefore checked here, on the
parsed program and not on its text, which has many ways to write a name.
"""

from typing import Any

import numpy as np

from .customcalls import check_custom_call, location_of
from .errors import CompileError
from .xla import DTYPES, MLIR_DTYPES, Signature, ir, make_ir_context

# What waits for the host, which sends and takes nothing while a program runs.
_NOBODY_ANSWERS = frozenset({"infeed", "outfeed", "send", "recv"})
# Building and freeing so many arrays keeps all clients waiting.
_MOST_VALUES = 16_384


def read_program(text: str, platform: str, name: str) -> Signature:
    """The signature of `@main`. Raises CompileError for what is no program, or would stop or end the runtime."""
    with make_ir_context():
        module = ir.Module.parse(text)
        calls: dict[str, set[str]] = {}
        found = {"loops": False}

        def look(operation: Any) -> Any:
            operation = operation.operation
            kind = operation.name.rpartition(".")[2]
            if kind in _NOBODY_ANSWERS:
                raise CompileError(
                    f"{name}: {operation.name} has nobody to answer it in the runtime: the program would never end",
                    fix="Pass values as arguments and results.",
                    location=location_of(operation),
                )
            if kind == "while":
                found["loops"] = True
            elif kind == "custom_call":
                check_custom_call(operation, platform, name)
            elif kind in ("call", "composite"):
                key = "callee" if kind == "call" else "decomposition"
                if key in operation.attributes:
                    calls.setdefault(_function_of(operation), set()).add(str(operation.attributes[key]).lstrip("@"))
            return ir.WalkResult.ADVANCE

        errors: list[Exception] = []

        def guarded(operation: Any) -> Any:
            try:
                return look(operation)
            except Exception as error:
                errors.append(error)
                return ir.WalkResult.INTERRUPT

        module.operation.walk(guarded)
        if errors:
            raise errors[0]
        _refuse_recursion(calls, name)
        for operation in module.body.operations:
            if operation.operation.name == "func.func" and _symbol(operation) == "main":
                return _main_signature(operation, found["loops"], name)
    raise CompileError(f"{name} has no function named main", fix="Name the entry function @main.")


def _function_of(operation: Any) -> str:
    parent = operation.parent
    while parent is not None and parent.operation.name != "func.func":
        parent = parent.operation.parent
    return "" if parent is None else _symbol(parent)


def _refuse_recursion(calls: dict[str, set[str]], name: str) -> None:
    """XLA would follow a function that calls itself until the stack ends."""
    done: set[str] = set()
    for start in calls:
        path: list[tuple[str, list[str]]] = [(start, sorted(calls[start]))]
        on_path = {start}
        while path:
            function, left = path[-1]
            if not left:
                path.pop()
                on_path.discard(function)
                done.add(function)
                continue
            callee = left.pop()
            if callee in on_path:
                raise CompileError(f"{name}: function {callee} calls itself", fix="Write a loop (`stablehlo.while`).")
            if callee not in done:
                on_path.add(callee)
                path.append((callee, sorted(calls.get(callee, ()))))


def _symbol(operation: Any) -> str:
    return ir.StringAttr(operation.attributes["sym_name"]).value


def _main_signature(main: Any, loops: bool, name: str) -> Signature:
    function = ir.FunctionType(ir.TypeAttr(main.attributes["function_type"]).value)
    count = max(len(function.inputs), len(function.results))
    if count > _MOST_VALUES:
        raise CompileError(
            f"{name} has {count} arguments or results, and {_MOST_VALUES} are the most",
            fix="Join arrays, or split the program.",
        )
    donated = []
    if "arg_attrs" in main.attributes:
        for position, attribute in enumerate(ir.ArrayAttr(main.attributes["arg_attrs"])):
            attributes = ir.DictAttr(attribute)
            if "tf.aliasing_output" in attributes or "jax.buffer_donor" in attributes:
                donated.append(position)
    inputs = [_tensor_type(kind) for kind in function.inputs]
    return Signature(inputs, [_tensor_type(kind) for kind in function.results], donated, loops)


def _tensor_type(mlir_type: Any) -> tuple[tuple[int, ...], np.dtype]:
    try:
        tensor = ir.RankedTensorType(mlir_type)
        if not tensor.has_static_shape:
            raise ValueError
        return tuple(tensor.shape), DTYPES[MLIR_DTYPES[str(tensor.element_type)]]
    except (ValueError, KeyError):
        raise CompileError(
            f"main has an argument or result of type {mlir_type}, which no buffer can hold",
            fix="Use ranked tensors of static shape with one of the framework's dtypes.",
        ) from None
