"""The picture: its numbers, the same bytes for the same numbers, and life without matplotlib."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import CANDIDATES, MISSED_BASELINE, history, points, summary

from hotlap.core.errors import MissingExtraError
from hotlap.core.records import History
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.picture import ProgressInfo, draw_progress, picture_path, progress_info, shown_runs


def info(past: History) -> ProgressInfo:
    return progress_info(summary(past), past, points(past))


def test_shows_all_baselines_and_one_run_of_each_rung() -> None:
    past = history()
    assert [run.candidate for run in shown_runs(past)] == [0, 0, 0, 1, 3, 7]
    assert {run.role for run in shown_runs(past)[3:]} <= {"incumbent", "record"}, "selected runs would flatter"


def test_curves_carry_one_label_a_candidate_and_no_broken_point() -> None:
    found = info(history())
    assert [curve.label for curve in found.curves] == [
        "baseline",
        "",
        "",
        "#1 no dropout",
        "#3 Muon for the hidden matrices",
        "#7 RoPE",
    ]
    assert [curve.is_incumbent for curve in found.curves] == [False] * 5 + [True]
    assert all(math.isfinite(value) for curve in found.curves for value in (*curve.seconds, *curve.losses))
    assert found.target == 0.76


def test_bars_are_the_ladder() -> None:
    bars = info(history()).bars
    assert [bar.seconds for bar in bars] == [55.2, 25.5, 14.0, 10.7]
    assert bars[-1].total_ratio == pytest.approx(55.2 / 10.7)


@pytest.mark.parametrize("is_missed", [False, True])
def test_same_numbers_same_bytes(tmp_path: Path, is_missed: bool) -> None:
    past = history("missed" if is_missed else "reached")
    candidates = {**CANDIDATES, 0: MISSED_BASELINE} if is_missed else CANDIDATES
    found = progress_info(summary(past, candidates), past, points(past))
    draw_progress(found, tmp_path / "one" / "a.svg")
    draw_progress(found, tmp_path / "two" / "a.svg")
    first = (tmp_path / "one" / "a.svg").read_bytes()
    assert first == (tmp_path / "two" / "a.svg").read_bytes()
    assert b"eval_loss" in first and b"#7 RoPE" in first, "text stays text"
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["a.svg"]


def test_nothing_to_show_yet_can_be_drawn(tmp_path: Path) -> None:
    past = History(clock="wall", base_config={})
    draw_progress(progress_info(summary(past, {}), past, {}), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").exists()


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hotlap\[report\]'"):
        draw_progress(info(history()), tmp_path / "a.svg")


def test_the_picture_lies_beside_the_journal(project: ProjectFolder) -> None:
    assert picture_path(project, "toy") == project.project / "speedrun" / "toy.svg"


def test_the_curves_of_a_command_are_those_of_its_target(tmp_path: Path) -> None:
    past = replace(history(), base_config={"command": {"run": "train"}, "targets": ["val_nll < 0.5"]})
    renamed = {
        run: [{"val_nll" if key == "eval_loss" else key: value for key, value in point.items()} for point in told]
        for run, told in points(past).items()
    }
    found = progress_info(replace(summary(past), targets=("val_nll < 0.5",)), past, renamed)
    assert found.curves == info(history()).curves and found.target == 0.5
    draw_progress(found, tmp_path / "a.svg")
    assert b"val_nll" in (tmp_path / "a.svg").read_bytes() and b"eval_loss" not in (tmp_path / "a.svg").read_bytes()
