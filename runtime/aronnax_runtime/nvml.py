"""Figures of NVIDIA GPUs, through NVML. Each is asked for on its own: one that a GPU or driver lacks is left out."""

import itertools
import logging
import os
import time
from typing import Any

log = logging.getLogger(__name__)

# Cumulative counters by field id (nvml.h): NVLink data of one link in KiB, PCIe bytes.
_NVLINK_TX, _NVLINK_RX = 138, 139
_PCIE_TX, _PCIE_RX = 197, 198
_MAX_LINKS = 18
_GPU_IS_LOST = 15


class Nvml:
    """The GPUs of the device set, in the order of its devices."""

    def __init__(self, library: Any, handles: list[Any]) -> None:
        self._nvml = library
        self._handles = handles
        self._counters: list[dict[str, tuple[float, int]]] = [{} for _ in handles]
        self._active_links = [
            [link for link in range(_MAX_LINKS) if self._ask("nvmlDeviceGetNvLinkState", handle, link) == 1]
            for handle in handles
        ]

    @classmethod
    def open(cls, chosen: str) -> "Nvml | None":
        """For all visible GPUs, or those whose numbers `chosen` lists; None where there is no NVML."""
        try:
            import pynvml

            pynvml.nvmlInit()
            visible = _visible(pynvml)
            if chosen:
                visible = [visible[int(number)] for number in chosen.split(",")]
            return cls(pynvml, visible)
        except Exception as error:
            log.info("no NVML: %s", error)
            return None

    @property
    def count(self) -> int:
        return len(self._handles)

    def memory(self) -> list[tuple[int, int]]:
        """Free bytes and all bytes of each GPU; zeros where it does not say."""
        answers = [self._ask("nvmlDeviceGetMemoryInfo", handle) for handle in self._handles]
        return [(0, 0) if answer is None else (answer.free, answer.total) for answer in answers]

    def holders(self, position: int) -> list[tuple[int, int | None]]:
        """The other processes with memory on a GPU, and how much, where that is to be had."""
        found = self._ask("nvmlDeviceGetComputeRunningProcesses", self._handles[position]) or []
        return [(process.pid, process.usedGpuMemory) for process in found if process.pid != os.getpid()]

    def driver_version(self) -> str | None:
        found = self._ask("nvmlSystemGetDriverVersion")
        return found.decode() if isinstance(found, bytes) else found

    def sample(self, position: int) -> dict[str, float]:
        """Of one GPU: utilisation 0..1, bytes, watts, degrees Celsius, megahertz, bytes per second."""
        nvml, handle = self._nvml, self._handles[position]
        figures: dict[str, float] = {}
        if self._is_lost(handle):
            return {"lost": 1}
        rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
        if rates is not None:
            figures["utilization"] = rates.gpu / 100
            figures["memoryUtilization"] = rates.memory / 100
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        if memory is not None:
            figures["memoryUsed"] = memory.used
            figures["memoryTotal"] = memory.total
        for name, scale, function, *arguments in (
            ("powerWatts", 1e-3, "nvmlDeviceGetPowerUsage"),
            ("powerLimitWatts", 1e-3, "nvmlDeviceGetEnforcedPowerLimit"),
            ("temperatureCelsius", 1, "nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            ("smClockMegahertz", 1, "nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            ("memoryClockMegahertz", 1, "nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
        ):
            value = self._ask(function, handle, *arguments)
            if value is not None:
                figures[name] = value * scale
        figures.update(self._traffic(position))
        return figures

    def _is_lost(self, handle: Any) -> bool:
        """Whether the GPU has fallen off the bus, as after an Xid 79."""
        try:
            self._nvml.nvmlDeviceGetMemoryInfo(handle)
            return False
        except Exception as error:
            return getattr(error, "value", None) == _GPU_IS_LOST

    def _traffic(self, position: int) -> dict[str, float]:
        links = self._active_links[position]
        wanted = {
            "nvlinkTxBytesPerSecond": ([(_NVLINK_TX, link) for link in links], 1024),
            "nvlinkRxBytesPerSecond": ([(_NVLINK_RX, link) for link in links], 1024),
            "pcieTxBytesPerSecond": ([(_PCIE_TX, 0)], 1),
            "pcieRxBytesPerSecond": ([(_PCIE_RX, 0)], 1),
        }
        asked = [field for fields, _ in wanted.values() for field in fields]
        answers = iter(self._ask("nvmlDeviceGetFieldValues", self._handles[position], asked) or ())
        now = time.monotonic()
        last = self._counters[position]
        figures: dict[str, float] = {}
        for name, (fields, unit) in wanted.items():
            values = list(itertools.islice(answers, len(fields)))
            if not values or any(value.nvmlReturn != 0 for value in values):
                continue
            count = sum(int(value.value.ullVal) for value in values) * unit
            if name in last and now > last[name][0]:
                figures[name] = max(0, count - last[name][1]) / (now - last[name][0])
            last[name] = (now, count)
        return figures

    def links(self, position: int) -> list[dict[str, int]]:
        """The other GPUs that NVLink reaches, directly or through a switch, with the number of this GPU's links."""
        nvml, handle = self._nvml, self._handles[position]
        active = len(self._active_links[position])
        found = []
        for other, peer in enumerate(self._handles):
            if other == position or not active:
                continue
            status = self._ask("nvmlDeviceGetP2PStatus", handle, peer, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
            if status == nvml.NVML_P2P_STATUS_OK:
                direct = self._direct_links(handle, peer)
                found.append({"device": other, "count": direct or active})
        return found

    def _direct_links(self, handle: Any, peer: Any) -> int:
        """Links that end at the peer itself; none where they end at a switch."""
        own = self._ask("nvmlDeviceGetPciInfo", peer)
        if own is None:
            return 0
        remotes = [self._ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link) for link in range(_MAX_LINKS)]
        return sum(remote is not None and remote.busId == own.busId for remote in remotes)

    def _ask(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(*arguments)
        except Exception:
            return None


def _visible(pynvml: Any) -> list[Any]:
    """The GPUs that CUDA shows, in its order: CUDA_DEVICE_ORDER is PCI_BUS_ID here, which is NVML's order."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    handles = []
    for name in filter(None, names.split(",")):
        name = name.strip()
        handles.append(
            pynvml.nvmlDeviceGetHandleByIndex(int(name))
            if name.isdigit()
            else pynvml.nvmlDeviceGetHandleByUUID(name.encode())
        )
    return handles
