"""States of the Trainer: every digit of the log, one run an output folder, the settings beside it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.errors import DataError
from hotlap.core.trainer_names import metric_name, rewritten_metric_name
from hotlap.runs.import_trainer import read_trainer_states

HISTORY = [
    {"epoch": 0.1, "grad_norm": 1.0528565645217896, "learning_rate": 4.8e-06, "loss": 2.1677, "step": 25},
    {"epoch": 0.1, "eval_loss": 2.0123456789012345, "eval_runtime": 9.5, "step": 25},
    {"epoch": 0.2, "grad_norm": 0.5, "learning_rate": 4.0e-06, "loss": 1.5, "step": 50},
    {"epoch": 0.2, "total_flos": 1e15, "train_loss": 1.83385, "train_runtime": 60.25, "step": 50},
]


def write_state(folder: Path, history: list[Any] = HISTORY, **facts: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer_state.json"
    state = {"global_step": 50, "max_steps": 50, "num_train_epochs": 1, "train_batch_size": 8, "log_history": history}
    path.write_text(json.dumps({**state, "trial_name": None, "trial_params": None, **facts}, indent=2))
    return path


def test_every_point_with_all_its_digits(tmp_path: Path) -> None:
    source = read_trainer_states(write_state(tmp_path / "out"))
    (run,) = source.runs
    assert run.points[0] == {
        "step": 25,
        "epoch": 0.1,
        "grad_norm": 1.0528565645217896,
        "learning_rate": 4.8e-06,
        "train_loss": 2.1677,
    }
    assert run.points[1]["eval_loss"] == 2.0123456789012345
    assert run.points[3]["train_loss_mean"] == 1.83385
    assert len(run.points) == 4
    assert (run.own_id, run.name, run.steps) == ("out", "out", 50)
    assert run.identity == f"trainer:{tmp_path.resolve() / 'out'}"
    assert run.config == {"max_steps": 50, "num_train_epochs": 1, "train_batch_size": 8}
    assert (run.outcome, run.reason) == ("missed", "imported: it ended at step 50")
    assert (source.kind, source.label) == ("runs of the Trainer", "out")


def test_of_an_output_folder_the_state_that_went_furthest_counts(tmp_path: Path) -> None:
    write_state(tmp_path / "a" / "checkpoint-25", HISTORY[:2], global_step=25)
    write_state(tmp_path / "a" / "checkpoint-50", HISTORY[:3])
    write_state(tmp_path / "a")
    write_state(tmp_path / "b" / "checkpoint-25", HISTORY[:2], global_step=25)
    source = read_trainer_states(tmp_path)
    assert [(run.own_id, len(run.points), run.outcome) for run in source.runs] == [
        ("a", 4, "missed"),
        ("b", 2, "interrupted"),
    ]
    assert source.label == tmp_path.name
    (alone,) = read_trainer_states(tmp_path / "a" / "checkpoint-25" / "trainer_state.json").runs
    assert (alone.identity, len(alone.points)) == (source.runs[0].identity, 2)


def test_settings_beside_the_state(tmp_path: Path) -> None:
    write_state(tmp_path / "json" / "checkpoint-50")
    (tmp_path / "json" / "training_args.json").write_text('{"learning_rate": 5e-5, "max_steps": 50}')
    write_state(tmp_path / "yaml")
    (tmp_path / "yaml" / "training_args.yaml").write_text("learning_rate: 3e-4\n")
    write_state(tmp_path / "trial", trial_name="run-3", trial_params={"learning_rate": 1e-3})
    source = read_trainer_states(tmp_path)
    assert [run.config["learning_rate"] for run in source.runs] == [5e-5, 1e-3, 3e-4]
    assert [run.name for run in source.runs] == ["json", "run-3", "yaml"]
    assert source.notices == ()


def test_settings_that_are_missing_are_asked_for(tmp_path: Path) -> None:
    (notice,) = read_trainer_states(write_state(tmp_path)).notices
    assert "1 of 1 runs without their settings" in notice and "training_args.json" in notice


def test_a_loss_that_is_not_finite_stays(tmp_path: Path) -> None:
    history = [{"loss": math.nan, "step": 1}, {"loss": math.inf, "step": 2}]
    points = read_trainer_states(write_state(tmp_path, history)).runs[0].points
    assert math.isnan(points[0]["train_loss"])
    assert points[1] == {"step": 2, "train_loss": math.inf}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"log_history": [\n', r"trainer_state\.json:2: not valid JSON"),
        ("[]", "expected a JSON object"),
        ('{"loss": 1}', "no state of the Trainer: expected an object with a list log_history"),
        ('{"log_history": [{"loss": 1}]}', "entry 1 of log_history: expected an object with a whole step"),
        ('{"log_history": [3]}', "entry 1 of log_history"),
        ('{"log_history": [], "global_step": "x"}', "global_step: expected a whole number, got 'x'"),
    ],
)
def test_a_file_that_is_no_state_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        read_trainer_states(path)


def test_a_folder_without_any_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no trainer_state\.json in it, and no run of wandb"):
        read_trainer_states(tmp_path)


@given(st.sampled_from(["", "eval_", "test_"]), st.text("abcdefg_", min_size=1, max_size=12))
def test_names_for_wandb_are_turned_back(part: str, rest: str) -> None:
    """The Trainer hands `eval_x` to wandb as `eval/x`, `test_x` as `test/x`, and `x` as `train/x`."""
    rewritten = f"{part[:-1]}/{rest}" if part else f"train/{rest}"
    assert rewritten_metric_name(rewritten) == metric_name(f"{part}{rest}")
