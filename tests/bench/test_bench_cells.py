"""Figures of cells from their repeats."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.bench.cells import Noise, drift_of, noise_of, quantile, summarise
from hotlap.core.bench_records import CellRepeat

ONE = CellRepeat(
    *(0, 0, {"training.bf16": True}, "measured"),
    step_seconds=(0.1, 0.2, 0.3),
    samples_per_step=8,
    tokens_per_step=800,
    slots_per_step=1000,
    flops_per_step=2e9,
    matmul_flops=4e10,
    peak_flops=1e11,
    num_devices=2,
    seconds_by_part={"waiting": 0.02, "data": 0.02, "forward": 0.1, "backward": 0.06},
    peak_memory_bytes=100,
)


def test_the_figures_of_one_repeat() -> None:
    (cell,) = summarise([ONE])
    assert cell.is_measured and cell.num_repeats == 1 and math.isnan(cell.spread)
    assert cell.seconds_per_step == 0.2
    assert cell.samples_per_second == pytest.approx(40)
    assert cell.tokens_per_second == cell.pay == pytest.approx(4000)
    assert cell.slots_per_second == pytest.approx(5000)
    assert cell.padding_ratio == pytest.approx(0.2)
    assert cell.model_flops_per_second == pytest.approx(1e10)
    assert cell.peak_ratio == pytest.approx(0.05)  # of one device: two share the work
    assert cell.matmul_ratio == pytest.approx(0.125)
    assert cell.compute_seconds == pytest.approx(2e9 * 1.25 / 2 / 4e10)  # padding is computed, too
    assert cell.loading_ratio == pytest.approx(0.2)


def test_medians_go_over_repeats_and_the_spread_with_them() -> None:
    repeats = [replace(ONE, repeat=n, step_seconds=(seconds,)) for n, seconds in enumerate((0.1, 0.2, 0.4))]
    (cell,) = summarise(repeats)
    assert cell.repeat_seconds == (0.1, 0.2, 0.4) and cell.seconds_per_step == 0.2
    assert cell.spread == pytest.approx((0.36 - 0.12) / 0.2)


def test_a_repeat_that_stands_there_twice_counts_once() -> None:
    (cell,) = summarise([ONE, replace(ONE, step_seconds=(0.5,))])
    assert cell.repeat_seconds == (0.5,)


def test_what_is_out_of_memory_is_a_cell_and_tells_why() -> None:
    refused = CellRepeat(1, 0, {"training.bf16": False}, "out_of_memory", "no room")
    cells = summarise([refused, ONE])
    assert [cell.outcome for cell in cells] == ["measured", "out_of_memory"]
    assert cells[1].message == "no room" and math.isnan(cells[1].seconds_per_step)


def test_one_measured_repeat_makes_a_cell_and_the_others_are_told() -> None:
    (cell,) = summarise([ONE, replace(ONE, repeat=1, outcome="timed_out", message="300 s", step_seconds=())])
    assert cell.is_measured and cell.num_repeats == 1
    assert cell.message == "repeat 1: timed out: 300 s"


def test_a_measurement_without_steps_is_none() -> None:
    (cell,) = summarise([replace(ONE, step_seconds=())])
    assert cell.outcome == "failed" and cell.message == "it was measured for no step"


def test_what_nobody_counted_is_not_told() -> None:
    (cell,) = summarise([CellRepeat(0, 0, {"params.batch_size": 4}, "measured", step_seconds=(0.5,))])
    assert cell.tokens_per_second is None and cell.samples_per_second is None and cell.loading_ratio is None
    assert cell.pay == 2.0  # steps a second


def test_noise_is_pooled_over_cells_and_never_believed_to_be_nothing() -> None:
    chance = random.Random(1)
    pairs = [tuple(level * chance.lognormvariate(0, 0.1) for _ in range(2)) for level in range(1, 101)]
    repeats = [
        replace(ONE, cell=cell, repeat=n, step_seconds=(seconds,))
        for cell, pair in enumerate(pairs)
        for n, seconds in enumerate(pair)
    ]
    noise = noise_of(summarise(repeats))
    assert noise.degrees == 100 and noise.num_disturbed <= 2
    assert noise.sigma == pytest.approx(0.1, rel=0.25)
    assert noise.uncertainty(1) == pytest.approx(1.96 * noise.sigma)
    single = noise_of(summarise([ONE]))
    assert single.degrees == 0 and single.sigma >= 0.01


@pytest.mark.parametrize("num_repeats", [*range(1, 10), 25])
def test_a_lower_median_is_less_certain_than_a_mean(num_repeats: int) -> None:
    chance = np.random.default_rng(num_repeats)
    draws = np.sort(chance.standard_normal((200_000, num_repeats)), axis=1)
    level = draws[:, (num_repeats - 1) // 2]  # as a cell's seconds_per_step
    assert Noise(1.0, 9).level_error(num_repeats) == pytest.approx(level.std(), rel=0.03)
    assert Noise(0.2, 9).uncertainty(num_repeats) == pytest.approx(0.2 * 1.96 * level.std(), rel=0.03)


def test_what_disturbed_a_repeat_is_kept_apart_from_what_failed() -> None:
    disturbed = replace(ONE, repeat=1, message="other processes kept 1.30 cores busy")
    failed = replace(ONE, repeat=2, outcome="failed", message="boom", step_seconds=())
    (cell,) = summarise([ONE, disturbed, failed])
    assert cell.not_quiet == "other processes kept 1.30 cores busy"
    assert cell.message == "repeat 2: failed: boom; other processes kept 1.30 cores busy"
    assert summarise([ONE, failed])[0].not_quiet == ""


def test_disturbed_repeats_neither_slow_their_cell_nor_make_all_others_loud() -> None:
    repeats = [
        replace(ONE, cell=cell, repeat=n, step_seconds=(0.1 * (1 + 0.01 * n) * (9 if cell == n == 1 else 1),))
        for cell in range(10)
        for n in range(2)
    ]
    cells = summarise(repeats)
    assert cells[1].seconds_per_step == pytest.approx(0.1)
    noise = noise_of(cells)
    assert noise.sigma < 0.02 and noise.num_disturbed == 1


def test_drift_is_seen_by_cells_that_were_measured_again() -> None:
    repeats = []
    for place in range(12):  # three cells in turns; every measurement takes 1 % longer than the one before
        seconds = (1 + place % 3) * 1.01**place
        repeats.append(replace(ONE, cell=place % 3, repeat=place // 3, step_seconds=(seconds,)))
    drift, error = drift_of(repeats)
    assert drift == pytest.approx(1.01**11) and error < 1e-6
    assert drift_of(repeats[:3]) == (1.0, math.inf)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_lie_among_the_values_and_in_order(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert min(values) <= quantile(values, low) <= quantile(values, high) * (1 + 1e-12) <= max(values) * (1 + 2e-12)


def test_without_repeats_unlike_steps_are_a_warning() -> None:
    quiet = replace(ONE, step_seconds=(0.2, 0.2, 0.2))
    loud = replace(ONE, step_seconds=(0.1, 0.2, 0.9))
    assert noise_of(summarise([quiet])).sigma == 0.02
    assert noise_of(summarise([loud])).sigma == pytest.approx(0.1 * (0.76 - 0.12) / 0.2)
