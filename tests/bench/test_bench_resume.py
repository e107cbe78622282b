"""Benches that go on with more time for each cell."""

import pytest
from filelock import FileLock

from hotlap.bench import drive
from hotlap.bench.axes import BATCH_KEY, Axis
from hotlap.bench.drive import OpenBench, open_bench
from hotlap.bench.plan import BenchPlan, next_repeat
from hotlap.bench.resume import resume_bench
from hotlap.config.load import config_from_values
from hotlap.core.bench_records import CellOutcome, CellRepeat
from hotlap.core.errors import StudyError
from hotlap.core.study_folder import ProjectFolder

CONFIG = config_from_values({"name": "tiny", "training": {"use_cpu": True}})
PLAN = BenchPlan(axes=(Axis(BATCH_KEY, (1, 2, 4)),), repeats=2, limit_seconds=60.0)
OUTCOMES: dict[int, CellOutcome] = {1: "measured", 2: "timed_out", 4: "out_of_memory"}


def played(bench: OpenBench) -> None:
    """Try every cell: batch 2 takes too long, batch 4 does not fit."""
    while (following := next_repeat(bench.plan, bench.folder.repeats())) is not None:
        cell, repeat = following
        outcome = OUTCOMES[cell.settings[BATCH_KEY]]
        bench.folder.append(CellRepeat(cell.number, repeat, cell.settings, outcome, step_seconds=(0.1,)))


def test_a_longer_limit_tries_again_what_timed_out_and_nothing_else(project: ProjectFolder) -> None:
    first = open_bench(project, CONFIG, PLAN)
    played(first)
    with pytest.raises(StudyError, match="no bench that could go on"):
        resume_bench(project, None)
    bench = resume_bench(project, None, 120.0)
    assert bench.folder.bench_id == "b0001" and bench.plan.limit_seconds == 120.0
    assert [repeat.outcome for repeat in bench.folder.repeats()].count("timed_out") == 0
    following = next_repeat(bench.plan, bench.folder.repeats())
    assert following is not None and following[0].settings == {BATCH_KEY: 2}
    again = resume_bench(project, None)
    assert again.plan.limit_seconds == 120.0, "the limit is the bench's from now on"
    played(again)
    assert len(again.folder.repeats()) == 4
    assert "timed_out" in bench.folder.retried_path.read_text()


def test_a_limit_that_is_no_longer_changes_what_comes_and_tries_nothing_again(project: ProjectFolder) -> None:
    played(open_bench(project, CONFIG, PLAN))
    with pytest.raises(StudyError, match="no bench that could go on"):
        resume_bench(project, None, 60.0)
    bench = resume_bench(project, "b0001", 30.0)
    assert bench.plan.limit_seconds == 30.0
    assert next_repeat(bench.plan, bench.folder.repeats()) is None


def test_a_ladder_climbs_on_from_where_the_time_was_too_short(project: ProjectFolder) -> None:
    bench = open_bench(project, CONFIG, BenchPlan(axes=(Axis(BATCH_KEY, ()),), repeats=1, limit_seconds=60.0))
    played(bench)
    assert [repeat.settings[BATCH_KEY] for repeat in bench.folder.repeats()] == [1, 2]
    again = resume_bench(project, None, 61.0)
    following = next_repeat(again.plan, again.folder.repeats())
    assert following is not None and following[0].settings == {BATCH_KEY: 2}


def test_a_bench_that_is_being_driven_keeps_its_lines(project: ProjectFolder) -> None:
    bench = open_bench(project, CONFIG, PLAN)
    played(bench)
    with FileLock(bench.folder.lock_path), pytest.raises(StudyError, match="b0001 is already being measured"):
        resume_bench(project, "b0001", 120.0)
    assert len(bench.folder.repeats()) == 4


def test_other_code_is_not_measured_once_more(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = open_bench(project, CONFIG, PLAN)
    played(bench)
    monkeypatch.setattr(drive, "made_with", lambda *_: {"torch": "0.1"})
    with pytest.raises(StudyError, match=r"b0001 cannot go on.*torch was .*, is 0\.1"):
        resume_bench(project, "b0001", 900.0)
    assert any(repeat.outcome == "timed_out" for repeat in bench.folder.repeats())
