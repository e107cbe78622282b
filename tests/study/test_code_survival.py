"""Drivers that are killed with -9 while an agent is asked, or a run goes on in a worktree: nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from own_project import drive, fingerprint, make_project
from test_agent_source import agent_section

import hotlap
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.orphans import reap_orphans
from hotlap.study.code_store import CodeStore, plain_environment, run_git

PATIENCE_SECONDS = 120.0
ASKS = """
import sys
from pathlib import Path
from hotlap.config.load import load_config
from hotlap.core.study_folder import ProjectFolder
from hotlap.study.agent import AgentSource
from hotlap.study.study import open_study

project = Path(sys.argv[1])
study = open_study(ProjectFolder(project), load_config(project / "hotlap.yaml"))
AgentSource(study, print).propose(study.history)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.usefixtures("quiet_machine")]


def start(tmp_path: Path, *words: str) -> "subprocess.Popen[bytes]":
    """Start a driver in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1])}
    with (tmp_path / "driver.log").open("wb") as log:
        return subprocess.Popen([sys.executable, *words], stdout=log, stderr=log, env=environment, cwd=tmp_path)


def killed_once(driver: "subprocess.Popen[bytes]", is_so: Callable[[], bool], log: Path) -> None:
    """Kill a driver with -9 as soon as something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert driver.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def worktrees_known(project: ProjectFolder) -> list[str]:
    """Return the worktrees that git believes in, beside the store itself."""
    words = ["--git-dir", str(project.code_path), "worktree", "list", "--porcelain"]
    listed = run_git(words, environment=plain_environment()).splitlines()
    return [line for line in listed if line.startswith("worktree ")][1:]


def lies_in(project: ProjectFolder) -> list[str]:
    return [path.name for path in project.worktrees_path.iterdir()] if project.worktrees_path.is_dir() else []


def test_a_driver_that_is_killed_while_it_asks_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("STAND_IN_PIDS", str(pids))
    more = "calls: 2, timeout: 60s, cost: 1.0, cost_per_call: 0.4"
    project = make_project(tmp_path / "project", section=agent_section("hangs", more))
    before = fingerprint(project)
    driver = start(tmp_path, "-c", ASKS, str(project.project))
    killed_once(driver, lambda: pids.exists() and len(pids.read_text().split()) == 2, tmp_path / "driver.log")
    assert lies_in(project) == ["own@agent-0001"], "or else nothing was in the way of being left behind"
    living = [int(pid) for pid in pids.read_text().split()]
    assert not all(map(is_gone, living))
    reap_orphans(project)  # as every command that drives does at first
    assert all(map(is_gone, living))
    study, ended = drive(project, is_done=lambda history: True)
    assert ended == "done"
    assert lies_in(project) == []
    assert worktrees_known(project) == []
    (call,) = study.history.calls
    assert (call.is_over, call.cost, call.seconds) == (False, 0.4, None), "it counts with what it may have cost"
    assert fingerprint(project) == before


def test_a_driver_that_is_killed_while_a_run_goes_on_in_a_worktree(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    before = fingerprint(project)
    log = project.runs_path / "r0001" / "metrics.jsonl"
    driver = start(
        tmp_path, "-m", "hotlap", "speedrun", str(project.project / "hotlap.yaml"), "-p", str(project.project)
    )
    killed_once(driver, lambda: log.is_file() and log.stat().st_size > 0, tmp_path / "driver.log")
    assert lies_in(project) == ["r0001"]
    reap_orphans(project)
    study, _ = drive(project, is_done=lambda history: len(history.runs) >= 2)
    assert [run.outcome for run in study.history.runs][-1] == "reached"
    assert lies_in(project) == []
    assert worktrees_known(project) == []
    assert fingerprint(project) == before


class KilledError(BaseException):
    """Stands for a kill -9: nothing catches it."""


def test_a_driver_that_is_killed_while_a_worktree_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "project")
    honest = CodeStore.check_out

    def killed(store: CodeStore, commit: str, folder: Path) -> None:
        honest(store, commit, folder)
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(CodeStore, "check_out", killed)
        drive(project)
    assert lies_in(project) == ["r0001"]
    study, _ = drive(project, is_done=lambda history: True)
    assert [run.outcome for run in study.history.runs] == ["lost"]
    assert lies_in(project) == []
    assert worktrees_known(project) == []
