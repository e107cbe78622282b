"""What a screen is held against, and what it takes for a rule to have its grounds."""

import math
from dataclasses import replace

import pytest
from races import BASE_CONFIG, CONSTANT_CONFIG, TARGETS, curve, ending, history_of, points_of, power, proposal

from hotlap.search.curves import Recordings
from hotlap.search.opponents import (
    BEHIND_CHECKS,
    ENVELOPE_FROM_SHARE,
    MOST_RUNS,
    SEEN_MARGIN,
    SLOW_START,
    exempt_until,
    gather_opponents,
)
from hotlap.search.race import RaceContext


def gather(
    runs: list[tuple[str, int, list[dict[str, float]]]], config: object = BASE_CONFIG, **change: object
) -> RaceContext:
    """Return the context of one more proposal."""
    last = max(candidate for _, candidate, _ in runs) + 1
    history, points = history_of(runs, proposals=last, base_config=config)  # type: ignore[arg-type]
    idea = replace(history.proposal(last), **change)  # type: ignore[arg-type]
    history = replace(history, proposals=(*history.proposals[:-1], idea))
    return gather_opponents(history, idea, Recordings(points.__getitem__), TARGETS)


@pytest.mark.parametrize("key", ["training.warmup_ratio", "training.max_steps", "training.per_device_train_batch_size"])
def test_schedules_and_batches_may_start_slowly_whoever_proposes_them(key: str) -> None:
    assert exempt_until(proposal(patch={key: 1})) == SLOW_START
    assert exempt_until(proposal(patch={key: 1}, exempt_from_race_until=0.8)) == 0.8
    assert exempt_until(proposal(patch={"training.learning_rate": 1e-3})) == 0


def test_of_a_sampled_proposal_only_what_it_says_counts() -> None:
    patch = {"training.max_steps": 100}
    assert exempt_until(proposal(patch=patch, proposer="sampler")) == 0
    assert exempt_until(proposal(patch=patch, proposer="prior", exempt_from_race_until=0.2)) == 0.2


def test_the_envelope_is_the_worst_success_at_each_share() -> None:
    totals = (100.0, 104.0, 110.0)
    context = gather([("baseline", 0, ending(total, power)) for total in totals])
    shares, worst = context.envelope
    assert shares[0] == ENVELOPE_FROM_SHARE and 0.8 < shares[-1] <= 0.86, "as far as three were still on their way"
    at = 0.5 * 1200 / 10
    slowest = (power(at, 110.0) - 0.76) / context.scale.shortfalls[0]
    assert worst[10] == pytest.approx(slowest, rel=0.01)


def test_a_schedule_that_the_config_does_not_tell_makes_no_envelope() -> None:
    runs = [("baseline", 0, ending(100.0, power))] * 3
    assert gather(runs, {"training": {"lr_scheduler_type": "linear", "max_steps": -1}}).envelope == ((), ())


def screens(*totals: float) -> list[tuple[str, int, list[dict[str, float]]]]:
    return [("screen", number, ending(total, power)) for number, total in enumerate(totals, start=1)]


def test_at_first_much_may_be_made_up_and_ever_less() -> None:
    context = gather([("baseline", 0, ending(100.0, power))] * 2 + screens(80.0, 80.0, 80.0, 80.0))
    shares = [check.seconds / context.incumbent_seconds for check in context.allowances]
    assert shares == pytest.approx(BEHIND_CHECKS)
    assert [check.log_ratio for check in context.allowances] == pytest.approx([2 * (1 - share) for share in shares])
    assert all(check.runs == 0 and math.isnan(check.seen) for check in context.allowances)


def test_what_five_candidates_made_up_is_believed_afterwards() -> None:
    """All of them lead the incumbent by the same share from the first check to the last: nothing was made up."""
    context = gather([("baseline", 0, ending(100.0, power))] * 2 + screens(*[85.0] * 5))
    half = next(check for check in context.allowances if check.seconds >= context.incumbent_seconds / 2)
    assert half.log_ratio == pytest.approx(SEEN_MARGIN, abs=0.05) and half.runs == 5 and half.seen < 0.05
    assert context.allowances[-1].runs == 0, "all were done by then"


def test_one_run_that_came_from_behind_lets_others_do_so() -> None:
    quiet = gather([("baseline", 0, ending(100.0))] * 2 + [("screen", n, ending(85.0)) for n in range(1, 7)])
    late = [{**p, "eval_loss": 3.0 if p["train_seconds"] < 60 else p["eval_loss"]} for p in ending(85.0)]
    runs = [("screen", n, ending(85.0)) for n in range(1, 6)] + [("screen", 6, late)]
    loud = gather([("baseline", 0, ending(100.0))] * 2 + runs)
    assert all(q.log_ratio <= one.log_ratio for q, one in zip(quiet.allowances, loud.allowances, strict=True))
    assert loud.allowances[6].log_ratio > quiet.allowances[6].log_ratio + 0.5


