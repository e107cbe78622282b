"""What the GPUs are and do, by NVIDIA's library; without a GPU or the library there is simply nothing to tell."""

from contextlib import suppress
from typing import Any


class GpuReader:
    """Reads utilisation and memory of all GPUs; holds the library open between readings."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            self._nvml = pynvml
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:
            self.close()

    def read(self) -> dict[str, list[float]]:
        """Return utilisation in percent and used memory in bytes, a value per GPU; empty without one."""
        if not self._handles:
            return {}
        try:
            return {
                "gpu_percent": [self._nvml.nvmlDeviceGetUtilizationRates(h).gpu for h in self._handles],
                "gpu_memory_bytes": [self._nvml.nvmlDeviceGetMemoryInfo(h).used for h in self._handles],
            }
        except self._nvml.NVMLError:
            return {}

    def names(self) -> list[str]:
        """Return a line per GPU: name and memory."""
        try:
            return [
                f"{self._nvml.nvmlDeviceGetName(h)}, {self._nvml.nvmlDeviceGetMemoryInfo(h).total / 2**30:.0f} GiB"
                for h in self._handles
            ]
        except self._nvml.NVMLError:
            return []

    def close(self) -> None:
        """Let go of the library; closing twice does no harm."""
        if self._nvml is not None:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml, self._handles = None, []
