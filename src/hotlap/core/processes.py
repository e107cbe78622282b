"""Who is who among processes: a pid alone may be reused, so an identity holds its start and the machine's boot."""

import os
import platform
import socket
from pathlib import Path
from typing import Any

import psutil


def boot_id() -> str:
    """Return what names this boot of this machine."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else str(int(psutil.boot_time()))


def process_identity(pid: int | None = None) -> dict[str, Any]:
    """Return pid, start time, boot id and host of a process (default: this one)."""
    process = psutil.Process(pid)
    return {
        "pid": process.pid,
        "start_seconds": _start_seconds(process),
        "boot_id": boot_id(),
        "host": socket.gethostname(),
    }


def is_alive(identity: dict[str, Any]) -> bool:
    """Say whether exactly this process still runs; one of another host or boot counts as gone here."""
    if identity.get("boot_id") != boot_id() or identity.get("host") != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(identity["pid"]))
        same = abs(_start_seconds(process) - float(identity["start_seconds"])) < 1.0
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, OSError, KeyError, ValueError):
        return False


def _start_seconds(process: psutil.Process) -> float:
    """Return when a process started: seconds since boot where the kernel says so, since those do not move.

    The time of day that psutil computes moves with every correction of the system's clock.
    """
    path = Path(f"/proc/{process.pid}/stat")
    if not path.exists():
        return float(process.create_time())
    after_name = path.read_text().rpartition(")")[2].split()  # the name in parentheses may hold spaces
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def separate_cores(topology: Path = Path("/sys/devices/system/cpu")) -> list[int]:
    """Return the cores that this process may run on, one for each physical core, as far as the system tells.

    Two hardware threads of one core share what computes, so two runs on them would slow each other down.
    """
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    found: dict[str, int] = {}
    for core in sorted(os.sched_getaffinity(0)):
        path = topology / f"cpu{core}" / "topology" / "thread_siblings_list"
        found.setdefault(path.read_text().strip() if path.exists() else str(core), core)
    return list(found.values())


def processor_name() -> str:
    """Return the processor's name, as far as the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or "unknown"
