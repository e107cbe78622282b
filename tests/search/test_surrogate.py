"""The model of scores: it passes through what is known, doubts what is far away, and adds up effects."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.search.space import Choice, Number, Space
from hotlap.search.surrogate import Observation, Surrogate, expected_improvement

SPACE = Space(
    (
        Number(name="rate", low=1e-4, high=1.0, is_log=True),
        Number(name="depth", low=0.0, high=10.0),
        Choice(name="optim", values=("adamw", "muon")),
    )
)
CENTER = {"rate": 1e-2, "depth": 5.0, "optim": "adamw"}


def seen(value: float, sigma: float = 0.02, group: str = "g", **moves: object) -> Observation:
    return Observation({**CENTER, **moves}, group, value, sigma)


def model(*observations: Observation) -> Surrogate:
    return Surrogate(SPACE, observations, CENTER)


def test_near_an_observation_it_says_what_was_seen_and_far_away_that_it_is_unsure() -> None:
    found = model(seen(4.0), seen(3.5, rate=0.1), seen(4.6, depth=9.0))
    mean, deviation = found.predict({**CENTER, "rate": 0.1}, "g")
    assert mean == pytest.approx(3.5, abs=0.05)
    assert deviation < 0.05
    assert found.predict({"rate": 1e-4, "depth": 0.0, "optim": "muon"}, "g")[1] > 5 * deviation


def test_effects_of_two_coordinates_add_up() -> None:
    found = model(seen(4.0), seen(3.7, rate=0.1), seen(3.8, depth=7.0))
    both, _ = found.predict({**CENTER, "rate": 0.1, "depth": 7.0}, "g")
    assert both < 3.7 - 0.08


def test_before_anything_is_known_the_center_is_the_best_guess() -> None:
    found = model(seen(4.0))
    means = [found.predict({**CENTER, "depth": depth}, "g")[0] for depth in (5.0, 6.0, 8.0, 10.0)]
    assert means == sorted(means)
    assert found.predict({**CENTER, "optim": "muon"}, "g")[0] > means[0]


def test_another_group_has_a_level_of_its_own() -> None:
    found = model(seen(4.0), seen(3.8, rate=0.1), seen(5.0, group="with dropout"))
    same, other = found.predict(CENTER, "g"), found.predict(CENTER, "with dropout")
    assert other[0] > same[0] + 0.5
    assert found.predict(CENTER, "unheard of")[1] > 0.3


def test_what_is_less_sure_moves_it_less() -> None:
    sure, unsure = (
        model(seen(4.0), seen(3.0, sigma, rate=0.1)).predict({**CENTER, "rate": 0.1}, "g")[0] for sigma in (0.02, 0.5)
    )
    assert sure < unsure


POINTS = st.fixed_dictionaries(
    {"rate": st.floats(1e-4, 1.0), "depth": st.floats(0.0, 10.0), "optim": st.sampled_from(["adamw", "muon"])}
)


@given(
    points=st.lists(st.tuples(POINTS, st.floats(-5.0, 15.0), st.sampled_from("ab")), min_size=1, max_size=12),
    asked=POINTS,
)
@settings(deadline=None)
def test_any_observations_give_a_finite_answer(
    points: list[tuple[dict[str, object], float, str]], asked: dict[str, object]
) -> None:
    observations = [Observation(point, group, value, 0.01) for point, value, group in points]
    mean, deviation = Surrogate(SPACE, observations, CENTER).predict(asked, "a")
    assert math.isfinite(mean)
    assert 0.0 <= deviation < 2.0


def test_expected_improvement() -> None:
    assert expected_improvement(3.0, 0.0, 4.0) == 1.0
    assert expected_improvement(5.0, 0.0, 4.0) == 0.0
    assert expected_improvement(4.0, 1.0, 4.0) == pytest.approx(1 / math.sqrt(2 * math.pi))
    assert (
        expected_improvement(5.0, 1.0, 4.0) < expected_improvement(5.0, 2.0, 4.0) < expected_improvement(3.0, 0.1, 4.0)
    )
