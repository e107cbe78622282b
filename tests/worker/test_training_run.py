"""One run in this process, with a world outside of our own: what is evaluated and written down when."""

import gc
import itertools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_model

from hotlap.config.load import load_config
from hotlap.core.clock import GRID_START_SECONDS, TrainClock
from hotlap.core.errors import DivergedError
from hotlap.core.run_folder import RunFolder
from hotlap.models.gpt import GPT
from hotlap.train.build import build_parts
from hotlap.train.distributed import World
from hotlap.train.evaluate import Evaluator
from hotlap.train.loop import Signs, StepTimer, train_steps
from hotlap.worker import train as train_module
from hotlap.worker.session import Session
from hotlap.worker.train import TrainingRun

MakeRun = Callable[..., RunFolder]
WORLD = World(0, 1, 0, torch.device("cpu"))


class FakeSession:
    """Stands for the process's session: nothing interrupts, and limits and wall clock are what a test says."""

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
def make_training(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TrainingRun]]:
    """Build a run whose steps take a second each on the training clock."""
    ticks = itertools.count()
    monkeypatch.setattr(train_module, "TrainClock", lambda: TrainClock(lambda: float(next(ticks))))

    def make(patch: dict[str, Any] | None = None) -> TrainingRun:
        folder = make_run(patch)
        return TrainingRun(cast(Session, FakeSession(folder)), load_config(folder.config_path), WORLD)

    yield make
    gc.unfreeze()


MakeTraining = Callable[..., TrainingRun]


def steps_with(run: TrainingRun, metric: str) -> list[int]:
    return [point["step"] for point in run.folder.points() if metric in point]


def result_of(run: TrainingRun) -> dict[str, Any]:
    result = run.folder.read("result")
    assert result is not None
    return result


def test_without_targets_there_is_one_evaluation_at_the_end(make_training: MakeTraining) -> None:
    run = make_training({"training.eval_steps": None})
    assert run.train() == ("reached", "finished 12 steps; there was no target")
    assert steps_with(run, "eval_loss") == [12]
    run.finish("reached", "done")
    assert result_of(run)["time_to_target"] is None


def test_targets_are_looked_at_on_the_grid(make_training: MakeTraining) -> None:
    """Steps of 1 s pass a grid reading each at first; from 33.3 s on the grid (3 %) is wider than a step."""
    run = make_training({"training.eval_steps": None, "training.max_steps": 60, "targets": ["eval_loss < 0"]})
    assert run.train()[0] == "missed"
    steps = steps_with(run, "eval_loss")
    assert steps[:33] == list(range(1, 34))
    grid = [GRID_START_SECONDS * 1.03**n for n in range(300)]
    assert steps[33:] == [n for n in range(34, 60) if any(n - 1 < reading <= n for reading in grid)] + [60]
    assert len(steps) < 60


def test_on_the_clock_a_run_without_targets_is_looked_at_now_and_then(make_training: MakeTraining) -> None:
    """Steps of 1 s, and readings that grow by a fifth: 7.95, 9.54 and 11.4 s are the last ones."""
    run = make_training({"training.eval_steps": None, "training.eval_strategy": "clock"})
    assert run.train() == ("reached", "finished 12 steps; there was no target")
    assert steps_with(run, "eval_loss") == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12]


def test_the_grid_follows_the_clock_that_is_judged(make_training: MakeTraining) -> None:
    patch = {"training.eval_steps": None, "targets": ["eval_loss < 0"], "clock": "wall"}
    run = make_training(patch)  # the wall clock stands still at 3 s
    assert run.train()[0] == "missed"
    assert steps_with(run, "eval_loss") == [1, 12]


def test_eval_steps_count_as_in_the_trainer(make_training: MakeTraining) -> None:
    run = make_training({"training.eval_steps": 5, "targets": ["eval_loss < 0"]})
    run.train()
    assert steps_with(run, "eval_loss") == [5, 10, 12]


@pytest.mark.parametrize(
    ("targets", "generated_at"),
    [
        (["eval_loss < 0", "eval_chrf > 99"], []),
        (["eval_loss < 99", "eval_chrf > 99"], [5, 10, 12]),
        (["eval_chrf > 99"], [5, 10, 12]),
        (["eval_loss < 99"], []),  # reached at step 5 without a word
        ([], [12]),
    ],
)
def test_text_is_generated_only_once_the_cheap_targets_hold(
    make_training: MakeTraining, targets: list[str], generated_at: list[int]
) -> None:
    run = make_training({"training.eval_steps": 5, "targets": targets})
    run.train()
    assert steps_with(run, "eval_chrf") == generated_at
    assert run.folder.samples_path.exists() == bool(generated_at)


