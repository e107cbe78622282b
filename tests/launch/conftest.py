"""Fake workers: small scripts that fill a run folder as the real one does."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import Job, LaunchFacts, LocalLauncher

PRELUDE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.write("worker", process_identity())
def ready():
    (folder.path / "ready").touch()
"""


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    return ProjectFolder(tmp_path).create()


@pytest.fixture
def folder(project: ProjectFolder) -> RunFolder:
    return RunFolder.create(project.runs_path)


@pytest.fixture
def start(folder: RunFolder, tmp_path: Path) -> Iterator[Callable[[str], Job]]:
    """Start a fake worker with the given body, and wait until it says that it is ready."""
    jobs = []

    def start_worker(body: str) -> Job:
        launcher = LocalLauncher((sys.executable, "-c", PRELUDE + body))
        job = launcher.start(folder, LaunchFacts(directory=tmp_path, study="s", role="screen", candidate=3, seed=7))
        jobs.append(job)
        wait_until(lambda: (folder.path / "ready").exists() or job.poll())
        return job

    yield start_worker
    for job in jobs:
        job.stop("interrupted", "the test is over", grace_seconds=0)


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[[Callable[[], bool]], None]:
    return wait_until
