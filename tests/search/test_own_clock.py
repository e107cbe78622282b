"""A clock that changed code reports, held against the wall clock."""

from hotlap.core.records import Outcome, RunRecord
from hotlap.search.own_clock import own_clock_problem


def run(train: float, wall: float, outcome: Outcome = "reached") -> RunRecord:
    times = {"train": train, "wall": wall, "step": 10}
    return RunRecord(
        run_id="r0001",
        role="screen",
        candidate=1,
        seed=1,
        outcome=outcome,
        train_seconds=train,
        wall_seconds=wall,
        time_to_target=times,
    )


CALIBRATION = [run(100.0, 110.0), run(101.0, 112.0)]


def test_a_run_that_is_faster_on_both_clocks_is_believed() -> None:
    assert own_clock_problem(run(50.0, 60.0), CALIBRATION) == ""
    assert own_clock_problem(run(50.0, 64.0), CALIBRATION) == ""


def test_time_that_only_left_the_clock_was_not_saved() -> None:
    problem = own_clock_problem(run(50.0, 110.0), CALIBRATION)
    assert problem.startswith("60.0 s until its target lie outside of the clock that it reports")


def test_without_something_to_compare_nothing_is_said() -> None:
    assert own_clock_problem(run(50.0, 110.0), []) == ""
    assert own_clock_problem(run(50.0, 110.0, "missed"), CALIBRATION) == ""
