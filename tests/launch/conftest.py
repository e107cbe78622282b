"""Fake workers: small scripts that fill a run folder as the real one does, and a fake torchrun to start several."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
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
if not folder.is_running():
    folder.write("worker", process_identity())
def ready():
    (folder.path / "ready").touch()
def note(name, text):
    (folder.path / f"{name}.part").write_text(str(text))
    (folder.path / f"{name}.part").rename(folder.path / name)
def be_rank():
    note(f"rank{os.environ['RANK']}", os.getpid())
"""

TORCHRUN = """
import os, subprocess, sys
place = sys.argv.index("--no-python")
options, program = sys.argv[1:place], sys.argv[place + 1 :]
count = int(next(option for option in options if option.startswith("--nproc-per-node=")).partition("=")[2])
ranks = [
    subprocess.Popen(
        program, env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(count)}, start_new_session=True
    )
    for rank in range(count)
]
sys.exit(max(abs(rank.wait()) for rank in ranks) and 1)
"""


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    return ProjectFolder(tmp_path).create()


@pytest.fixture
def folder(project: ProjectFolder) -> RunFolder:
    return RunFolder.create(project.runs_path)


@pytest.fixture
def fake_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a torch in front of the real one that holds nothing but a starter of processes in sessions of their own."""
    package = tmp_path / "fake" / "torch" / "distributed"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "run.py").write_text(TORCHRUN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))


@pytest.fixture
def start(folder: RunFolder, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Start a fake worker with the given body, or several, and wait until it says that it is ready."""
    jobs = []

    def start_worker(body: str, devices: int = 1) -> Job:
        launcher = LocalLauncher((sys.executable, "-c", PRELUDE + body))
        facts = LaunchFacts(directory=tmp_path, study="s", role="screen", candidate=3, seed=7, devices=devices)
        job = launcher.start(folder, facts)
        jobs.append(job)
        wait_until(lambda: (folder.path / "ready").exists() or job.poll())
        return job

    yield start_worker
    for job in jobs:
        job.stop("interrupted", "the test is over", grace_seconds=0)


@pytest.fixture
def ranks(folder: RunFolder) -> Callable[[int], list[psutil.Process]]:
    """Wait for so many fake ranks and return their processes."""

    def wait_for_ranks(count: int) -> list[psutil.Process]:
        paths = [folder.path / f"rank{number}" for number in range(count)]
        wait_until(lambda: all(path.exists() for path in paths))
        return [psutil.Process(int(path.read_text())) for path in paths]

    return wait_for_ranks


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[[Callable[[], bool]], None]:
    return wait_until
