"""The permutation test and record looks."""

import math
import random
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.errors import ConfigError
from hotlap.core.records import Decision, History, Outcome, Proposal, RecordClaim, RunRecord
from hotlap.search.noise import Noise, Reading
from hotlap.search.record import (
    Look,
    baseline_readings,
    check_record_plan,
    current_look,
    is_claimed,
    judge_record,
    last_record,
    look_pace,
    permutation_p_value,
    speedup_interval,
    student_quantile,
)

INF = math.inf
times = st.lists(st.one_of(st.floats(0.1, 1e4), st.just(INF)), min_size=1, max_size=4)


def run(number: int, candidate: int, seconds: float, role: str = "record", outcome: Outcome | None = None) -> RunRecord:
    hit = math.isfinite(seconds) and outcome is None
    return RunRecord(
        run_id=f"r{number:04}",
        role=role,  # type: ignore[arg-type]
        candidate=candidate,
        seed=number,
        outcome=outcome or ("reached" if hit else "out_of_budget"),
        steps=10,
        train_seconds=seconds if hit else 20.0,
        time_to_target={"train": seconds, "wall": seconds, "step": 10} if hit else None,
    )


def look(new: list[float], old: list[float]) -> Look:
    runs = [run(n, 1, s) for n, s in enumerate(new)] + [run(n + 50, 0, s) for n, s in enumerate(old)]
    return Look(1, 1, 0, tuple(runs), 0)


def noise_of(sigma: float, degrees: int = 6) -> Noise:
    return Noise(sigma=sigma, degrees_of_freedom=degrees, resolution=0.0, measured=sigma)


def test_full_separation_of_four_and_four() -> None:
    assert permutation_p_value([1, 2, 3, 4], [5, 6, 7, 8]) == 1 / 70
    assert permutation_p_value([1, 2, 3, 4], [INF] * 4) == 1 / 70
    assert permutation_p_value([5, 6, 7, 8], [1, 2, 3, 4]) == 1.0


def test_known_small_cases() -> None:
    assert permutation_p_value([1, 3], [2, 4]) == 2 / 6
    assert permutation_p_value([1, 2, 3], [4, 5, 6]) == 1 / 20
    assert permutation_p_value([INF, INF], [INF, INF]) == 1.0
    assert permutation_p_value([1, INF], [INF, INF]) == 3 / 6


def test_too_many_runs_are_refused() -> None:
    with pytest.raises(ConfigError, match="fewer"):
        permutation_p_value([1.0] * 12, [2.0] * 12)


@given(times, times)
def test_p_is_a_probability_and_not_a_number_is_a_miss(new: list[float], old: list[float]) -> None:
    p_value = permutation_p_value(new, old)
    assert 0 < p_value <= 1
    swap = {INF: math.nan}
    assert permutation_p_value([swap.get(t, t) for t in new], [swap.get(t, t) for t in old]) == p_value


@given(st.permutations(range(8)), st.integers(0, 3), st.integers(1, 8))
def test_a_slower_incumbent_never_has_a_smaller_p(order: list[int], index: int, places: int) -> None:
    new, old = [float(rank) for rank in order[:4]], [float(rank) for rank in order[4:]]
    slower = list(new)
    slower[index] += places - 0.5  # between two others: no tie appears or goes, which would change the test itself
    assert permutation_p_value(slower, old) >= permutation_p_value(new, old)


@given(times, times)
def test_only_ranks_count(new: list[float], old: list[float]) -> None:
    doubled = permutation_p_value([2 * t for t in new], [2 * t for t in old])  # exact: keeps every order and tie
    assert doubled == permutation_p_value(new, old)


def test_equal_sides_are_rarely_a_record() -> None:
    generator = random.Random(5)
    looks = 3000
    false = sum(
        judge_record(
            look(*([generator.lognormvariate(3, 0.2) for _ in range(4)] for _ in range(2))), "train", alpha=0.05
        ).confirmed
        for _ in range(looks)
    )
    expected = looks / 70
    assert abs(false - expected) < 4 * math.sqrt(expected)


