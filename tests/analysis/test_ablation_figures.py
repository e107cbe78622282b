"""Which differences are more than luck: paired by seed, by Student's t with Holm's correction."""

import math
import random
from collections.abc import Sequence
from statistics import fmean, stdev

import pytest

from hotlap.analysis.ablation import (
    ALPHA,
    Comparison,
    Course,
    Evaluation,
    Quantity,
    compare_variants,
    half_width,
    holm_levels,
    p_value,
    student_quantile,
)


def course(
    variant: int, seed: int, loss: float, *, steps: int = 100, seconds: float = 10.0, failure: str = "", **more: float
) -> Course:
    """Return a run that is evaluated ten times and ends with a loss."""
    evaluations = tuple(
        Evaluation(steps * number // 10, seconds * number / 10, loss + 1 - number / 10) for number in range(1, 11)
    )
    told = {"tokens_per_second": 1000.0, "seconds_to_target": math.nan, **more}
    return Course(variant, seed, f"r{seed}", evaluations, steps, seconds, failure=failure, **told)


def by_key(courses: Sequence[Course], variants: int = 2, **options: int) -> dict[str, Quantity]:
    has_targets = bool(options.pop("has_targets", False))
    found = compare_variants(courses, variants, has_targets=has_targets, at_step=options.get("at_step"))
    return {quantity.key: quantity for quantity in found}


def only(quantity: Quantity) -> Comparison:
    (found,) = quantity.comparisons
    return found


def test_the_quantile_is_students() -> None:
    stats = pytest.importorskip("scipy.stats")
    for degrees in (1, 2, 3, 5, 30):
        for alpha in (0.2, 0.05, 0.0125, 0.001):
            assert student_quantile(alpha, degrees) == pytest.approx(stats.t.isf(alpha / 2, degrees), rel=1e-6)


def test_the_p_value_is_that_of_the_paired_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    draw = random.Random(1)
    for count in (2, 3, 7):
        before = [draw.gauss(0, 1) for _ in range(count)]
        after = [value + draw.gauss(0.5, 0.5) for value in before]
        differences = [b - a for a, b in zip(before, after, strict=True)]
        assert p_value(differences) == pytest.approx(stats.ttest_rel(after, before).pvalue, rel=1e-9)
        low, high = stats.t.interval(0.95, count - 1, fmean(differences), stdev(differences) / math.sqrt(count))
        assert half_width(differences, 0.95) == pytest.approx((high - low) / 2, rel=1e-6)


def test_a_difference_is_taken_seed_by_seed() -> None:
    """The seeds lie far apart, the variants by 0.1 in each of them."""
    noise = {1: 0.0, 2: 0.5, 3: 1.0}
    courses = [course(0, seed, 2 + at) for seed, at in noise.items()]
    courses += [course(1, seed, 1.9 + at + 0.001 * seed) for seed, at in noise.items()]
    found = only(by_key(courses)["final"])
    assert found.pairs == 3 and found.is_distinguishable and found.is_better
    assert found.difference == pytest.approx(-0.098)
    assert found.low < found.difference < found.high < 0
    assert found.level == pytest.approx(0.95)


def test_what_lies_within_the_noise_is_not_distinguishable() -> None:
    courses = [course(0, seed, 2.0) for seed in (1, 2, 3)]
    courses += [course(1, seed, loss) for seed, loss in ((1, 1.9), (2, 2.2), (3, 1.8))]
    found = only(by_key(courses)["final"])
    assert not found.is_distinguishable and found.low < 0 < found.high and found.reason == ""


def test_a_change_that_does_nothing_is_told_as_that() -> None:
    courses = [course(variant, seed, 2.0 + seed) for variant in (0, 1) for seed in (1, 2, 3)]
    found = only(by_key(courses)["final"])
    assert not found.is_distinguishable and found.reason == "equal in every seed"


def test_with_one_seed_nothing_can_be_told_apart() -> None:
    found = only(by_key([course(0, 1, 2.0), course(1, 1, 1.0)])["final"])
    assert found.difference == pytest.approx(-1.0)
    assert not found.is_distinguishable and math.isnan(found.low)
    assert found.reason == "1 seed on both sides: nothing can be told apart with fewer than 2"


def test_holm_looks_at_the_clearest_first_and_stops_at_the_first_that_fails() -> None:
    clear, doubtful, nothing = [1.0, 1.01, 1.02], [1.0, 1.5, 0.9], [1.0, -1.0, 0.2]
    levels = holm_levels({1: nothing, 2: doubtful, 3: clear})
    assert levels[3] == pytest.approx(1 - ALPHA / 3)
    assert levels[2] == pytest.approx(1 - ALPHA / 2)
    fails = p_value(doubtful) > ALPHA / 2
    assert levels[1] == pytest.approx(1 - ALPHA / 2 if fails else 1 - ALPHA)


def test_an_interval_leaves_out_zero_exactly_where_holm_rejects() -> None:
    draw = random.Random(7)
    for _ in range(200):
        differences = {n: [draw.gauss(0.4 * n, 0.4) for _ in range(4)] for n in range(1, 5)}
        levels = holm_levels(differences)
        rejected = set()
        for place, number in enumerate(sorted(differences, key=lambda n: p_value(differences[n]))):
            if p_value(differences[number]) > ALPHA / (len(differences) - place):
                break
            rejected.add(number)
        for number, values in differences.items():
            half = half_width(values, levels[number])
            assert (abs(fmean(values)) > half) == (number in rejected)


def test_useless_variants_are_seldom_called_different() -> None:
    """Over all variants, not for each of them: 3 useless ones in 400 ablations of 3 seeds."""
    draw, wrong = random.Random(3), 0
    for _ in range(400):
        courses = [course(v, seed, 2 + draw.gauss(0, 0.1)) for v in range(4) for seed in (1, 2, 3)]
        wrong += any(found.is_distinguishable for found in by_key(courses, 4)["final"].comparisons)
    assert wrong <= 0.05 * 400 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_losses_are_compared_at_the_last_step_that_all_reached_and_at_the_earliest_last_reading() -> None:
    slow = [course(0, seed, 2.0, steps=50, seconds=20.0) for seed in (1, 2)]
    fast = [course(1, seed, 1.0, steps=100, seconds=10.0) for seed in (1, 2)]
    found = by_key([*slow, *fast])
    assert found["steps"].place == 50 and found["steps"].used == (50, 50)
    assert [each.mean for each in found["steps"].figures] == pytest.approx([2.0, 1.5])
    assert found["clock"].place == 10.0
    assert [each.mean for each in found["clock"].figures] == pytest.approx([2.5, 1.0])
    assert [each.mean for each in found["final"].figures] == pytest.approx([2.0, 1.0])
    earlier = by_key([*slow, *fast], at_step=30)["steps"]
    assert earlier.place == 30
    assert [each.mean for each in earlier.figures] == pytest.approx([2.4, 1.7])
    assert by_key([*slow, *fast], at_step=80)["steps"].place == 50, "not all runs came so far"


def test_a_run_that_ends_a_step_later_counts_with_its_end() -> None:
    """Budgets end runs within a step; the evaluation before may lie far back."""
    runs = [course(v, seed, 2.0, seconds=10.0 + 0.05 * v) for v in (0, 1) for seed in (1, 2)]
    found = by_key(runs)["clock"]
    assert found.place == 10.0 and found.used == pytest.approx((10.0, 10.05))
    late = [course(0, seed, 2.0) for seed in (1, 2)] + [course(1, seed, 2.0, seconds=10.5) for seed in (1, 2)]
    assert by_key(late)["clock"].used == pytest.approx((9.45, 10.0))


def test_an_evaluation_at_the_very_step_goes_before_one_just_behind_it() -> None:
    evaluations = tuple(Evaluation(step, step / 10, 5 - step / 1000) for step in (990, 1000, 1005))
    runs = [Course(v, seed, "r", evaluations, 1005, 100.5, 1.0, math.nan) for v in (0, 1) for seed in (1, 2)]
    assert by_key(runs, at_step=1000)["steps"].used == (1000, 1000)


def test_a_variant_that_broke_is_told_and_not_judged() -> None:
    courses = [course(0, seed, 2.0 + 0.01 * seed) for seed in (1, 2, 3)]
    courses += [course(1, seed, 1.0, failure="diverged" if seed == 2 else "") for seed in (1, 2, 3)]
    found = by_key(courses)
    assert found["steps"].place == 100, "a run that broke shortens nothing"
    assert found["final"].figures[1].lacking == ("diverged",)
    assert only(found["final"]).reason == "1 of 3 of this variant: diverged"
    assert not only(found["final"]).is_distinguishable
    swapped = [each._replace(variant=1 - each.variant) for each in courses]
    assert only(by_key(swapped)["final"]).reason == "1 of 3 of the reference: diverged"


def test_nothing_is_said_before_a_run_has_come_to_an_end() -> None:
    assert compare_variants([], 2, has_targets=False) == ()
    assert compare_variants([course(0, 1, 2.0, failure="crashed")], 2, has_targets=False) == ()


def test_times_and_speeds_differ_by_shares() -> None:
    courses = [course(0, seed, 2.0, seconds_to_target=100.0 * seed, tokens_per_second=1000.0) for seed in (1, 2, 3)]
    courses += [
        course(1, seed, 2.0, seconds_to_target=50.0 * seed * (1 + 0.001 * seed), tokens_per_second=1500.0 + seed)
        for seed in (1, 2, 3)
    ]
    found = by_key(courses, has_targets=1)
    target, speed = only(found["target"]), only(found["speed"])
    assert target.difference == pytest.approx(-0.499, abs=1e-3) and target.is_better and target.is_distinguishable
    assert speed.difference == pytest.approx(0.502, abs=1e-3) and speed.is_better and speed.is_distinguishable
    assert found["target"].figures[0].mean == 200.0


def test_a_missed_target_is_no_time() -> None:
    courses = [course(0, seed, 2.0, seconds_to_target=100.0) for seed in (1, 2, 3)]
    courses += [course(1, seed, 2.0, seconds_to_target=math.inf if seed == 1 else 50.0 + seed) for seed in (1, 2, 3)]
    found = by_key(courses, has_targets=1)["target"]
    assert found.figures[1].mean == 52.5
    assert only(found).reason == "1 of 3 of this variant missed the target"
    assert not only(found).is_distinguishable