def test_a_run_ends_at_the_first_evaluation_at_which_all_targets_hold(make_training: MakeTraining) -> None:
    run = make_training({"training.eval_steps": 4, "targets": ["eval_loss < 99", "eval_exact_match >= 0"]})
    assert run.train() == ("reached", "all targets held at step 4")
    run.finish("reached", "all targets held at step 4")
    assert result_of(run)["time_to_target"] == {"train": 4, "wall": 3, "step": 4}
    assert result_of(run)["train_seconds"] == 4


def test_a_limit_is_looked_at_after_every_step(make_training: MakeTraining) -> None:
    run = make_training({"training.eval_steps": 10, "targets": ["eval_loss < 99"]})
    cast(FakeSession, run.session).limit_seconds = 3
    assert run.train() == ("out_of_budget", "3.0 s on the train clock, the limit is 3.0 s")
    assert steps_with(run, "eval_loss") == [3]
    run.finish("out_of_budget", "the limit")
    result = result_of(run)
    assert (result["step"], result["time_to_target"]) == (3, None)


def test_the_end_of_the_schedule_counts_before_the_limit(make_training: MakeTraining) -> None:
    run = make_training({"targets": ["eval_loss < 0"]})
    cast(FakeSession, run.session).limit_seconds = 12
    assert run.train()[0] == "missed"


def test_a_signal_is_obeyed_at_the_end_of_the_step(make_training: MakeTraining) -> None:
    run = make_training()
    cast(FakeSession, run.session).interrupted_by = "SIGTERM"
    assert run.train() == ("interrupted", "SIGTERM at step 1")
    run.finish("interrupted", "SIGTERM at step 1")
    assert not run.folder.weights_path.exists()
    assert result_of(run)["metrics"]["train_loss"] > 0  # also the steps since the last line are told


def test_a_target_that_is_reached_counts_before_the_signal(make_training: MakeTraining) -> None:
    run = make_training({"training.eval_steps": 1, "targets": ["eval_loss < 99"]})
    cast(FakeSession, run.session).interrupted_by = "SIGTERM"
    assert run.train()[0] == "reached"