@pytest.mark.parametrize(("runs", "alpha"), [(4, 0.05), (10, 0.05), (3, 0.15)])
def test_plans_that_can_succeed(runs: int, alpha: float) -> None:
    check_record_plan(runs, alpha)


@pytest.mark.parametrize(("runs", "alpha"), [(3, 0.05), (2, 0.3), (4, 0.04), (11, 0.05), (4, 1e-9)])
def test_plans_that_cannot_succeed_are_refused(runs: int, alpha: float) -> None:
    with pytest.raises(ConfigError, match="splits"):
        check_record_plan(runs, alpha)


def test_the_refusal_shows_the_arithmetic_and_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"1/20 = 0\.05, above alpha/3 = 0\.017; use record.runs: 4"):
        check_record_plan(3, 0.05)


def test_a_claim_takes_its_numbers_from_the_record_runs_of_the_incumbent() -> None:
    claim = judge_record(look([9, 10, 11, 12], [20, 21, 22, INF]), "train", alpha=0.05)
    assert claim.confirmed and claim.median_seconds == 10.5 and claim.p_value == 1 / 70
    assert claim.alpha == pytest.approx(0.05 / 3) and "3 of 4" in claim.reason


def test_a_median_that_is_a_miss_is_no_record() -> None:
    claim = judge_record(look([INF, INF, INF, INF], [INF] * 4), "train", alpha=0.9999)
    assert not claim.confirmed


def test_a_claim_tells_its_speedup_with_an_interval() -> None:
    baseline = [Reading(100.0), Reading(104.0), Reading(98.0)]
    claim = judge_record(look([9, 10, 11, 12], [20, 21, 22, INF]), "train", 0.05, baseline)
    assert claim.speedup == pytest.approx(100 / 10.5)
    assert claim.speedup_interval == pytest.approx((98 / 12, 104 / 9))
    assert judge_record(look([9, 10, 11, 12], [20] * 4), "train", 0.05).speedup is None
    missed = judge_record(look([9, 10, 11, 12], [INF] * 4), "train", 0.05, [Reading(INF, last_seconds=60.0)] * 3)
    assert missed.speedup is None and missed.speedup_interval == (60 / 12, INF)


def test_the_interval_of_four_and_four_leaves_out_one_pair_at_each_end() -> None:
    old, new = [Reading(s) for s in (10.0, 11.0, 12.0, 13.0)], [Reading(s) for s in (1.0, 1.1, 1.2, 1.3)]
    ratios = sorted(left.seconds / right.seconds for left in old for right in new)
    assert speedup_interval(old, new) == (ratios[1], ratios[-2])  # 2/70 at either end; 4/70 would be above 5 %


def test_an_end_that_nothing_bounds_is_open() -> None:
    new = [Reading(s) for s in (10.0, 11.0, 12.0, 13.0)]
    stopped = [Reading(50.0, is_censored=True)] * 3
    assert speedup_interval(stopped, new) == (50 / 13, INF)
    missed = [Reading(INF, last_seconds=60.0)] * 3
    assert speedup_interval(missed, new) == (60 / 13, INF)
    assert speedup_interval([Reading(50.0)], [Reading(10.0)]) == (0.0, INF), "two runs bound nothing"


def test_where_runs_are_too_few_for_ranks_the_noise_of_the_study_bounds_a_speedup() -> None:
    old, new = [Reading(90.0), Reading(110.0)], [Reading(time) for time in (9.0, 10.0, 10.0, 11.0)]
    assert speedup_interval(old, new) == (0.0, INF)
    low, high = speedup_interval(old, new, noise_of(0.1))
    width = student_quantile(0.95, 6) * 0.1 * math.sqrt(1 / 2 + math.pi / 8)
    assert (low, high) == pytest.approx((10 * math.exp(-width), 10 * math.exp(width)))
    unknown = speedup_interval(old, new, noise_of(0.1, degrees=2))
    assert unknown[0] < low and high < unknown[1], "a noise that few runs tell may be larger"
    stopped = [*old[:1], Reading(110.0, is_censored=True)]
    for sides in ((stopped, new, noise_of(0.1)), (old, new, noise_of(0.1, degrees=0))):
        assert speedup_interval(*sides) == (0.0, INF)
    enough = [*old, Reading(100.0)]
    assert speedup_interval(enough, new, noise_of(0.1)) == speedup_interval(enough, new), "ranks first"


