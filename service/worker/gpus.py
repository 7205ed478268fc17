"""The memory of this machine's GPUs, as their driver tells it; CUDA is not touched."""

from functools import cache
from typing import Any

import pynvml

from service.jobs.figures import Gpu


def seen_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that this process may see; none where there is no driver of NVIDIA's."""
    try:
        found = [(uuid, pynvml.nvmlDeviceGetMemoryInfo(handle)) for uuid, handle in _devices()]
    except pynvml.NVMLError:
        return ()
    return tuple(Gpu(uuid, int(memory.used), int(memory.total)) for uuid, memory in found)


@cache
def _devices() -> tuple[tuple[str, Any], ...]:
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return tuple((pynvml.nvmlDeviceGetUUID(handle), handle) for handle in handles)
