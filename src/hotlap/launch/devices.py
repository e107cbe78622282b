"""Which devices a run computes on, seen without loading torch."""

import os

from hotlap.core.errors import NotSupportedError
from hotlap.launch.gpu import GpuReader


def run_devices(count: int = 1, *, use_cpu: bool = False) -> tuple[str, ...]:
    """Return the devices of a run of so many processes: `("cuda:0", "cuda:1")`, or `("cpu",)` that all of them share.

    Raises NotSupportedError when there are GPUs, but too few.
    """
    gpus = 0 if use_cpu else visible_gpus()
    if not gpus:
        return ("cpu",)
    if count > gpus:
        raise NotSupportedError(
            f"devices: {count} needs {count} GPUs, this machine shows {gpus}; set devices: {gpus}, make more visible "
            f"with CUDA_VISIBLE_DEVICES, or set training.use_cpu: true to let {count} processes share the CPU"
        )
    return tuple(f"cuda:{number}" for number in range(count))


def devices_notice(count: int, devices: tuple[str, ...]) -> str:
    """Return what to know about a run of so many processes on these devices; mostly nothing."""
    if count > 1 and devices == ("cpu",):
        return f"devices: {count} without GPUs: {count} processes share the cores, so nothing gets faster; for tests"
    return ""


def visible_gpus() -> int:
    """Return how many GPUs a run may use: those of the machine, or those that CUDA_VISIBLE_DEVICES lists."""
    reader = GpuReader()
    try:
        present = len(reader.names())
    finally:
        reader.close()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None or not present:
        return present
    count = 0
    for name in map(str.strip, listed.split(",")):
        if not name or (name.lstrip("-").isdigit() and not 0 <= int(name) < present):
            break  # CUDA, too, stops at the first name that means nothing
        count += 1
    return count
