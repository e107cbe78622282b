"""Constraints of a sweep: comparisons of numbers, keys and products."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.config.sweep_constraints import parse_constraint
from hotlap.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("a < b", {"a": 1, "b": 2}, True),
        ("a < b", {"a": 2, "b": 2}, False),
        ("a <= b", {"a": 2, "b": 2.0}, True),
        ("a >= 3", {"a": 2}, False),
        ("2 < a", {"a": 3}, True),
        ("a == 2", {"a": 2.0}, True),
        ("a != 2", {"a": 2}, False),
        ("batch * steps <= 64", {"batch": 16, "steps": 4}, True),
        ("batch * steps <= 64", {"batch": 16, "steps": 5}, False),
        ("0.5*a > 1e-3", {"a": 0.01}, True),
        ("a > -1", {"a": 0}, True),
    ],
)
def test_a_constraint_holds_or_does_not(text: str, values: dict[str, Any], holds: bool) -> None:
    assert parse_constraint(text).holds(values) is holds


@pytest.mark.parametrize("value", [None, "auto", True, [1]])
def test_a_constraint_says_nothing_of_what_is_no_number(value: Any) -> None:
    assert parse_constraint("a < 0").holds({"a": value})
    assert parse_constraint("a * b < 0").holds({"a": 1})


def test_a_constraint_is_written_in_one_form_and_with_other_names() -> None:
    constraint = parse_constraint("warmup_steps*2<max_steps")
    assert constraint.names == ("warmup_steps", "max_steps")
    assert str(constraint) == "warmup_steps * 2 < max_steps"
    renamed = constraint.renamed({"warmup_steps": "training.warmup_steps"})
    assert str(renamed) == "training.warmup_steps * 2 < max_steps"


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_what_is_written_is_read_as_the_same(left: float, right: float, comparison: str) -> None:
    constraint = parse_constraint(f"a {comparison} b")
    again = parse_constraint(str(constraint))
    assert again == constraint
    assert again.holds({"a": left, "b": right}) is constraint.holds({"a": left, "b": right})


@pytest.mark.parametrize(
    "text",
    ["", "a", "a <", "a < b < c", "a = b", "a => b", "1 < 2", "a < nan", "a + b < 3", "a ** 2 < 3", "a < b c", None, 3],
)
def test_what_is_no_comparison_is_refused_with_an_example(text: Any) -> None:
    with pytest.raises(ConfigError, match=r"write for example 'training\.warmup_steps < training\.max_steps'"):
        parse_constraint(text)
