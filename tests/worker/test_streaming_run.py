"""A training whose text is prepared while it runs: it resumes exactly, counts waiting, and leaves nothing behind."""

import random
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import CONFIG, start_worker, wait_until

from hotlap.config.load import config_from_values, config_text
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder

STEPS = 12


@pytest.fixture
def text(tmp_path: Path) -> Path:
    draw = random.Random(4)
    rows = ("".join(draw.choices("abcdefgh ", k=draw.randint(30, 70))) for _ in range(4000))
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(rows))
    return path


def make_run(project: ProjectFolder, text: Path, **patch: Any) -> RunFolder:
    folder = RunFolder.create(project.runs_path)
    task = {
        "name": "language_model",
        "text": str(text),
        "document_separator": "\n",
        "block_size": 32,
        "max_eval_samples": 8,
        "streaming": True,
    }
    values = {"task": task, **CONFIG, "training": {**CONFIG["training"], "max_steps": STEPS, "save_steps": 5}}
    folder.write_config(config_text(config_from_values(values, patch)))
    folder.write("command", {"directory": str(project.project)})
    return folder


def finish(folder: RunFolder) -> dict[str, Any]:
    """Run a worker to its end; return the result."""
    process = start_worker(folder)
    assert process.wait(100) == 0, folder.log_tail()
    result = folder.read("result")
    assert result is not None
    return result


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_bits_of_one_that_never_stopped(project: ProjectFolder, text: Path) -> None:
    straight = make_run(project, text)
    whole = finish(straight)
    assert whole["step"] == STEPS
    assert whole["seconds"]["waiting"] >= 0
    environment = straight.read("environment") or {}
    assert environment["data"]["documents"]["held_out"] > 0
    resumed = make_run(project, text)
    finish(resumed)
    for name in ("result.json", "model.safetensors"):
        (resumed.path / name).unlink()
    resumed.write("command", {"directory": str(project.project), "resume": "checkpoint-5"})
    finish(resumed)
    one, other = (load_file(folder.weights_path) for folder in (straight, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_nothing_goes_on_after_the_run(project: ProjectFolder, text: Path) -> None:
    folder = make_run(project, text, **{"training.max_steps": 10**6})
    process = start_worker(folder)
    wait_until(lambda: folder.points() or process.poll() is not None)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    wait_until(lambda: not [one for one in below if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])
