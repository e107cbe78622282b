"""Which processes are a run's, wherever they went."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from hotlap.core.run_folder import RUN_VARIABLE, RunFolder
from hotlap.launch import sessions
from hotlap.launch.sessions import RunProcesses, kill_session, living_marks, run_mark

SLEEP = "print('ready', flush=True); import time; time.sleep(1000)"

Sleeper = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    """Start processes that sleep, each in a session of its own, with or without a mark."""
    processes = []

    def start_one(mark: str | None = None) -> "subprocess.Popen[str]":
        environment = {**os.environ, RUN_VARIABLE: mark} if mark is not None else dict(os.environ)
        process = subprocess.Popen(
            [sys.executable, "-c", SLEEP], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def test_a_runs_processes_are_its_session_and_those_with_its_mark(folder: RunFolder, sleeper: Sleeper) -> None:
    mark = run_mark(folder)
    leader, marked, other, stranger = sleeper(), sleeper(mark), sleeper("/another/run"), sleeper()
    processes = RunProcesses(leader.pid, mark)
    for _ in range(2):
        found = set(processes.pids())
        assert {leader.pid, marked.pid} <= found
        assert not {other.pid, stranger.pid, os.getpid()} & found
    late = sleeper(mark)
    assert late.pid in processes.pids()


def test_without_a_mark_only_the_session_counts(sleeper: Sleeper) -> None:
    leader, marked = sleeper(), sleeper("/a/run")
    found = RunProcesses(leader.pid).pids()
    assert leader.pid in found
    assert marked.pid not in found


def test_known_sessions_are_not_looked_into_again(sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = sleeper("/a/run")
    processes = RunProcesses(None, "/a/run")
    assert processes.pids() == [marked.pid]
    looked: list[int] = []
    monkeypatch.setattr(sessions, "_mark_of", lambda pid: looked.append(pid))
    monkeypatch.setattr(sessions.psutil, "pids", lambda: [os.getpid(), marked.pid])
    assert processes.pids() == [marked.pid]
    assert marked.pid not in looked


def test_a_process_that_is_just_being_started_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    marks: Iterator[str | None] = iter([None, "/a/run"])
    monkeypatch.setattr(sessions, "_sessions", lambda: {7: [7]})
    monkeypatch.setattr(sessions, "_mark_of", lambda _: next(marks))
    processes = RunProcesses(None, "/a/run")
    assert processes.pids() == []
    assert processes.pids() == [7]
    assert processes.pids() == [7]


def test_living_marks_are_those_of_this_machine(folder: RunFolder, sleeper: Sleeper) -> None:
    mark = run_mark(folder)
    assert mark not in living_marks()
    process = sleeper(mark)
    assert mark in living_marks()
    process.kill()
    process.wait()
    assert mark not in living_marks()


def test_only_marked_processes_are_killed(folder: RunFolder, sleeper: Sleeper) -> None:
    marked, other = sleeper(run_mark(folder)), sleeper("/another/run")
    kill_session(None, run_mark(folder))
    assert psutil.Process(marked.pid).status() == psutil.STATUS_ZOMBIE
    assert other.poll() is None


def test_the_mark_does_not_depend_on_how_the_folder_is_named(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.path.parent)
    link = folder.path.parent / "link"
    link.symlink_to(folder.path)
    names = (folder.path.relative_to(folder.path.parent), link)
    assert {run_mark(RunFolder(path)) for path in names} == {run_mark(folder)}
