"""Decisions, rule by rule; the baseline takes 100 s with a noise of 5 %."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.records import Decision, History, Outcome, Proposal, RunRecord
from hotlap.search.judge import (
    is_beyond_luck,
    is_in_doubt,
    judge_ablation,
    judge_confirm,
    judge_fresh,
    judge_overtaken,
    judge_screen,
    rival_of,
)
from hotlap.search.noise import Noise, estimate
from hotlap.search.revisit import is_reopened

NOISE = Noise(sigma=0.05, degrees_of_freedom=2, resolution=0.03)
FAST, SLOW = 100 * math.exp(-0.075), 100 * math.exp(0.075)
PASSING = 100 * math.exp(-0.05)
"""Seconds of a screen that is confirmed."""


def run(
    number: int, role: str, candidate: int, seconds: float, outcome: Outcome = "reached", wall: float = 5
) -> RunRecord:
    times = {"train": seconds, "wall": seconds + wall, "step": 50} if outcome == "reached" else None
    return RunRecord(
        run_id=f"r{number:04}",
        role=role,  # type: ignore[arg-type]
        candidate=candidate,
        seed=number,
        outcome=outcome,
        steps=50,
        train_seconds=seconds,
        wall_seconds=seconds + wall,
        time_to_target=times,
    )


def propose(number: int = 1, simplifies: bool = False) -> Proposal:
    return Proposal(
        number=number,
        parent=0,
        family="toy",
        title="toy",
        observation="o",
        hypothesis="h",
        patch={"training.max_steps": 9},
        predicted_ratio=0.9,
        simplifies=simplifies,
    )


BASE = History(
    clock="train",
    base_config={},
    runs=tuple(run(n, "baseline", 0, s) for n, s in enumerate((98, 100, 103), start=1)),
    proposals=(propose(),),
)
MISSES = replace(BASE, runs=tuple(run(n, "baseline", 0, 900, "missed") for n in range(1, 4)))


def screen(seconds: float, outcome: Outcome = "reached", history: History = BASE) -> Decision | None:
    return judge_screen(history, propose(), run(9, "screen", 1, seconds, outcome), NOISE)


def confirm(first: float, second: float, outcome: Outcome = "reached", history: History = BASE) -> Decision:
    runs = run(9, "screen", 1, first), run(10, "confirm", 1, second, outcome)
    return judge_confirm(history, propose(), *runs, NOISE)


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(PASSING - 0.1, None), (PASSING + 0.1, "inconclusive"), (SLOW - 0.1, "inconclusive"), (SLOW + 0.1, "discard")],
)
def test_a_screen_must_beat_the_median_by_a_part_of_the_margin(seconds: float, verdict: str | None) -> None:
    decision = screen(seconds)
    assert (decision and decision.verdict) == verdict


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        ("crashed", "crash"),
        ("out_of_memory", "crash"),
        ("diverged", "discard"),
        ("raced", "discard"),
        ("missed", "discard"),
        ("out_of_budget", "discard"),
        ("invalid", "discard"),
    ],
)
def test_what_did_not_reach_has_no_time(outcome: Outcome, verdict: str) -> None:
    decision = screen(20.0, outcome)  # a reading far below the incumbent's
    assert decision is not None and decision.verdict == verdict
    assert "screen_seconds" not in decision.statistics and "20.0 s" in decision.reason
    assert confirm(50, 20.0, outcome).verdict == verdict


def test_stopped_runs_are_told_as_stopped() -> None:
    decision = screen(20.0, "raced")
    assert decision is not None and "stopped at 20.0 s without reaching" in decision.reason


def test_both_runs_must_pass_in_the_mean_and_each_by_a_part_of_the_margin() -> None:
    keep = confirm(80, 82)
    assert keep.verdict == "keep"
    assert keep.statistics["ratio"] == pytest.approx(math.sqrt(80 * 82) / 100)
    assert keep.statistics["margin_seconds"] == pytest.approx(FAST) and keep.statistics["incumbent_runs"] == 3
    assert confirm(91, 94).verdict == "keep", "the mean counts"
    assert confirm(91, 95).verdict == "inconclusive"
    assert confirm(50, 98.5).verdict == "inconclusive", "no screen is so fast that the other run need not gain"
    assert confirm(80, 120).verdict == "discard"


def test_a_screen_beyond_luck_needs_less_once_the_noise_is_known() -> None:
    few, many = (replace(NOISE, degrees_of_freedom=degrees) for degrees in (2, 5))
    far, farther = run(9, "screen", 1, 85.0), run(9, "screen", 1, 80.0)
    assert not is_beyond_luck(BASE, propose(), far, few) and is_beyond_luck(BASE, propose(), far, many)
    assert is_beyond_luck(BASE, propose(), farther, few)
    assert not is_beyond_luck(BASE, propose(), farther, replace(NOISE, degrees_of_freedom=0)), "one run tells no noise"
    assert not is_beyond_luck(MISSES, propose(), farther, many)


def test_a_fresh_run_that_is_no_faster_leaves_a_keep_in_doubt() -> None:
    faster, slower = run(11, "incumbent", 1, 90.0), run(12, "incumbent", 1, 101.0)
    assert is_in_doubt(BASE, propose(), []) and is_in_doubt(BASE, propose(), [slower])
    assert not is_in_doubt(BASE, propose(), [faster])
    assert is_in_doubt(BASE, replace(propose(), role="ablation"), [faster]), "a removal is measured twice"


def test_any_run_that_reaches_beats_an_incumbent_that_misses() -> None:
    assert screen(800, history=MISSES) is None
    decision = confirm(800, 700, history=MISSES)
    assert decision.verdict == "keep" and "0 of 3" in decision.reason and "ratio" not in decision.statistics
    missed = screen(800, "missed", history=MISSES)
    assert missed is not None and missed.verdict == "discard"


def test_a_simplification_needs_less() -> None:
    simple = propose(simplifies=True)
    assert judge_screen(BASE, simple, run(9, "screen", 1, 97.0), NOISE) is None
    undecided = judge_screen(BASE, simple, run(9, "screen", 1, 105.0), NOISE)
    assert undecided is not None and undecided.verdict == "inconclusive"


@pytest.mark.parametrize(("allow", "verdict"), [(False, "discard"), (True, "keep")])
def test_a_loss_on_the_other_clock_is_a_trade(allow: bool, verdict: str) -> None:
    runs = run(9, "screen", 1, 80, wall=60), run(10, "confirm", 1, 80, wall=60)
    decision = judge_confirm(BASE, propose(), *runs, NOISE, allow)
    assert decision.verdict == verdict and ("trade" in decision.reason) == (not allow)


def test_a_small_loss_on_the_other_clock_is_no_trade() -> None:
    runs = run(9, "screen", 1, 80, wall=33), run(10, "confirm", 1, 80, wall=33)
    assert judge_confirm(BASE, propose(), *runs, NOISE).verdict == "keep"


@pytest.mark.parametrize(
    ("fresh", "verdict"),
    [((80, 90), None), ((99, 101), "inconclusive"), ((90, 112), "inconclusive"), ((120, 110), "discard")],
)
def test_fresh_runs_may_withdraw_a_keep(fresh: tuple[float, float], verdict: str | None) -> None:
    runs = tuple(run(n, "incumbent", 1, s) for n, s in enumerate(fresh, start=11))
    history = replace(BASE, runs=(*BASE.runs, *runs))
    decision = judge_fresh(history, propose(), NOISE)
    assert (decision and decision.verdict) == verdict


def test_a_fresh_miss_withdraws_a_keep() -> None:
    runs = (run(11, "incumbent", 1, 70), run(12, "incumbent", 1, 200, "out_of_budget"))
    decision = judge_fresh(replace(BASE, runs=(*BASE.runs, *runs)), propose(), NOISE)
    assert decision is not None and decision.verdict == "discard" and "1 of 2" in decision.reason
    assert judge_fresh(replace(BASE, runs=(*BASE.runs, runs[0])), propose(), NOISE) is None


@pytest.mark.parametrize(
    ("times", "verdict"),
    [((90, 90), "keep"), ((101, 103), "keep"), ((104, 106), "inconclusive"), ((110, 109), "discard")],
)
def test_the_simpler_config_wins_a_tie(times: tuple[float, float], verdict: str) -> None:
    runs = [run(n, "ablation", 1, s) for n, s in enumerate(times, start=11)]
    assert judge_ablation(BASE, propose(simplifies=True), runs, NOISE).verdict == verdict


def test_times_from_before_a_drift_are_judged_in_seconds_of_now() -> None:
    """Steps have become a third longer, after the runs that are judged and a baseline run that shows they were not."""
    fresh = [run(11, "incumbent", 1, 98), run(12, "incumbent", 1, 99), run(13, "incumbent", 0, 100)]
    slower = [run(n, "incumbent", 0, 133) for n in (14, 15)]
    history = replace(BASE, runs=(*BASE.runs, *fresh, *slower))
    removed = replace(propose(simplifies=True), role="ablation")
    assert estimate(history, 0).median_seconds == pytest.approx(133, rel=0.01)
    slow = replace(history, runs=(*BASE.runs, *(run(n, "incumbent", 1, 105) for n in (11, 12)), *history.runs[5:]))
    withdrawn = judge_fresh(slow, propose(), NOISE)
    assert judge_fresh(history, propose(), NOISE) is None and withdrawn and withdrawn.verdict == "inconclusive"
    for seconds, verdict in ((110, "discard"), (104, "inconclusive"), (100, "keep")):
        without = [run(n, "ablation", 1, seconds) for n in (11, 12)]
        left_out = replace(history, runs=(*BASE.runs, *without, *history.runs[5:]))
        assert judge_ablation(left_out, removed, without, NOISE).verdict == verdict


def test_an_ablation_that_misses_keeps_the_change() -> None:
    runs = [run(11, "ablation", 1, 200, "out_of_budget")]
    assert judge_ablation(BASE, propose(simplifies=True), runs, NOISE).verdict == "discard"


@pytest.mark.parametrize(
    ("fresh", "verdict"),
    [((95, 96), None), ((103, 104), None), ((105, 107), "inconclusive"), ((SLOW, SLOW + 1), "discard")],
)
def test_fresh_runs_withdraw_a_removal_that_was_no_tie(fresh: tuple[float, float], verdict: str | None) -> None:
    """Its own two runs took 99 and 101 s; all four together may be half a sigma, 2.5 %, slower."""
    removed = replace(propose(simplifies=True), role="ablation")
    times = (("ablation", 99), ("ablation", 101), *(("incumbent", seconds) for seconds in fresh))
    runs = *BASE.runs, *(run(n, role, 1, seconds) for n, (role, seconds) in enumerate(times, start=11))
    decision = judge_fresh(replace(BASE, runs=runs), removed, NOISE)
    assert (decision and decision.verdict) == verdict


def test_ties_of_removals_do_not_add_up_to_a_loss() -> None:
    first = replace(propose(simplifies=True), role="ablation")
    second = replace(first, number=2, parent=1)
    slower = *BASE.runs, run(11, "incumbent", 1, SLOW - 0.1), run(12, "incumbent", 1, SLOW - 0.1)
    keep = Decision(proposal=1, verdict="keep", reason="a tie")
    history = replace(BASE, runs=slower, proposals=(first, second), decisions=(keep,))
    without = [run(n, "ablation", 2, SLOW + 0.1) for n in (13, 14)]
    assert judge_ablation(history, second, without, NOISE).verdict == "discard", "held against the 100 s of before"
    other = replace(history, proposals=(replace(first, role="screen"), second))
    assert judge_ablation(other, second, without, NOISE).verdict == "keep", "a rung of its own is what counts"


def test_runs_of_a_removal_enter_no_estimate() -> None:
    removed = replace(propose(simplifies=True), role="ablation")
    chosen = [run(n, "ablation", 1, 80) for n in (11, 12)]
    fresh = [run(n, "incumbent", 1, 99) for n in (13, 14)]
    history = replace(BASE, runs=(*BASE.runs, *chosen, *fresh), proposals=(removed,))
    assert estimate(history, 1).median_seconds == 99


def test_a_proposal_whose_parent_was_replaced_is_not_run() -> None:
    assert judge_overtaken(BASE, propose()) is None
    keep = Decision(proposal=1, verdict="keep", reason="r")
    later = replace(BASE, proposals=(propose(), propose(2)), decisions=(keep,))
    decision = judge_overtaken(later, propose(2))
    assert decision is not None and decision.verdict == "discard" and "the incumbent is #1 now" in decision.reason
    assert is_reopened(replace(later, decisions=(keep, decision)), 2), "it may be proposed again for what came instead"


def test_the_rival_is_the_last_kept_before() -> None:
    keeps = tuple(Decision(proposal=n, verdict="keep", reason="fast") for n in (1, 3))
    history = replace(BASE, proposals=tuple(propose(n) for n in (1, 2, 3, 4)), decisions=keeps)
    assert [rival_of(history, propose(n)) for n in (1, 2, 3, 4)] == [0, 1, 1, 3]


ORDER = {None: 0, "keep": 0, "inconclusive": 1, "discard": 2}


@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_faster_is_never_judged_worse(one: float, other: float) -> None:
    fast, slow = sorted((one, other))
    judged = [screen(seconds) for seconds in (fast, slow)]
    ranks = [ORDER[decision.verdict if decision else None] for decision in judged]
    assert ranks == sorted(ranks)
    assert ORDER[confirm(50, fast).verdict] <= ORDER[confirm(50, slow).verdict]


@given(st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0]), st.sampled_from([BASE, MISSES]))
def test_what_is_no_time_never_wins(seconds: float, history: History) -> None:
    bad = replace(run(9, "screen", 1, 10.0), time_to_target={"train": seconds, "wall": seconds, "step": 1})
    decision = judge_screen(history, propose(), bad, NOISE)
    assert decision is not None and decision.verdict == "discard"
    assert judge_confirm(history, propose(), bad, replace(bad, role="confirm"), NOISE).verdict == "discard"


@given(st.floats(0.01, 1e4), st.sampled_from(["raced", "missed", "out_of_budget", "diverged"]))
def test_a_censored_reading_is_never_a_time(reading: float, outcome: Outcome) -> None:
    for history in (BASE, MISSES):
        decision = screen(reading, outcome, history)
        assert decision is not None and decision.verdict == "discard" and "ratio" not in decision.statistics


def test_what_is_not_kept_says_what_reopens_it() -> None:
    later = {"keeps": 3}
    assert confirm(80, 80).revisit_if == {}, "a keep needs no second chance"
    slow, missed, stopped = screen(120), screen(50, "missed"), screen(50, "raced")
    assert slow and missed and stopped and slow.revisit_if == missed.revisit_if == stopped.revisit_if == later
    beside_misses = screen(800, "missed", history=MISSES)
    assert beside_misses is not None and beside_misses.revisit_if == {"keeps": 1}, "open when somebody reaches"


def test_a_gain_within_the_noise_waits_for_less_noise() -> None:
    seen, hardly = screen(95.5), screen(99.0)
    assert seen and hardly and seen.verdict == hardly.verdict == "inconclusive"
    assert seen.revisit_if == {"keeps": 3, "sigma_below": pytest.approx(math.log(100 / 95.5) / 1.5)}
    assert hardly.revisit_if == {"keeps": 3}, "the grid cannot show so little"
