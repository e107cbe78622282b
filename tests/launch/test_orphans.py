"""What a driver that was killed with -9 leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import Job
from hotlap.launch.orphans import reap_orphans

DRIVER = """
import sys, time
from pathlib import Path
from hotlap.core.run_folder import RunFolder
from hotlap.launch.local import LaunchFacts, LocalLauncher
sleep = "import time; time.sleep(1000)"
script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleep!r}]); {sleep}"
job = LocalLauncher((sys.executable, "-c", script)).start(RunFolder(Path(sys.argv[1])), LaunchFacts(directory=Path()))
print(job.pid, flush=True)
time.sleep(1000)
"""


def test_the_worker_of_a_killed_driver_is_found_and_stopped(
    project: ProjectFolder, folder: RunFolder, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder.path)], stdout=subprocess.PIPE, text=True)
    with driver:
        assert driver.stdout is not None
        worker = psutil.Process(int(driver.stdout.readline()))
        wait_until(lambda: bool(worker.children()))
        family = [worker, *worker.children()]
        assert reap_orphans(project) == []  # its driver lives
        driver.send_signal(signal.SIGKILL)
    assert all(process.is_running() for process in family)
    assert reap_orphans(project) == [folder.run_id]
    for process in family:
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    ending = folder.ending()
    assert ending is not None
    assert ending[0] == "interrupted"
    assert str(driver.pid) in ending[1]
    assert reap_orphans(project) == []


def test_nothing_else_is_touched(project: ProjectFolder, start: Callable[[str], Job], folder: RunFolder) -> None:
    job = start("ready()\ntime.sleep(1000)")  # driven by this test
    by_hand = RunFolder.create(project.runs_path)  # no launcher, so no driver
    by_hand.write("worker", process_identity(os.getpid()))
    elsewhere = RunFolder.create(project.runs_path)
    elsewhere.write("worker", {**process_identity(job.pid), "host": "another-machine"})
    elsewhere.write("command", {"driver": {"pid": 1, "host": "another-machine"}})
    RunFolder.create(project.runs_path)
    assert reap_orphans(project) == []
    assert not job.poll()
    assert folder.read("stop") is None


def test_a_project_without_runs_has_no_orphans(tmp_path: Path) -> None:
    assert reap_orphans(ProjectFolder(tmp_path / "new")) == []
