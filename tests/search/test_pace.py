"""Step times of recipes that never ran."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.records import History, Proposal, RunRecord
from hotlap.search.pace import DEFAULT_EXPONENT, examples_per_step, measure_pace, step_seconds, step_work


def config(**patch: Any) -> RunConfig:
    return config_from_values({}, {f"training.{key}": value for key, value in patch.items()})


def study(seconds_per_step: dict[int, float]) -> History:
    """Candidate n has a batch of 2**(n + 2)."""
    runs = tuple(
        RunRecord(
            run_id=f"r{n}",
            role="baseline" if n == 0 else "screen",
            candidate=n,
            seed=0,
            outcome="reached",
            steps=100,
            train_seconds=100 * seconds,
        )
        for n, seconds in seconds_per_step.items()
    )
    proposals = tuple(
        Proposal(
            number=n, parent=0, family="f", title="t", observation="o", hypothesis="h", patch={}, predicted_ratio=1.0
        )
        for n in range(1, max(seconds_per_step) + 1)
    )
    return History(clock="train", base_config={}, runs=runs, proposals=proposals)


def configs(number: int) -> dict[int, RunConfig]:
    return {n: config(per_device_train_batch_size=2 ** (n + 2)) for n in range(number)}


def test_examples_of_a_step() -> None:
    assert examples_per_step(config(per_device_train_batch_size=4, gradient_accumulation_steps=3)) == 12
    assert examples_per_step(config(per_device_train_batch_size="auto", total_batch_size=20)) == 20
    assert examples_per_step(config_from_values({"devices": 2, "training": {"per_device_train_batch_size": 4}})) == 8


def test_work_grows_with_batch_and_model() -> None:
    plain = config(per_device_train_batch_size=4)
    assert step_work(config(per_device_train_batch_size=8)) == 2 * step_work(plain)
    deeper = config_from_values({}, {"model.num_hidden_layers": 4, "training.per_device_train_batch_size": 4})
    assert step_work(plain) < step_work(deeper) < 2 * step_work(plain)


@given(st.floats(0.35, 0.95))
def test_the_exponent_is_read_off_the_runs(exponent: float) -> None:
    seconds = {n: 0.01 * (2.0**n) ** exponent for n in range(5)}
    pace = measure_pace(study(seconds), 2, configs(5))
    assert pace.exponent == pytest.approx(exponent)
    for n, found in seconds.items():
        assert pace.seconds_per_step_of(configs(5)[n]) == pytest.approx(found)


def test_steps_from_before_a_drift_was_seen_are_left_out() -> None:
    past = study({0: 0.010, 1: 0.011})
    (baseline, screen), slow = past.runs, replace(past.runs[0], train_seconds=2.0)
    runs = [replace(run, run_id=f"r{n}") for n, run in enumerate([baseline] * 3 + [screen] + [slow] * 2)]
    assert step_seconds(replace(past, runs=tuple(runs))) == pytest.approx({0: 0.020})
    assert step_seconds(replace(past, runs=tuple(runs[:4]))) == pytest.approx({0: 0.010, 1: 0.011})


def test_few_sizes_leave_the_usual_exponent() -> None:
    pace = measure_pace(study({0: 0.01, 1: 0.09}), 1, configs(2))
    assert pace.exponent == DEFAULT_EXPONENT
    assert pace.seconds_per_step_of(configs(2)[1]) == pytest.approx(0.09)
