"""Reading the fields of a request: each function returns a value of the right type or raises InvalidArgument."""

import math
from typing import Any, TypeVar

import numpy as np

from .errors import InvalidArgument
from .xla import DTYPES, Aval, Backend, Layout

TAGS = frozenset({"parameter", "optimizer", "gradient", "cache", "data", "other"})
_MAX_RANK = 32
_MAX_HANDLE = 1 << 53
_MAX_NAME = 4096

Header = dict[str, Any]
T = TypeVar("T")


def lookup(table: dict[Any, T], key: Any) -> T | None:
    """The entry of a key that a client sent: a list or a map is no key at all."""
    try:
        return table.get(key)
    except TypeError:
        return None


def _whole(value: Any) -> Any:
    """MessagePack of a JavaScript integer over 32 bits is a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def handle(value: Any) -> int:
    value = _whole(value)
    if type(value) is not int or not 0 < value < _MAX_HANDLE:
        raise InvalidArgument(f"{value!r:.100} is no handle")
    return value


def handles(value: Any) -> list[int]:
    if not isinstance(value, list):
        raise InvalidArgument(f"expected a list of handles, got {value!r:.100}")
    return [handle(item) for item in value]


def integer(value: Any, what: str, low: int, high: int) -> int:
    value = _whole(value)
    if type(value) is not int or not low <= value <= high:
        raise InvalidArgument(f"{what} must be an integer in {low}..{high}, not {value!r:.100}")
    return value


def number(value: Any, what: str, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        raise InvalidArgument(f"{what} must be a number in {low}..{high}, not {value!r:.100}")
    return float(value)


def text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value or len(value) > _MAX_NAME:
        raise InvalidArgument(f"{what} must be a text of 1 to {_MAX_NAME} characters, not {value!r:.100}")
    return value


def mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidArgument(f"{what} must be a map with texts as keys, not {value!r:.100}")
    return value


def shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _MAX_RANK:
        raise InvalidArgument(f"a shape is a list of at most {_MAX_RANK} sizes, not {value!r:.100}")
    sizes = tuple(integer(size, "a size of a shape", 0, 1 << 40) for size in value)
    if math.prod(sizes) > 1 << 44:
        raise InvalidArgument(f"shape {list(sizes)} has more than 2^44 elements")
    return sizes


def dtype(value: Any) -> np.dtype:
    found = DTYPES.get(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidArgument(f"{value!r:.100} is no dtype", f"The dtypes are {', '.join(DTYPES)}.")
    return found


def tag(value: Any) -> str:
    if value is None:
        return "other"
    if not isinstance(value, str) or value not in TAGS:
        raise InvalidArgument(f"{value!r:.100} is no tag", f"The tags are {', '.join(sorted(TAGS))}.")
    return value


def name(value: Any) -> str:
    return "" if value is None else text(value, "a name")


def devices(value: Any, backend: Backend) -> tuple[Any, ...]:
    if value is None:
        return (backend.devices[0],)
    if not isinstance(value, list) or not value:
        raise InvalidArgument(f"`devices` must be a list of device ids, not {value!r:.100}")
    found = tuple(backend.device(number) for number in value)
    if len(set(found)) < len(found):
        raise InvalidArgument(f"`devices` names a device twice: {value}")
    return found


def layout(value: Any, rank: int, backend: Backend) -> Layout | None:
    """The layout of a `sharding` field, None if there is none."""
    if value is None:
        return None
    sharding = mapping(value, "a sharding")
    mesh_field, spec_field = sharding.get("mesh"), sharding.get("spec")
    if not isinstance(mesh_field, list) or not isinstance(spec_field, list):
        raise InvalidArgument(f"a sharding has the lists `mesh` and `spec`, not {value!r:.200}")
    mesh: list[tuple[str, int]] = []
    for axis in mesh_field:
        if not isinstance(axis, list) or len(axis) != 2:
            raise InvalidArgument(f"a mesh axis is a pair of name and size, not {axis!r:.100}")
        mesh.append((text(axis[0], "the name of a mesh axis"), integer(axis[1], "a mesh axis", 1, 1 << 20)))
    names = {axis for axis, _ in mesh}
    if len(names) < len(mesh):
        raise InvalidArgument(f"a mesh has two axes of one name: {mesh}")
    if len(spec_field) > rank:
        raise InvalidArgument(f"a spec of {len(spec_field)} entries does not fit an array of rank {rank}")
    spec: list[tuple[str, ...] | None] = []
    used: set[str] = set()
    for part in spec_field:
        if part is None:
            spec.append(None)
            continue
        if not isinstance(part, list) or not all(isinstance(axis, str) for axis in part):
            raise InvalidArgument(f"an entry of a spec is null or a list of mesh axes, not {part!r:.100}")
        for axis in part:
            if axis not in names or axis in used:
                problem = "is used twice" if axis in used else "is no axis of the mesh"
                raise InvalidArgument(f'spec: "{axis}" {problem}', f"The axes are {', '.join(names)}.")
            used.add(axis)
        spec.append(tuple(part) or None)
    count = math.prod(size for _, size in mesh)
    numbers = sharding.get("devices")
    if numbers is None:
        numbers = list(range(min(count, len(backend.devices))))
    members = devices(numbers, backend) if numbers else ()
    if len(members) != count:
        raise InvalidArgument(
            f"the mesh {mesh} has {count} places, but {len(members)} devices are there for it",
            f"The runtime has {len(backend.devices)} devices; set ARONNAX_DEVICES for another set.",
        )
    return backend.named(mesh, spec, members)


def aval(fields: Header, backend: Backend) -> Aval:
    """Shape, dtype and sharding of a buffer; without a sharding it lies on the first device."""
    sizes = shape(fields.get("shape"))
    found = layout(fields.get("sharding"), len(sizes), backend) or backend.single(backend.devices[0])
    return backend.aval(sizes, dtype(fields.get("dtype")), found)
