"""The training clock and the evaluation grid, with a time of our own."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.clock import GRID_RATIO, GRID_START_SECONDS, ClockName, EvaluationGrid, TrainClock


class FakeTime:
    """A time that only moves when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def readings_due(clock: ClockName, readings: list[float]) -> list[float]:
    grid = EvaluationGrid(clock)
    return [reading for reading in readings if grid.is_due(reading)]


def grid_points(clock: ClockName, until: float) -> list[float]:
    steps = itertools.accumulate(itertools.repeat(GRID_RATIO[clock]), lambda a, b: a * b, initial=GRID_START_SECONDS)
    return list(itertools.takewhile(lambda point: point <= until, steps))


def test_the_clock_counts_only_what_is_inside_the_blocks() -> None:
    now = FakeTime()
    clock = TrainClock(now)
    assert clock.seconds == 0
    for inside, outside in [(2.0, 50.0), (0.5, 7.0)]:
        with clock.counting():
            now.seconds += inside
        now.seconds += outside
    assert clock.seconds == 2.5


def test_a_step_that_fails_is_on_the_clock_too() -> None:
    now = FakeTime()
    clock = TrainClock(now)
    with pytest.raises(RuntimeError), clock.counting():
        now.seconds += 3
        raise RuntimeError
    assert clock.seconds == 3


def test_nothing_is_due_before_the_first_grid_reading() -> None:
    assert readings_due("train", [0.0, 0.05, 0.0999]) == []
    assert readings_due("train", [0.1]) == [0.1]


@pytest.mark.parametrize(("clock", "count"), [("train", 234), ("wall", 73)])
def test_the_grid_grows_geometrically(clock: ClockName, count: int) -> None:
    """ln(1000) / ln(1.03) is 233.7, ln(1000) / ln(1.10) is 72.5: so many up to 100 s, and the one at 0.1 s."""
    due = readings_due(clock, [n / 1000 for n in range(100_001)])
    assert len(due) == count
    assert due == pytest.approx([0.1 * GRID_RATIO[clock] ** n for n in range(count)], abs=0.001)


@given(
    clock=st.sampled_from(["train", "wall"]),
    steps=st.lists(st.floats(0, 40) | st.floats(0, 0.2), max_size=60),
)
@settings(deadline=None)
def test_an_evaluation_is_due_exactly_when_a_grid_reading_was_passed(clock: ClockName, steps: list[float]) -> None:
    readings = list(itertools.accumulate(steps))
    points = grid_points(clock, readings[-1] if readings else 0.0)
    previous, expected = 0.0, []
    for reading in readings:
        if any(previous < point <= reading for point in points):
            expected.append(reading)
        previous = reading
    assert readings_due(clock, readings) == expected


@given(readings=st.lists(st.floats(0, 500), max_size=30).map(sorted))
@settings(deadline=None)
def test_no_reading_fires_twice_and_equal_readings_fire_alike(readings: list[float]) -> None:
    grid = EvaluationGrid("train")
    fired = []
    for reading in readings:
        if grid.is_due(reading):
            fired.append(reading)
        assert not grid.is_due(reading)
    assert fired == readings_due("train", readings)


def test_a_long_step_over_many_grid_readings_is_one_evaluation() -> None:
    assert readings_due("train", [0.05, 80.0, 80.1, 83.0]) == [80.0, 83.0]


def test_a_sparse_grid_grows_by_a_fifth() -> None:
    """ln(1000) / ln(1.2) is 37.9."""
    grid = EvaluationGrid("train", is_sparse=True)
    assert sum(grid.is_due(n / 1000) for n in range(100_001)) == 38
