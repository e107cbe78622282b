"""Parts of the project's own, `module:function`, through the whole worker."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import fill_run, run_worker

from hotlap.core.study_folder import ProjectFolder

SOURCE = """
import torch
from torch import nn
from hotlap.tasks.examples import Example, TaskData


class Recurrent(nn.Module):
    def __init__(self, vocab_size, width):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.core = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, vocab_size)

    def hidden(self, input_ids):
        return self.core(self.embedding(input_ids))[0]

    def logits(self, hidden):
        return self.head(hidden)


class Greedy(Recurrent):
    # Has memory for two rows.
    def hidden(self, input_ids):
        if self.training and len(input_ids) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return super().hidden(input_ids)


def greedy(vocab_size, width=8):
    return Greedy(vocab_size, width)


def recurrent(vocab_size, width=8):
    return Recurrent(vocab_size, width)


def no_model(vocab_size):
    return nn.Linear(2, 2)


def plain_descent(named_parameters, training):
    return torch.optim.SGD([p for _, p in named_parameters], lr=training.learning_rate)


def halved(position, warmup, horizon, factor=0.5):
    return 1.0 if position < horizon / 2 else factor


def counting(count):
    examples = tuple(Example(f"{n}>", str(n + 1)) for n in range(count))
    return TaskData(examples[4:], examples[:4], "numbers")
"""


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    (tmp_path / "mine.py").write_text(SOURCE, encoding="utf-8")
    return ProjectFolder(tmp_path).create()


def run(
    project: ProjectFolder, patch: dict[str, Any], **training: Any
) -> tuple[int, dict[str, Any], list[dict[str, Any]], str]:
    folder = fill_run(project, None, {})
    config = {
        "task": {"name": "mine:counting", "count": 40},
        "model": {"name": "mine:recurrent", "width": 12},
        "training": {
            "optim": "mine:plain_descent",
            "lr_scheduler_type": "mine:halved",
            "lr_scheduler_kwargs": {"factor": 0.25},
            "learning_rate": 0.5,
            "max_steps": 8,
            "logging_steps": 1,
            **training,
        },
        **patch,
    }
    folder.write_config(json.dumps(config))  # JSON is YAML
    code = run_worker(folder)
    return code, folder.read("environment") or {}, folder.points(), folder.stdout_path.read_text()


def test_task_model_optimizer_and_schedule_of_the_projects_own(project: ProjectFolder) -> None:
    code, environment, points, log = run(project, {})
    assert code == 0, log
    rates = [point["learning_rate"] for point in points if "learning_rate" in point]
    assert rates == [0.5] * 4 + [0.125] * 4
    losses = [point["train_loss"] for point in points if "train_loss" in point]
    assert losses[-1] < losses[0]
    assert environment["sources"].keys() == {"task.name", "model.name", "training.optim", "training.lr_scheduler_type"}
    assert environment["data"]["num_train"] == 36
    assert any("eval_loss" in point for point in points)
    assert not any("eval_chrf" in point for point in points), "this model cannot generate"


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"model": {"name": "mine:no_model"}}, "has to return a torch.nn.Module with the methods hidden and logits"),
        ({"model": {"name": "mine:recurent"}}, "did you mean 'recurrent'?"),
        ({"model": {"name": "yours:recurrent"}}, "there is no file yours.py"),
    ],
)
def test_what_does_not_fit_is_one_clear_message(project: ProjectFolder, patch: dict[str, Any], message: str) -> None:
    code, _, _, log = run(project, patch)
    assert code == 5
    assert message in log and "Traceback" not in log


GREEDY = {"model": {"name": "mine:greedy"}}


def test_a_batch_that_does_not_fit_ends_as_out_of_memory_with_the_sizes(project: ProjectFolder) -> None:
    code, _, points, log = run(project, GREEDY, per_device_train_batch_size=8)
    assert code == 5 and not points
    assert "out_of_memory: RuntimeError: DefaultCPUAllocator" in log and "Traceback" not in log
    assert "8 rows a batch of up to 5 tokens" in log and "weights 18.7 KiB, gradients 18.7 KiB" in log


def test_a_smaller_batch_is_taken_at_the_same_total_where_that_is_asked_for(project: ProjectFolder) -> None:
    code, environment, points, log = run(
        project, GREEDY, per_device_train_batch_size=8, auto_find_batch_size=True, save_steps=1
    )
    assert code == 0, log
    assert (environment["batch_size"], environment["accumulation_steps"]) == (2, 4)
    assert [point["step"] for point in points if "train_loss" in point] == list(range(1, 9))


def test_the_batch_that_is_searched_for_fits(project: ProjectFolder) -> None:
    code, environment, _, log = run(project, GREEDY, per_device_train_batch_size="auto", total_batch_size=8)
    assert code == 0, log
    assert environment["batch_size"] in (1, 2)
    assert environment["batch_size"] * environment["accumulation_steps"] == 8
    assert [trial["batch_size"] for trial in environment["batch_size_trials"]] == [1, 2]
    assert f"per_device_train_batch_size {environment['batch_size']}, gradient_accumulation_steps" in log
