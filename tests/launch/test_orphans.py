"""What a driver that was killed with -9 leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hotlap.core.errors import StorageError
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
DRIVER_OF_TWO = """
import sys, time
from pathlib import Path
from hotlap.core.run_folder import RunFolder
from hotlap.launch.local import LaunchFacts, LocalLauncher
launcher = LocalLauncher((sys.executable, "-c", "import time; time.sleep(1000)"))
job = launcher.start(RunFolder(Path(sys.argv[1])), LaunchFacts(directory=Path(), devices=2))
print(job.pid, flush=True)
time.sleep(1000)
"""
EVALUATING_DRIVER = """
import sys
from pathlib import Path
from hotlap.core.run_folder import RunFolder
from hotlap.launch.evaluate import evaluate_again
note = "from pathlib import Path; import os, sys, time; Path(sys.argv[1], 'pid').write_text(str(os.getpid()));"
evaluate_again(RunFolder(Path(sys.argv[1])), program=(sys.executable, "-c", note + "time.sleep(1000)"))
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


@pytest.mark.usefixtures("fake_torchrun")
def test_processes_that_lost_driver_and_torchrun_are_found_and_stopped(
    project: ProjectFolder, folder: RunFolder, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    """Nothing names them but the mark of their run: each leads a session of its own."""
    words = [sys.executable, "-c", DRIVER_OF_TWO, str(folder.path)]
    driver = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    with driver:
        assert driver.stdout is not None
        torchrun = psutil.Process(int(driver.stdout.readline()))
        wait_until(lambda: len(torchrun.children()) == 2)
        ranks = torchrun.children()
        driver.send_signal(signal.SIGKILL)
    torchrun.kill()
    wait_until(lambda: not folder.is_running())
    assert all(rank.is_running() for rank in ranks)
    assert reap_orphans(project) == [folder.run_id]
    for rank in ranks:
        assert not rank.is_running() or rank.status() == psutil.STATUS_ZOMBIE
    ending = folder.ending()
    assert ending is not None
    assert ending[0] == "interrupted"
    assert reap_orphans(project) == []


def test_a_run_that_another_host_drives_is_left_alone(
    project: ProjectFolder, start: Callable[[str], Job], folder: RunFolder
) -> None:
    job = start("ready()\ntime.sleep(1000)")
    command = folder.read("command")
    assert command is not None
    folder.write("command", {**command, "driver": {**command["driver"], "host": "another-machine"}})
    assert reap_orphans(project) == []
    assert not job.poll()


def test_what_a_run_has_said_of_its_end_stays(project: ProjectFolder, start: Callable[[str], Job]) -> None:
    ends = "folder.write('result', {'outcome': 'missed', 'reason': 'the schedule ended'})\n"
    job = start(ends + "ready()\ntime.sleep(1000)")
    command = job.folder.read("command")
    assert command is not None
    job.folder.write("command", {**command, "driver": {**command["driver"], "start_seconds": 0.0}})
    assert reap_orphans(project) == [job.folder.run_id]
    assert job.folder.ending() == ("missed", "the schedule ended")


def test_an_orphan_is_killed_also_where_nothing_can_be_written(
    project: ProjectFolder, start: Callable[[str], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start("ready()\ntime.sleep(1000)")
    command = job.folder.read("command")
    assert command is not None
    job.folder.write("command", {**command, "driver": {**command["driver"], "start_seconds": 0.0}})

    def fails(path: Path, value: object) -> None:
        raise StorageError(f"cannot write {path}: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hotlap.core.run_folder.write_json", fails)
        with pytest.raises(StorageError, match="No space left on device"):
            reap_orphans(project)
    assert job.poll()
    assert job.folder.ending() == ("lost", "the process is gone and left no result")


def test_an_evaluation_is_stopped_with_its_own_driver_not_with_that_of_the_run(
    project: ProjectFolder, folder: RunFolder, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    """A run that ended long ago is evaluated again; the next study begins meanwhile, in this project or another."""
    gone = {**process_identity(), "start_seconds": 0.0}
    folder.write("command", {"directory": str(project.project), "driver": gone})
    folder.write("result", {"outcome": "missed", "reason": "the schedule ended"})
    noted = folder.path / "pid"
    with subprocess.Popen([sys.executable, "-c", EVALUATING_DRIVER, str(folder.path)]) as driver:
        wait_until(lambda: noted.exists() and bool(noted.read_text()))
        evaluator = psutil.Process(int(noted.read_text()))
        assert reap_orphans(project) == []
        assert evaluator.is_running() and evaluator.status() != psutil.STATUS_ZOMBIE
        driver.kill()
    other = ProjectFolder(project.project / "other").create()
    RunFolder.create(other.runs_path)
    assert reap_orphans(other) == []
    assert evaluator.is_running() and evaluator.status() != psutil.STATUS_ZOMBIE
    assert reap_orphans(project) == [], "the run itself had ended"
    assert not evaluator.is_running() or evaluator.status() == psutil.STATUS_ZOMBIE
    assert folder.ending() == ("missed", "the schedule ended")
