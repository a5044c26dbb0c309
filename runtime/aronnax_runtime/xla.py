"""Everything that is private to jaxlib, and nothing else: discovery, placement, transfers, compiling, running.

Tested with jaxlib 0.10.2, 0.11.2 and 0.12.0.1. Where releases differ, the difference is handled here and named.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Devices and allocators read these when the backend starts, so they are set before jax is imported.
os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # The order of NVML.
os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")

import jax
import ml_dtypes
import numpy as np
from jax._src.interpreters.mlir import make_ir_context as make_ir_context
from jax._src.lax.linalg import initialize_lapack
from jax._src.sharding_impls import GSPMDSharding
from jax.extend.backend import get_backend
from jaxlib import _jax, xla_client
from jaxlib.mlir import ir as ir

from .errors import InvalidArgument, compile_fault, is_out_of_memory

# Arrays of a GPU from this size on come to the host through page-locked memory, which the process keeps for the next.
# Of a smaller one jax keeps the copy on the host for as long as the array lives.
_STAGE_FROM = 256 << 10

# Devices that XLA makes on a CPU, of which the first are used. It has as many threads to start programs with, and each
# program that does not end keeps one.
_CPU_THREADS = 64

# Optimization levels as XLA's effort levels O0..O3.
_EFFORT = {0: 9, 1: 19, 2: 29, 3: 39}

MLIR_DTYPES = {
    "f32": "float32",
    "bf16": "bfloat16",
    "f16": "float16",
    "f64": "float64",
    "f8E4M3FN": "float8_e4m3fn",
    "f8E5M2": "float8_e5m2",
    "i1": "bool",
    "complex<f32>": "complex64",
    **{f"i{n}": f"int{n}" for n in (8, 16, 32, 64)},
    **{f"ui{n}": f"uint{n}" for n in (8, 16, 32, 64)},
}
DTYPES: dict[str, np.dtype] = {name: np.dtype(getattr(ml_dtypes, name, name)) for name in MLIR_DTYPES.values()}


@dataclass(frozen=True, eq=False)
class Layout:
    """Where an array lies: its sharding, and the devices in the order of its shards. Interned: identity comes first."""

    sharding: Any
    devices: tuple[Any, ...]
    text: str
    # As a client describes it; None for the first device alone, and for what only the compiler has words for.
    described: dict[str, Any] | None

    def shard_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.sharding.shard_shape(shape))

    def places(self, shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
        """The index of each device's shard."""
        index = self.sharding.devices_indices_map(shape)
        return [index[device] for device in self.devices]

    def same(self, other: "Layout", shape: tuple[int, ...]) -> bool:
        """Whether both put the same parts of an array of this shape onto the same devices in the same order."""
        if self is other:
            return True
        if self.devices != other.devices:
            return False
        return len(self.devices) == 1 or self.places(shape) == other.places(shape)


class Aval:
    """Shape, dtype and layout of an array. Interned by Backend.aval: identity is equality."""

    __slots__ = ("dtype", "layout", "nbytes", "shape", "shaped", "shard_nbytes")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, layout: Layout) -> None:
        self.shape = shape
        self.dtype = dtype
        self.layout = layout
        self.shaped = jax.core.ShapedArray(shape, dtype)
        self.nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        shard = layout.shard_shape(shape)
        self.shard_nbytes = int(np.prod(shard, dtype=object)) * dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}] on {self.layout.text}"


@dataclass(frozen=True)
class Signature:
    """What `@main` takes and returns, and which arguments it takes by donation."""

    inputs: list[tuple[tuple[int, ...], np.dtype]]
    outputs: list[tuple[tuple[int, ...], np.dtype]]
    donated: list[int]
    # Whether it has loops, of which nobody knows when they end.
    loops: bool


@dataclass(eq=False)
class Executable:
    """A loaded program, with what the compiler told about it."""

    loaded: Any
    devices: tuple[Any, ...]
    signature: Signature
    input_layouts: list[Layout]
    output_layouts: list[Layout]
    memory: dict[str, int]
    cost: dict[str, float]

    @property
    def bytes_needed(self) -> int:
        """Bytes that a run takes on one device beside its inputs."""
        return max(0, self.memory["outputs"] - self.memory["aliased"]) + self.memory["temporaries"]

    def optimized_hlo(self) -> str:
        return "\n".join(module.to_string() for module in self.loaded.hlo_modules())


