"""The memory of this machine's GPUs, as their driver tells it; CUDA is not touched."""

from functools import cache
from typing import Any

from service.jobs.figures import Gpu


def seen_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that this process may see; none where there is no driver of NVIDIA's."""
    # Comes with torch, and only workers have that
    import pynvml  # noqa: PLC0415

    try:
        return tuple(_gpu(uuid, pynvml.nvmlDeviceGetMemoryInfo(handle)) for uuid, handle in _devices())
    except pynvml.NVMLError:
        return ()


@cache
def _devices() -> tuple[tuple[str, Any], ...]:
    import pynvml  # noqa: PLC0415

    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return tuple((pynvml.nvmlDeviceGetUUID(handle), handle) for handle in handles)


def _gpu(uuid: str, memory: Any) -> Gpu:
    return Gpu(uuid, int(memory.used), int(memory.total))
