"""Samples while a run trains: when they are written, what they hold, and that the training does not notice."""

import gc
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import torch

from hotlap.config.load import load_config
from hotlap.core.clock import TrainClock
from hotlap.core.errors import ConfigError
from hotlap.core.files import read_json_lines
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.data.text_stream import prompt_tokens
from hotlap.train.distributed import World
from hotlap.worker import samples as samples_module
from hotlap.worker import train as train_module
from hotlap.worker.session import Session
from hotlap.worker.train import TrainingRun

MakeRun = Callable[..., RunFolder]
MakeTraining = Callable[..., TrainingRun]
PROMPTS = ["the cat", "über", "a red dog sat"]
SAMPLES: dict[str, Any] = {"samples.prompts": PROMPTS, "samples.max_new_tokens": 8, "samples.temperature": 1.0}
DROPOUT = {"model.embd_pdrop": 0.2, "model.resid_pdrop": 0.2, "model.attn_pdrop": 0.1}


class FakeSession:
    """Stands for the process's session, without limits but the one on the training clock that a test sets."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.command: dict[str, Any] = {}
        self.wall_seconds = 3.0
        self.process_seconds = 3.0
        self.resume = None
        self.interrupted_by: str | None = None
        self.limit_seconds = math.inf

    def limit(self, clock: str) -> float | None:
        return self.limit_seconds if clock == "train" else None


@pytest.fixture
def make_training(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeTraining]:
    """Build a run whose steps take a second each on the training clock."""
    ticks = itertools.count()
    monkeypatch.setattr(train_module, "TrainClock", lambda: TrainClock(lambda: float(next(ticks))))

    def make(patch: dict[str, Any] | None = None, world: World | None = None) -> TrainingRun:
        folder = make_run(patch)
        one = World(0, 1, 0, torch.device("cpu"))
        return TrainingRun(cast(Session, FakeSession(folder)), load_config(folder.config_path), world or one)

    yield make
    gc.unfreeze()


def samples_of(run: TrainingRun) -> list[dict[str, Any]]:
    return [line for line in read_json_lines(run.folder.samples_path) if "prompt_index" in line]


def steps_of(run: TrainingRun) -> list[int]:
    lines = samples_of(run)
    steps = [line["step"] for line in lines if line["prompt_index"] == 0]
    assert [(line["step"], line["prompt_index"]) for line in lines] == [(s, n) for s in steps for n in range(3)]
    return steps


@pytest.mark.parametrize(
    ("patch", "steps"),
    [
        ({"training.eval_steps": 5}, [0, 5, 10, 12]),
        ({"training.eval_steps": None}, [0, 12]),
        ({"training.eval_steps": 5, "training.eval_on_start": True}, [0, 5, 10, 12]),
        ({"training.eval_steps": 5, "samples.every": "4 steps"}, [0, 4, 8, 12]),
        ({"training.eval_steps": 5, "samples.every": "7 steps"}, [0, 7, 12]),
        ({"training.eval_steps": 5, "samples.every": "100 steps", "targets": ["eval_loss < 99"]}, [0, 5]),
        ({"training.eval_steps": 4, "targets": ["eval_loss < 99"]}, [0, 4]),
    ],
)
def test_samples_come_at_evaluations_or_by_steps_and_at_both_ends(
    make_training: MakeTraining, patch: dict[str, Any], steps: list[int]
) -> None:
    run = make_training({**SAMPLES, **patch})
    run.train()
    assert steps_of(run) == steps


def test_a_run_out_of_budget_ends_with_samples_too(make_training: MakeTraining) -> None:
    run = make_training({**SAMPLES, "samples.every": "100 steps", "training.eval_steps": 100})
    cast(FakeSession, run.session).limit_seconds = 3
    assert run.train()[0] == "out_of_budget"
    assert steps_of(run) == [0, 3]


def test_a_line_holds_prompt_text_and_position(make_training: MakeTraining) -> None:
    run = make_training({**SAMPLES, "training.eval_steps": 5})
    run.train()
    lines = samples_of(run)
    keys = {"step", "train_seconds", "wall_seconds", "prompt", "generated", "expected", "prompt_index"}
    assert all(line.keys() == keys for line in lines)
    assert [line["prompt"] for line in lines[:3]] == PROMPTS
    assert all(line["expected"] == "" and line["wall_seconds"] == 3.0 for line in lines)
    assert [line["train_seconds"] for line in lines[::3]] == [0.0, 5.0, 10.0, 12.0]
    assert lines[0]["generated"] and lines[0]["generated"] != lines[-3]["generated"]
    ours = [line for line in read_json_lines(run.folder.samples_path) if "prompt_index" not in line]
    assert ours and all(line["expected"] for line in ours), "those of the metrics are as they were"


def test_without_prompts_nothing_is_generated(make_training: MakeTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "continue_rows", None)  # calling it would fail
    run = make_training({"training.eval_steps": 5, "targets": ["eval_loss < 0"]})
    run.train()
    assert not run.folder.samples_path.exists()


@pytest.mark.parametrize("every", ["evaluation", "1 step"])
def test_the_training_does_not_notice(make_training: MakeTraining, every: str) -> None:
    """Bit by bit the same weights, losses and clock, with dropout and with drawn tokens."""
    patch = {**DROPOUT, "training.eval_steps": 3, "training.padding": "packed", "training.logging_steps": 1}
    plain = make_training(patch)  # building seeds the generators, so one is trained before the next is built
    plain.train()
    sampled = make_training({**patch, **SAMPLES, "samples.every": every})
    sampled.train()
    assert len(samples_of(sampled)) >= 15 and not samples_of(plain)
    for (name, expected), found in zip(
        plain.parts.model.named_parameters(), sampled.parts.model.parameters(), strict=True
    ):
        assert torch.equal(found, expected), name

    def told(run: TrainingRun) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in point.items() if key not in ("wall_seconds", "tokens_per_second")}
            for point in run.folder.points()
        ]

    assert told(sampled) == told(plain)
    assert sampled.clock.seconds == plain.clock.seconds == 12


def test_the_seconds_are_booked_as_evaluation(make_training: MakeTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_training({**SAMPLES, "training.eval_steps": 100})
    now = itertools.count(0, 10)
    monkeypatch.setattr(train_module.time, "perf_counter", lambda: float(next(now)))
    run._write_samples(is_evaluated=True)
    assert run.seconds["evaluation"] == 10.0
    run._write_samples(is_evaluated=True)
    assert run.seconds["evaluation"] == 10.0, "the samples of this step are there already"


def test_one_of_several_processes_writes(make_training: MakeTraining) -> None:
    run = make_training({**SAMPLES, "training.eval_steps": 5})
    run.parts.world = World(1, 2, 1, torch.device("cpu"))
    run._write_samples(is_evaluated=True)
    assert not run.folder.samples_path.exists()


def test_an_evaluation_on_the_wall_clock_is_timed_with_its_samples(
    make_training: MakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_training(SAMPLES)
    calls: list[int] = []
    monkeypatch.setattr(type(run.samples), "texts", lambda _: calls.append(1) or ["", "", ""])
    monkeypatch.setattr(FakeSession, "limit", lambda _, clock: 1e9 if clock == "wall" else None)
    run.begin()
    assert len(calls) == 2, "once for the clock, once for step 0"


def test_a_prompt_with_nothing_to_go_on_from_is_refused_before_the_training(make_training: MakeTraining) -> None:
    with pytest.raises(ConfigError, match="a prompt is empty"):
        make_training({"samples": {"prompts": ["fine", ""]}})


def test_running_text_has_a_token_that_starts_it(make_training: MakeTraining, project: ProjectFolder) -> None:
    (project.project / "more.txt").write_text("a second document about a cat and the dog")
    run = make_training(
        {
            "task": {"name": "language_model", "text": str(project.project / "*.txt"), "block_size": 16},
            "tokenizer": "character",
            "samples": {"prompts": ["", "the"], "max_new_tokens": 5},
            "training.eval_steps": 100,
        }
    )
    run.train()
    assert [line["prompt"] for line in samples_of(run)] == ["", "the"] * 2
    start = run.parts.tokenizer.document_start
    assert run.samples._prompts == [[start], prompt_tokens(run.parts.tokenizer, "the", start)]
    facts = run.folder.read("environment")
    assert facts is not None
    assert (facts["data"]["document_start"], facts["data"]["tokenizer"]) == (start, run.parts.tokenizer.hash)
