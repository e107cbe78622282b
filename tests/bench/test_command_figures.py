"""What a step of a command is made of, by what it told."""

from typing import Any

import pytest

from hotlap.bench.command_figures import peak_memory, samples_of, tokens_of
from hotlap.runs.command_steps import CommandSteps


def test_rates_that_it_tells_itself() -> None:
    metrics = {"train_steps_per_second": 4.0, "train_samples_per_second": 64.0, "tokens_per_second": 1000.0}
    assert samples_of(metrics, {"batch_size": 3}, 1, 0.25).per_step == 16.0
    assert tokens_of(metrics, CommandSteps(()), 0.25) == 250.0
    assert tokens_of(metrics, CommandSteps((), tokens_per_step=7.0), 0.25) == 7.0
    assert tokens_of({}, CommandSteps(()), 0.25) == 0.0


@pytest.mark.parametrize(
    ("params", "devices", "expected", "how"),
    [
        ({"batch_size": 8}, 1, 8.0, "the knob batch_size, × devices"),
        ({"batch": 8}, 2, 16.0, "the knob batch, × devices"),  # which --batch finds, too
        (
            {"grad_accum": 4, "per_device_train_batch_size": 8},
            *(2, 64.0),
            "the knobs per_device_train_batch_size × grad_accum, × devices",
        ),
        ({"batch_size": 8, "grad_accum": "auto"}, 1, 8.0, "the knob batch_size, × devices"),
        ({"batch_size": "8"}, 1, 0.0, ""),
        ({"batch_size": True}, 1, 0.0, ""),
        ({}, 1, 0.0, ""),
    ],
)
def test_samples_follow_from_the_knobs(params: dict[str, Any], devices: int, expected: float, how: str) -> None:
    assert samples_of({}, params, devices, 1.0) == (expected, how)


@pytest.mark.parametrize(
    ("params", "devices", "expected", "how"),
    [
        ({"device_batch_size": 8, "total_batch_size": 64}, 2, 64.0, "the knob total_batch_size, the batch of a whole"),
        ({"micro_batch_size": 8, "global_batch_size": 4096, "seq_len": 64}, 2, 4096.0, "the knob global_batch_size"),
        ({"device_batch_size": 8, "total_batch_size": 64, "seq_len": 512}, 2, 64.0, "the knob total_batch_size"),
        (
            {"device_batch_size": 32, "total_batch_size": 524288, "max_seq_len": 2048},
            1,
            0.0,
            "may count tokens or rows",
        ),
        ({"device_batch_size": 32, "total_batch_size": 524288}, 1, 0.0, "may count tokens or rows"),
        ({"batch_size": 4, "total_batch_tokens": 8192, "block_size": 256}, 2, 32.0, "in rows of the longest length"),
        ({"batch_size": 4, "total_batch_tokens": 8192}, 2, 0.0, ""),
        ({"batch_size": 4, "total_batch_size": None}, 2, 8.0, "the knob batch_size"),
    ],
)
def test_a_whole_step_s_batch_goes_before_rows_per_device(
    params: dict[str, Any], devices: int, expected: float, how: str
) -> None:
    found = samples_of({}, params, devices, 1.0)
    assert found.per_step == expected and how in found.how


def test_a_rate_of_samples_counts_where_no_knob_does() -> None:
    assert samples_of({"samples_per_second": 20.0}, {}, 1, 0.5).per_step == 10.0
    assert samples_of({"samples_per_second": 20.0}, {"batch_size": 4}, 1, 0.5).per_step == 4.0


def test_the_memory_of_a_gpu_counts_where_it_is_used() -> None:
    held = [{"memory_bytes": 5}, {"memory_bytes": 9}, {"memory_bytes": None}]
    assert peak_memory(held) == 9
    assert peak_memory([]) is None
    idle = [{"memory_bytes": 5, "gpu_memory_bytes": [100]}, {"memory_bytes": 6, "gpu_memory_bytes": [101]}]
    assert peak_memory(idle) == 6
    used = [{"memory_bytes": 5, "gpu_memory_bytes": [100, 3]}, {"memory_bytes": 6, "gpu_memory_bytes": [900, 3]}]
    assert peak_memory(used) == 900
