"""Stop what a killed driver left running: a forgotten worker would share the device with every later run."""

import time

from hotlap.core.processes import is_alive
from hotlap.core.run_folder import RUN_ID, RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.sessions import end_session


def reap_orphans(project: ProjectFolder, grace_seconds: float = 5.0) -> list[str]:
    """Stop the workers of this project whose driver is gone, and return their run ids; nothing else is touched.

    Runs of other hosts, and runs that no launcher started, are left alone.
    Raises RunFailedError when a process cannot be killed.
    """
    if not project.runs_path.is_dir():
        return []
    folders = [RunFolder(path) for path in sorted(project.runs_path.iterdir()) if RUN_ID.fullmatch(path.name)]
    orphans = [folder for folder in folders if _is_orphan(folder)]
    for folder in orphans:
        _stop(folder, grace_seconds)
    return [folder.run_id for folder in orphans]


def _is_orphan(folder: RunFolder) -> bool:
    if not folder.is_running():
        return False
    command = folder.read("command") or {}
    driver = command.get("driver")
    return isinstance(driver, dict) and not is_alive(driver)


def _stop(folder: RunFolder, grace_seconds: float) -> None:
    worker, command = folder.read("worker") or {}, folder.read("command") or {}
    if folder.read("stop") is None:
        reason = f"its driver, process {command['driver'].get('pid')}, is gone"
        at_seconds = round(time.monotonic() - float(command.get("launched_monotonic", time.monotonic())), 3)
        folder.write("stop", {"outcome": "interrupted", "reason": reason, "at_seconds": at_seconds})
    end_session(int(worker["pid"]), grace_seconds, lambda: not is_alive(worker))
