"""When a curve gets to its targets, by power laws."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hotlap.search.extrapolation import EARLIEST_SHARE, LEAST_EVALUATIONS, extrapolate

GRID = [1.03**n for n in range(20, 120)]


def gap(seconds: float, crossing: float, exponent: float, floor: float) -> float:
    """A power law that starts at 1 after one second or so and crosses 0 where it should."""
    return floor * (1 - (seconds / crossing) ** -exponent)


@given(st.floats(0.3, 1.5), st.floats(-1, -0.05), st.sampled_from([0.0, 1.0, 10.0]))
def test_a_power_law_is_hardly_ever_said_to_cross_later_than_it_does(power: float, floor: float, shift: float) -> None:
    crossing = ((1 - floor) / -floor) ** (1 / power) * (1 + shift) - shift
    assume(20 < crossing < 2000)
    seconds = [at for n in range(300) if (at := 1.03**n) < 0.6 * crossing]
    found = extrapolate(seconds, [floor + (1 - floor) * ((at + shift) / (1 + shift)) ** -power for at in seconds])
    assert seconds[-1] <= found.earliest <= 1.2 * crossing


@pytest.mark.parametrize("floor", [-0.5, -0.12, -0.09])
@pytest.mark.parametrize("exponent", [0.4, 0.8])
def test_the_likely_crossing_is_near_the_true_one(floor: float, exponent: float) -> None:
    found = extrapolate(GRID[:80], [gap(at, 100.0, exponent, floor) for at in GRID[:80]])
    assert found.likely == pytest.approx(100.0, rel=0.25)
    assert GRID[79] <= found.earliest <= found.likely


def test_what_levels_out_above_the_targets_never_crosses() -> None:
    found = extrapolate(GRID, [0.3 + 0.5 * at**-1.5 for at in GRID])
    assert found.likely == math.inf and found.earliest > 10 * GRID[-1]


def test_what_rises_never_crosses() -> None:
    assert extrapolate(GRID, [0.1 + 0.01 * at for at in GRID]).earliest == math.inf


@given(st.lists(st.floats(0, 5), min_size=1, max_size=20))
def test_how_a_run_began_does_not_count(start: list[float]) -> None:
    gaps = [gap(at, 100.0, 0.5, -0.2) for at in GRID[:80]]
    end = GRID[79]
    early = [EARLIEST_SHARE * end * (n + 1) / (len(start) + 1) for n in range(len(start))]
    late = [(at, each) for at, each in zip(GRID, gaps, strict=False) if at > EARLIEST_SHARE * end]
    found = extrapolate([*early, *(at for at, _ in late)], [*start, *(each for _, each in late)])
    assert found == extrapolate(GRID[:80], gaps) and found.likely == pytest.approx(100.0, rel=0.25)


def test_too_little_to_fit_says_nothing() -> None:
    found = extrapolate(GRID[: LEAST_EVALUATIONS - 1], [0.5] * (LEAST_EVALUATIONS - 1))
    assert math.isnan(found.likely) and found.earliest == 0
    assert extrapolate([], []).earliest == 0


def test_what_has_crossed_has_crossed() -> None:
    seconds = GRID[:20]
    assert extrapolate(seconds, [*[0.1] * 19, 0.0]) == (seconds[-1], seconds[-1])


@given(st.lists(st.floats(0, 10) | st.just(math.inf), min_size=0, max_size=100))
def test_any_curve_has_an_answer(gaps: list[float]) -> None:
    found = extrapolate(GRID[: len(gaps)], gaps)
    assert found.earliest >= 0
    assert math.isnan(found.likely) or found.likely >= found.earliest
