"""Step times from the lines of a command."""

from typing import Any

import pytest

from hotlap.bench.command_figures import CommandSteps, peak_memory, samples_of, steps_of, tokens_of, told_rate


def line(step: int, seconds: float, **more: Any) -> dict[str, Any]:
    return {"step": step, "wall_seconds": seconds, "train_seconds": seconds / 2, "tokens": 100 * step, **more}


def test_the_steps_between_two_lines_share_their_time_and_the_warm_up_is_left_out() -> None:
    told = steps_of([line(1, 5.0), line(5, 9.0), line(10, 10.0), line(20, 13.0)], 3, has_own_clock=False)
    assert told.step_seconds == pytest.approx((0.2, 0.3))
    assert (told.num_steps, told.seconds) == (15, 4.0)
    assert (told.startup_seconds, told.warmup_seconds) == (5.0, 4.0)
    assert told.tokens_per_step == 100.0


def test_a_pause_for_an_evaluation_is_no_step() -> None:
    lines = [line(10, 10.0), line(10, 14.0, eval_loss=1.0), line(20, 15.0), line(20, 19.0, eval_loss=1.0)]
    assert steps_of(lines, 3, has_own_clock=False).step_seconds == (0.1,)


def test_its_own_clock_is_believed_where_it_has_one() -> None:
    assert steps_of([line(10, 10.0), line(20, 14.0)], 3, has_own_clock=True).step_seconds == (0.2,)


def test_lines_that_were_counted_for_want_of_a_step_are_no_steps() -> None:
    """The Trainer without a progress bar: a line stands for twenty steps, and nothing in it says so."""
    lines = [line(number, 0.06 * number, is_step_counted=True) for number in range(1, 30)]
    assert steps_of(lines, 3, has_own_clock=False) == CommandSteps(())


@pytest.mark.parametrize("lines", [[], [line(1, 1.0)], [line(1, 1.0), line(2, 2.0)], [line(9, 1.0)]])
def test_too_few_lines_tell_no_step(lines: list[dict[str, Any]]) -> None:
    assert steps_of(lines, 3, has_own_clock=False).step_seconds == ()


def test_rates_that_it_tells_itself() -> None:
    metrics = {"train_steps_per_second": 4.0, "train_samples_per_second": 64.0, "tokens_per_second": 1000.0}
    assert told_rate(metrics) == 0.25
    assert told_rate({}) is None
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
