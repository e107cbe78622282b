"""The word-latent model on every kind of task: its batches, its training, its metrics task by task."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hotlap.config.load import config_from_values
from hotlap.core.clock import TrainClock
from hotlap.data.word_batches import WordBatch
from hotlap.train import build
from hotlap.train.build import build_parts
from hotlap.train.evaluate import Evaluator
from hotlap.train.loop import Signs, StepTimer, train_steps
from hotlap.train.parts import Parts

SOURCE = """
import random


def sums(seed, largest=99):
    draw = random.Random(seed)
    while True:
        a, b = draw.randrange(largest), draw.randrange(largest)
        yield f"{a} + {b} = ", str(a + b)
"""
PART = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS = {"name": "word_latent", "max_word_length": 10, "encoder": PART, "latent": PART, "decoder": PART}
GPT = {"name": "gpt", **PART, "max_position_embeddings": 128}
TRAINING = {"learning_rate": 1e-2, "max_steps": 12, "per_device_train_batch_size": 8, "optim": "muon"}
LETTERS = {"name": "letter_count", "text": "words.txt", "max_eval_samples": 5}
REPEAT = {"name": "string_repetition", "text": "words.txt", "max_length_bytes": 24, "max_eval_samples": 4}
PAIRS = {"name": "prompt_completion", "file": "pairs.jsonl", "max_eval_samples": 3}
TABLE = {
    "name": "prompt_completion",
    "file": "pairs.tsv",
    "prompt_key": "en",
    "completion_key": "la",
    "max_eval_samples": 3,
}
SUMS = {"name": "generator", "function": "my_tasks:sums", "max_eval_samples": 6}
MIXTURE = {
    "name": "mixture",
    "by": "tokens",
    "tasks": {"letters": {**LETTERS, "weight": 2}, "repeat": REPEAT, "pairs": PAIRS},
}
TASKS = {"letters": LETTERS, "repeat": REPEAT, "pairs": PAIRS, "table": TABLE, "sums": SUMS, "mixture": MIXTURE}
ENGLISH = ("the", "cat", "dog", "sees", "a", "red", "house", "tree", "grows", "slowly")
LATIN = ("illa", "fēles", "canis", "videt", "una", "rubra", "domus", "arbor", "crescit", "tardē")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with words, pairs as JSONL and as a table, and a generator."""
    monkeypatch.setattr("hotlap.train.distributed.usable_cores", lambda: 1)
    monkeypatch.setattr(build, "pick_device", lambda *_: torch.device("cpu"))
    draw = random.Random(3)
    (tmp_path / "my_tasks.py").write_text(SOURCE)
    made = ["".join(draw.choices("abdeilmnorstu", k=draw.randint(3, 8))) for _ in range(600)]
    lines = [" ".join(made[start : start + 5]) for start in range(0, 600, 5)]
    (tmp_path / "words.txt").write_text(".\n".join(lines))
    numbers = [draw.choices(range(10), k=draw.randint(2, 6)) for _ in range(200)]
    pairs = [
        (" ".join(ENGLISH[number] for number in row), " ".join(LATIN[number] for number in row)) for row in numbers
    ]
    records = [{"prompt": f"<en>\x0e{here}\x0f<la> ", "completion": there} for here, there in pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "pairs.tsv").write_text("\n".join(["en\tla", *("\t".join(pair) for pair in pairs)]))
    return tmp_path


def make(project: Path, task: dict[str, Any], model: dict[str, Any] = WORDS, **patch: Any) -> Parts:
    config = config_from_values({"task": task, "model": model, "training": TRAINING}, patch)
    return build_parts(config, project, project / "cache")


def losses(parts: Parts) -> list[float]:
    signs = Signs(lambda: 0.0, lambda: False)
    return [step.loss for step in train_steps(parts, TrainClock(), StepTimer(), signs)]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_every_task_trains_and_is_scored(project: Path, task: dict[str, Any]) -> None:
    parts = make(project, task)
    evaluator = Evaluator(parts)
    before = evaluator.cheap_metrics()
    found = losses(parts)
    assert len(found) == 12
    assert found == losses(make(project, task))
    after = evaluator.cheap_metrics()
    assert after["eval_loss"] < 0.9 * before["eval_loss"]
    assert before["eval_loss"] == pytest.approx(np.log(256), abs=0.3), "nothing is known yet"
    assert 0 < after["eval_byte_accuracy"] < 1 and 0 <= after["eval_word_accuracy"] < 1
    assert evaluator.can_generate
    scores, samples = evaluator.generation_metrics()
    assert set(scores) == {"eval_chrf", "eval_sacrebleu", "eval_exact_match"}
    assert samples and all(sample.prompt and sample.expected for sample in samples)


@pytest.mark.parametrize("task", [LETTERS, REPEAT], ids=["letters", "repeat"])
def test_both_models_learn_from_the_same_examples(project: Path, task: dict[str, Any]) -> None:
    words, gpt = make(project, task), make(project, task, GPT)
    assert words.task.hash == gpt.task.hash
    assert len(words.eval) == len(gpt.eval)
    found = losses(gpt)
    assert found[-1] < found[0]


def test_each_task_of_a_mixture_has_metrics_of_its_own(project: Path) -> None:
    parts = make(project, MIXTURE)
    metrics = Evaluator(parts).cheap_metrics()
    names = MIXTURE["tasks"].keys()
    figures = ("loss", "byte_accuracy", "word_accuracy")
    assert {f"eval_{name}_{figure}" for name in names for figure in figures} <= metrics.keys()
    for name, task in (("letters", LETTERS), ("repeat", REPEAT), ("pairs", PAIRS)):
        alone = make(project, task)
        alone.model.load_state_dict(parts.model.state_dict())
        expected = Evaluator(alone).cheap_metrics()
        for figure in figures:
            assert metrics[f"eval_{name}_{figure}"] == pytest.approx(expected[f"eval_{figure}"], rel=1e-5)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_metrics_do_not_depend_on_the_batches_of_the_evaluation(project: Path, size: int) -> None:
    whole = Evaluator(make(project, MIXTURE)).cheap_metrics()
    parts = make(project, MIXTURE, **{"training.per_device_eval_batch_size": size})
    assert Evaluator(parts).cheap_metrics() == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("padding", ["max_length", "longest", "bucketed"])
def test_files_and_a_generator_are_mixed_in_every_layout(project: Path, padding: str) -> None:
    tasks = {"letters": {**LETTERS, "weight": 3}, "sums": {**SUMS, "max_length": 24}}
    mixture = {"name": "mixture", "tasks": tasks}
    parts = make(project, mixture, **{"training.padding": padding})
    found = losses(parts)
    assert len(found) == 12 and found[-1] < 0.9 * found[0]
    batch, *_ = parts.source.micro_batches(0, 1)[0]
    assert isinstance(batch, WordBatch)
    assert (len(batch.words) == 1) == (padding == "max_length")
    assert batch.num_slots >= batch.num_tokens > batch.num_targets > 0