@pytest.mark.parametrize(("degrees", "value"), [(3, 2.353), (5, 2.015), (10, 1.812), (30, 1.697)])
def test_quantiles_of_students_t(degrees: int, value: float) -> None:
    assert student_quantile(0.95, degrees) == pytest.approx(value, rel=0.01)


def test_the_interval_covers_as_often_as_it_says() -> None:
    generator = random.Random(3)
    inside = 0
    for _ in range(2000):
        old = [Reading(generator.lognormvariate(math.log(30), 0.1)) for _ in range(5)]
        new = [Reading(generator.lognormvariate(math.log(10), 0.1)) for _ in range(4)]
        low, high = speedup_interval(old, new)
        inside += low <= 3.0 <= high
    assert 0.89 < inside / 2000 < 0.97


@pytest.mark.parametrize("degrees", [4, 6])
def test_the_interval_of_few_runs_covers_as_often_as_it_says(degrees: int) -> None:
    """Two runs against four, and a noise that was measured on as many degrees of freedom."""
    generator, inside, looks = random.Random(4), 0, 8000
    for _ in range(looks):
        old = [Reading(generator.lognormvariate(math.log(30), 0.1)) for _ in range(2)]
        new = [Reading(generator.lognormvariate(math.log(10), 0.1)) for _ in range(4)]
        measured = 0.1 * math.sqrt(2 * generator.gammavariate(degrees / 2, 1) / degrees)
        low, high = speedup_interval(old, new, noise_of(measured, degrees))
        inside += low <= 3.0 <= high
    assert 0.9 <= inside / looks < 0.93


@given(times, times, st.floats(0.5, 3.0))
def test_an_interval_is_ordered_and_scales(new: list[float], old: list[float], factor: float) -> None:
    sides = [[Reading(s, last_seconds=99.0) if s == INF else Reading(s) for s in side] for side in (old, new)]
    low, high = speedup_interval(sides[0], sides[1])
    assert 0 <= low <= high
    slower = [Reading(factor * r.seconds, last_seconds=factor * r.last_seconds) for r in sides[0]]
    scaled = speedup_interval(slower, sides[1])
    assert scaled[0] == pytest.approx(factor * low) and scaled[1] == pytest.approx(factor * high)


def test_overlap_is_no_record() -> None:
    assert not judge_record(look([9, 10, 11, 21], [20, 22, 23, 24]), "train", alpha=0.05).confirmed


def test_turns_are_balanced_and_the_incumbent_is_last() -> None:
    for size in (4, 5):
        runs: list[RunRecord] = []
        for _ in range(2 * size):
            side = Look(1, 1, 0, tuple(runs), 0).next_candidate(size)
            runs.append(run(len(runs), side, 5.0))
        order = [r.candidate for r in runs]
        assert order.count(1) == order.count(0) == size and order[-1] == 1
        assert all(order[n] != order[n + 1] for n in range(0, 2 * size, 2))


HISTORY = History(
    clock="train",
    base_config={},
    proposals=tuple(
        Proposal(
            number=n, parent=0, family="f", title="t", observation="o", hypothesis="h", patch={}, predicted_ratio=0.9
        )
        for n in (1, 2)
    ),
    decisions=(Decision(proposal=1, verdict="keep", reason="fast"),),
)


def test_a_look_is_an_unbroken_row_of_record_runs() -> None:
    runs = (run(1, 0, 9, "baseline"), run(2, 1, 5), run(3, 0, 9, outcome="lost"), run(4, 0, 9))
    found = current_look(replace(HISTORY, runs=runs))
    assert [r.run_id for r in found.runs] == ["r0002", "r0004"] and found.start == 1
    broken = current_look(replace(HISTORY, runs=(*runs, run(5, 2, 9, "screen"))))
    assert broken.runs == () and broken.start == 5


