"""The grammar of wandb's parameters: every distribution, with bounds that are values or exponents."""

import math
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.document import Document
from hotlap.config.sweep_parameter import SweepParameter
from hotlap.config.sweep_settings import Remarks, number_of
from hotlap.config.wandb_sweep import merged, read_parameters


def read(spec: Any) -> tuple[list[SweepParameter], list[str], list[str]]:
    remarks = Remarks(Document({}, "FILE"))
    found = [parameter for _, parameter in read_parameters({"x": spec}, (), remarks)]
    return found, remarks.notices, remarks.problems


def one(spec: Any) -> SweepParameter:
    (found,), _, problems = read(spec)
    assert problems == []
    return found


@pytest.mark.parametrize(
    ("spec", "distribution", "fields"),
    [
        ({"value": 3}, "constant", {"values": (3,)}),
        ({"value": None}, "constant", {"values": (None,)}),
        ({"value": [1, 2]}, "constant", {"values": ([1, 2],)}),
        ({"values": [1, "a"]}, "categorical", {"values": (1, "a")}),
        ({"min": 1, "max": 5}, "int_uniform", {"low": 1, "high": 5}),
        ({"min": 1.0, "max": 5}, "uniform", {"low": 1, "high": 5}),
        ({"min": "1e-5", "max": 1}, "uniform", {"low": 1e-5, "high": 1}),
        ({"distribution": "constant", "value": 1}, "constant", {"values": (1,)}),
        ({"distribution": "categorical", "values": [1, 2]}, "categorical", {"values": (1, 2)}),
        (
            {"distribution": "categorical_w_probabilities", "values": [1, 2], "probabilities": [0.1, 0.9]},
            "categorical",
            {"values": (1, 2), "probabilities": (0.1, 0.9)},
        ),
        ({"distribution": "int_uniform", "min": 1, "max": 5}, "int_uniform", {"low": 1, "high": 5}),
        ({"distribution": "uniform", "min": 1, "max": 5}, "uniform", {"low": 1, "high": 5}),
        ({"distribution": "q_uniform", "min": 1, "max": 5}, "q_uniform", {"low": 1, "high": 5, "step": 1}),
        ({"distribution": "q_uniform", "min": 1, "max": 5, "q": 0.5}, "q_uniform", {"step": 0.5}),
        ({"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-3}, "log_uniform_values", {"low": 1e-5}),
        ({"distribution": "inv_log_uniform_values", "min": 1e-5, "max": 1e-3}, "log_uniform_values", {"low": 1e-5}),
        (
            {"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 4},
            "q_log_uniform_values",
            {"low": 1, "high": 64, "step": 4},
        ),
        ({"distribution": "normal"}, "normal", {"mu": 0, "sigma": 1}),
        ({"distribution": "normal", "mu": 2, "sigma": 3}, "normal", {"mu": 2, "sigma": 3}),
        ({"distribution": "q_normal", "q": 2}, "q_normal", {"mu": 0, "sigma": 1, "step": 2}),
        ({"distribution": "log_normal", "mu": -3}, "log_normal", {"mu": -3, "sigma": 1}),
        ({"distribution": "q_log_normal"}, "q_log_normal", {"mu": 0, "sigma": 1, "step": 1}),
        ({"distribution": "beta", "a": 2, "b": 5}, "beta", {"a": 2, "b": 5}),
        ({"distribution": "q_beta", "q": 0.1}, "q_beta", {"a": 1, "b": 1, "step": 0.1}),
    ],
)
def test_a_parameter_is_read(spec: dict[str, Any], distribution: str, fields: dict[str, Any]) -> None:
    found = one(spec)
    assert found.distribution == distribution
    assert {name: getattr(found, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("distribution", "bounds", "values"),
    [
        ("log_uniform", (math.log(1e-4), math.log(1e-2)), (1e-4, 1e-2)),
        ("inv_log_uniform", (math.log(100), math.log(10_000)), (1e-4, 1e-2)),
        ("q_log_uniform", (0.0, math.log(64)), (1.0, 64.0)),
    ],
)
def test_bounds_that_are_exponents_become_values_and_are_told(
    distribution: str, bounds: tuple[float, float], values: tuple[float, float]
) -> None:
    (found,), notices, problems = read({"distribution": distribution, "min": bounds[0], "max": bounds[1]})
    assert problems == []
    assert (found.low, found.high) == pytest.approx(values)
    instead = "q_log_uniform_values" if distribution.startswith("q_") else "log_uniform_values"
    assert found.distribution == instead
    assert notices == [
        f"FILE: x: the bounds of {distribution} are natural logarithms: values from {values[0]:.4g} to "
        f"{values[1]:.4g}; where the bounds are values write {instead}"
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (3, "expected value, values, or min and max, got 3"),
        ([1, 2], "expected value, values, or min and max, got [1, 2]"),
        ({}, "expected value, values, or min and max"),
        ({"min": 1}, "expected value, values, or min and max"),
        ({"mu": 1, "sigma": 2}, "expected value, values, or min and max"),
        ({"distribution": "cauchy"}, "unknown distribution 'cauchy'"),
        ({"distribution": "unifrm", "min": 1, "max": 2}, "Did you mean 'uniform'?"),
        ({"distribution": ["uniform"]}, "unknown distribution"),
        ({"distribution": "uniform", "min": 1}, "uniform takes min, max; got min"),
        ({"distribution": "uniform", "values": [1]}, "uniform takes min, max; got values"),
        ({"distribution": "normal", "min": 1, "max": 2}, "normal takes mu (may be left out), sigma"),
        ({"value": 1, "values": [1]}, "constant takes value; got value, values"),
        ({"values": [1, 2], "min": 1}, "categorical takes values"),
        ({"values": []}, "at least one value"),
        ({"values": "abc"}, "values is a list, got 'abc'"),
        ({"values": [1, 2], "probabilities": [1]}, "a list of 2 numbers, one for each value"),
        ({"values": [1, 2], "probabilities": [0.4, "much"]}, "a list of 2 numbers"),
        ({"values": [1, 2], "probabilities": [0.4, 0.5]}, "add up to 1"),
        ({"min": 1, "max": "many"}, "max is a number, got 'many'"),
        ({"min": True, "max": 2}, "min is a number, got True"),
        ({"min": 1, "max": math.inf}, "max is a number, got inf"),
        ({"min": 5, "max": 1}, "min 5 has to lie below max 1"),
        ({"distribution": "q_uniform", "min": 1, "max": 5, "q": 0}, "q is above 0"),
        ({"distribution": "log_uniform", "min": 1, "max": 1000}, "e^1000 is too large"),
        ({"distribution": "log_uniform", "min": -1000, "max": 1}, "needs min above 0"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "needs min above 0"),
        ({"parameters": {"y": {"value": 1}}, "value": 3}, "stands alone"),
        ({"parameters": 3}, "stands alone"),
        ({"value": 1, "when": [1]}, "when holds other parameters and their values"),
        ({"value": 1, "when": {"y": []}}, "when holds other parameters and their values"),
    ],
)
def test_what_is_no_parameter_is_told(spec: Any, message: str) -> None:
    found, _, problems = read(spec)
    assert found == []
    assert len(problems) == 1
    assert problems[0].startswith("  FILE: x")
    assert message in problems[0]


def test_nested_parameters_have_dotted_names_and_their_places() -> None:
    remarks = Remarks(Document({}, "FILE"))
    spec = {"parameters": {"b": {"value": 1}, "c": {"parameters": {"d": {"values": [1, 2]}}}}}
    found = list(read_parameters({"a": spec}, ("parameters",), remarks))
    assert [parameter.key for _, parameter in found] == ["a.b", "a.c.d"]
    assert [place for place, _ in found] == [
        ("parameters", "a", "parameters", "b"),
        ("parameters", "a", "parameters", "c", "parameters", "d"),
    ]
    assert remarks.problems == []


def test_a_value_that_is_listed_twice_counts_once() -> None:
    (found,), notices, _ = read({"values": [1, 2, 1.0], "probabilities": [0.2, 0.5, 0.3]})
    assert (found.values, found.probabilities) == ((1, 2), (0.5, 0.5))
    assert "listed twice" in notices[0]
    assert merged([1, True, 0, False], None) == ((1, True, 0, False), None)


def test_conditions_are_values_of_other_parameters() -> None:
    found = one({"value": 1, "when": {"optim": "muon", "layers": [1, 2]}})
    assert found.when == {"optim": ("muon",), "layers": (1, 2)}


def test_numbers_may_stand_in_quotes_and_stay_whole() -> None:
    assert (number_of("1e-4"), number_of(3), number_of(2.5)) == (1e-4, 3, 2.5)
    assert type(number_of(3)) is int
    assert [number_of(value) for value in (None, True, "x", math.nan, math.inf, [1])] == [None] * 6


def test_the_place_of_a_remark_is_the_line_in_the_file() -> None:
    document = Document.parse("method: grid\nparameters:\n  x:\n    min: 3\n", Path("sweep.yaml"))
    remarks = Remarks(document)
    assert list(read_parameters(document.plain()["parameters"], ("parameters",), remarks)) == []
    assert remarks.problems == ["  sweep.yaml:3: parameters.x: expected value, values, or min and max"]
