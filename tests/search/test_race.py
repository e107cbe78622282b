"""Racing as a whole: what stops a screen, when, and with which numbers."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from races import TARGETS, Points, cliff, curve, ending, first_stop, history_of, power

from hotlap.core.records import Kill
from hotlap.core.targets import parse_target
from hotlap.search.race import RaceContext, Recordings, race, race_context

HISTORY, POINTS = history_of([("baseline", 0, ending(100.0))] * 2, proposals=1)
PROPOSAL = HISTORY.proposal(1)
CONTEXT = race_context(HISTORY, PROPOSAL, POINTS, TARGETS)
SECONDS = HISTORY.runs[0].train_seconds
"""The incumbent's time: the first evaluation after the crossing."""


SLIGHTLY_SLOWER = curve(102.0, until=102.0)
"""It has not reached when it is too late to pass."""


def stopped_at(points: Points, context: RaceContext = CONTEXT) -> tuple[float, Kill] | None:
    kill = first_stop(points, context)
    return None if kill is None else (kill.at_seconds, kill)


def far_behind(until: float = 100.0) -> Points:
    return [{**point, "eval_loss": 4.0 - 0.004 * point["train_seconds"]} for point in curve(until=until)]


def test_the_context_comes_from_the_history() -> None:
    assert CONTEXT.incumbent_seconds == SECONDS and 98 < SECONDS < 102
    assert CONTEXT.minimum_tokens == POINTS["r0001"][-1]["tokens"]
    assert CONTEXT.cap_seconds == pytest.approx(SECONDS * math.exp(-0.05) * 1.03)
    assert CONTEXT.initial_loss == pytest.approx(cliff(1))
    assert len(CONTEXT.incumbent_curve.seconds) == len(POINTS["r0001"])
    assert CONTEXT.incumbent_curve.gaps[0] == 1 and CONTEXT.incumbent_curve.gaps[-1] == 0


def test_an_incumbent_that_ran_once_sets_the_same_cap() -> None:
    history, points = history_of([("baseline", 0, ending(100.0))], proposals=1)
    context = race_context(history, PROPOSAL, points, TARGETS)
    assert context.cap_seconds == CONTEXT.cap_seconds and context.pass_seconds == CONTEXT.pass_seconds


def test_the_slowest_run_of_the_incumbent_is_the_measure() -> None:
    both = [("baseline", 0, ending(100.0)), ("baseline", 0, ending(120.0))]
    history, points = history_of(both, proposals=1)
    context = race_context(history, PROPOSAL, points, TARGETS)
    assert context.incumbent_curve.gap_at(80) == pytest.approx((cliff(80, 120) - 0.76) / 3.24, rel=0.05)


def test_a_run_like_the_incumbent_is_left_alone_until_the_cap() -> None:
    stop = stopped_at(SLIGHTLY_SLOWER)
    assert stop is not None
    at, kill = stop
    assert at > CONTEXT.cap_seconds and kill.rule == "cap"
    assert "no longer beat" in kill.reason and "eval_loss" in kill.reason


@pytest.mark.parametrize("total", [60.0, 85.0, 95.0])
def test_faster_runs_are_never_stopped_before_they_could_pass(total: float) -> None:
    assert stopped_at(curve(total, until=min(total, 95.0))) is None


