"""The environment of a worker: what it is given, and the part of it that may be written down."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

import hotlap
from hotlap.core.processes import usable_cores

_NAMES: Final = frozenset({"PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV", "LD_PRELOAD", "NVIDIA_TF32_OVERRIDE"})
_PREFIXES: Final = (
    "HOTLAP_",
    "CUDA_",
    "CUBLAS_",
    "NCCL_",
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "OPENBLAS_",
    "MALLOC_",
    "TORCH_",
    "TORCHINDUCTOR_",
    "PYTORCH_",
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


def worker_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that a worker starts with: the driver's, unbuffered and with a number of threads."""
    environment = dict(given)
    environment["PYTHONUNBUFFERED"] = "1"
    environment.setdefault("OMP_NUM_THREADS", str(worker_threads()))
    # The worker starts in the project's directory, where relative entries would point elsewhere.
    entries = [str(Path(entry).absolute()) for entry in given.get("PYTHONPATH", "").split(os.pathsep) if entry]
    root = Path(hotlap.__file__).resolve().parents[1]
    if root.name not in ("site-packages", "dist-packages") and str(root) not in entries:
        entries.append(str(root))
    environment["PYTHONPATH"] = os.pathsep.join(entries)
    return environment


def recorded_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what may be stored of an environment: what bears on speed, with secrets as `***`."""
    kept = {
        name: "***" if _SECRET.search(name) else value
        for name, value in environment.items()
        if name in _NAMES or name.startswith(_PREFIXES)
    }
    return dict(sorted(kept.items()))


def worker_threads() -> int:
    """Return how many threads a run computes with: the usable physical cores, within the container's quota."""
    cores = min(usable_cores(), psutil.cpu_count(logical=False) or usable_cores())
    quota = _container_cores()
    return max(1, cores if quota is None else min(cores, int(quota)))


def _container_cores() -> float | None:
    """Return the cores that a container may use at once (cgroup v2), None without a bound."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None
