"""Parameters of a sweep: values and positions go both ways, for every distribution."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.config.sweep_parameter import SweepParameter, beta_quantile, beta_share, is_same

POSITIONS = st.floats(0.001, 0.999)
SMOOTH: list[dict[str, Any]] = [
    {"distribution": "uniform", "low": -1.0, "high": 3.0},
    {"distribution": "log_uniform_values", "low": 1e-5, "high": 1e-3},
    {"distribution": "normal", "mu": 2.0, "sigma": 0.5},
    {"distribution": "log_normal", "mu": -3.0, "sigma": 1.0},
    {"distribution": "beta", "a": 0.5, "b": 3.0},
    {"distribution": "beta", "a": 20.0, "b": 4.0},
]


def parameter(**fields: Any) -> SweepParameter:
    return SweepParameter(key="x", **fields)


@pytest.mark.parametrize("fields", SMOOTH, ids=lambda fields: fields["distribution"])
@given(position=POSITIONS)
def test_values_and_positions_go_both_ways(fields: dict[str, Any], position: float) -> None:
    found = parameter(**fields)
    assert found.position_of(found.value_at(position)) == pytest.approx(position, abs=1e-6)


@pytest.mark.parametrize("fields", SMOOTH, ids=lambda fields: fields["distribution"])
def test_values_rise_with_the_position_and_are_finite_at_both_ends(fields: dict[str, Any]) -> None:
    values = [parameter(**fields).value_at(step / 20) for step in range(21)]
    assert values == sorted(values)
    assert all(math.isfinite(value) for value in values)


def test_known_quantiles() -> None:
    assert parameter(distribution="log_uniform_values", low=1e-5, high=1e-3).value_at(0.5) == pytest.approx(1e-4)
    assert parameter(distribution="normal", mu=1.0, sigma=2.0).value_at(0.5) == pytest.approx(1.0)
    assert parameter(distribution="normal", mu=0.0, sigma=1.0).value_at(0.8413447) == pytest.approx(1.0, abs=1e-5)
    assert parameter(distribution="log_normal", mu=0.0, sigma=1.0).value_at(0.5) == pytest.approx(1.0)
    assert parameter(distribution="beta", a=2.0, b=1.0).value_at(0.25) == pytest.approx(0.5)


@given(st.floats(0.01, 0.99), st.floats(0.2, 50))
def test_the_beta_distribution_where_it_is_known(value: float, exponent: float) -> None:
    assert beta_share(value, 1, 1) == pytest.approx(value)
    assert beta_share(value, exponent, 1) == pytest.approx(value**exponent, abs=1e-9)
    assert beta_share(value, 1, exponent) == pytest.approx(1 - (1 - value) ** exponent, abs=1e-9)
    assert beta_share(0.5, exponent, exponent) == pytest.approx(0.5)
    assert beta_share(value, 3, exponent) == pytest.approx(1 - beta_share(1 - value, exponent, 3), abs=1e-9)


def test_the_beta_distribution_at_its_ends() -> None:
    assert (beta_share(0, 2, 3), beta_share(1, 2, 3), beta_share(-1, 2, 3), beta_share(2, 2, 3)) == (0, 1, 0, 1)
    assert beta_quantile(0, 2, 3) == pytest.approx(0, abs=1e-9)
    assert beta_quantile(1, 2, 3) == pytest.approx(1, abs=1e-4)


def test_whole_numbers_are_equally_likely() -> None:
    layers = parameter(distribution="int_uniform", low=1, high=8)
    values = [layers.value_at((step + 0.5) / 8) for step in range(8)]
    assert values == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(type(value) is int for value in values)
    assert (layers.value_at(0.0), layers.value_at(1.0)) == (1, 8)
    assert [layers.value_at(layers.position_of(value)) for value in values] == values
    assert list(layers.all_values()) == values


def test_values_are_multiples_of_the_step_within_the_bounds() -> None:
    found = parameter(distribution="q_uniform", low=5, high=20, step=4)
    assert {found.value_at(step / 100) for step in range(101)} == {8, 12, 16, 20}
    assert list(found.all_values()) == [8, 12, 16, 20]
    assert all(type(value) is int for value in found.all_values())


def test_multiples_carry_no_dust_of_floating_point() -> None:
    found = parameter(distribution="q_uniform", low=0.1, high=0.5, step=0.1)
    assert list(found.all_values()) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert {found.value_at(step / 100) for step in range(101)} == {0.1, 0.2, 0.3, 0.4, 0.5}


@given(st.floats(0, 1))
def test_rounded_distributions_give_whole_numbers(position: float) -> None:
    batch = parameter(distribution="q_log_uniform_values", low=1, high=64, step=1)
    assert batch.value_at(position) in range(1, 65)
    assert type(batch.value_at(position)) is int
    assert parameter(distribution="q_normal", mu=10.0, sigma=3.0, step=5).value_at(position) % 5 == 0
    assert parameter(distribution="q_beta", a=2.0, b=2.0, step=0.25).value_at(position) in (0, 0.25, 0.5, 0.75, 1)


def test_numbers_beyond_the_bounds_have_the_position_of_the_bound() -> None:
    share = parameter(distribution="uniform", low=0.0, high=1.0)
    rate = parameter(distribution="log_uniform_values", low=1e-4, high=1e-2)
    assert (share.position_of(-5), share.position_of(5)) == (0, 1)
    assert (rate.position_of(-5), rate.position_of(5)) == (0, 1)
    assert parameter(distribution="log_normal", mu=0.0, sigma=1.0).position_of(-1) == 0


def test_choices_lie_side_by_side_as_wide_as_their_chances() -> None:
    even = parameter(distribution="categorical", values=("a", "b"))
    assert [even.value_at(position) for position in (0.0, 0.49, 0.5, 1.0)] == ["a", "a", "b", "b"]
    odd = parameter(distribution="categorical", values=("a", "b", "c"), probabilities=(0.5, 0.0, 0.5))
    assert [odd.value_at(position) for position in (0.0, 0.49, 0.5, 1.0)] == ["a", "a", "c", "c"]
    last = parameter(distribution="categorical", values=("a", "b"), probabilities=(1.0, 0.0))
    assert last.value_at(1.0) == "a"


def test_choices_may_be_anything() -> None:
    found = parameter(distribution="categorical", values=(None, [1, 2], {"a": 1}, True, 1))
    assert [found.index_of(value) for value in (None, [1, 2], {"a": 1}, True, 1)] == [0, 1, 2, 3, 4]
    assert found.index_of("other") is None
    assert list(found.all_values()) == list(found.values)


def test_numbers_are_the_same_whatever_their_type_but_truth_values_are_none() -> None:
    assert is_same(1, 1.0)
    assert is_same("a", "a")
    assert not is_same(1, True)
    assert not is_same(0.0, False)
    assert not is_same("1", 1)


def test_a_parameter_exists_where_its_conditions_hold() -> None:
    momentum = parameter(distribution="constant", values=(0.9,), when={"optim": ("sgd", "muon"), "bf16": (True,)})
    assert momentum.exists_in({"optim": "muon", "bf16": True})
    assert not momentum.exists_in({"optim": "muon", "bf16": 1})
    assert not momentum.exists_in({"optim": "adamw", "bf16": True})
    assert not momentum.exists_in({"bf16": True})
    assert parameter(distribution="constant", values=(0.9,)).exists_in({})


def test_typical_values_are_the_choices_or_both_ends_and_one_between() -> None:
    assert parameter(distribution="categorical", values=(1, 2)).typical_values() == (1, 2)
    low, between, high = parameter(distribution="uniform", low=1.0, high=5.0).typical_values()
    assert (low, high) == (1, 5)
    assert low < between < high
    assert not float(between).is_integer()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distribution": "categorical"}, "at least one value"),
        ({"distribution": "categorical", "values": (1, 1.0)}, "have to differ"),
        ({"distribution": "categorical", "values": (1, 2), "probabilities": (1.0,)}, "as long as values"),
        ({"distribution": "categorical", "values": (1, 2), "probabilities": (0.5, 0.6)}, "add up to 1"),
        ({"distribution": "categorical", "values": (1, 2), "probabilities": (1.5, -0.5)}, "from 0 up"),
        ({"distribution": "categorical", "values": (1, 2), "probabilities": (math.nan, 1.0)}, "from 0 up"),
        ({"distribution": "uniform", "low": 1.0}, "needs min and max"),
        ({"distribution": "uniform", "low": 1.0, "high": 1.0}, "write value: 1"),
        ({"distribution": "int_uniform", "low": 0.5, "high": 2}, "whole bounds"),
        ({"distribution": "log_uniform_values", "low": 0.0, "high": 1.0}, "above 0"),
        ({"distribution": "q_uniform", "low": 1.0, "high": 2.0}, "q is above 0"),
        ({"distribution": "q_uniform", "low": 1.0, "high": 2.0, "step": 5}, "no multiple of q 5"),
        ({"distribution": "normal", "mu": 0.0, "sigma": 0.0}, "sigma above 0"),
        ({"distribution": "normal", "sigma": 1.0}, "needs mu"),
        ({"distribution": "log_normal", "mu": 0.0, "sigma": 200.0}, "too large"),
        ({"distribution": "beta", "a": 1.0, "b": 0.0}, "above 0"),
        ({"distribution": "cauchy"}, "is no distribution"),
    ],
)
def test_figures_that_make_no_distribution_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parameter(**fields)
