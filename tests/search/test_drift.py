"""The machine's speed, read off step times."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.records import Decision, History, Outcome, Proposal, RunRecord
from hotlap.search.drift import (
    CLOCK_SIGMA_FLOOR,
    FEW_RUNS_CLOCK_SIGMA,
    blind_runs,
    clock_noise,
    comparable_runs,
    drifts,
    equivalent_factor,
    suspected_drift,
)
from hotlap.search.noise import estimate, estimate_noise

EMPTY = History(clock="train", base_config={})


def run(
    number: int, step_ms: float, candidate: int = 0, role: str = "baseline", outcome: Outcome = "reached"
) -> RunRecord:
    """Return a run of a thousand steps."""
    times = {"train": step_ms, "wall": step_ms + 5, "step": 1000} if outcome == "reached" else None
    return RunRecord(
        run_id=f"r{number:04}",
        role=role,  # type: ignore[arg-type]
        candidate=candidate,
        seed=number,
        outcome=outcome,
        steps=1000,
        train_seconds=step_ms,
        wall_seconds=step_ms + 5,
        time_to_target=times,
    )


def history(*step_ms: float) -> History:
    return replace(EMPTY, runs=tuple(run(n, ms) for n, ms in enumerate(step_ms)))


def test_a_quiet_machine_does_not_drift() -> None:
    past = history(10.0, 10.1, 9.95, 10.05, 10.1)
    assert drifts(past) == () and suspected_drift(past) is None
    assert equivalent_factor(past, past.runs[0]) == 1.0


def test_one_run_that_is_out_is_a_suspicion() -> None:
    past = history(10.0, 10.1, 9.95, 12.0)
    assert drifts(past) == () and suspected_drift(past) == pytest.approx(1.2, rel=0.01)


def test_the_second_run_tells() -> None:
    (found,) = drifts(history(10.0, 10.1, 9.9, 12.0, 12.1))
    assert (found.start, found.last_good) == (3, 2) and found.ratio == pytest.approx(1.205, rel=1e-3)
    assert suspected_drift(history(10.0, 10.1, 9.9, 12.0, 12.1)) is None
    relapse = history(10.0, 10.1, 9.9, 12.0, 10.0)
    assert drifts(relapse) == () and suspected_drift(relapse) is None
    assert drifts(history(10.0, 10.1, 9.9, 12.0, 8.0)) == ()


def test_a_faster_machine_is_a_drift_too_and_two_are_two() -> None:
    ratios = [drift.ratio for drift in drifts(history(10.0, 10.0, 8.0, 8.0, 8.0, 12.0, 12.0))]
    assert ratios == pytest.approx([0.8, 1.5])


def test_times_from_before_count_in_seconds_of_now() -> None:
    past = history(10.0, 10.0, 10.0, 12.0, 12.0)
    assert equivalent_factor(past, past.runs[0]) == pytest.approx(1.2)
    assert equivalent_factor(past, past.runs[3]) == 1.0
    assert estimate(past, 0).median_seconds == pytest.approx(12.0)
    assert estimate(past, 0).seconds_per_step == pytest.approx(0.012)
    assert estimate_noise(past).sigma == 0.05, "a drift is no noise of the seeds"


def test_what_ran_in_between_counts_for_nothing() -> None:
    between = (run(3, 7.0, 1, "screen"), run(4, 7.0, 2, "screen"))
    after = (run(5, 12.0, 0, "incumbent"), run(6, 12.0, 0, "incumbent"))
    past = replace(EMPTY, runs=(*history(10.0, 10.0, 10.0).runs, *between, *after))
    assert blind_runs(past) == {"r0003", "r0004"}


def test_runs_in_between_enter_neither_estimate_nor_noise() -> None:
    blind = (run(3, 7.0, 1, "incumbent"), run(4, 14.0, 1, "incumbent"))
    after = (run(5, 12.0, 0, "incumbent"), run(6, 12.0, 0, "incumbent"), run(7, 9.0, 1, "incumbent"))
    past = replace(EMPTY, runs=(*history(10.0, 10.0, 10.0).runs, *blind, *after))
    assert comparable_runs(past, 1, "incumbent") == after[2:]
    assert estimate(past, 1).median_seconds == 9.0 and estimate(past, 1).runs == 1
    assert estimate_noise(past).measured == pytest.approx(0.0), "7 and 14 s of candidate 1 are no spread of its own"


def test_one_run_of_a_recipe_is_enough_where_others_tell_the_noise() -> None:
    steady = tuple(run(n, 10.0) for n in range(3))
    first, second, third = (run(3 + n, ms, 1, "incumbent") for n, ms in enumerate((5.0, 7.0, 7.0)))
    keep = Decision(proposal=1, verdict="keep", reason="r")
    idea = Proposal(
        number=1, parent=0, family="f", title="t", observation="o", hypothesis="h", patch={}, predicted_ratio=0.5
    )
    past = replace(EMPTY, runs=(*steady, first, second), proposals=(idea,), decisions=(keep,))
    assert suspected_drift(past) == pytest.approx(1.4)
    (found,) = drifts(replace(past, runs=(*past.runs, third)))
    assert (found.start, found.last_good) == (4, 3) and found.ratio == pytest.approx(1.4)


def test_only_runs_of_one_recipe_are_compared() -> None:
    past = replace(EMPTY, runs=(run(1, 10), run(2, 10), run(3, 5, 1, "incumbent"), run(4, 5, 1, "incumbent")))
    assert drifts(past) == () and suspected_drift(past) is None


def test_a_run_that_missed_tells_the_speed_and_a_spoiled_one_does_not() -> None:
    slow = [run(n, 30.0, 0, "incumbent", "out_of_budget") for n in (4, 5)]
    past = history(10.0, 10.0, 10.0)
    assert len(drifts(replace(past, runs=(*past.runs, *slow)))) == 1
    spoiled = tuple(replace(one, contaminated="load") for one in slow)
    assert drifts(replace(past, runs=(*past.runs, *spoiled))) == ()
    unstarted = replace(slow[0], steps=0)
    assert drifts(replace(past, runs=(*past.runs, unstarted))) == ()


def test_the_clocks_noise_has_floors() -> None:
    assert clock_noise(history(10.0, 10.0, 10.0)).sigma == FEW_RUNS_CLOCK_SIGMA
    many = clock_noise(history(*[10.0] * 8))
    assert (many.sigma, many.degrees_of_freedom) == (CLOCK_SIGMA_FLOOR, 7)
    assert clock_noise(history(10.0, 10.0 * math.exp(0.04))).sigma == pytest.approx(0.04 / math.sqrt(2))


def test_timing_runs_of_one_seed_are_one_group() -> None:
    lane = [replace(run(n, ms, 1, "timing", "out_of_budget"), seed=7) for n, ms in ((4, 5.0), (5, 5.0), (6, 5.0))]
    other = [replace(run(n, ms, 1, "timing", "out_of_budget"), seed=8) for n, ms in ((7, 9.0), (8, 9.0))]
    past = history(10.0, 10.0, 10.0)
    found = clock_noise(replace(past, runs=(*past.runs, *lane, *other)))
    assert (found.sigma, found.degrees_of_freedom) == (CLOCK_SIGMA_FLOOR, 5)


def of(candidate: int, *step_ms: float, start: int) -> tuple[RunRecord, ...]:
    """Return runs of a candidate, which are numbered from `start` on."""
    return tuple(run(start + n, ms, candidate, "incumbent") for n, ms in enumerate(step_ms))


def test_another_recipe_that_ran_alike_all_the_while_narrows_a_drift_down() -> None:
    """One that ran before the last good run, and alike after it, had no drift in between."""
    steady = (*of(1, 5.0, 5.0, start=3), *of(0, 10.0, start=5), run(6, 7.0, 2, "screen"), *of(1, 5.0, start=7))
    past = replace(EMPTY, runs=(*history(10.0, 10.0, 10.0).runs, *steady, run(8, 7.0, 3, "screen")))
    past = replace(past, runs=(*past.runs, *of(0, 12.0, 12.0, start=9)))
    (found,) = drifts(past)
    assert (found.start, found.last_good) == (9, 7) and blind_runs(past) == {"r0008"}


@pytest.mark.parametrize(("again", "blind", "runs"), [(5.05, {3}, 4), (6.0, {7}, 4), (9.0, {3, 4, 5, 6, 7}, 1)])
def test_a_recipe_that_ran_only_in_between_tells_with_its_next_run_on_which_side_it_was(
    again: float, blind: set[int], runs: int
) -> None:
    """Before that its runs are blind: slower from the first on, or not slower yet, they look the same."""
    between = (run(3, 7.0, 2, "screen"), *of(1, 5.0, 5.0, 5.0, start=4), run(7, 7.0, 3, "screen"))
    past = replace(EMPTY, runs=(*history(10.0, 10.0, 10.0).runs, *between, *of(0, 12.0, 12.0, start=8)))
    assert blind_runs(past) == {f"r000{n}" for n in range(3, 8)}
    told = replace(past, runs=(*past.runs, *of(1, again, start=10)))
    assert blind_runs(told) == {f"r000{n}" for n in blind}, "a disturbance tells nothing"
    assert estimate(told, 1).runs == runs and estimate(told, 1).median_seconds == pytest.approx(again, rel=0.01)
    assert estimate(told, 0).median_seconds == pytest.approx(12.0)


@given(st.lists(st.floats(9.9, 10.1), min_size=1, max_size=30))
def test_noise_within_the_floor_is_never_a_drift(step_ms: list[float]) -> None:
    past = history(*step_ms)
    assert drifts(past) == () and suspected_drift(past) is None


@given(st.floats(0.3, 3.0), st.integers(2, 6), st.integers(2, 6))
def test_a_clear_change_of_speed_is_found_with_its_size(ratio: float, before: int, after: int) -> None:
    past = history(*[10.0] * before, *[10.0 * ratio] * after)
    if abs(math.log(ratio)) > 0.06:
        (found,) = drifts(past)
        assert found.start == before and found.ratio == pytest.approx(ratio)
    elif abs(math.log(ratio)) < 0.025:
        assert drifts(past) == ()
