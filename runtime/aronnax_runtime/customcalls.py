"""Custom calls that a program may make, and what they must look like.

The functions behind them trust the shapes that they are given: a wrong one reads or writes beyond its arrays. What is
not in these tables is refused.
"""

import re
from typing import Any

from .errors import CompileError
from .xla import ir

# Operands -> results of a routine. A word is a matrix or vector by its sizes, after the batch; "-" has none. `k` is the
# lesser of `m` and `n`; other letters take any size, the same wherever they stand. After a colon the type: that of the
# first operand if there is none, `i` int32, `r` its real type, `c` its complex one.
_ROUTINES = {
    "potrf": "nn -> nn -:i",
    "getrf": "mn -> mn k:i -:i",
    "geqrf": "mn -> mn k",
    "orgqr": "mn q -> mn",
    "ungqr": "mn q -> mn",
    "syevd": "nn -> nn n:r -:i",
    "heevd": "nn -> nn n:r -:i",
    "gesdd": "mn -> mn k:r mu vn -:i",
    "gesvd": "mn -> mn k:r mu vn -:i",
    "trsm": "aa mn -> mn",
    "geev": "nn -> n:r n:r nn:c nn:c -:i",
    "cgeev": "nn -> n nn nn -:i",
}
_LAPACK = re.compile(r"lapack_([sdcz])([a-z]+)_ffi")
_ON_GPUS = re.compile(r"cu(?:solver|blas)_(potrf|getrf|geqrf|orgqr|syevd|gesvd)_ffi")
_TYPES = {"s": "f32", "d": "f64", "c": "complex<f32>", "z": "complex<f64>"}
_REAL = {"complex<f32>": "f32", "complex<f64>": "f64"}
_COMPLEX = {"f32": "complex<f32>", "f64": "complex<f64>"}
# Letters that LAPACK takes; others end in its error handler.
_LETTERS = {
    "uplo": "LU",
    "mode": "VNASO",
    "side": "LR",
    "trans_x": "NTC",
    "diag": "NU",
    "compute_left": "VN",
    "compute_right": "VN",
}
# Marks for the partitioner: one array in, one out.
_MARKS = frozenset({"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"})
# Which shapes these take is checked by XLA when it compiles them.
_ATTENTION = re.compile(r"__cudnn\$fmha\w+")

Type = tuple[tuple[int, ...], str]


def check_custom_call(operation: Any, platform: str, name: str) -> None:
    """Raises CompileError for a call that is not allowed, or does not fit."""
    target = ir.StringAttr(operation.attributes["call_target_name"]).value

    def refuse(why: str, fix: str) -> CompileError:
        words = f"{name}: custom call {target[:200]}: {why}"
        return CompileError(words, fix=fix, location=location_of(operation))

    if "callback" in target:
        raise refuse("it has nobody to answer it in the runtime", "Pass values as arguments and results.")
    unknown = refuse(
        "No registered implementation may be called under this name on this platform",
        "This custom call does not exist on this platform: lower the operation another way here.",
    )
    wrong = "See jax's lowering of the same routine for the operands, results and attributes that it takes."
    try:
        operands = [_type(value.type) for value in operation.operands]
        results = [_type(value.type) for value in operation.results]
    except ValueError:
        raise refuse("it takes or gives something that is no array of static shape", wrong) from None
    if target in _MARKS:
        if len(operands) != 1 or len(results) != 1 or (target == "Sharding" and operands != results):
            raise refuse("it takes one array and gives one of the same type", wrong)
        return
    if platform == "cuda" and _ATTENTION.fullmatch(target):
        return
    found = (_LAPACK if platform == "cpu" else _ON_GPUS).fullmatch(target)
    routine = found[found.lastindex] if found else ""
    if routine not in _ROUTINES:
        raise unknown
    if "api_version" not in operation.attributes or ir.IntegerAttr(operation.attributes["api_version"]).value != 4:
        raise refuse("it is a function of XLA's FFI, api_version 4", wrong)
    settings = _settings(operation)
    if platform == "cpu":
        if operands and operands[0][1] != _TYPES[found[1]]:
            raise refuse(f"its first operand must be of {_TYPES[found[1]]}", wrong)
        if routine == "geev" and found[1] in "cz":
            routine = "cgeev"
        for key, value in settings.items():
            if key in _LETTERS and (type(value) is not int or not 0 < value < 256 or chr(value) not in _LETTERS[key]):
                raise refuse(f"{key} must be the code of one of {', '.join(_LETTERS[key])}, not {value}", wrong)
    elif routine == "gesvd":
        # cuSOLVER's gives the left vectors, and needs more rows than columns.
        shape = operands[0][0] if operands else ()
        if len(shape) < 2 or shape[-2] < shape[-1]:
            raise refuse("the matrix must have at least as many rows as columns", wrong)
    problem = _mismatch(routine, operands, results, settings)
    if problem:
        raise refuse(problem, wrong)