def test_looks_compare_with_the_last_confirmed_record() -> None:
    claim = RecordClaim(
        look=1, candidate=1, against=0, p_value=0.01, alpha=0.0167, confirmed=True, median_seconds=5, reason="r"
    )
    history = replace(HISTORY, claims=(claim, replace(claim, candidate=2, confirmed=False)))
    assert last_record(history) == 1 and last_record(HISTORY) == 0
    assert is_claimed(history, 2) and not is_claimed(history, 3)
    assert current_look(history).number == 3


def test_a_record_that_just_passed_is_told_smaller_than_it_looked() -> None:
    new, old = [9.0, 10.0, 11.0, 12.0], [12.5, 13.0, 14.0, 15.0]
    baseline = [Reading(seconds) for seconds in old]
    plain = judge_record(look(new, old), "train", 0.05, baseline)
    noisy = judge_record(look(new, old), "train", 0.05, baseline, noise_of(0.15))
    quiet = judge_record(look(new, old), "train", 0.05, baseline, noise_of(0.02))
    assert noisy.confirmed and plain.speedup and noisy.speedup and plain.speedup_interval and noisy.speedup_interval
    assert 1.0 < noisy.speedup < 0.95 * plain.speedup and "taken off its speedup for luck" in noisy.reason
    assert noisy.speedup_interval[0] < plain.speedup_interval[0]
    assert noisy.speedup_interval[1] == plain.speedup_interval[1] and noisy.median_seconds == plain.median_seconds
    assert quiet == plain, "far above what the test can see nothing is luck"


@pytest.mark.parametrize("gain", [0.3, 0.4, 0.6])
def test_claims_are_true_on_average_where_the_test_can_only_just_see_them(gain: float) -> None:
    generator, told, plain = random.Random(2), [], []
    while len(told) < 300:
        new, old = ([generator.lognormvariate(mean, 0.25) for _ in range(4)] for mean in (3.0, 3.0 + gain))
        for sigma, found in ((0.25, told), (0.0, plain)):
            known = replace(noise_of(sigma), degrees_of_freedom=10**6)
            claim = judge_record(look(new, old), "train", 0.05, [Reading(seconds) for seconds in old], known)
            if claim.confirmed and claim.speedup:
                found.append(claim.speedup / math.exp(gain))
    assert 0.93 <= fmean(told) <= 1.07
    assert fmean(plain) > fmean(told) + 0.04, "and would not be, were they told as they are seen"


def test_the_less_is_known_of_the_noise_the_more_is_taken_off() -> None:
    new, old = [9.0, 10.0, 11.0, 12.0], [12.5, 13.0, 14.0, 15.0]
    told = [
        judge_record(
            look(new, old), "train", 0.05, [Reading(12.0)] * 4, replace(noise_of(0.1), degrees_of_freedom=degrees)
        )
        for degrees in (3, 10, 10**6)
    ]
    few, more, many = (claim.speedup or 0.0 for claim in told)
    assert few < more < many


def test_against_an_earlier_record_half_of_the_luck_is_in_the_claim() -> None:
    new, old, baseline = [9.0, 10.0, 11.0, 12.0], [12.5, 13.0, 14.0, 15.0], [Reading(40.0)] * 5
    ratios = []
    for against in (0, 1):
        found = replace(look(new, old), candidate=2, against=against)
        runs = tuple(replace(run, candidate=2 if run.candidate == 1 else against) for run in found.runs)
        claim = judge_record(replace(found, runs=runs), "train", 0.05, baseline, noise_of(0.15))
        assert claim.speedup
        ratios.append(math.log(40 / 10.5 / claim.speedup))
    assert ratios[1] == pytest.approx(ratios[0] / 2) and ratios[1] > 0