def test_runs_of_the_baseline_and_more_runs_of_one_candidate_tell_nothing_new() -> None:
    runs = [("baseline", 0, ending(100.0, power))] * 4 + screens(*[85.0] * 4)
    context = gather([*runs, *[("confirm", 4, ending(85.0, power))] * 3, ("record", 0, ending(100.0, power))])
    assert all(check.runs == 0 for check in context.allowances)


def test_an_incumbent_that_misses_cannot_be_lagged_behind() -> None:
    assert gather([("baseline", 0, curve(800, until=400))] * 2).allowances == ()


def test_rungs_hold_one_run_of_each_candidate_that_got_there() -> None:
    runs = [("baseline", 0, ending(100.0, power))] * 2
    runs += [("screen", 1, points_of(power, 150.0, 10.0)), ("screen", 2, points_of(power, 150.0, 60.0))]
    context = gather(runs, CONSTANT_CONFIG, proposer="mutation")
    assert [len(rung.entries) for rung in context.rungs] == [3, 2, 2, 2], "the first one ended before the second rung"
    assert [rung.seconds / context.incumbent_seconds for rung in context.rungs] == [1 / 16, 1 / 8, 1 / 4, 1 / 2]
    assert all(rung.noise == 0 and rung.incumbent_gap < rung.entries[-1][0] for rung in context.rungs)
    assert all(math.isnan(share) for rung in context.rungs for _, share in rung.entries)


def test_a_noisy_incumbent_widens_the_rungs() -> None:
    context = gather([("baseline", 0, ending(total, power)) for total in (90.0, 110.0)], proposer="sampler")
    assert all(rung.noise > 0.005 for rung in context.rungs)


def test_an_incumbent_that_misses_has_rungs_at_its_length() -> None:
    context = gather([("baseline", 0, curve(800, until=400))] * 2, proposer="sampler")
    assert context.rungs[-1].seconds == pytest.approx(context.reference_seconds / 2)
    assert not math.isfinite(context.incumbent_seconds)


def test_only_the_latest_runs_are_looked_at() -> None:
    runs = [("baseline", 0, ending(100.0, power))] * 2
    runs += [("screen", number, points_of(power, 150.0, 60.0)) for number in range(1, MOST_RUNS + 10)]
    context = gather(runs, CONSTANT_CONFIG, proposer="sampler")
    assert {len(rung.entries) for rung in context.rungs} == {MOST_RUNS}


def test_runs_that_tell_a_rule_nothing_do_not_crowd_out_those_that_do() -> None:
    baselines = [("baseline", 0, ending(100.0, power))] * 3
    assert gather([*baselines, *screens(*[40.0] * MOST_RUNS)]).envelope[0], "those were done early in their schedules"
    crowd = [("incumbent", 0, ending(100.0, power))] * MOST_RUNS
    assert gather([*baselines, *screens(*[85.0] * 5), *crowd]).allowances[5].runs == 5
    falling = [{**point, "learning_rate": 1 / (1 + point["step"])} for point in ending(90.0, power)]
    silent = [("screen", number, falling) for number in range(1, MOST_RUNS + 1)]
    assert gather([*baselines, *silent], CONSTANT_CONFIG).trusts_extrapolation


def test_runs_from_before_a_drift_was_seen_are_no_measure() -> None:
    slower = [{**point, "train_seconds": 1.5 * point["train_seconds"]} for point in ending(100.0, power)]
    runs = [("baseline", 0, ending(100.0, power))] * 3 + screens(*[85.0] * 5)
    before = gather(runs, CONSTANT_CONFIG, proposer="sampler")
    assert before.allowances[5].runs == 5 and [len(rung.entries) for rung in before.rungs] == [6] * 4
    context = gather([*runs, *[("incumbent", 0, slower)] * 2], CONSTANT_CONFIG, proposer="sampler")
    assert context.allowances[5].runs == 0 and [len(rung.entries) for rung in context.rungs] == [1] * 4
    assert context.minimum_tokens == before.minimum_tokens, "tokens are the same on any machine"


def test_one_run_that_broke_the_law_takes_the_trust_in_it_away() -> None:
    lawful = [("baseline", 0, ending(100.0, power))] * 3
    assert gather(lawful, CONSTANT_CONFIG).trusts_extrapolation
    assert not gather([*lawful, ("screen", 1, ending(80.0))], CONSTANT_CONFIG).trusts_extrapolation
    assert not gather(lawful[:1], CONSTANT_CONFIG).trusts_extrapolation
