"""Step times from the lines of a command."""

from typing import Any

import pytest

from hotlap.runs.command_steps import CommandSteps, has_told_steps, step_seconds_of, steps_of, told_rate


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


def test_a_rate_that_it_tells_itself() -> None:
    assert told_rate({"train_steps_per_second": 4.0}) == 0.25
    assert told_rate({}) is None


def test_the_step_of_a_run_is_the_median_between_its_lines_without_start_up() -> None:
    lines = [line(5, 9.0), line(10, 10.0), line(20, 13.0), line(30, 16.0)]
    assert step_seconds_of(lines, {}, {}) == 0.3
    assert step_seconds_of(lines, {"clock": "own"}, {}) == 0.15
    assert step_seconds_of(lines, {"is_buffered": True}, {}) is None, "lines that came at once tell no time"
    assert step_seconds_of([{"step": "x"}, {"loss": 1.0}, *lines], {}, {}) == 0.3, "anybody may have written points"
    counted = [line(number, 0.06 * number, is_step_counted=True) for number in range(1, 30)]
    assert step_seconds_of(counted, {}, {}) is None
    assert step_seconds_of(counted, {}, {"train_steps_per_second": 4.0}) == 0.25


def test_steps_are_told_once_a_line_has_named_one() -> None:
    counted = [line(number, 0.06 * number, is_step_counted=True) for number in range(1, 30)]
    assert not has_told_steps([]) and not has_told_steps(counted) and not has_told_steps([{"loss": 1.0}])
    assert has_told_steps([*counted, line(600, 2.0)])