@pytest.mark.parametrize("name", ["train_loss", "eval_loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_finite_is_broken_at_once(name: str, value: float) -> None:
    points = [*curve(until=3), {"step": 40, "train_seconds": 3.5, name: value}, {"step": 41, "train_seconds": 3.6}]
    kill = race(points, CONTEXT)
    assert kill is not None and kill.rule == "broken" and name in kill.reason


def test_a_loss_above_the_initial_one_is_broken_after_warm_up() -> None:
    points = curve(until=30)
    for point in points:
        point["eval_loss"] = 4.0 if point["train_seconds"] < 5 else 6.0
    stop = stopped_at(points)
    assert stop is not None and 20 < stop[0] < 21.5 and stop[1].rule == "broken"


@pytest.mark.parametrize("name", ["train_loss", "eval_loss"])
def test_a_loss_far_above_the_initial_one_is_broken_at_once(name: str) -> None:
    points = [*curve(until=3), {"step": 40, "train_seconds": 3.5, name: 12.5}]
    points.insert(0, {"step": 1, "train_seconds": 0.1, "train_loss": 4.0})
    kill = race(points, CONTEXT)
    assert kill is not None and kill.rule == "broken" and kill.evidence[name] == 12.5
    assert race([*points[:-1], {**points[-1], name: 11.0}], CONTEXT) is None


def test_too_few_tokens_a_second_can_never_make_it() -> None:
    slow = [{**point, "tokens": point["tokens"] * 0.4} for point in curve(until=50)]
    stop = stopped_at(slow)
    assert stop is not None and stop[0] < 4 and stop[1].rule == "throughput" and "400 tokens/s" in stop[1].reason
    assert stopped_at([{**point, "tokens": point["tokens"] * 0.6} for point in curve(until=50)]) is None


def test_far_behind_is_stopped_and_told_where_the_incumbent_was() -> None:
    stop = stopped_at(far_behind())
    assert stop is not None and 25 < stop[0] < 26 and stop[1].rule == "behind"
    reason = "too far behind: at 25.2 s it is where the incumbent was at 1.55 s; it would have to make up 1551% "
    assert stop[1].reason.startswith(f"{reason}from there on, and more than 348% is not believed of any run (last eval")
    assert stop[1].evidence["needed"] > stop[1].evidence["believed"] and "most_seen" not in stop[1].evidence


@given(st.lists(st.floats(1.06, 3), min_size=200, max_size=200))
def test_what_leads_by_the_margin_is_never_behind(leads: list[float]) -> None:
    """However its lead comes and goes, and were nothing believed to be made up."""
    ahead = [
        {**point, "eval_loss": max(0.77, cliff(point["train_seconds"] * lead))}
        for point, lead in zip(curve(until=95.0), leads, strict=False)
    ]
    strict = tuple(check._replace(log_ratio=0.0) for check in CONTEXT.allowances)
    assert stopped_at(ahead, replace(CONTEXT, allowances=strict)) is None


@given(st.floats(0.01, 1000), st.floats(20, 300))
def test_a_machine_of_another_speed_stops_the_same_runs_at_the_same_place(speed: float, total: float) -> None:
    def slowed(points: Points) -> Points:
        return [{**point, "train_seconds": point["train_seconds"] * speed} for point in points]

    others = [("screen", number, ending(80.0 + number)) for number in range(1, 6)]
    runs = [("baseline", 0, ending(100.0)), *others]
    here, there = (
        race_context(history, history.proposal(6), points, TARGETS)
        for history, points in (
            history_of(runs, proposals=6),
            history_of([(role, number, slowed(points)) for role, number, points in runs], proposals=6),
        )
    )
    one, other = stopped_at(curve(total), here), stopped_at(slowed(curve(total)), there)
    assert [stop and stop[1].rule for stop in (one, other)] == [one and one[1].rule] * 2
    assert one is None or other is None or other[0] == pytest.approx(one[0] * speed)


def test_a_run_of_long_steps_does_not_stand_still_between_its_evaluations() -> None:
    """It is as fast as the incumbent, and looked at seven times on the way."""
    history, points = history_of([("baseline", 0, ending(100.0, power))] * 2, proposals=1)
    context = race_context(history, PROPOSAL, points, TARGETS)
    strict = replace(context, allowances=tuple(check._replace(log_ratio=0.05) for check in context.allowances))
    steps = [{"step": n, "train_seconds": 13.0 * n, "eval_loss": power(13.0 * n)} for n in range(1, 8)]
    assert stopped_at(steps, strict) is None


def test_one_bad_evaluation_is_not_enough() -> None:
    points = curve(until=63)
    points[-1]["eval_loss"] = 3.9
    assert race(points, CONTEXT) is None


def test_a_long_flat_stretch_is_not_far_behind() -> None:
    late = [{**point, "eval_loss": max(2.32, point["eval_loss"])} for point in curve(until=85)]
    assert stopped_at(late) is None


def test_what_others_made_up_decides_once_enough_are_known() -> None:
    """The others kept to the incumbent's way all along, so who is a third slower will not catch up."""
    for others, stops_early in ((4, False), (5, True)):
        runs = [("baseline", 0, ending(100.0))] * 2
        runs += [("screen", number, ending(90.0 + number)) for number in range(1, others + 1)]
        history, points = history_of(runs, proposals=others + 1)
        stop = stopped_at(curve(130.0), race_context(history, history.proposal(others + 1), points, TARGETS))
        assert stop is not None and (stop[0] < 35 and stop[1].rule == "behind") == stops_early
        told = stop[1].reason.find(f"none of {others} runs that reached made up more than ")
        assert (told > 0) == stops_early


def test_exempt_families_may_start_slowly() -> None:
    exempt = replace(CONTEXT, exempt_until=0.8)
    stop = stopped_at(far_behind(), exempt)
    assert stop is not None and stop[0] > 79
    slow = [{**point, "tokens": point["tokens"] * 0.4} for point in curve(until=70)]
    assert stopped_at(slow, exempt) is None


def test_an_incumbent_that_misses_sets_no_cap() -> None:
    history, points = history_of([("baseline", 0, curve(800, until=400))], proposals=1)
    context = race_context(history, PROPOSAL, points, TARGETS)
    assert context.cap_seconds == math.inf and context.reference_seconds == history.runs[0].train_seconds
    assert stopped_at(curve(1000, until=500), context) is None
    assert race([{"step": 1, "train_seconds": 90.0, "eval_loss": math.nan}], context) is not None


def test_a_run_that_has_just_reached_is_not_stopped() -> None:
    assert race([*curve(until=90), {"step": 9, "train_seconds": 120.0, "eval_loss": 0.7}], CONTEXT) is None


def test_the_wall_clock_is_read_where_it_is_judged() -> None:
    context = race_context(replace(HISTORY, clock="wall"), PROPOSAL, POINTS, TARGETS)
    assert context.incumbent_seconds == SECONDS + 5
    point = {"step": 5, "train_seconds": 80.0, "wall_seconds": 130.0}
    assert race([point], context) is not None and race([point], CONTEXT) is None


def test_nothing_measured_stops_nothing() -> None:
    assert race([], CONTEXT) is None
    assert race([{"step": 1}], CONTEXT) is None


def test_points_may_come_one_by_one_or_all_at_once() -> None:
    for points in (curve(), far_behind(), curve(until=90)):
        kill = first_stop(points, CONTEXT)
        at_once = next((k for n in range(1, len(points) + 1) if (k := race(points[:n], CONTEXT))), None)
        assert kill == at_once


def test_a_kill_says_what_it_saved() -> None:
    kill = first_stop(SLIGHTLY_SLOWER, CONTEXT)
    assert kill is not None
    horizon = 1200 / 10  # the schedule ends there, before twice the incumbent's time
    assert kill.saved_seconds == pytest.approx(horizon - kill.at_seconds, abs=0.1)
    limited = first_stop(SLIGHTLY_SLOWER, replace(CONTEXT, limit_seconds=110.0))
    assert limited is not None and limited.saved_seconds == pytest.approx(110.0 - limited.at_seconds)
    assert all(map(math.isfinite, kill.evidence.values())) and str(kill) == kill.reason


def test_doubtful_rules_stop_nothing() -> None:
    off = replace(CONTEXT, doubtful=frozenset({"behind", "envelope", "extrapolation"}))
    stop = stopped_at(far_behind(until=102.0), off)
    assert stop is not None and stop[1].rule == "cap"


def test_a_rule_that_would_have_stopped_a_winner_is_doubtful() -> None:
    """A kept change whose curve was far worse than the incumbent's until its last tenth."""
    late = [{**p, "eval_loss": 3.99 if p["train_seconds"] < 85 else p["eval_loss"]} for p in curve(88, until=90)]
    runs = [("baseline", 0, ending(100.0))] * 2 + [("screen", 1, late)] + [("incumbent", 1, late)] * 2
    history, points = history_of(runs, proposals=2, kept=(1,))
    context = race_context(history, history.proposal(2), Recordings(points.__getitem__), TARGETS)
    assert context.doubtful == {"behind"}
    assert stopped_at(far_behind(), context) is not None


def test_what_saw_no_baseline_has_no_curves_to_race_on() -> None:
    context = race_context(HISTORY, PROPOSAL, {}, TARGETS)
    assert context.scale.targets == () and not context.incumbent_curve.seconds
    stop = stopped_at(far_behind(until=102.0), context)
    assert stop is not None and stop[1].rule == "cap"


def test_other_targets_are_raced_on_as_well() -> None:
    """A gap is the worst of all cheap targets: here the accuracy, which starts to rise late."""
    targets = (*TARGETS, parse_target("eval_byte_accuracy > 0.75"), parse_target("eval_sacrebleu > 0.3"))
    with_accuracy = [{**p, "eval_byte_accuracy": 0.1 + 0.0066 * p["train_seconds"]} for p in ending(100.0)]
    history, points = history_of([("baseline", 0, with_accuracy)] * 2, proposals=1)
    context = race_context(history, PROPOSAL, points, targets)
    assert [target.metric for target in context.scale.targets] == ["eval_loss", "eval_byte_accuracy"]
    assert context.incumbent_curve.gap_at(50) == pytest.approx(0.497, abs=0.005)
    assert (cliff(50) - 0.76) / 3.24 < 0.48, "by the loss alone it would be nearer"


@given(st.floats(0, 1), st.floats(20, 90))
def test_a_lower_loss_is_never_stopped_earlier(drop: float, until: float) -> None:
    behind = far_behind(until)
    better = [{**point, "eval_loss": point["eval_loss"] - drop} for point in behind]
    if race(behind, CONTEXT) is None:
        assert race(better, CONTEXT) is None
