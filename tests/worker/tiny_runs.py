"""Run folders with a tiny training, and workers that really run in processes of their own."""

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import hotlap
from hotlap.config.load import config_from_values, config_text
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder

WORDS = ("a", "the", "cat", "dog", "sat", "ran", "on", "under", "red", "mat", "hill", "é", "über", "why", "not")
CONFIG = {
    "model": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 72},
    "training": {
        "learning_rate": 3e-3,
        "max_steps": 12,
        "per_device_train_batch_size": 4,
        "logging_steps": 5,
        "eval_steps": 10,
    },
}
_CORES = itertools.cycle(sorted(os.sched_getaffinity(0)))


def make_project(path: Path) -> ProjectFolder:
    """Make a project with a corpus of 400 sentences."""
    draw = random.Random(5)
    sentences = [" ".join(draw.choices(WORDS, k=draw.randint(2, 6))) for _ in range(400)]
    (path / "corpus.txt").write_text("\n\n".join(sentences), encoding="utf-8")
    return ProjectFolder(path).create()


def fill_run(project: ProjectFolder, patch: dict[str, Any] | None, command: dict[str, Any] | None) -> RunFolder:
    """Make a run folder as the launcher does: the tiny config with a patch of dotted keys, and the command."""
    folder = RunFolder.create(project.runs_path)
    task = {"text": str(project.project / "corpus.txt"), "max_length_bytes": 24}
    folder.write_config(config_text(config_from_values({"task": task, **CONFIG}, patch)))
    if command is not None:
        folder.write("command", {"directory": str(project.project), **command})
    return folder


def start_worker(folder: RunFolder) -> "subprocess.Popen[str]":
    """Start the worker on one core in a session of its own; every warning in it is an error."""
    source = str(Path(hotlap.__file__).parents[1])
    with folder.stdout_path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "hotlap.worker", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": source, "CUDA_VISIBLE_DEVICES": ""},
            start_new_session=True,
        )
    core = next(_CORES)
    psutil.Process(process.pid).cpu_affinity([core])  # the worker uses as many threads as it has cores
    return process


def run_worker(folder: RunFolder) -> int:
    """Run the worker to its end; return its exit code."""
    return start_worker(folder).wait(60)


def wait_until(is_true: Callable[[], object]) -> None:
    """Wait for something that has to happen soon."""
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
