"""Noise and estimates, from small histories."""

import math
from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.records import Decision, History, Proposal, Role, RunRecord
from hotlap.search.noise import (
    SIGMA_FLOOR,
    Noise,
    Reading,
    censored_median,
    estimate,
    estimate_noise,
    expected_false_keeps,
    expected_false_keeps_of,
    required_log_gain,
    runs_needed,
    screen_log_gain,
    smallest_visible_effect,
)

EMPTY = History(clock="train", base_config={})
seconds = st.floats(0.1, 1e5)


def run(
    number: int, seconds: float | None, candidate: int = 0, role: str = "baseline", read: float = 900.0
) -> RunRecord:
    """Return a run that reached after `seconds`, or one stopped at `read` without; steps take 0.1 ms."""
    hit = seconds is not None
    return RunRecord(
        run_id=f"r{number:04}",
        role=role,  # type: ignore[arg-type]
        candidate=candidate,
        seed=number,
        outcome="reached" if hit else "out_of_budget",
        steps=max(1, round(1e4 * (seconds or read))),
        train_seconds=seconds or read,
        wall_seconds=(seconds or read) + 5,
        time_to_target={"train": seconds, "wall": seconds + 5, "step": 90} if seconds else None,
    )


def history(*times: float | None) -> History:
    return replace(EMPTY, runs=tuple(run(n, s) for n, s in enumerate(times, start=1)))


def noise(sigma: float) -> Noise:
    return Noise(sigma=sigma, degrees_of_freedom=9, resolution=0.03)


def test_sigma_is_the_spread_of_log_times() -> None:
    found = estimate_noise(history(100, 100 * math.exp(0.4)))
    assert found.sigma == pytest.approx(0.4 / math.sqrt(2)) and found.degrees_of_freedom == 1


def test_few_runs_have_a_floor_and_many_have_the_resolution() -> None:
    assert estimate_noise(history(100, 100, 100)).sigma == 0.05
    assert estimate_noise(history(*[100.0] * 6)).sigma == pytest.approx(math.log(1.03))
    wall = replace(history(*[100.0] * 6), clock="wall")
    assert estimate_noise(wall).sigma == pytest.approx(math.log(1.10))


def test_spreads_are_pooled_within_candidates() -> None:
    two = (run(1, 100), run(2, 120), run(3, 10, 1, "incumbent"), run(4, 12, 1, "incumbent"))
    found = estimate_noise(replace(EMPTY, runs=two))
    assert found.sigma == pytest.approx(math.log(1.2) / math.sqrt(2)) and found.degrees_of_freedom == 2


def test_misses_leave_the_noise_to_the_first_candidate_that_reaches() -> None:
    runs = (run(1, None), run(2, None), run(3, 50, 1, "incumbent"), run(4, 70, 1, "incumbent"))
    found = estimate_noise(replace(EMPTY, runs=runs))
    assert found.sigma == pytest.approx(math.log(1.4) / math.sqrt(2)) and found.degrees_of_freedom == 1


def test_selected_and_contaminated_runs_do_not_count() -> None:
    runs = (run(1, 100), run(2, 10, 0, "screen"), replace(run(3, 10), contaminated="load"))
    found = estimate(replace(EMPTY, runs=runs), 0)
    assert (found.runs, found.median_seconds) == (1, 100)
    assert estimate_noise(replace(EMPTY, runs=runs)).degrees_of_freedom == 0


def test_misses_rank_above_all_hits() -> None:
    assert estimate(history(100, 110, None), 0).median_seconds == 110
    found = estimate(history(100, None, None), 0)
    assert found.median_seconds == math.inf and (found.reached, found.runs) == (1, 3)
    assert estimate(history(100, None), 0).median_seconds == math.inf
    assert estimate(EMPTY, 0).median_seconds == math.inf


def test_a_reading_stopped_before_the_median_hit_says_nothing() -> None:
    stopped = tuple(run(n, None, role="record", read=20.0) for n in range(4, 8))
    found = estimate(replace(EMPTY, runs=(*history(100, 110, 120).runs, *stopped)), 0)
    assert found.median_seconds == 110 and found.runs == 3


def test_stopped_runs_bias_the_median_to_neither_side() -> None:
    """A record look stops the old side at a fixed reading: its quick runs are seen, its slow ones are censored."""
    past = history(98, 100, 103)
    quick = run(4, 85, role="record")
    stopped = tuple(run(n, None, role="record", read=90.0) for n in (5, 6, 7))
    found = estimate(replace(past, runs=(*past.runs, quick, *stopped)), 0)
    assert found.median_seconds == 100 and (found.reached, found.runs) == (4, 4)


def test_the_censored_median_of_a_textbook_sample() -> None:
    # Freireich et al. 1963, 6-MP arm: 21 remission times of which 12 are censored; the median is 23 weeks
    hits = (6, 6, 6, 7, 10, 13, 16, 22, 23)
    stopped = (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)
    assert censored_median([*map(Reading, hits), *(Reading(s, is_censored=True) for s in stopped)]) == 23


