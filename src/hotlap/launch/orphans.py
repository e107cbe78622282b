"""Stop what a killed driver left running: a forgotten worker would share the device with every later run."""

import socket
import time
from collections.abc import Collection

from hotlap.core.containers import stop_containers
from hotlap.core.processes import is_alive
from hotlap.core.run_folder import RunFolder, runs_in
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.evaluate import is_forsaken
from hotlap.launch.sessions import end_session, kill_session, living_marks, run_mark


def reap_orphans(project: ProjectFolder, grace_seconds: float = 5.0) -> list[str]:
    """Stop the processes of this project's runs whose driver is gone, and return the run ids.

    Evaluations of runs that nobody waits for any more are killed, too; the runs themselves have ended, and stay as they
    are.
    Runs that another host drives, and runs that no launcher started, are left alone.
    Raises RunFailedError when a process cannot be killed, StorageError when it cannot be written why it was.
    """
    marks = living_marks()
    for mark in marks:
        if is_forsaken(mark, project.runs_path):
            kill_session(None, mark)
    orphans = [folder for folder in runs_in(project.runs_path) if _is_orphan(folder, marks)]
    for folder in orphans:
        _stop(folder, grace_seconds)
    return [folder.run_id for folder in orphans]


def _is_orphan(folder: RunFolder, marks: Collection[str]) -> bool:
    """Say whether a run lives on without its driver: its first process, or a rank that has lost that one, too.

    Only what a launcher started carries the run's mark; a worker that somebody started by hand is left alone, and so is
    a later evaluation of the run, which has a mark and a driver of its own.
    """
    if run_mark(folder) not in marks:
        return False
    driver = (folder.read("command") or {}).get("driver")
    return isinstance(driver, dict) and driver.get("host") == socket.gethostname() and not is_alive(driver)


def _stop(folder: RunFolder, grace_seconds: float) -> None:
    worker, command = folder.read("worker") or {}, folder.read("command") or {}
    try:
        if folder.read("stop") is None and folder.read("result") is None:
            reason = f"its driver, process {command['driver'].get('pid')}, is gone"
            at_seconds = round(time.monotonic() - float(command.get("launched_monotonic", time.monotonic())), 3)
            folder.write("stop", {"outcome": "interrupted", "reason": reason, "at_seconds": at_seconds})
    finally:  # on a full disk, too
        stop_containers(folder.containers_path)
        if is_alive(worker):
            end_session(int(worker["pid"]), grace_seconds, lambda: not is_alive(worker), run_mark(folder))
        else:
            kill_session(None, run_mark(folder))  # the first process's pid may be somebody else's by now
