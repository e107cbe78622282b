"""Rank correlations with their intervals, and how categories go with numbers."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_tables import made, table
from scipy.stats import spearmanr

from hotlap.analysis.correlation import CategoryLink, Correlation, correlations, spearman
from hotlap.analysis.table import RunTable

numbers = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=4, max_size=30)


def pair(runs: RunTable, first: str, second: str) -> Correlation:
    return next(one for one in correlations(runs, 0).pairs if one.names == (first, second))


def link(runs: RunTable, category: str) -> CategoryLink:
    return next(one for one in correlations(runs, 0).categories if one.category == category)


@given(numbers)
def test_spearman_is_scipys(values: list[tuple[int, int]]) -> None:
    first, second = [float(x) for x, _ in values], [float(y) for _, y in values]
    told = spearman(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert told is None
        return
    assert told is not None
    assert told[0] == pytest.approx(spearmanr(first, second).statistic, abs=1e-9)


@given(numbers)
def test_intervals_hold_the_correlation_and_turn_with_it(values: list[tuple[int, int]]) -> None:
    told = spearman([float(x) for x, _ in values], [float(y) for _, y in values])
    turned = spearman([float(-x) for x, _ in values], [float(y) for _, y in values])
    if told is None or turned is None:
        assert told is turned is None
        return
    rho, low, high = told
    assert -1 <= low <= rho + 1e-9
    assert rho - 1e-9 <= high <= 1
    assert turned == pytest.approx((-rho, -high, -low), abs=1e-9)


def test_intervals_hold_the_true_correlation_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    true = 6 / math.pi * math.asin(0.5 / 2)  # of two normal numbers with the correlation 0.5
    held = 0
    for _ in range(300):
        first, noise = generator.standard_normal((2, 40))
        told = spearman(first.tolist(), (0.5 * first + math.sqrt(0.75) * noise).tolist())
        assert told is not None
        held += told[1] <= true <= told[2]
    assert 270 <= held <= 299


def test_censored_runs_share_the_last_rank() -> None:
    steps = [float(n) for n in range(12)]
    times = [10.0 + n for n in range(9)] + [math.inf] * 3
    found = pair(table([1.0, 2.0] * 6, {"time_to_target": list(times)}, steps=steps), "steps", "time_to_target")
    as_numbers = pair(
        table([1.0, 2.0] * 6, {"time_to_target": [*times[:9], 99.0, 99.0, 99.0]}, steps=steps), *found.names
    )
    assert found == as_numbers
    assert found.rho > 0.98


def test_every_number_is_correlated_with_every_other_one() -> None:
    generator = random.Random(0)
    losses: list[float | None] = [generator.random() for _ in range(30)]
    norms = [2 * loss + 0.1 * generator.random() if loss is not None else None for loss in losses]
    runs = made(30)
    runs = table(list(runs.scores), {"grad_norm": norms, "train_loss": losses}, rate=list(runs.parameters[0].values))
    found = correlations(runs, 0)
    assert found.names == ("rate", "grad_norm", "train_loss", "eval_loss")
    assert len(found.pairs) == 6
    for row, values in enumerate(found.matrix):
        assert values[row] == 1.0
        assert list(values) == [found.matrix[column][row] for column in range(4)]
    norm = pair(runs, "grad_norm", "train_loss")
    assert norm.is_clear and norm.rho > 0.8 and norm.num_runs == 30
    assert found.matrix[1][2] == norm.rho


def test_what_too_few_runs_have_is_not_known() -> None:
    norms: list[float | None] = [float(n) if n < 9 else None for n in range(30)]
    found = correlations(table([float(n % 7) for n in range(30)], {"grad_norm": norms}, same=[1.0] * 30), 0)
    assert found.names == ("same", "grad_norm", "eval_loss")
    assert found.pairs == ()
    assert found.matrix[0][2] is None and found.matrix[1][2] is None


def test_runs_without_a_value_are_left_out_of_its_pairs_alone() -> None:
    norms: list[float | None] = [float(n) if n % 2 else None for n in range(30)]
    runs = table([float(n) for n in range(30)], {"grad_norm": norms}, rate=[float(-n) for n in range(30)])
    assert pair(runs, "grad_norm", "eval_loss").num_runs == 15
    assert pair(runs, "rate", "eval_loss").num_runs == 30
    assert pair(runs, "rate", "eval_loss").high < -0.99


def test_a_category_that_tells_the_order_has_a_large_eta() -> None:
    optim = ["a"] * 10 + ["b"] * 10 + [None] * 10
    found = link(table([float(n) for n in range(30)], optim=optim), "optim")
    between = 200 * 10 / (30 * (30**2 - 1) / 12)  # sums of squares of ranks: groups are 10 apart, 10 runs each
    assert found.eta == pytest.approx(math.sqrt(between))
    assert found.p_value == pytest.approx(0.001)
    assert found.is_clear and found.num_runs == 30


def test_a_category_that_tells_nothing_is_not_clear() -> None:
    found = link(table([float(n) for n in range(40)], optim=["a", "b"] * 20), "optim")
    assert found.eta < 0.1
    assert not found.is_clear


def test_chance_alone_is_rarely_clear() -> None:
    generator = random.Random(1)
    clear = 0
    for _ in range(60):
        optim = [generator.choice("abcd") for _ in range(30)]
        clear += link(table([generator.random() for _ in range(30)], optim=optim), "optim").is_clear
    assert clear <= 9


def test_a_category_with_one_value_has_no_link() -> None:
    assert correlations(table([float(n) for n in range(20)], optim=["a"] * 20), 0).categories == ()


def test_what_goes_between_two_parameters_is_marked() -> None:
    rate, batch = [float(n) for n in range(12)], [float(n % 5) for n in range(12)]
    optim = ["muon" if n % 2 else "sgd" for n in range(12)]
    runs = table([float(n) for n in range(12)], {"grad_norm": batch}, rate=rate, batch=batch, optim=optim)
    found = correlations(runs, seed=0)
    assert [pair.names for pair in found.pairs if pair.is_of_design] == [("rate", "batch")]
    assert ("rate", "grad_norm") in [pair.names for pair in found.learned_pairs]
    assert {link.number for link in found.categories if link.is_of_design} == {"rate", "batch"}
    assert {link.number for link in found.learned_categories} == {"grad_norm", runs.metric}


def test_a_score_that_was_not_measured_has_the_last_rank_and_no_place_of_its_own() -> None:
    rate = [float(n) for n in range(12)]
    runs = replace(table([*rate[:10], 10.0, 99.0], {}, rate=rate), imputed=("r0011", "r0012"))
    (pair,) = correlations(runs, seed=0).pairs
    assert 0.99 < pair.rho < 1  # the two share a rank
