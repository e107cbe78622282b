"""Changes of the step time alone: the lane, its order, and its verdicts."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.records import Decision, History, Outcome, Proposal, RunRecord
from hotlap.core.traces import Trace
from hotlap.search.judge import judge_fresh
from hotlap.search.noise import STEP_TIME_RATIO, Noise, estimate
from hotlap.search.systems import (
    TIMING_RUNS,
    Lane,
    is_systems_change,
    judge_timing,
    smallest_visible_timing,
    systems_lane,
    timing_limit,
)
from hotlap.study.plan import Decide, StartRun, next_action
from hotlap.study.settings import StudySettings

TRACE: Trace = ((100, 2.5), (200, 2.0))
PATCH = {"training.torch_compile": True}


def run(
    number: int,
    candidate: int,
    role: str,
    seconds: float,
    trace: Trace = TRACE,
    seed: int | None = None,
    outcome: Outcome = "reached",
    steps: int = 1000,
) -> RunRecord:
    """Return a run that went on for so long."""
    times = {"train": seconds, "wall": seconds + 5, "step": steps} if outcome == "reached" else None
    return RunRecord(
        run_id=f"r{number:04}",
        role=role,  # type: ignore[arg-type]
        candidate=candidate,
        seed=number if seed is None else seed,
        outcome=outcome,
        steps=steps,
        train_seconds=seconds,
        wall_seconds=seconds + 5,
        time_to_target=times,
        trace=trace,
    )


def propose(patch: dict[str, object] = PATCH, *, simplifies: bool = False) -> Proposal:
    return Proposal(
        number=1,
        parent=0,
        family="compile",
        title="compile",
        observation="o",
        hypothesis="h",
        patch=patch,
        predicted_ratio=0.9,
        simplifies=simplifies,
    )


BASE = History(
    clock="train",
    base_config={},
    runs=tuple(
        run(n, 0, "baseline", seconds, steps=steps)
        for n, seconds, steps in ((1, 100.0, 1000), (2, 103.0, 1020), (3, 98.0, 990))
    ),
    proposals=(propose(),),
)


def timed(new: list[float], old: list[float], base: History = BASE, new_trace: Trace = TRACE) -> History:
    """Return a history with timing runs of both sides."""
    runs = [run(10 + n, 1, "timing", ms, new_trace, 7, "out_of_budget") for n, ms in enumerate(new)]
    runs += [run(20 + n, 0, "timing", ms, TRACE, 7, "out_of_budget") for n, ms in enumerate(old)]
    return replace(base, runs=(*base.runs, *runs))


def lane_of(history: History) -> Lane:
    lane = systems_lane(history, history.proposals[0])
    assert lane is not None
    return lane


def judged(new: list[float], old: list[float], base: History = BASE, *, allow_trade: bool = False) -> Decision | None:
    history = timed(new, old, base)
    return judge_timing(history, lane_of(history), allow_trade)


@pytest.mark.parametrize(
    ("patch", "is_one"),
    [
        (PATCH, True),
        ({"training.optim": "adamw_torch"}, True),
        ({"training.optim": "muon"}, False),
        ({"training.padding": "packed"}, False),
        ({"training.learning_rate": 0.1}, False),
        ({"training.max_steps": 10}, False),
        ({**PATCH, "training.learning_rate": 0.1}, False),
        ({}, False),
    ],
)
def test_only_keys_that_act_alike_on_every_step_enter(patch: dict[str, object], is_one: bool) -> None:
    assert is_systems_change(patch) == is_one


def test_the_lane_is_for_the_train_clock_and_an_incumbent_that_reaches() -> None:
    assert systems_lane(BASE, propose()) is not None
    assert systems_lane(replace(BASE, clock="wall"), propose()) is None
    missed = tuple(replace(one, outcome="missed", time_to_target=None) for one in BASE.runs)
    assert systems_lane(replace(BASE, runs=missed), propose()) is None


def test_a_study_that_had_screened_it_goes_on_as_it_began() -> None:
    screened = replace(BASE, runs=(*BASE.runs, run(9, 1, "screen", 90.0)))
    assert systems_lane(screened, propose()) is None


def test_both_sides_run_in_turn_with_one_seed_and_half_as_long() -> None:
    settings = StudySettings(total_seconds=1e6)
    history, order, seeds = BASE, [], set()
    while isinstance(action := next_action(history, settings), StartRun):
        assert action.role == "timing" and not action.is_raced and action.limit_seconds == 50.0
        order.append(action.candidate)
        seeds.add(action.seed)
        made = run(50 + len(order), action.candidate, "timing", 90.0 if action.candidate else 100.0, seed=action.seed)
        history = replace(history, runs=(*history.runs, made))
    assert order == [1, 0, 0, 1, 1, 0] and len(seeds) == 1 and not seeds & {1, 2, 3}
    assert isinstance(action, Decide) and action.decision.verdict == "keep"


def test_other_traces_leave_the_lane_for_an_ordinary_screen() -> None:
    history = timed([80.0], [100.0], new_trace=((100, 2.52), (200, 2.0)))
    assert lane_of(history).is_left
    action = next_action(history, StudySettings(total_seconds=1e6))
    assert isinstance(action, StartRun) and action.role == "screen" and action.is_raced
    assert lane_of(timed([80.0], [100.0], new_trace=())).is_left, "nothing to compare is not equal"
    assert not lane_of(timed([80.0], [100.0], new_trace=((100, 2.5001), (200, 2.0)))).is_left


@pytest.mark.parametrize(
    ("new", "verdict"),
    [(90.0, "keep"), (98.0, "keep"), (98.5, "inconclusive"), (101.0, "inconclusive"), (103.0, "discard")],
)
def test_three_sigma_of_the_clock_decide(new: float, verdict: str) -> None:
    decision = judged([new] * 3, [100.0] * 3)
    assert decision is not None and decision.verdict == verdict
    assert decision.statistics[STEP_TIME_RATIO] == pytest.approx(new / 100)
    assert bool(decision.revisit_if) == (verdict != "keep")


def test_a_tie_goes_to_what_only_removes_something() -> None:
    simple = replace(BASE, proposals=(propose(simplifies=True),))
    kept, slower = judged([100.2] * 3, [100.0] * 3, simple), judged([101.0] * 3, [100.0] * 3, simple)
    assert kept is not None and kept.verdict == "keep"
    assert slower is not None and slower.verdict == "inconclusive"


def test_a_slow_first_run_ends_the_lane_and_a_fast_one_does_not() -> None:
    decision = judged([120.0], [100.0])
    assert decision is not None and decision.verdict == "discard"
    assert judged([80.0], [100.0]) is None and judged([80.0, 80.0], [100.0, 100.0]) is None
    assert judged([103.0], [100.0]) is None


@pytest.mark.parametrize(
    ("outcome", "verdict"), [("crashed", "crash"), ("out_of_memory", "crash"), ("diverged", "discard")]
)
def test_a_change_that_breaks_is_decided_at_once(outcome: Outcome, verdict: str) -> None:
    broken = run(10, 1, "timing", 1.0, (), 7, outcome)
    history = replace(BASE, runs=(*BASE.runs, broken))
    decision = judge_timing(history, lane_of(history))
    assert decision is not None and decision.verdict == verdict


@pytest.mark.parametrize(("allow", "verdict"), [(False, "discard"), (True, "keep")])
def test_what_costs_more_beside_the_clock_is_a_trade(allow: bool, verdict: str) -> None:
    history = timed([90.0] * 3, [100.0] * 3)
    compiling = tuple(replace(r, wall_seconds=r.wall_seconds + 60) if r.candidate else r for r in history.runs)
    decision = judge_timing(replace(history, runs=compiling), lane_of(replace(history, runs=compiling)), allow)
    assert decision is not None and decision.verdict == verdict and ("trade" in decision.reason) != allow


def kept_history() -> History:
    history = timed([90.0] * 3, [100.0] * 3)
    decision = judge_timing(history, lane_of(history))
    assert decision is not None
    return replace(history, decisions=(decision,))


def test_the_parents_runs_count_for_a_change_of_the_step_time() -> None:
    history = kept_history()
    assert estimate(history, 1).median_seconds == pytest.approx(90.0)
    assert estimate(history, 0).median_seconds == 100.0 and estimate(history, 0).runs == 3
    fresh = (run(30, 1, "incumbent", 91.0), run(31, 1, "incumbent", 108.0))
    more = estimate(replace(history, runs=(*history.runs, *fresh)), 1)
    assert (more.runs, more.reached) == (5, 5) and more.median_seconds == pytest.approx(91.0)


def test_slow_seeds_do_not_withdraw_what_the_clock_has_shown() -> None:
    noise = Noise(sigma=0.05, degrees_of_freedom=9, resolution=0.03)
    history = kept_history()
    slow = (run(30, 1, "incumbent", 110.0), run(31, 1, "incumbent", 104.0))
    assert judge_fresh(replace(history, runs=(*history.runs, *slow)), propose(), noise) is None
    missed = tuple(replace(one, outcome="out_of_budget", time_to_target=None) for one in slow)
    withdrawn = judge_fresh(replace(history, runs=(*history.runs, *missed)), propose(), noise)
    assert withdrawn is not None and withdrawn.verdict == "discard"


def test_the_limit_is_half_the_incumbents_time_and_never_more_than_a_run_may_take() -> None:
    assert timing_limit(BASE, lane_of(BASE), 900.0) == 50.0 and timing_limit(BASE, lane_of(BASE), 20.0) == 20.0


def test_the_lane_sees_a_few_percent_where_screening_sees_ten() -> None:
    assert 0.95 < smallest_visible_timing(BASE) < 0.97


@given(st.floats(0.5, 2.0), st.floats(0.5, 2.0))
def test_a_shorter_step_is_never_judged_worse(one: float, other: float) -> None:
    order = {"keep": 0, "inconclusive": 1, "discard": 2}
    fast, slow = (judged([100 * ratio] * TIMING_RUNS, [100.0] * TIMING_RUNS) for ratio in sorted((one, other)))
    assert fast is not None and slow is not None and order[fast.verdict] <= order[slow.verdict]
    assert math.isfinite(fast.statistics[STEP_TIME_RATIO])