def test_an_evaluation_that_is_not_a_number_is_written_down_and_diverges(
    make_training: MakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_training({"training.eval_steps": 3})
    broken = {"eval_loss": math.nan, "perplexity": math.inf, "eval_byte_accuracy": 0.0, "eval_word_accuracy": 0.0}
    monkeypatch.setattr(Evaluator, "cheap_metrics", lambda _: dict(broken))
    with pytest.raises(DivergedError, match="eval_loss is nan at step 3"):
        run.train()
    assert steps_with(run, "eval_loss") == [3]


def test_training_figures_are_those_of_the_steps_since_the_last_line(
    make_training: MakeTraining, make_run: MakeRun, tmp_path: Path
) -> None:
    patch = {"training.logging_steps": 5, "training.warmup_steps": 3, "training.max_grad_norm": 0.9}
    run = make_training(patch)
    run.train()
    run.finish("reached", "done")
    signs = Signs(wall_seconds=lambda: 0.0, is_interrupted=lambda: False)
    steps = list(train_steps(build_parts(run.config, tmp_path, tmp_path / "cache"), TrainClock(), StepTimer(), signs))
    lines = [point for point in run.folder.points() if "train_loss" in point]
    assert [line["step"] for line in lines] == [5, 10, 12]
    for line, taken in zip(lines, (steps[:5], steps[5:10], steps[10:]), strict=True):
        tokens, slots = sum(step.num_tokens for step in taken), sum(step.num_slots for step in taken)
        assert line["train_loss"] == pytest.approx(sum(step.loss for step in taken) / len(taken))
        assert line["grad_norm"] == taken[-1].grad_norm
        assert line["learning_rate"] == taken[-1].learning_rate
        assert line["padding_ratio"] == pytest.approx(1 - tokens / slots)
        assert line["tokens_per_second"] == tokens / len(taken)  # a second a step
        assert line["tokens"] == sum(step.num_tokens for step in steps[: line["step"]])
        assert line["train_seconds"] == line["step"]
    metrics = result_of(run)["metrics"]
    clipped = [step.grad_norm is not None and step.grad_norm > 0.9 for step in steps]
    assert metrics["clipped_ratio"] == sum(clipped) / 12
    assert 0 < metrics["clipped_ratio"] <= 1
    assert metrics["tokens_per_second"] == sum(step.num_tokens for step in steps) / 12
    assert metrics["padding_ratio"] == pytest.approx(1 - lines[-1]["tokens"] / sum(step.num_slots for step in steps))


def test_the_gain_over_the_last_tenth_needs_an_evaluation_before_it(make_training: MakeTraining) -> None:
    watched, unwatched = make_training({"training.eval_steps": 5}), make_training({"training.eval_steps": None})
    for run in (watched, unwatched):
        run.train()
        run.finish("reached", "done")
    losses = {point["step"]: point["eval_loss"] for point in watched.folder.points() if "eval_loss" in point}
    assert result_of(watched)["metrics"]["eval_loss_gain_last_tenth"] == pytest.approx(losses[10] - losses[12])
    assert "eval_loss_gain_last_tenth" not in result_of(unwatched)["metrics"]


@pytest.mark.parametrize("outcome", ["reached", "missed", "out_of_budget", "diverged", "crashed", "interrupted"])
@pytest.mark.parametrize("is_wanted", [True, False])
def test_weights_are_saved_where_they_are_of_use(make_training: MakeTraining, outcome: Any, is_wanted: bool) -> None:
    run = make_training({"training.save_model": is_wanted, "training.max_steps": 1})
    run.train()
    run.finish(outcome, "done")
    assert run.folder.weights_path.exists() == (is_wanted and outcome in ("reached", "missed", "out_of_budget"))


@pytest.mark.parametrize("tied", [True, False])
def test_saved_weights_make_the_same_model_again(make_training: MakeTraining, tied: bool) -> None:
    run = make_training({"model.tie_word_embeddings": tied, "model.smear": True})
    run.train()
    run.finish("reached", "done")
    other = GPT(run.config.model, 256)
    assert load_model(other, str(run.folder.weights_path)) == (set(), [])
    for (name, expected), found in zip(run.parts.model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(found, expected), name


def test_the_last_block_shows_the_last_evaluation(
    make_training: MakeTraining, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_training()
    run.train()
    run.finish("reached", "done")
    block = capfd.readouterr().out.partition("***** eval metrics *****\n")[2]
    shown = dict(re.findall(r"^  (\w+) += +(\S+)$", block, re.MULTILINE))
    metrics = result_of(run)["metrics"]
    assert float(shown["eval_loss"]) == round(metrics["eval_loss"], 4)
    assert shown["num_input_tokens_seen"] == str(result_of(run)["tokens"])
    assert shown["eval_samples"] == str(len(run.parts.eval))


def test_eval_strategy_no_leaves_the_end_alone(make_training: MakeTraining) -> None:
    run = make_training({"training.eval_strategy": "no", "training.eval_steps": 4})
    run.train()
    assert steps_with(run, "eval_loss") == [12]


def test_a_schedule_in_seconds_ends_with_its_budget_as_it_was_meant_to(make_training: MakeTraining) -> None:
    run = make_training({"training.schedule_by": "seconds", "training.eval_steps": None, "budget.run": 6})
    cast(FakeSession, run.session).limit_seconds = 6
    assert run.train() == ("reached", "finished 6 steps; there was no target")
    assert steps_with(run, "eval_loss") == [6]


def test_a_tighter_limit_of_a_study_is_no_end_of_the_schedule(make_training: MakeTraining) -> None:
    run = make_training({"training.schedule_by": "seconds", "training.eval_steps": None, "budget.run": 60})
    cast(FakeSession, run.session).limit_seconds = 3
    assert run.train()[0] == "out_of_budget"


def test_the_target_is_saved_and_best_where_that_is_asked_for(make_training: MakeTraining) -> None:
    patch = {"training.save_steps": 100, "training.load_best_model_at_end": True, "training.eval_steps": 4}
    run = make_training({**patch, "targets": ["eval_loss < 99"]})
    assert run.train() == ("reached", "all targets held at step 4")
    run.finish("reached", "all targets held at step 4")
    assert run.folder.checkpoint_path(4).is_dir()
    assert "the weights of step 4 are back" in result_of(run)["reason"]


def test_weights_that_are_not_finite_are_never_saved(make_training: MakeTraining) -> None:
    run = make_training({"training.save_steps": 1})
    with torch.no_grad():
        next(run.parts.model.parameters()).view(-1)[0] = math.inf
    with pytest.raises(DivergedError, match="not finite"):
        run._save(1.0)
    assert not run.folder.checkpoints()
