"""The environment of a worker: what it is given, and the part of it that may be written down."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

import hotlap
from hotlap.core.masking import MASK
from hotlap.core.processes import usable_cores
from hotlap.core.secret_names import is_secret

_NAMES: Final = frozenset({"PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV", "LD_PRELOAD", "NVIDIA_TF32_OVERRIDE"})
_PREFIXES: Final = (
    "HOTLAP_",
    "CUDA_",
    "CUBLAS_",
    "NCCL_",
    "GLOO_",
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
_RANK_NAMES: Final = frozenset(
    {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "NODE_RANK"}
)
_FORWARDED_SIGNALS: Final = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
"""What torchrun hands on to its ranks; any other signal would end it and leave them behind."""
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


def worker_environment(given: Mapping[str, str], devices: int = 1, *, is_foreign: bool = False) -> dict[str, str]:
    """Return the environment that a worker starts with: the driver's, unbuffered and with a number of threads.

    The processes of several devices share the cores. A command of the user's own takes as many threads as it does
    without hotlap.
    """
    # What a job that the driver itself runs in says of its ranks would make the worker wait for them.
    environment = {name: value for name, value in given.items() if name not in _RANK_NAMES}
    environment["PYTHONUNBUFFERED"] = "1"
    if not is_foreign:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, worker_threads() // devices)))
    if devices > 1:
        environment["PET_SIGNALS_TO_HANDLE"] = _FORWARDED_SIGNALS
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
        name: MASK if _SECRET.search(name) or is_secret(name) else value
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
