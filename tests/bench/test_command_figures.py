"""What a step of a command is made of, by what it told."""

from typing import Any

import pytest

from hotlap.bench.command_figures import peak_memory, samples_of, tokens_of
from hotlap.runs.command_steps import CommandSteps


def test_rates_that_it_tells_itself() -> None:
    metrics = {"train_steps_per_second": 4.0, "train_samples_per_second": 64.0, "tokens_per_second": 1000.0}
    assert samples_of(metrics, {"batch_size": 3}, 1, 0.25) == 16.0
    assert tokens_of(metrics, CommandSteps(()), 0.25) == 250.0
    assert tokens_of(metrics, CommandSteps((), tokens_per_step=7.0), 0.25) == 7.0
    assert tokens_of({}, CommandSteps(()), 0.25) == 0.0


@pytest.mark.parametrize(
    ("params", "devices", "expected"),
    [
        ({"batch_size": 8}, 1, 8.0),
        ({"per_device_train_batch_size": 8, "grad_accum": 4}, 2, 64.0),
        ({"batch_size": "8"}, 1, 0.0),
        ({}, 1, 0.0),
    ],
)
def test_samples_follow_from_the_knobs(params: dict[str, Any], devices: int, expected: float) -> None:
    assert samples_of({}, params, devices, 1.0) == expected


def test_the_memory_of_a_gpu_counts_where_it_is_used() -> None:
    held = [{"memory_bytes": 5}, {"memory_bytes": 9}, {"memory_bytes": None}]
    assert peak_memory(held) == 9
    assert peak_memory([]) is None
    idle = [{"memory_bytes": 5, "gpu_memory_bytes": [100]}, {"memory_bytes": 6, "gpu_memory_bytes": [101]}]
    assert peak_memory(idle) == 6
    used = [{"memory_bytes": 5, "gpu_memory_bytes": [100, 3]}, {"memory_bytes": 6, "gpu_memory_bytes": [900, 3]}]
    assert peak_memory(used) == 900
