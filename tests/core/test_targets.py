"""Targets: what they read, what they refuse, and that not-a-number never passes."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.errors import ConfigError
from hotlap.core.targets import CHEAP_METRICS, GENERATION_METRICS, Target, all_hold, parse_target

METRICS = [*CHEAP_METRICS, *GENERATION_METRICS]
COMPARISONS = ["<", "<=", ">", ">="]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eval_loss < 0.76", Target("eval_loss", "<", 0.76)),
        ("eval_loss<0.76", Target("eval_loss", "<", 0.76)),
        ("  perplexity <= 2.5e0 ", Target("perplexity", "<=", 2.5)),
        ("eval_sacrebleu > .3", Target("eval_sacrebleu", ">", 0.3)),
        ("eval_loss >= -1e-3", Target("eval_loss", ">=", -0.001)),
    ],
)
def test_a_target_is_read(text: str, expected: Target) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    "text", ["", "eval_loss", "eval_loss <", "< 0.76", "eval_loss = 0.76", "eval_loss < low", "eval_loss < 1 2"]
)
def test_a_malformed_target_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write for example 'eval_loss < 0\.76'") as caught:
        parse_target(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("number", ["1.2.3", ".", "..5"])
def test_a_number_with_too_many_points_is_refused(number: str) -> None:
    with pytest.raises(ConfigError, match="cannot read the number"):
        parse_target(f"eval_loss < {number}")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_target_cannot_ask_for_what_is_not_finite(value: str) -> None:
    with pytest.raises(ConfigError):
        parse_target(f"eval_loss < {value}")


def test_an_unknown_metric_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown metric in a target 'eval_los'\. Did you mean 'eval_loss'\?"):
        parse_target("eval_los < 0.76")


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_passes(comparison: str, value: float) -> None:
    assert not Target("eval_loss", comparison, 0.0).holds({"eval_loss": value})


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_a_missing_metric_never_passes(comparison: str) -> None:
    assert not Target("eval_loss", comparison, 0.0).holds({"train_loss": 0.0})


@given(got=st.floats(allow_nan=False, allow_infinity=False), bound=st.floats(-1e6, 1e6))
@settings(deadline=None)
def test_a_comparison_means_what_it_says(got: float, bound: float) -> None:
    held = {c: Target("eval_loss", c, bound).holds({"eval_loss": got}) for c in COMPARISONS}
    assert held == {"<": got < bound, "<=": got <= bound, ">": got > bound, ">=": got >= bound}


@given(metric=st.sampled_from(METRICS), comparison=st.sampled_from(COMPARISONS), value=st.integers(-99999, 99999))
@settings(deadline=None)
def test_what_a_target_prints_is_read_as_the_same_target(metric: str, comparison: str, value: int) -> None:
    target = Target(metric, comparison, value / 1000)
    assert parse_target(str(target)) == target


def test_all_targets_must_hold_at_once() -> None:
    targets = [parse_target("eval_loss < 0.8"), parse_target("eval_byte_accuracy > 0.7")]
    assert all_hold(targets, {"eval_loss": 0.7, "eval_byte_accuracy": 0.8})
    assert not all_hold(targets, {"eval_loss": 0.7, "eval_byte_accuracy": 0.6})
    assert not all_hold(targets, {"eval_loss": 0.7})


def test_no_target_never_holds() -> None:
    assert not all_hold([], {"eval_loss": 0.0})


def test_generation_metrics_are_not_cheap() -> None:
    assert all(parse_target(f"{name} > 0").is_cheap for name in CHEAP_METRICS)
    assert not any(parse_target(f"{name} > 0").is_cheap for name in GENERATION_METRICS)
