"""What can go wrong, in the classes that core/src/runtime/errors.ts has on the other side of the wire."""

import re
from typing import Any

# XLA's messages may hold whole programs.
_LONGEST = 64 << 10


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text) - _LONGEST} characters more)"


class Fault(Exception):
    """An error that a client is told of. `details` are the extra fields of its class on the wire."""

    kind = "RuntimeError"

    def __init__(self, message: str, fix: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.details = details

    def to_wire(self) -> dict[str, Any]:
        wire = {"kind": self.kind, "message": self.message, **self.details}
        if self.fix is not None:
            wire["fix"] = self.fix
        return {key: _shortened(value) if isinstance(value, str) else value for key, value in wire.items()}


class CompileError(Fault):
    kind = "CompileError"


class OutOfDeviceMemory(Fault):
    kind = "OutOfDeviceMemory"


class BufferDeleted(Fault):
    kind = "BufferDeleted"


class InvalidArgument(Fault):
    kind = "InvalidArgument"


class ExecutionError(Fault):
    kind = "ExecutionError"


class StorageError(Fault):
    kind = "StorageError"


class ProtocolError(Fault):
    kind = "ProtocolError"


_KINDS = {
    kind.kind: kind
    for kind in (
        Fault,
        CompileError,
        OutOfDeviceMemory,
        BufferDeleted,
        InvalidArgument,
        ExecutionError,
        StorageError,
        ProtocolError,
    )
}


def fault_from_wire(wire: dict[str, Any]) -> Fault:
    """The fault that another process of ours sent by `to_wire`."""
    details = {key: value for key, value in wire.items() if key not in ("kind", "message", "fix")}
    return _KINDS[wire["kind"]](wire["message"], wire.get("fix"), **details)


_TRACE = re.compile(r"\n=== Source Location Trace: ===.*", re.S)
_MLIR = re.compile(r"^(?:\w+: )?(?P<at>\S.*?:\d+:\d+): error: (?P<message>.*)$", re.M)
# The same as MLIR's Python bindings say it.
_PARSED = re.compile(r'^error: "(?P<file>[^"]*)":(?P<place>\d+:\d+): (?P<message>.*)$', re.M)
_BYTES = re.compile(r"allocat\w*\s+(?P<n>[\d.]+)\s*(?P<unit>[KMGT]i?B|bytes)", re.I)
_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def compile_fault(error: Exception, name: str) -> Fault:
    """The CompileError for what OpenXLA said about a program, with the first location it names."""
    text = _TRACE.sub("", str(error)).strip()
    if is_out_of_memory(text):
        return memory_fault(text, f"compiling {name}")
    parsed = _PARSED.search(text)
    if parsed is not None:
        text = f"{parsed['file']}:{parsed['place']}: error: {parsed['message']}{text[parsed.end() :]}"
    found = _MLIR.search(text)
    if found is None:
        return CompileError(f"{name} does not compile: {text}", diagnostics=text, fix=_compile_fix(text))
    at = found["at"]
    location = f"<program>{at[1:]}" if at.startswith("-:") else at
    return CompileError(
        f"{name} does not compile: {location}: {found['message']}",
        location=location,
        diagnostics=text,
        fix=_compile_fix(text),
    )


def _compile_fix(text: str) -> str:
    if "No registered implementation" in text or "No FFI handler registered" in text:
        return "This custom call does not exist on this platform: lower the operation another way here."
    if "flag" in text.lower() or "DebugOptions" in text:
        return "Flag names differ between releases of jaxlib: check the names in `options.flags`."
    return "Correct the operation at the location named; XLA's words are in `diagnostics`."


def execution_fault(error: BaseException, name: str) -> Fault:
    """The error for what a running program, or a transfer, raised."""
    if isinstance(error, Fault):
        return error
    text = _TRACE.sub("", str(error)).strip()
    if isinstance(error, MemoryError) or is_out_of_memory(text):
        return memory_fault(text, name)
    if "deleted or donated" in text or "has been deleted" in text:
        return BufferDeleted(f"{name}: {text}", "Use the outputs of the program that took the buffer.")
    if isinstance(error, OSError):
        return StorageError(f"{name}: {error.strerror or error}: {error.filename}")
    return ExecutionError(f"{name} failed: {text or type(error).__name__}")


def is_out_of_memory(text: str) -> bool:
    return "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()


def memory_fault(text: str, name: str) -> OutOfDeviceMemory:
    found = _BYTES.search(text)
    details = {}
    if found is not None:
        details["requested"] = int(float(found["n"]) * _UNITS[found["unit"][0].lower()])
    return OutOfDeviceMemory(
        f"{name}: no memory left: {text or 'the host is out of memory'}",
        "Free buffers, take smaller batches, shard over more devices, or recompute activations (checkpoint); "
        "the table says what holds the memory.",
        **details,
    )
