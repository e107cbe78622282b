"""A project with a tiny corpus, run folders in it, and workers that never outlive their test."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import fill_run, make_project, start_worker

from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder

MakeRun = Callable[..., RunFolder]
Start = Callable[[RunFolder], "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the runs in this process on one core of the CPU."""
    monkeypatch.setattr("hotlap.train.distributed.usable_cores", lambda: 1)
    monkeypatch.setattr("hotlap.train.distributed.pick_device", lambda *_: torch.device("cpu"))


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    return make_project(tmp_path)


@pytest.fixture
def make_run(project: ProjectFolder) -> MakeRun:
    def make(patch: dict[str, Any] | None = None, command: dict[str, Any] | None = None) -> RunFolder:
        return fill_run(project, patch, command)

    return make


@pytest.fixture
def start() -> Iterator[Start]:
    """Start workers that are still running when the test ends; they are killed then."""
    processes = []

    def start_and_remember(folder: RunFolder) -> "subprocess.Popen[str]":
        processes.append(start_worker(folder))
        return processes[-1]

    yield start_and_remember
    for process in processes:
        process.kill()
        process.wait()
