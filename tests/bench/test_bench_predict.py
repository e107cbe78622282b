"""The model of seconds per step against machines that are formulas."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_bench import BATCH, BF16, COMPILE, LENGTH, WORKERS, measure, roofline

from hotlap.bench.cells import summarise
from hotlap.bench.measured_axes import measured_axes_of
from hotlap.bench.predict import StepTimes, leave_out_errors

GRID = {BATCH: [1, 2, 4, 8, 16], LENGTH: [64, 128, 256], BF16: [False, True]}


def test_left_out_cells_are_predicted_within_ten_percent() -> None:
    cells = summarise(measure(GRID, noise=0.03))
    found = leave_out_errors(cells, measured_axes_of(cells, {}))
    assert found.median < 0.05 and found.upper < 0.15 and found.num_cells == 30


def test_a_batch_between_measured_ones_and_one_beyond() -> None:
    cells = summarise(measure(GRID, noise=0.01))
    model = StepTimes.fit(cells, measured_axes_of(cells, {}))
    for batch, is_inside in ((12, True), (32, False)):
        wanted = {BATCH: batch, LENGTH: 192, BF16: True}
        assert model.seconds(wanted) == pytest.approx(roofline(wanted), rel=0.1)
        assert model.is_inside(wanted) == is_inside


def test_overhead_and_work_are_told_apart() -> None:
    cells = summarise(measure({BATCH: [1, 2, 4, 8, 16, 32]}, noise=0.005))
    model = StepTimes.fit(cells, measured_axes_of(cells, {}))
    small, large = {BATCH: 1}, {BATCH: 32}
    assert model.overhead_ratio(small) == pytest.approx(0.005 / roofline(small), abs=0.1)
    assert model.overhead_ratio(large) == pytest.approx(0.005 / roofline(large), abs=0.1)
    exponent = model.exponent(BATCH)
    assert exponent is not None and 0.9 < exponent < 1.1


def test_a_value_that_nobody_measured_is_refused() -> None:
    cells = summarise(measure({BATCH: [1, 2], WORKERS: [0, 2]}))
    model = StepTimes.fit(cells, measured_axes_of(cells, {}))
    with pytest.raises(ValueError, match=r"dataloader_num_workers was measured at \[0, 2\], nothing is known of 4"):
        model.seconds({BATCH: 1, WORKERS: 4})


def test_few_cells_are_not_left_out() -> None:
    cells = summarise(measure({BATCH: [1, 2, 4]}))
    assert not leave_out_errors(cells, measured_axes_of(cells, {})).is_known
    with pytest.raises(ValueError, match="no cell was measured"):
        StepTimes.fit([], ())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_any_roofline_is_learnt_from_a_grid(seed: int) -> None:
    chance = random.Random(seed)
    overhead, rate = 10 ** chance.uniform(-4, -1), 10 ** chance.uniform(-7, -4)
    faster, lighter, power = chance.uniform(1, 3), chance.uniform(1, 3), chance.uniform(0.9, 1.15)

    def machine(setting: dict[str, object]) -> float:
        batch = float(str(setting[BATCH]))
        work = rate * 128 * batch**power / (faster if setting[BF16] else 1)
        return overhead / (lighter if setting[COMPILE] else 1) + work

    axes = {BATCH: [1, 2, 4, 8, 16, 32], BF16: [False, True], COMPILE: [False, True]}
    cells = summarise(measure(axes, machine, noise=0.01, seed=seed))
    model = StepTimes.fit(cells, measured_axes_of(cells, {}))
    for cell in cells:
        assert math.isclose(model.seconds(cell.settings), machine(dict(cell.settings)), rel_tol=0.12)
