"""Recorded runs as a task: the nearest recipe answers."""

import math
from pathlib import Path

import numpy as np
import pytest
from simulator.families import FAMILIES
from simulator.play import play_study
from simulator.replay import (
    Recorded,
    RecordedTask,
    Recording,
    distance,
    load_recording,
    replicate_sigma,
    save_recording,
)
from simulator.rivals import PRACTICES, search
from simulator.space import Parameter, patch_of, values_of

from hotlap.config.load import config_from_values

SPACE = {
    "learning_rate": Parameter(kind="log", keys=("training.learning_rate",), low=1e-4, high=1e-2),
    "batch": Parameter(kind="choice", keys=("training.per_device_train_batch_size",), choices=(8, 16, 32)),
    "optim": Parameter(kind="choice", keys=("training.optim",), choices=("adamw_torch_fused", "muon")),
}


def recording(sigma: float = 0.02) -> Recording:
    """Return a recording whose real runs are simulated ones."""
    task, runs = FAMILIES["power_law"].task(0), []
    for rate in (2e-4, 6e-4, 2e-3, 6e-3):
        for batch in (8, 32):
            values = {"learning_rate": rate, "batch": batch, "optim": "adamw_torch_fused"}
            config = config_from_values(task.start.model_dump(mode="json"), patch_of(SPACE, values))
            trace = task.train(config, 1)
            columns = {
                "step": trace.steps,
                "train_seconds": trace.train_seconds,
                "eval_loss": trace.values["eval_loss"],
            }
            runs.append(
                Recorded(
                    values=values,
                    outcome="out_of_budget",
                    columns={name: column.tolist() for name, column in columns.items()},
                    setup_seconds=2.0,
                    evaluation_seconds=0.02,
                    tokens_per_step=trace.tokens_per_step,
                )
            )
    return Recording(start=task.start, space=SPACE, runs=tuple(runs), sigma=sigma)


def test_the_nearest_recipe_answers() -> None:
    found = recording().nearest({"learning_rate": 7e-4, "batch": 16, "optim": "muon"})
    assert found.values["learning_rate"] == 6e-4
    assert recording().nearest({"learning_rate": 5.9e-3, "batch": 9, "optim": "muon"}).values["batch"] == 8


def test_distances_are_shares_of_the_ranges() -> None:
    left = {"learning_rate": 1e-4, "batch": 8, "optim": "muon"}
    assert distance(SPACE, left, left) == 0.0
    assert distance(SPACE, left, {**left, "learning_rate": 1e-2}) == pytest.approx(1.0)
    assert distance(SPACE, left, {**left, "batch": 16}) == pytest.approx(0.5)
    assert distance(SPACE, left, {**left, "optim": "adamw_torch_fused"}) == 1.0


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    saved = recording()
    save_recording(saved, tmp_path / "a.gz")
    save_recording(saved, tmp_path / "b.gz")
    again = load_recording(tmp_path / "a.gz")
    assert (again.start, again.space, again.sigma) == (saved.start, saved.space, saved.sigma)
    assert again.runs[3].columns == saved.runs[3].columns
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_true_times_are_those_of_the_record_and_runs_scatter_around_them() -> None:
    task = RecordedTask(recording(sigma=0.03), seed=0)
    true = task.true_seconds(task.start)
    assert true == pytest.approx(176, rel=0.15)
    first = {task.train(task.start, seed).train_seconds[50] for seed in range(30)}
    spread = np.std(np.log(list(first)))
    assert 0.015 < spread < 0.05
    slow = config_from_values(task.start.model_dump(mode="json"), {"training.learning_rate": 1e-4})
    assert math.isinf(task.true_seconds(slow)) or task.true_seconds(slow) > true
    assert values_of(task.space, task.start.model_dump(mode="json"))["batch"] == 32


def test_whole_studies_and_searches_play_over_a_recording() -> None:
    task = RecordedTask(recording(), seed=0)
    timeline, history = play_study(task)
    assert history.ended and timeline.num_runs > 5
    assert timeline.moments[-1][1] <= timeline.moments[0][1]
    assert search(task, PRACTICES["random"], 0).num_runs > 5


def test_the_spread_of_replicates_is_pooled() -> None:
    runs = recording().runs
    moved = [
        Recorded(
            values=run.values,
            outcome=run.outcome,
            columns={**run.columns, "train_seconds": [1.2 * seconds for seconds in run.columns["train_seconds"]]},
            setup_seconds=0,
            evaluation_seconds=0,
            tokens_per_step=1,
        )
        for run in runs
    ]
    targets = list(recording().start.targets)
    assert replicate_sigma([*runs, *moved], targets) == pytest.approx(math.log(1.2) / math.sqrt(2))
    assert replicate_sigma(runs, targets) == 0.03
