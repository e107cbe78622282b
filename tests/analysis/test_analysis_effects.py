"""The score along each parameter, from the runs themselves, and what the best config changed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_tables import table

from hotlap.analysis.effects import Difference, Effect, config_difference, marginal_effects, median_interval

scores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def effect(values: list[float | str | None], found: list[float]) -> Effect:
    return marginal_effects(table(found, x=values))[0]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, None), (4, None), (5, (0.0, 4.0)), (7, (0.0, 6.0)), (8, (1.0, 6.0)), (10, (1.0, 8.0)), (20, (5.0, 14.0))],
)
def test_intervals_of_the_median_are_order_statistics(count: int, expected: tuple[float, float] | None) -> None:
    assert median_interval([float(n) for n in reversed(range(count))]) == expected


def test_intervals_of_many_runs_are_narrow() -> None:
    low, high = median_interval([float(n) for n in range(5000)]) or (0.0, 0.0)
    assert 2430 < low < 2500 < high < 2570


def test_intervals_hold_the_median_as_often_as_they_say() -> None:
    generator = random.Random(0)
    drawn = [median_interval([generator.gauss(0, 1) for _ in range(12)]) for _ in range(400)]
    held = sum(1 for found in drawn if found is not None and found[0] <= 0 <= found[1])
    assert held >= 350


@given(scores)
def test_every_run_is_in_one_level(found: list[float]) -> None:
    for values in ([float(n) for n in range(len(found))], [float(n % 3) for n in range(len(found))]):
        levels = effect(list(values), found).levels
        assert sum(level.num_runs for level in levels) == len(found)
        bounds = [bound for level in levels for bound in (level.low, level.high)]
        assert bounds == sorted(bounds, key=lambda bound: bound or 0.0)
        for level in levels:
            assert min(found) <= level.median <= max(found)


def test_numbers_that_many_runs_share_are_looked_at_one_by_one() -> None:
    found = effect([4.0, 8.0, 16.0] * 6, [float(n % 3) for n in range(18)])
    assert [(level.label, level.num_runs, level.median) for level in found.levels] == [
        ("4", 6, 0.0),
        ("8", 6, 1.0),
        ("16", 6, 2.0),
    ]
    assert found.levels[0].interval == (0.0, 0.0)
    assert (found.best.label, found.worst.label) == ("4", "16")
    assert found.is_visible


def test_other_numbers_are_looked_at_in_bins_of_equally_many_runs() -> None:
    values = [1e-5 * 1.1**n for n in range(40)]
    found = effect(list(reversed(values)), [float(n) for n in range(40)])
    assert [level.num_runs for level in found.levels] == [8] * 5
    assert (found.levels[0].low, found.levels[-1].high) == (values[0], values[-1])
    assert found.levels[0].label == "1e-05 to 1.949e-05"
    assert found.worst == found.levels[0] and found.best == found.levels[-1]


def test_few_runs_have_no_bins() -> None:
    assert [level.num_runs for level in effect([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).levels] == [1, 1, 1]
    assert [level.label for level in effect([1.0], [1.0]).levels] == ["1"]


def test_runs_without_the_parameter_come_last() -> None:
    names = effect(["muon", None, "adamw"] * 5, [1.0, 2.0, 3.0] * 5)
    assert [level.label for level in names.levels] == ["adamw", "muon", "none"]
    numbers = effect([0.9, None, 0.95] * 5, [1.0, 2.0, 3.0] * 5)
    assert [(level.label, level.low) for level in numbers.levels] == [("0.9", 0.9), ("0.95", 0.95), ("none", None)]


def test_intervals_that_meet_show_no_effect() -> None:
    noisy = [float(7 * n % 30) for n in range(30)]
    assert not effect(["a", "b"] * 15, noisy).is_visible
    assert not effect(["a", "b"] * 3, [0.0, 1.0] * 3).is_visible, "too few runs for intervals"
    assert effect(["a", "b"] * 15, [n + 100 * (k % 2) for k, n in enumerate(noisy)]).is_visible


def test_an_empty_table_has_no_effects() -> None:
    assert marginal_effects(table([], x=[])) == ()


def test_the_best_config_is_a_difference_by_key() -> None:
    baseline = {"name": "base", "training": {"learning_rate": 5e-5, "optim": "adamw_torch", "seed": 1}}
    best = {"name": "best", "training": {"learning_rate": 3e-4, "optim": "adamw_torch", "seed": 7, "warmup_steps": 50}}
    assert config_difference(baseline, best) == (
        Difference(key="training.learning_rate", baseline=5e-5, best=3e-4),
        Difference(key="training.warmup_steps", baseline=None, best=50),
    )
    assert config_difference(baseline, best, ["training.seed"]) == (
        Difference(key="training.seed", baseline=1, best=7),
    )
    assert config_difference(baseline, baseline) == ()


def test_one_run_at_a_third_value_hides_no_clear_difference() -> None:
    names = ["a"] * 20 + ["b"] * 20 + ["c"]
    scores = [1.0 + 0.01 * n for n in range(20)] + [5.0 + 0.01 * n for n in range(20)] + [7.0]
    (effect,) = marginal_effects(table(scores, {}, optim=names))
    assert (effect.best.label, effect.worst.label, effect.is_visible) == ("a", "b", True)