@dataclass(frozen=True)
class Cluster:
    """Several processes that run every program together, joined by jax's coordination service."""

    coordinator: str
    rank: int
    nodes: int


class Backend:
    """One platform's devices, and the operations on them. On the wire a device is its position in `devices`."""

    def __init__(self, device_set: str, cluster: Cluster | None = None) -> None:
        self.platform, _, which = device_set.partition(":")
        if self.platform == "cpu":
            count = int(which or 1)
            # Several nodes must agree on their devices: there, programs without an end may hold each other up.
            _force_cpu_devices(count, count if cluster is not None else max(count, _CPU_THREADS))
            jax.config.update("jax_platforms", "cpu")
        else:
            jax.config.update("jax_platforms", "cuda")
            if which:
                jax.config.update("jax_cuda_visible_devices", which)
        jax.config.update("jax_enable_x64", True)  # Arrays keep the dtype that the client names.
        if cluster is not None:
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
            jax.distributed.initialize(cluster.coordinator, cluster.nodes, cluster.rank)
        self.client = get_backend(self.platform)
        self.devices: list[Any] = sorted(self.client.devices(), key=lambda device: device.id)
        if self.platform == "cpu" and cluster is None:
            del self.devices[count:]
        # Those of this process; without a cluster, all.
        self.local = [device for device in self.devices if device.process_index == self.client.process_index()]
        self._numbers = {device: number for number, device in enumerate(self.devices)}
        self._layouts: dict[Any, Layout] = {}
        self._avals: dict[Any, Aval] = {}
        self._intern_lock = threading.Lock()
        # Programs of several devices must reach all in one order: interleaved collectives would wait for each other.
        self._run_lock = threading.Lock()
        self._lapack_lock = threading.Lock()
        self._first_lock = threading.Lock()
        self._has_compiled = False
        self._takes_pool = os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") not in ("false", "False", "0")
        if self.platform == "cuda":
            # The first allocation takes the pool: from now on its size is known, and its failure is one of the start.
            for device in self.local:
                jax.device_put(np.zeros(1, np.uint8), device).block_until_ready()

    # Placement

    def device(self, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < len(self.devices):
            raise InvalidArgument(
                f"there is no device {number!r:.100}", f"The devices are 0 to {len(self.devices) - 1}."
            )
        return self.devices[number]

    def number(self, device: Any) -> int:
        return self._numbers[device]

    def _numbered(self, devices: tuple[Any, ...]) -> str:
        return ", ".join(str(self._numbers[device]) for device in devices)

    def single(self, device: Any) -> Layout:
        def make() -> Layout:
            number = self._numbers[device]
            described = {"mesh": [["device", 1]], "spec": [], "devices": [number]} if number else None
            return Layout(jax.sharding.SingleDeviceSharding(device), (device,), f"device {number}", described)

        return self._intern_layout(("single", device), make)

    def replicated(self, devices: tuple[Any, ...]) -> Layout:
        if len(devices) == 1:
            return self.single(devices[0])
        return self.named([("device", len(devices))], [], devices)

    def named(
        self, mesh: list[tuple[str, int]], spec: list[tuple[str, ...] | None], devices: tuple[Any, ...]
    ) -> Layout:
        """The layout of a mesh and a partition spec, both checked by the caller."""
        if len(devices) == 1:
            return self.single(devices[0])
        key = ("named", tuple(mesh), tuple(spec), devices)

        def make() -> Layout:
            grid = np.array(devices, dtype=object).reshape([size for _, size in mesh])
            jax_mesh = jax.sharding.Mesh(grid, tuple(axis for axis, _ in mesh))
            sharding = jax.sharding.NamedSharding(jax_mesh, jax.sharding.PartitionSpec(*spec))
            axes = ", ".join(f"{axis}={size}" for axis, size in mesh)
            parts = ", ".join("-" if part is None else "+".join(part) for part in spec)
            described = {
                "mesh": [[axis, size] for axis, size in mesh],
                "spec": [None if part is None else list(part) for part in spec],
                "devices": [self._numbers[device] for device in devices],
            }
            text = f"mesh ({axes}) split [{parts}] over devices {self._numbered(devices)}"
            return Layout(sharding, devices, text, described)

        return self._intern_layout(key, make)

    def _compiled(self, op_sharding: Any, devices: tuple[Any, ...]) -> Layout:
        """The layout that the compiler chose."""
        if len(devices) == 1 or op_sharding is None:
            return self.replicated(devices)
        hlo = xla_client.HloSharding.from_proto(op_sharding)
        key = ("hlo", str(hlo), devices)
        return self._intern_layout(
            key,
            lambda: Layout(
                GSPMDSharding(devices, op_sharding), devices, f"{hlo} over devices {self._numbered(devices)}", None
            ),
        )

    def _intern_layout(self, key: Any, make: Any) -> Layout:
        with self._intern_lock:
            found = self._layouts.get(key)
            if found is None:
                found = self._layouts[key] = make()
            return found

    def aval(self, shape: tuple[int, ...], dtype: np.dtype, layout: Layout) -> Aval:
        """The one Aval of these. Raises InvalidArgument where the sharding does not divide the shape."""
        key = (shape, dtype, id(layout))
        found = self._avals.get(key)
        if found is None:
            try:
                made = Aval(shape, dtype, layout)
            except ValueError as error:
                raise InvalidArgument(f"shape {list(shape)} cannot lie on {layout.text}: {error}") from None
            with self._intern_lock:
                found = self._avals.setdefault(key, made)
        return found

    # Transfers

    def put(self, aval: Aval, host: np.ndarray) -> Any:
        """A host array onto its devices. The memory must not change afterwards: XLA may use it in place."""
        layout = aval.layout
        if len(layout.devices) == 1:
            return self._device_put(aval, [host])
        return self._device_put(aval, [host[place] for place in layout.places(aval.shape)])

    def put_shards(self, aval: Aval, shards: list[np.ndarray]) -> Any:
        """One host array a device, in the order of the layout."""
        return self._device_put(aval, shards)

    def _device_put(self, aval: Aval, shards: list[np.ndarray]) -> Any:
        """Each part onto its device; those of other processes are theirs to put."""
        devices = list(aval.layout.devices)
        if len(self.local) < len(self.devices):
            mine = [(part, device) for part, device in zip(shards, devices, strict=True) if device in self.local]
            shards, devices = [part for part, _ in mine], [device for _, device in mine]
        return _jax.batched_device_put(aval.shaped, aval.layout.sharding, shards, devices, True, False)

    def copy(self, array: Any, aval: Aval) -> Any:
        """The array laid out as `aval` says, in memory of its own: the original may be donated."""
        if not array.is_fully_addressable or any(device not in self.local for device in aval.layout.devices):
            raise InvalidArgument("a copy to or from devices of another node", "Let a program of all nodes compute it.")
        # device_put shares the memory on devices that hold a part already, whatever may_alias says.
        shared = not array.sharding.device_set.isdisjoint(aval.layout.devices)
        return jax.device_put(array.copy() if shared else array, aval.layout.sharding)

    def to_host(self, array: Any, aval: Aval) -> list[np.ndarray]:
        """The whole array, as pieces that follow each other in memory's order. Waits for it.

        On the CPU platform an array of one device, or one that is split in its first dimension, is not copied."""
        if not self.is_whole(array):
            raise InvalidArgument(f"{aval} lies on several nodes", "Replicate it first, or fetch it part by part.")
        if len(aval.layout.devices) == 1 or array.is_fully_replicated:
            return _to_host([array.addressable_shards[0].data])
        parts = self.parts_to_host(array)
        if all(part.shape[1:] == aval.shape[1:] for part, _ in parts):
            return [part for part, _ in sorted(parts, key=lambda found: found[1][0].start or 0)]
        whole = np.empty(aval.shape, aval.dtype)
        for part, index in parts:
            whole[index] = part
        return [whole]

    def shard_to_host(self, array: Any, device: Any) -> tuple[np.ndarray, tuple[slice, ...]]:
        """The part that lies on one device, and where in the whole it is."""
        for shard in array.addressable_shards:
            if shard.device == device:
                return _to_host([shard.data])[0], shard.index
        raise InvalidArgument(f"the buffer has no part on device {self.number(device)} of this process")

    def parts_to_host(self, array: Any) -> list[tuple[np.ndarray, tuple[slice, ...]]]:
        """What this process has of an array that lies on several, each part once, and where in the whole it is."""
        shards = list({str(shard.index): shard for shard in array.addressable_shards}.values())
        parts = _to_host([shard.data for shard in shards])
        return [(part, shard.index) for part, shard in zip(parts, shards, strict=True)]

    def is_whole(self, array: Any) -> bool:
        """Whether this process can see all of an array."""
        return array.is_fully_addressable or array.is_fully_replicated

    # Programs

    def prepare(self, text: str) -> None:
        """To be called before the program of this text is compiled or loaded.

        jax registers LAPACK's kernels when it is imported, and has SciPy fill in their functions only when it lowers to
        one, since that takes a while. A call before would end the process."""
        if self.platform == "cpu" and "lapack" in text:
            with self._lapack_lock:
                initialize_lapack()

    @contextmanager
    def _alone_at_first(self) -> Iterator[None]:
        """XLA's compiler for GPUs sets itself up while it compiles its first program: with a second beside it the
        process crashed, in 3 of 12 starts on an H200 (jaxlib 0.11.2); in none of 22 so."""
        if self._has_compiled:
            yield
            return
        with self._first_lock:
            try:
                yield
            finally:
                self._has_compiled = True

    def compile(
        self,
        text: str,
        signature: Signature,
        devices: tuple[Any, ...],
        level: int | None,
        flags: dict[str, Any],
        name: str,
    ) -> Executable:
        """Compiles in this process. Raises CompileError."""
        with self._alone_at_first():
            try:
                options = self._options(devices, level, flags)
                loaded = self.client.compile_and_load(text, _jax.DeviceList(devices), options)
            except Exception as error:
                raise compile_fault(error, name) from None
        return self.describe(loaded, signature, devices)

    def compile_to_bytes(
        self, text: str, devices: tuple[Any, ...], level: int | None, flags: dict[str, Any], name: str
    ) -> bytes:
        """A serialized executable for a process with the same devices. Raises CompileError."""
        try:
            loaded = self.client.compile_and_load(text, _jax.DeviceList(devices), self._options(devices, level, flags))
            return self._serialize(loaded)
        except Exception as error:
            raise compile_fault(error, name) from None

    def _options(self, devices: tuple[Any, ...], level: int | None, flags: dict[str, Any]) -> Any:
        options = xla_client.CompileOptions()
        options.num_replicas, options.num_partitions = 1, len(devices)
        options.device_assignment = xla_client.DeviceAssignment.create(np.array([[device.id for device in devices]]))
        if len(self.local) < len(self.devices) and self.platform == "cuda":
            # Else the nodes tune kernels together, and one would wait for another that has the program in its cache.
            flags = {"xla_gpu_shard_autotuning": False, **flags}
        options.env_option_overrides = list(flags.items())
        build = options.executable_build_options
        build.num_replicas, build.num_partitions = 1, len(devices)
        build.use_spmd_partitioning = build.use_shardy_partitioner = True
        if level is not None:
            build.optimization_level = _EFFORT[level]
        return options

    def describe(self, loaded: Any, signature: Signature, devices: tuple[Any, ...]) -> Executable:
        inputs = loaded.get_parameter_shardings() or [None] * len(signature.inputs)
        outputs = loaded.get_output_shardings() or [None] * len(signature.outputs)
        stats = loaded.get_compiled_memory_stats()
        cost = _cost(loaded)
        return Executable(
            loaded,
            devices,
            signature,
            [self._compiled(sharding, devices) for sharding in inputs],
            [self._compiled(sharding, devices) for sharding in outputs],
            {
                "arguments": stats.argument_size_in_bytes,
                "outputs": stats.output_size_in_bytes,
                "aliased": stats.alias_size_in_bytes,
                "temporaries": stats.temp_size_in_bytes,
                "code": stats.generated_code_size_in_bytes,
            },
            cost,
        )

    def serialize(self, executable: Executable) -> bytes:
        return self._serialize(executable.loaded)

    def _serialize(self, loaded: Any) -> bytes:
        serialize = getattr(loaded, "serialize", None)
        return serialize() if serialize else self.client.serialize_executable(loaded)

    def load(self, blob: bytes, signature: Signature, devices: tuple[Any, ...]) -> Executable:
        """A serialized executable. Such bytes are code: the caller vouches for where they come from."""
        loaded = self.client.deserialize_executable(blob, _jax.DeviceList(devices), None)
        return self.describe(loaded, signature, devices)

    def handlers(self, avals: Sequence[Aval]) -> list[Any]:
        """What `run` needs to make arrays of a program's outputs."""
        return [_result_handler(aval) for aval in avals]

    def run(self, executable: Executable, arrays: list[Any], handlers: list[Any]) -> list[Any]:
        """Queues a run. Arguments are not checked by XLA beyond their sizes: the caller has compared the avals."""
        if len(executable.devices) == 1:
            return executable.loaded.execute_sharded(arrays).consume_with_handlers(handlers)
        with self._run_lock:
            return executable.loaded.execute_sharded(arrays).consume_with_handlers(handlers)

    def may_wait(self, executable: Executable) -> bool:
        """Whether `run` may take longer than it takes to queue the program: a small one on a CPU runs at once, and the
        host turns the loops of one on a GPU."""
        return executable.signature.loops or (len(executable.devices) > 1 and self._run_lock.locked())

    # What the devices are

    def versions(self) -> dict[str, Any]:
        import platform

        import jaxlib

        return {
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "python": platform.python_version(),
            "platform": str(self.client.platform_version),
        }

    def memory_stats(self, device: Any) -> dict[str, int]:
        """The allocator's figures: in use, peak, limit in bytes; empty on the CPU platform."""
        stats = device.memory_stats() or {}
        names = {"inUse": "bytes_in_use", "peak": "peak_bytes_in_use", "limit": "bytes_limit"}
        figures = {name: int(stats[key]) for name, key in names.items() if key in stats}
        # A pool that was taken at the start does not grow: it is smaller than its limit where memory was short.
        pool = int(stats.get("pool_bytes") or 0)
        if pool and "limit" in figures and self._takes_pool:
            figures["limit"] = min(figures["limit"], pool)
        return figures


def wait(array: Any) -> None:
    """Blocks until an array is computed; raises what its computation raised. One that was donated is part of a later
    computation."""
    try:
        array.block_until_ready()
    except RuntimeError:
        if not array.is_deleted():
            raise


def _force_cpu_devices(count: int, made: int) -> None:
    flags = [
        flag
        for flag in os.environ.get("XLA_FLAGS", "").split()
        if not flag.startswith("--xla_force_host_platform_device_count")
    ]
    os.environ["XLA_FLAGS"] = " ".join([*flags, f"--xla_force_host_platform_device_count={made}"])
    # As many threads as processors, as XLA would take by itself, but enough for queued collectives: on two processors
    # they deadlock with fewer than eight.
    threads = int(os.environ.get("PJRT_NPROC") or max(8, len(os.sched_getaffinity(0))))
    os.environ["PJRT_NPROC"] = str(max(threads, 4 * count))


def _to_host(arrays: list[Any]) -> list[np.ndarray]:
    """Arrays of one device each; on the CPU platform, and where they were staged, views of their memory."""
    copies = [_stage(array) for array in arrays]  # All are under way before the first is waited for.
    return [_view(copy, array) for copy, array in zip(copies, arrays, strict=True)]


def _stage(array: Any) -> Any:
    """A copy in page-locked memory, which the device writes; the array itself where that is no use, or has no room."""
    if array.device.platform == "cpu" or array.nbytes < _STAGE_FROM:
        return array
    try:
        return jax.device_put(array, jax.sharding.SingleDeviceSharding(array.device, memory_kind="pinned_host"))
    except Exception as error:
        if is_out_of_memory(str(error)):
            return array
        raise


def _view(copy: Any, array: Any) -> np.ndarray:
    try:
        return copy._single_device_array_to_np_array_did_copy()[0]
    except Exception as error:
        if copy is array or not is_out_of_memory(str(error)):
            raise
        return array._single_device_array_to_np_array_did_copy()[0]


def _result_handler(aval: Aval) -> Any:
    arguments = (aval.shaped, aval.layout.sharding, True)
    try:
        return xla_client.array_result_handler(*arguments, True)  # 0.10: without its checks, which fail.
    except TypeError:
        return xla_client.array_result_handler(*arguments)


def _cost(loaded: Any) -> dict[str, float]:
    try:
        costs = loaded.cost_analysis()
    except Exception:
        return {}  # Not every platform's executables have one.
    if isinstance(costs, list):
        costs = costs[0] if costs else {}
    names = {"flops": "flops", "bytesAccessed": "bytes accessed", "transcendentals": "transcendentals"}
    return {name: float(costs[key]) for name, key in names.items() if key in costs}
