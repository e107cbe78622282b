"""The picture of a schedule: its numbers, the same bytes for the same numbers, and life without matplotlib."""

import sys
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.schema import RunConfig
from hotlap.core.errors import MissingExtraError
from hotlap.report.schedule_plot import draw_schedule, schedule_curve


def config(**training: Any) -> RunConfig:
    return RunConfig.model_validate({"training": {"learning_rate": 0.1, **training}, "budget": {"run": 60}})


def test_a_short_schedule_in_steps_shows_every_update() -> None:
    curve = schedule_curve(config(max_steps=5, warmup_steps=1))
    assert [position for position, _ in curve] == [0, 1, 2, 3, 4]
    assert [rate for _, rate in curve] == pytest.approx([0, 0.1, 0.075, 0.05, 0.025])


def test_a_long_one_shows_so_many_of_them_and_the_last() -> None:
    curve = schedule_curve(config(max_steps=100_000), points=50)
    assert len(curve) == 50
    assert (curve[0][0], curve[-1][0]) == (0, 99_999)


def test_seconds_go_to_the_end_of_the_budget() -> None:
    curve = schedule_curve(config(schedule_by="seconds", lr_scheduler_type="cosine"), points=3)
    assert curve == [(0, pytest.approx(0.1)), (30, pytest.approx(0.05)), (60, pytest.approx(0))]


def test_a_training_by_epochs_is_told_its_steps() -> None:
    assert schedule_curve(config(max_steps=-1), max_steps=10)[-1][0] == 9


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_same_numbers_same_bytes(tmp_path: Path, suffix: str) -> None:
    curve = schedule_curve(config(max_steps=2000, warmup_ratio=0.1))
    paths = [tmp_path / name / f"schedule{suffix}" for name in ("one", "two")]
    for path in paths:
        draw_schedule(curve, "steps", "toy: linear, peak 0.1", path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert [path.name for path in paths[0].parent.iterdir()] == [f"schedule{suffix}"]
    if suffix == ".svg":
        assert b"toy: linear, peak 0.1" in paths[0].read_bytes(), "text stays text"


def test_nothing_to_show_can_be_drawn(tmp_path: Path) -> None:
    draw_schedule([], "tokens", "nothing", tmp_path / "a.svg")
    draw_schedule([(0.0, 0.0)], "tokens", "one point", tmp_path / "b.svg")
    assert (tmp_path / "a.svg").exists() and (tmp_path / "b.svg").exists()


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hotlap\[report\]'"):
        draw_schedule([(0.0, 0.1)], "steps", "toy", tmp_path / "a.svg")
