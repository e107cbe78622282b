"""How busy the machine was while a command took its steps: all that is known of what its time goes into."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hotlap.core.bench_records import median

_LEAST_SAMPLES: Final = 2
_USED_PERCENT: Final = 5.0
"""A GPU that was never busier than this is none that the command computes on."""


def usage_of(samples: Sequence[Mapping[str, Any]], start_seconds: float) -> dict[str, float]:
    """Return medians of the system's samples from a second of the run on; nothing where there are too few.

    `used_cores`: the cores that the run kept busy, of `cores`; `gpu_ratio`: the share of the time in which the busiest
    GPU of the machine was at work, where one was.
    """
    taken = [sample for sample in samples if sample.get("seconds", 0.0) > start_seconds]
    used = [float(sample["run_cores"]) for sample in taken if sample.get("run_cores") is not None]
    if len(used) < _LEAST_SAMPLES:
        return {}
    found = {"used_cores": median(used)}
    if cores := [float(sample["cores"]) for sample in taken if sample.get("cores")]:
        found["cores"] = median(cores)
    gpus = [max(sample["gpu_percent"]) for sample in taken if sample.get("gpu_percent")]
    if gpus and max(gpus) > _USED_PERCENT:
        found["gpu_ratio"] = median(gpus) / 100
    return found