@given(st.lists(seconds, min_size=1, max_size=9))
def test_without_stops_it_is_the_plain_median(times: list[float]) -> None:
    assert censored_median([Reading(s) for s in times]) == pytest.approx(median(times))


@given(st.lists(seconds, min_size=1, max_size=7), st.lists(seconds, max_size=5))
def test_a_stop_never_lowers_the_median(times: list[float], stops: list[float]) -> None:
    hits = [Reading(s) for s in times]
    late = [Reading(max(times) + s, is_censored=True) for s in stops]
    assert censored_median([*hits, *late]) >= censored_median(hits)


def test_estimate_reads_either_clock_steps_and_step_time() -> None:
    found = estimate(history(100, 110, 120), 0)
    assert (found.low_seconds, found.high_seconds, found.steps) == (100, 120, 90)
    assert found.seconds_per_step == pytest.approx(1e-4)
    assert estimate(history(100, 110, 120), 0, "wall").median_seconds == 115


def test_a_reached_run_without_a_usable_reading_is_a_miss() -> None:
    bad = replace(run(1, 10), time_to_target={"train": math.nan, "step": 3})
    assert estimate(replace(EMPTY, runs=(bad,)), 0).median_seconds == math.inf


@given(st.lists(seconds, min_size=2, max_size=8))
def test_noise_is_at_least_the_resolution_and_finite(times: list[float]) -> None:
    found = estimate_noise(history(*times))
    assert found.resolution <= found.sigma < math.inf


@given(st.lists(seconds, min_size=1, max_size=7), st.integers(0, 6))
def test_a_miss_instead_of_a_hit_never_lowers_the_estimate(times: list[float], index: int) -> None:
    worse: list[float | None] = list(times)
    worse[index % len(times)] = None
    read_late = tuple(run(n, s, read=2e5) for n, s in enumerate(worse, start=1))
    assert estimate(replace(EMPTY, runs=read_late), 0).median_seconds >= estimate(history(*times), 0).median_seconds


def test_power_numbers_match_the_textbook() -> None:
    assert runs_needed(noise(0.05), 0.05) == 12
    assert runs_needed(noise(0.05), 0.01) > runs_needed(noise(0.05), 0.02) > runs_needed(noise(0.05), 0.05)
    assert runs_needed(noise(0.05), 0.9) == 2


@given(st.floats(0.03, 0.5), st.floats(1.01, 2.0))
def test_more_noise_sees_less(sigma: float, factor: float) -> None:
    calm, rough = noise(sigma), noise(sigma * factor)
    assert smallest_visible_effect(rough) < smallest_visible_effect(calm) < math.exp(-required_log_gain(calm))
    assert runs_needed(rough, 0.02) >= runs_needed(calm, 0.02)


def test_false_keeps_are_expected_to_be_rare() -> None:
    assert 0.1 < expected_false_keeps(noise(0.05), 20) < 1.0
    assert expected_false_keeps(noise(0.05), 40) == pytest.approx(2 * expected_false_keeps(noise(0.05), 20))
    assert expected_false_keeps(noise(0.05), 20, incumbent_runs=9) < expected_false_keeps(noise(0.05), 20)


def test_false_keeps_are_counted_by_what_each_try_was_held_against() -> None:
    def of(runs: float, role: Role = "screen", has_run: bool = True) -> float:
        tried = Proposal(
            number=1,
            parent=0,
            family="f",
            title="t",
            observation="o",
            hypothesis="h",
            patch={},
            predicted_ratio=0.9,
            role=role,
        )
        decided = Decision(proposal=1, verdict="discard", reason="r", statistics={"incumbent_runs": runs})
        runs = (run(1, 100.0, candidate=1),) if has_run else ()
        past = History(clock="train", base_config={}, runs=runs, proposals=(tried,), decisions=(decided,))
        return expected_false_keeps_of(past)

    assert of(2) > of(9) > 0 == of(2, "ablation")
    assert of(2, has_run=False) == 0, "a repetition is decided without a run: nothing can be kept by luck"


def test_the_measured_spread_knows_no_caution() -> None:
    agreeing = estimate_noise(history(100, 101, 102))
    assert agreeing.sigma == SIGMA_FLOOR and agreeing.spread == pytest.approx(math.log(1.02) / 2, rel=0.01)
    assert estimate_noise(history(100, 100, 100)).spread == pytest.approx(math.log(1.03) / math.sqrt(12))


def test_a_simplifying_change_needs_a_third_of_the_margin() -> None:
    assert required_log_gain(noise(0.1)) == pytest.approx(0.15)
    assert required_log_gain(noise(0.1), simplifies=True) == pytest.approx(0.05)


def test_a_screen_needs_a_part_of_the_margin() -> None:
    assert screen_log_gain(noise(0.1)) == pytest.approx(0.1)
    assert screen_log_gain(noise(0.1), simplifies=True) == pytest.approx(0.1 / 3)


def test_a_bar_that_lets_everything_pass_does_not_last() -> None:
    """An incumbent of few runs has a large error; but the screens that pass by it have it run again."""
    few, many = expected_false_keeps(noise(0.1), 100, 2), expected_false_keeps(noise(0.1), 100, 20)
    assert 0.5 < many < few < 2.5
