"""The luck in what is told because it was large: simulated where the truth is known."""

import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.search.selection import CERTAIN, expected_luck

NEEDED = 2.2


@pytest.mark.parametrize("true", [1.5, 2.5, 4.0, 7.0])
def test_what_is_left_is_right_on_average(true: float) -> None:
    generator = random.Random(1)
    seen = [gain for _ in range(4000) if (gain := generator.gauss(true, 1.0)) > NEEDED]
    left = fmean(gain - expected_luck(gain, NEEDED) for gain in seen)
    told = fmean(seen) - true
    assert abs(left - true) <= max(0.3, 0.6 * told), f"{left - true:+.2f} where {told:+.2f} was told"


def test_far_above_the_limit_nothing_is_luck() -> None:
    assert expected_luck(NEEDED + CERTAIN, NEEDED) == 0.0
    assert expected_luck(NEEDED + 0.9 * CERTAIN, NEEDED) < 0.01


@given(st.floats(0.0, 20.0), st.floats(0.5, 5.0))
def test_luck_is_a_part_of_the_gain(seen: float, needed: float) -> None:
    luck = expected_luck(seen, needed)
    assert 0.0 <= luck <= seen


def test_the_nearer_to_the_limit_the_more_of_it_is_luck() -> None:
    shares = [expected_luck(NEEDED + above, NEEDED) / (NEEDED + above) for above in (0.1, 0.5, 1.0, 2.0, 4.0)]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.3
