"""Training on generators and mixtures: parts, steps, and evaluation task by task."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hotlap.config.load import config_from_values
from hotlap.core.clock import TrainClock
from hotlap.core.errors import ConfigError
from hotlap.data.streams import EndlessExamples, StreamOrder
from hotlap.train import build
from hotlap.train.build import build_parts
from hotlap.train.checkpoint import save_weights
from hotlap.train.evaluate import Evaluator
from hotlap.train.loop import Signs, StepTimer, train_steps
from hotlap.train.parts import Parts
from hotlap.train.reevaluate import reevaluate

SOURCE = """
import random


def sums(seed, largest=99):
    draw = random.Random(seed)
    while True:
        a, b = draw.randrange(largest), draw.randrange(largest)
        yield f"{a}+{b}=", str(a + b)
"""
SUMS = {"name": "generator", "function": "my_tasks:sums", "max_eval_samples": 9}
MIXTURE = {
    "name": "mixture",
    "tasks": {
        "sums": SUMS,
        "pairs": {"name": "prompt_completion", "file": "pairs.jsonl", "max_eval_samples": 5},
        "text": {"name": "language_model", "text": "*.txt", "block_size": 24, "max_eval_samples": 4, "weight": 2},
    },
}
CONFIG = {
    "model": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 40},
    "training": {"learning_rate": 3e-3, "max_steps": 6, "per_device_train_batch_size": 4},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("hotlap.train.distributed.usable_cores", lambda: 1)
    monkeypatch.setattr(build, "pick_device", lambda *_: torch.device("cpu"))
    (tmp_path / "my_tasks.py").write_text(SOURCE)
    lines = [json.dumps({"prompt": f"{number}? ", "completion": str(3 * number)}) for number in range(200)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    draw = random.Random(3)
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text(" ".join(draw.choices(["a", "cat", "sat", "mat"], k=60)))
    return tmp_path


def make(project: Path, task: dict[str, Any], **patch: Any) -> Parts:
    config = config_from_values({"task": task, **CONFIG}, patch)
    return build_parts(config, project, project / "cache")


def losses(parts: Parts) -> list[float]:
    signs = Signs(lambda: 0.0, lambda: False)
    return [step.loss for step in train_steps(parts, TrainClock(), StepTimer(), signs)]


@pytest.mark.parametrize("task", [SUMS, MIXTURE], ids=["generator", "mixture"])
@pytest.mark.parametrize("padding", ["longest", "bucketed", "packed", "max_length"])
def test_a_training_on_endless_data(project: Path, task: dict[str, Any], padding: str) -> None:
    parts = make(
        project,
        task,
        **{"training.padding": padding, "task.max_eval_samples": 9} if task is SUMS else {"training.padding": padding},
    )
    assert isinstance(parts.train, EndlessExamples)
    assert isinstance(parts.source.order, StreamOrder)
    assert parts.steps_per_epoch == 6
    found = losses(parts)
    assert len(found) == 6
    assert found[-1] < found[0]
    assert found == losses(make(project, task, **{"training.padding": padding}))
    assert found != losses(make(project, task, **{"training.padding": padding, "training.data_seed": 5}))


def test_a_sequential_mixture_takes_its_files_in_order(project: Path) -> None:
    parts = make(project, MIXTURE, **{"training.train_sampling_strategy": "sequential"})
    assert len(losses(parts)) == 6


def test_the_batch_size_may_be_probed(project: Path) -> None:
    patch = {"training.per_device_train_batch_size": "auto", "training.total_batch_size": 8}
    parts = make(project, SUMS, **patch)
    assert parts.batch_size * parts.accumulation_steps == 8
    assert len(losses(parts)) == 6


def test_each_task_of_a_mixture_is_evaluated_by_itself(project: Path) -> None:
    parts = make(project, MIXTURE)
    metrics = Evaluator(parts).cheap_metrics()
    sizes = [count for _, count in parts.eval.groups]
    counts = [int(part.sum()) for part in np.split(parts.eval.num_targets, np.cumsum(sizes)[:-1])]
    for figure in ("loss", "byte_accuracy"):
        parts_of_it = [metrics[f"eval_{name}_{figure}"] for name in MIXTURE["tasks"]]
        assert np.average(parts_of_it, weights=counts) == pytest.approx(metrics[f"eval_{figure}"], rel=1e-9)
    assert {name for name in metrics if name.startswith("eval_sums_")} == {
        "eval_sums_loss",
        "eval_sums_byte_accuracy",
        "eval_sums_word_accuracy",
    }
    assert "bits_per_byte" not in metrics, "answers end with a token that stands for no byte"
    alone = Evaluator(make(project, SUMS, **{"training.seed": parts.config.training.seed})).cheap_metrics()
    assert alone["eval_loss"] == pytest.approx(metrics["eval_sums_loss"], rel=1e-5)
    assert not [name for name in alone if "sums" in name]


def test_saved_weights_are_evaluated_again_task_by_task(project: Path) -> None:
    parts = make(project, MIXTURE)
    metrics = Evaluator(parts).cheap_metrics()
    save_weights(parts.model, project / "model.safetensors")
    again = reevaluate(parts.config, project, project / "cache", project / "model.safetensors")
    assert again["eval"]["metrics"] == pytest.approx(metrics)
    assert again["shared"] == 0


def test_generated_answers_are_scored_where_every_task_has_them(project: Path) -> None:
    tasks = {name: MIXTURE["tasks"][name] for name in ("sums", "pairs")}
    evaluator = Evaluator(make(project, {"name": "mixture", "tasks": tasks}))
    assert evaluator.can_generate
    metrics, samples = evaluator.generation_metrics()
    assert set(metrics) == {"eval_chrf", "eval_sacrebleu", "eval_exact_match"}
    assert samples
    assert not Evaluator(make(project, MIXTURE)).can_generate


def test_finite_examples_that_do_not_fit_are_told(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_position_embeddings is 20, the longest example needs 24"):
        make(project, MIXTURE, **{"model.max_position_embeddings": 20})