def location_of(operation: Any) -> str:
    """Where an operation stands, as `compile_fault` says it."""
    at = str(operation.location).removeprefix("loc(").removesuffix(")").replace('"', "")[:500]
    return f"<program>{at[1:]}" if at.startswith("-:") else at


def _settings(operation: Any) -> dict[str, Any]:
    config = operation.attributes["backend_config"] if "backend_config" in operation.attributes else None
    if config is None or not isinstance(config, ir.DictAttr):
        return {}
    found: dict[str, Any] = {}
    for entry in config:
        attribute = entry.attr
        found[entry.name] = ir.IntegerAttr(attribute).value if isinstance(attribute, ir.IntegerAttr) else attribute
    return found


def _type(value: Any) -> Type:
    tensor = ir.RankedTensorType(value)
    if not tensor.has_static_shape:
        raise ValueError
    return tuple(tensor.shape), str(tensor.element_type)


def _mismatch(routine: str, operands: list[Type], results: list[Type], settings: dict[str, Any]) -> str:
    """What does not fit the routine's entry in the table, in words; empty if all fits."""
    taken, given = (side.split() for side in _ROUTINES[routine].split(" -> "))
    if len(operands) != len(taken) or len(results) != len(given):
        return f"it takes {len(taken)} operands and gives {len(given)} results, not {len(operands)} and {len(results)}"
    first_shape, first_type = operands[0]
    rank = len(taken[0])
    if len(first_shape) < rank:
        return f"its first operand must have {rank} axes or more, not {len(first_shape)}"
    batch = first_shape[: len(first_shape) - rank]
    sizes: dict[str, int] = {}
    kinds = {
        "": first_type,
        "i": "i32",
        "r": _REAL.get(first_type, first_type),
        "c": _COMPLEX.get(first_type, first_type),
    }
    for position, (word, (shape, element)) in enumerate(zip([*taken, *given], [*operands, *results], strict=True)):
        what = f"operand {position}" if position < len(taken) else f"result {position - len(taken)}"
        letters, _, kind = word.partition(":")
        letters = letters.replace("-", "")
        if element != kinds[kind]:
            return f"{what} must be of {kinds[kind]}, not {element}"
        if shape[: len(batch)] != batch or len(shape) != len(batch) + len(letters):
            return f"{what} of shape {list(shape)} does not go with a first operand of shape {list(first_shape)}"
        for letter, size in zip(letters, shape[len(batch) :], strict=True):
            if "m" in sizes and "n" in sizes:
                sizes.setdefault("k", min(sizes["m"], sizes["n"]))
            if sizes.setdefault(letter, size) != size:
                return f"{what} of shape {list(shape)} does not go with a first operand of shape {list(first_shape)}"
    return _relation(routine, sizes, settings)


def _relation(routine: str, sizes: dict[str, int], settings: dict[str, Any]) -> str:
    """Relations between sizes that the table has no words for."""
    if routine in ("orgqr", "ungqr") and not sizes["q"] <= sizes["n"] <= sizes["m"]:
        return "it takes a matrix of no more columns than rows, and no more scales than columns"
    if routine == "trsm":
        side = "n" if settings.get("side") == ord("R") else "m"
        if sizes["a"] != sizes[side]:
            return "the triangle and the right-hand sides do not go together"
    if routine in ("gesdd", "gesvd"):
        thin, full = (sizes["k"], sizes["k"]), (sizes["m"], sizes["n"])
        mode = settings.get("mode")
        whole = mode == ord("A") if mode is not None else str(settings.get("full_matrices")) in ("true", "1")
        if mode == ord("O"):
            return "mode O is not supported"
        allowed = (thin, full) if mode == ord("N") else (full,) if whole else (thin,)
        if (sizes["u"], sizes["v"]) not in allowed:
            return "the vectors' shapes do not go with its mode"
    return ""
