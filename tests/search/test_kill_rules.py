"""The rules on curves, each with an incumbent that gives it its grounds, and without them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from races import BASE_CONFIG, CONSTANT_CONFIG, TARGETS, Points, curve, ending, first_stop, history_of, points_of, power

from hotlap.core.records import Proposal
from hotlap.search.race import RaceContext, race_context


def context_of(baseline: Sequence[Points], config: Any, screens: Sequence[Points] = (), **changes: Any) -> RaceContext:
    """Return the context of the next proposal after some baselines and screens, for any rule but `behind`."""
    runs = [("baseline", 0, points) for points in baseline]
    runs += [("screen", number, points) for number, points in enumerate(screens, start=1)]
    history, points = history_of(runs, proposals=len(screens) + 1, base_config=config)
    proposal: Proposal = replace(history.proposal(len(screens) + 1), **changes)
    history = replace(history, proposals=(*history.proposals[:-1], proposal))
    return replace(race_context(history, proposal, points, TARGETS), allowances=())


def power_until(total: float, until: float) -> Points:
    return points_of(power, total, until)


# ---- envelope: the baselines reach at 100 s of a schedule of 120 s, its last fifth included

TIED = context_of([ending(100.0, power), ending(102.0, power), ending(105.0, power)], BASE_CONFIG)


def test_what_is_worse_than_every_success_at_its_place_in_the_schedule_is_outside() -> None:
    points = power_until(600.0, 90.0)
    kill = first_stop(points, TIED)
    assert kill is not None and kill.rule == "envelope"
    assert (
        0.3 <= kill.evidence["share"] < 0.35 and kill.evidence["gap"] > kill.evidence["bound"] + kill.evidence["margin"]
    )


def test_the_place_in_the_schedule_counts_and_not_the_clock() -> None:
    """A schedule twice as long stands at half the share at the same reading: judged only where it is comparable."""
    config = {"training": {**BASE_CONFIG["training"], "max_steps": 2400}}
    longer = replace(TIED, plan=context_of([ending(100.0, power)], config).plan)
    assert first_stop(power_until(300.0, 90.0), longer) is None


@pytest.mark.parametrize("total", [80.0, 100.0, 110.0])
def test_successes_are_inside(total: float) -> None:
    kill = first_stop(power_until(total, 90.0), TIED)
    assert kill is None


def test_too_few_successes_make_no_envelope() -> None:
    assert context_of([ending(100.0, power)] * 2, BASE_CONFIG).envelope == ((), ())


def test_one_evaluation_outside_is_not_enough() -> None:
    points = power_until(100.0, 60.0)
    points[-1]["eval_loss"] = 3.0
    assert first_stop(points, TIED) is None
    points[-2]["eval_loss"] = 3.0
    assert (kill := first_stop(points, TIED)) is not None and kill.rule == "envelope"


def test_runs_that_reached_early_in_their_schedule_make_none() -> None:
    config = {"training": {**BASE_CONFIG["training"], "max_steps": 2000}}
    assert context_of([ending(100.0, power)] * 4, config).envelope == ((), ())


def test_a_constant_rate_has_no_place_in_a_schedule() -> None:
    assert context_of(
        [ending(100.0, power)] * 4, {"training": {"lr_scheduler_type": "constant", "max_steps": 1200}}
    ).envelope == (
        (),
        (),
    )


# ---- extrapolation

STEADY = context_of([ending(100.0, power), ending(104.0, power)], CONSTANT_CONFIG)


def test_what_will_come_too_late_is_stopped_early() -> None:
    kill = first_stop(power_until(300.0, 90.0), STEADY)
    assert kill is not None and kill.rule == "extrapolation" and kill.at_seconds < 60
    assert kill.evidence["earliest_seconds"] > kill.evidence["incumbent_seconds"]
    assert kill.evidence["extrapolated_seconds"] == pytest.approx(300, rel=0.2)


def test_it_takes_two_checks_in_a_row() -> None:
    kill = first_stop(power_until(3000.0, 90.0), STEADY)
    assert kill is not None and kill.rule == "extrapolation"
    assert 0.3 <= kill.at_seconds / STEADY.incumbent_seconds < 0.32


@given(st.floats(40, 100))
def test_what_is_as_fast_as_the_incumbent_is_never_extrapolated_away(total: float) -> None:
    assert first_stop(power_until(total, min(total, 90.0)), STEADY) is None


def test_extrapolation_is_not_trusted_where_losses_fall_over_a_cliff() -> None:
    context = context_of([ending(100.0), ending(104.0)], CONSTANT_CONFIG)
    assert not context.trusts_extrapolation
    assert STEADY.trusts_extrapolation


@pytest.mark.parametrize("schedule", ["linear", "cosine", "warmup_stable_decay", ""])
def test_a_decay_is_not_extrapolated(schedule: str) -> None:
    context = context_of([ending(100.0, power)] * 2, {"training": {"lr_scheduler_type": schedule}})
    assert not context.trusts_extrapolation


def test_the_steady_part_of_a_schedule_is_extrapolated_where_its_rates_are_told() -> None:
    config = {"training": {"lr_scheduler_type": "warmup_stable_decay", "max_steps": 1200}}
    steady = [[{**point, "learning_rate": 1e-3} for point in ending(total, power)] for total in (100.0, 104.0)]
    assert context_of(steady, config).trusts_extrapolation
    falling = [[{**p, "learning_rate": 1e-3 / (1 + p["step"])} for p in points] for points in steady]
    assert not context_of(falling, config).trusts_extrapolation


def test_exempt_families_are_not_extrapolated_early() -> None:
    kill = first_stop(power_until(300.0, 95.0), replace(STEADY, exempt_until=0.8))
    assert kill is not None and kill.at_seconds > 80


# ---- rungs

SCREENS = [power_until(total, 60.0) for total in (110.0, 130.0, 150.0, 170.0, 190.0, 210.0)]
SAMPLED = {"proposer": "sampler"}


def rung_context(**changes: Any) -> RaceContext:
    return replace(
        context_of([ending(100.0, power)] * 2, CONSTANT_CONFIG, SCREENS, **changes), trusts_extrapolation=False
    )


def test_a_sampled_screen_has_to_be_among_the_best_third_at_a_rung() -> None:
    kill = first_stop(power_until(200.0, 60.0), rung_context(**SAMPLED))
    assert kill is not None and kill.rule == "rung" and kill.at_seconds < 8
    assert kill.evidence["runs"] == 8 and kill.evidence["rank"] == 7
    assert kill.evidence["rung_gap"] > max(kill.evidence["last_place_gap"], kill.evidence["incumbent_gap"])


def test_proposals_with_grounds_are_not_held_against_rungs() -> None:
    assert rung_context(proposer="rules").rungs == ()
    assert first_stop(power_until(200.0, 60.0), rung_context(proposer="rules")) is None


@pytest.mark.parametrize("total", [70.0, 99.0, 112.0])
def test_the_best_third_and_whoever_leads_the_incumbent_go_on(total: float) -> None:
    assert first_stop(power_until(total, 60.0), rung_context(**SAMPLED)) is None


def test_whoever_leads_the_incumbent_goes_on_even_in_the_last_place() -> None:
    leaders = [power_until(total, 40.0) for total in (50.0, 52.0, 54.0, 56.0, 58.0, 60.0)]
    context = context_of([ending(100.0, power)] * 2, CONSTANT_CONFIG, leaders, **SAMPLED)
    assert first_stop(power_until(95.0, 60.0), context) is None
    alone = replace(context, rungs=tuple(replace_incumbent(rung) for rung in context.rungs))
    assert (kill := first_stop(power_until(95.0, 60.0), alone)) is not None and kill.rule == "rung"


def test_within_the_incumbents_own_noise_nobody_is_stopped() -> None:
    context = rung_context(**SAMPLED)
    noisy = replace(context, rungs=tuple(rung._replace(noise=0.3) for rung in context.rungs))
    assert first_stop(power_until(200.0, 60.0), noisy) is None


def test_few_runs_decide_nothing() -> None:
    context = context_of([ending(100.0, power)] * 2, CONSTANT_CONFIG, SCREENS[:4], **SAMPLED)
    assert first_stop(power_until(200.0, 60.0), replace(context, trusts_extrapolation=False)) is None


def test_ripples_decide_nothing() -> None:
    """On a flat stretch all runs are alike, whatever their places."""
    flat = [points_of(lambda s, t: 3.9 - 0.0001 * t, float(number), 60.0) for number in range(6)]
    context = context_of([ending(100.0)] * 2, CONSTANT_CONFIG, flat, **SAMPLED)
    rippled = points_of(lambda s, t: 3.93, 100.0, 30.0)
    rungs = tuple(replace_incumbent(rung) for rung in context.rungs)
    assert first_stop(rippled, replace(context, rungs=rungs)) is None


def replace_incumbent(rung: Any) -> Any:
    return rung._replace(incumbent_gap=-math.inf)


def test_runs_at_other_places_of_their_schedules_are_no_measure() -> None:
    """With a decay, how far a run is at a reading depends on where its schedule ends."""
    context = context_of([ending(100.0, power)] * 2, BASE_CONFIG, SCREENS, **SAMPLED)
    slow = power_until(200.0, 60.0)
    assert (kill := first_stop(slow, context)) is not None and kill.rule == "rung"
    longer = replace(context, plan=replace(context.plan, horizon=3600.0))
    assert (kill := first_stop(slow, longer)) is None or kill.rule != "rung"


def test_exempt_screens_pass_the_early_rungs() -> None:
    kill = first_stop(power_until(200.0, 60.0), rung_context(**SAMPLED, exempt_from_race_until=0.3))
    assert kill is not None and kill.rule == "rung" and 50 < kill.at_seconds < 53


def test_broken_runs_are_stopped_by_whatever_they_are_compared_with() -> None:
    for context in (TIED, STEADY, rung_context(**SAMPLED)):
        kill = first_stop([*curve(until=3), {"step": 31, "train_seconds": 3.1, "eval_loss": math.nan}], context)
        assert kill is not None and kill.rule == "broken"