@pytest.mark.parametrize(("times", "counted"), [((15.0, 16.0, 17.0, INF), 7), ((15.0, 16.0, INF, INF), 3)])
def test_record_runs_of_the_baseline_that_were_mostly_stopped_leave_its_time_to_the_others(
    times: tuple[float, ...], counted: int
) -> None:
    calibration = [run(n, 0, seconds, "baseline") for n, seconds in enumerate((29.0, 30.0, 31.0))]
    looked = [run(n + 10, 0, seconds) for n, seconds in enumerate(times)]
    runs = tuple(replace(one, steps=round(10 * one.train_seconds)) for one in (*calibration, *looked))
    past = History(clock="train", base_config={}, runs=runs)
    found = baseline_readings(past)
    assert len(found) == counted and {29.0, 30.0, 31.0} <= {reading.seconds for reading in found}
    assert len(baseline_readings(replace(past, runs=runs[3:]))) == 4, "there is nothing else"


def paced_history(pace: float, chained: float = 1.0) -> tuple[History, Look]:
    """A baseline with steps of about 1 s, and a look on a machine of another pace that stops it after ten steps.

    Step times spread as on a shared machine: in less noise, a drift would be seen, which is told elsewhere.
    """
    spread = (0.8, 1.25, 0.8, 1.25)
    calibration = [
        replace(run(n, 0, seconds, "baseline"), steps=round(100 * seconds / spread[n]), train_seconds=100 * seconds)
        for n, seconds in enumerate((30.0, 32.0))
    ]
    stopped = [
        replace(run(n + 10, 0, INF), steps=10, train_seconds=10 * pace * factor) for n, factor in enumerate(spread)
    ]
    times = (2.9, 3.0, 3.0, 3.1)
    new = [
        replace(run(n + 20, 1, pace * seconds), steps=100, train_seconds=100 * pace * factor)
        for n, (seconds, factor) in enumerate(zip(times, spread, strict=True))
    ]
    runs = (*calibration, *stopped, *new)
    past, found = History(clock="train", base_config={}, runs=runs), Look(1, 1, 0, runs[2:], 2)
    if chained == 1.0:
        return past, found
    again = [
        replace(run(n + 30, 1, INF), steps=100, train_seconds=100 * pace * chained * factor)
        for n, factor in enumerate(spread)
    ]
    best = [run(n + 40, 2, pace * chained) for n in range(4)]
    first = judge_record(found, "train", 0.05, pace=pace)
    return replace(past, runs=(*runs, *again, *best), claims=(first,)), Look(2, 2, 1, (*again, *best), len(runs))


@pytest.mark.parametrize("pace", [0.8, 1.0, 1.3])
def test_a_speedup_is_told_at_the_pace_of_the_look(pace: float) -> None:
    past, found = paced_history(pace)
    assert look_pace(past, found) == pytest.approx(pace, rel=1e-6)
    baseline = baseline_readings(past, found, look_pace(past, found))
    assert [reading.seconds for reading in baseline] == pytest.approx([30 * pace, 32 * pace])
    claim = judge_record(found, "train", 0.05, baseline, pace=look_pace(past, found))
    assert claim.speedup == pytest.approx(31 / 3) and claim.pace == pytest.approx(pace)
    assert ("a step took" in claim.reason) == (pace != 1.0)


def test_the_pace_goes_on_from_one_record_to_the_next() -> None:
    past, found = paced_history(0.8, chained=1.5)
    assert look_pace(past, found) == pytest.approx(0.8 * 1.5)
    claim = judge_record(found, "train", 0.05, baseline_readings(past, found, look_pace(past, found)))
    assert claim.speedup == pytest.approx(31.0)


def test_without_steps_of_both_times_the_pace_is_one() -> None:
    past, found = paced_history(0.8)
    assert look_pace(replace(past, runs=past.runs[2:]), found) == 1.0
    unstepped = tuple(replace(one, steps=0) if one.candidate == 0 else one for one in found.runs)
    assert look_pace(past, replace(found, runs=unstepped)) == 1.0
