"""What becomes of a simulated training when its targets hold, or when somebody stops it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator.trace import Played, Trace, evaluated_steps, play

from hotlap.core.clock import EvaluationGrid
from hotlap.core.targets import parse_target

TARGETS = (parse_target("eval_loss < 1.0"),)


def falling(losses: list[float], ending: str = "missed") -> Trace:
    """Return a training of ten seconds between evaluations, a second a step."""
    steps = 10.0 * np.arange(1, len(losses) + 1)
    return Trace(
        setup_seconds=5.0,
        evaluation_seconds=1.0,
        steps=steps,
        train_seconds=steps,
        tokens_per_step=100.0,
        values={"eval_loss": np.array(losses)},
        ending=ending,  # type: ignore[arg-type]
    )


def played(trace: Trace, **changes: object) -> Played:
    return play(trace, **{"targets": TARGETS, "limit_seconds": math.inf, **changes})  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(
    pace=st.floats(0.001, 5.0),
    last=st.integers(1, 3000),
    limit=st.floats(1.0, 300.0),
    clock=st.sampled_from(["train", "wall"]),
)
def test_evaluations_fall_where_the_real_grid_wants_them(pace: float, last: int, limit: float, clock: str) -> None:
    grid = EvaluationGrid(clock)  # type: ignore[arg-type]
    due = [step for step in range(1, last + 1) if grid.is_due(step * pace) or step == last]
    found = evaluated_steps(pace, last, limit, clock).tolist()  # type: ignore[arg-type]
    within = [step for step in due if step * pace <= limit]
    assert found[: len(within)] == within
    assert len(found) == len(within) or found[len(within)] * pace > limit, "one behind the limit at least"
    assert found[-1] <= last


def test_it_ends_at_the_first_evaluation_at_which_the_targets_hold() -> None:
    end = played(falling([3.0, 1.0, 0.9, 0.5]))
    assert (end.outcome, end.train_seconds, len(end.points)) == ("reached", 30.0, 3)
    assert end.wall_seconds == 5.0 + 30.0 + 3 * 1.0
    assert end.points[-1]["tokens"] == 3000
    assert end.points[0]["perplexity"] == pytest.approx(math.exp(3.0))


def test_a_practice_that_looks_at_the_final_loss_goes_on() -> None:
    end = played(falling([3.0, 0.9, 0.5]), ends_at_target=False)
    assert (end.outcome, end.train_seconds) == ("missed", 30.0)


def test_the_end_of_the_schedule_is_a_miss() -> None:
    end = played(falling([3.0, 2.0]))
    assert (end.outcome, end.train_seconds) == ("missed", 20.0)


def test_a_limit_ends_a_run_with_an_evaluation_that_cannot_reach() -> None:
    end = played(falling([3.0, 2.0, 0.5]), limit_seconds=25.0)
    assert (end.outcome, end.train_seconds, len(end.points)) == ("out_of_budget", 25.0, 3)
    assert end.points[-1]["eval_loss"] == pytest.approx(1.25)
    assert (end.points[-1]["step"], end.points[-1]["tokens"]) == (25, 2500)
    assert played(falling([3.0, 2.0, 0.5]), limit_seconds=29.0).outcome == "out_of_budget", "0.65 is off the grid"
    end = played(falling([3.0, 2.0, 0.5]), limit_seconds=25.0, clock="wall")
    assert (end.outcome, end.wall_seconds, end.train_seconds) == ("out_of_budget", 25.0, 18.0)


def test_a_limit_before_the_first_evaluation() -> None:
    end = played(falling([3.0, 2.0]), limit_seconds=4.0)
    assert (end.outcome, end.train_seconds, end.points[-1]["step"]) == ("out_of_budget", 4.0, 4)


def test_the_budget_of_the_study_breaks_a_run_off() -> None:
    end = played(falling([3.0, 2.0, 0.5]), wall_left=30.0)
    assert (end.outcome, end.wall_seconds, end.train_seconds) == ("interrupted", 30.0, 20.0)
    assert end.reason == "the study's budget was used up"


def test_a_loss_that_is_no_number_is_a_divergence() -> None:
    end = played(falling([3.0, math.nan, 0.5]))
    assert (end.outcome, end.train_seconds) == ("diverged", 20.0)


def test_whoever_stops_a_run_is_asked_at_every_evaluation_and_says_why() -> None:
    seen: list[float] = []

    def stop(point: dict[str, float]) -> str | None:
        seen.append(point["eval_loss"])
        return "hopeless" if point["eval_loss"] > 2.4 and len(seen) == 2 else None

    end = played(falling([3.0, 2.5, 0.5]), stop=stop)
    assert seen == [3.0, 2.5]
    assert (end.outcome, end.reason, end.stopped_by) == ("raced", "hopeless", "hopeless")


def test_a_training_without_a_step_ends_as_it_says() -> None:
    end = played(falling([], ending="out_of_memory"))
    assert (end.outcome, end.train_seconds, end.wall_seconds) == ("out_of_memory", 0.0, 5.0)
