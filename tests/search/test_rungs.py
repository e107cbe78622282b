"""Runs of a sweep that are stopped on the clock, against the others at the same reading."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.search.rungs import LEAST_OTHERS, RungRules

RULES = RungRules(
    clock="train", metric="eval_loss", is_minimized=True, eta=3, readings=(10.0, 30.0), limit_seconds=90.0
)


def curve(loss: float, end: float = 90.0) -> list[dict[str, Any]]:
    """Return points every second; the metric stands on every second one, and falls by a thousandth a second."""
    points: list[dict[str, Any]] = []
    for second in range(1, int(end) + 1):
        point = {"train_seconds": float(second), "step": 10 * second, "train_loss": 1.0}
        points.append({**point, "eval_loss": loss - second / 1000} if second % 2 == 0 else point)
    return points


def test_a_run_is_judged_once_it_has_come_to_a_rung_and_was_evaluated() -> None:
    assert not RULES.due(curve(2.0, 9), 0)
    assert RULES.due(curve(2.0, 10), 0) and not RULES.due(curve(2.0, 10), 1)
    assert not RULES.due([{"train_seconds": 11.0}], 0), "no evaluation yet"
    assert not RULES.due(curve(2.0), 2), "there is no third rung"


def test_the_value_at_a_rung_is_the_last_one_before_it() -> None:
    assert RULES.value_at(curve(2.0), 11.0) == pytest.approx(1.99)
    assert RULES.value_at(curve(2.0, 10), 11.0) is None, "it did not get there"
    late = [{"train_seconds": 20.0, "eval_loss": 1.5}]
    assert RULES.value_at(late, 10.0) == 1.5, "its first evaluation comes after the rung: nothing better is known"


def test_one_run_in_eta_goes_on() -> None:
    others = [curve(2.0), curve(3.0), curve(4.0), curve(5.0), curve(6.0)]
    assert RULES.verdict(curve(1.9, 10), others, 0) is None
    assert RULES.verdict(curve(2.1, 10), others, 0) is None
    kill = RULES.verdict(curve(3.1, 10), others, 0)
    assert kill is not None and kill.rule == "rung" and "place 2 had 2.99" in kill.reason
    assert (kill.at_seconds, kill.saved_seconds) == (10.0, 80.0)
    assert kill.evidence["rank"] == 3 and kill.evidence["last_place"] == pytest.approx(2.99)


def test_a_metric_that_is_to_grow_is_ranked_the_other_way_round() -> None:
    rules = replace(RULES, is_minimized=False)
    others = [curve(2.0), curve(3.0), curve(4.0)]
    assert rules.verdict(curve(4.1, 10), others, 0) is None
    assert rules.verdict(curve(1.0, 10), others, 0) is not None


def test_nobody_is_stopped_by_a_few_or_by_runs_that_did_not_get_there() -> None:
    short = [curve(1.0, 5)] * 9
    assert RULES.verdict(curve(9.0, 10), [curve(1.0)] * (LEAST_OTHERS - 1) + short, 0) is None
    assert RULES.verdict(curve(9.0, 10), [curve(1.0)] * LEAST_OTHERS, 0) is not None


@given(st.lists(st.floats(0.1, 10.0), min_size=0, max_size=30), st.integers(2, 5))
def test_at_least_one_run_in_eta_passes_whatever_the_order(losses: Sequence[float], eta: int) -> None:
    rules = replace(RULES, eta=eta)
    curves = [curve(loss, 10) for loss in losses]
    passed = [rules.verdict(own, [other for other in curves if other is not own], 0) is None for own in curves]
    assert sum(passed) >= math.ceil(len(losses) / eta)


def test_a_strict_rung_needs_fewer_others_and_rounds_no_place_up() -> None:
    strict = replace(RULES, is_strict=True)
    two, four = [curve(2.0), curve(3.0)], [curve(2.0), curve(3.0), curve(4.0), curve(5.0)]
    assert RULES.verdict(curve(4.0, 10), two, 0) is None
    assert strict.verdict(curve(4.0, 10), two, 0) is not None
    assert strict.verdict(curve(1.0, 10), two, 0) is None
    assert RULES.verdict(curve(2.5, 10), four, 0) is None
    assert strict.verdict(curve(2.5, 10), four, 0) is not None


def test_what_is_not_a_number_ranks_behind_all_others() -> None:
    broken = [{"train_seconds": 10.0, "eval_loss": math.nan}]
    others = [curve(2.0), broken, curve(3.0), curve(4.0)]
    kill = RULES.verdict(broken, others, 0)
    assert kill is not None and "value" not in kill.evidence
    assert kill.evidence["last_place"] == pytest.approx(2.99)
    assert RULES.verdict(curve(2.5, 10), others, 0) is None
