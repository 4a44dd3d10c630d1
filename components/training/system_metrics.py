"""How busy the machine of the first worker is, at every evaluation.

Under the names that MLflow's own monitor uses, so that its pages show them in their place; reported
like every other metric, so that they survive an outage and a resumption. Its monitor would write
from a thread of the worker, past the driver.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import device

MEGABYTE = 1e6


class SystemMeter:
    """Reads the machine; shares are of the time since the reading before."""

    def __init__(self, device: "device") -> None:
        import psutil

        self._device, self._process = device, psutil.Process()
        psutil.cpu_percent()  # the first call has nothing to compare with

    def read(self) -> dict[str, float]:
        """CPU share of the whole machine (percent), memory in use there and by this worker
        (megabytes), and on a GPU what tensors take.
        """
        import psutil

        memory = psutil.virtual_memory()
        found = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": (memory.total - memory.available) / MEGABYTE,
            "system/worker_memory_megabytes": self._process.memory_info().rss / MEGABYTE,
        }
        if self._device.type == "cuda":
            import torch

            allocated = torch.cuda.memory_allocated(self._device)
            found["system/gpu_memory_usage_megabytes"] = allocated / MEGABYTE
        return found
