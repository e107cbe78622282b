"""What readings of a command become: points, steps, clocks, and what ends the run."""

import math
import time
from pathlib import Path
from typing import Any

import pytest

from hotlap.capture.reading import Reading
from hotlap.config.command import CommandConfig
from hotlap.core.clock import ClockName
from hotlap.core.errors import DivergedError
from hotlap.core.files import read_json_lines
from hotlap.core.run_folder import RunFolder
from hotlap.core.targets import parse_target
from hotlap.worker.command_settings import CommandSettings
from hotlap.worker.record_command import ClockError, CommandRecord


def record_in(path: Path, *targets: str, clock: ClockName = "wall") -> CommandRecord:
    parsed = tuple(parse_target(text, is_any_metric=True) for text in targets)
    return CommandRecord(RunFolder(path), CommandSettings(CommandConfig(run="true"), {}, parsed, clock))


def points_of(path: Path, record: CommandRecord) -> list[dict[str, Any]]:
    record.flush()
    return read_json_lines(path / "metrics.jsonl")


def test_points_have_steps_and_clocks(tmp_path: Path) -> None:
    record = record_in(tmp_path, "val_loss < 1")
    record.started_seconds = 0.5
    assert not record.book(Reading(step=10, metrics={"loss": 2.0}, at_seconds=3.0), 3.02)
    assert record.book(Reading(step=10, metrics={"val_loss": 0.9}, at_seconds=3.5), 3.5)
    assert points_of(tmp_path, record) == [
        {"step": 10, "train_seconds": 2.5, "wall_seconds": 3.0, "tokens": 0, "loss": 2.0, "train_loss": 2.0},
        {"step": 10, "train_seconds": 3.0, "wall_seconds": 3.5, "tokens": 0, "val_loss": 0.9},
    ]
    assert record.reached == {"train": 3.0, "wall": 3.5, "step": 10}


def test_without_steps_points_are_counted(tmp_path: Path) -> None:
    record = record_in(tmp_path)
    for number, name in enumerate(("loss", "acc", "loss", "acc", "loss")):
        record.book(Reading(metrics={name: 1.0}, at_seconds=float(number)), float(number))
    record.book(Reading(step=40, metrics={"loss": 1.0}, at_seconds=5.0), 5.0)
    points = points_of(tmp_path, record)
    assert [point["step"] for point in points] == [1, 1, 2, 2, 3, 40]
    assert [point.get("is_step_counted", False) for point in points] == [*[True] * 5, False]


def test_the_training_figures_of_a_flood_are_thinned_and_evaluations_are_not(tmp_path: Path) -> None:
    record = record_in(tmp_path, "val_loss < 0")
    for step in range(1000):
        at_seconds = 1 + step * 1e-4
        record.book(Reading(step=step, metrics={"loss": 1.0}, at_seconds=at_seconds), at_seconds)
        if step % 100 == 0:
            record.book(Reading(step=step, metrics={"val_loss": 1.0}, at_seconds=at_seconds), at_seconds)
    points = points_of(tmp_path, record)
    assert sum("val_loss" in point for point in points) == 10
    assert len(points) < 30
    assert record.step == 999


def test_its_own_clock_may_not_go_back(tmp_path: Path) -> None:
    record = record_in(tmp_path, "val_loss < 1", clock="train")
    assert record.train_seconds(7.0) == 0.0
    record.book(Reading(step=1, metrics={"val_loss": 2.0}, clock_seconds=5.0, at_seconds=7.0), 7.0)
    assert record.train_seconds(8.0) == 5.0
    with pytest.raises(ClockError, match="went back from 5 s to 4 s"):
        record.book(Reading(step=2, metrics={"val_loss": 0.5}, clock_seconds=4.0, at_seconds=9.0), 9.0)


@pytest.mark.parametrize("metrics", [{"train_loss": math.nan}, {"score": -math.inf}])
def test_no_number_ends_the_run(tmp_path: Path, metrics: dict[str, float]) -> None:
    record = record_in(tmp_path, "score > 3")
    with pytest.raises(DivergedError, match="at step 4"):
        record.book(Reading(step=4, metrics=metrics, at_seconds=1.0), 1.0)


def test_a_gradient_that_overflowed_does_not(tmp_path: Path) -> None:
    assert not record_in(tmp_path, "score > 3").book(Reading(step=4, metrics={"grad_norm": math.inf}), 1.0)


def test_what_is_doubted_does_not_decide(tmp_path: Path) -> None:
    record = record_in(tmp_path, "val_loss < 1")
    assert not record.book(Reading(step=1, metrics={"val_loss": 0.5}, doubts={"val_loss": "told twice"}), 1.0)
    assert record.facts()["doubts"] == {"val_loss": "told twice"}


def test_a_stamp_of_the_command_is_believed_since_the_last_look(tmp_path: Path) -> None:
    record = record_in(tmp_path, "a < 1", "b < 1")
    record.look(10.0)
    record.book(Reading(step=1, metrics={"a": 2.0}, unix_seconds=time.time() - 0.1), 10.25)
    record.book(Reading(step=2, metrics={"a": 2.0}, unix_seconds=time.time() - 3600), 10.3)
    record.book(Reading(step=3, metrics={"a": 2.0}, unix_seconds=time.time() + 3600), 10.4)
    walls = [point["wall_seconds"] for point in points_of(tmp_path, record)]
    assert walls == [pytest.approx(10.15, abs=0.02), 10.0, 10.4]
