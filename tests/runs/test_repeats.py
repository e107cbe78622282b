"""How a repeated run compares with the first: traces line by line, and what was not the same around them."""

import math

from hotlap.runs.repeats import compare_traces, environment_differences


def points(*losses: float, every: int = 10) -> list[dict[str, float]]:
    return [{"step": every * n, "train_loss": loss, "grad_norm": 1.0} for n, loss in enumerate(losses, start=1)]


def test_equal_traces_are_told_as_equal_with_their_number() -> None:
    found = compare_traces(
        points(3.0, 2.0, math.nan), [{"step": 5, "eval_loss": 9.0}, *points(3.0, 2.0, math.nan)], "train_loss"
    )
    assert (found.steps, found.first_difference, found.largest_difference) == (3, None, 0.0)
    assert str(found) == "train_loss: equal to the last digit wherever both have logged it (3 steps)"


def test_the_first_difference_and_the_largest_are_told() -> None:
    found = compare_traces(points(3.0, 2.0, 1.5), points(3.0, 2.25, 1.4, 1.0), "train_loss")
    assert (found.steps, found.first_difference, found.largest_difference) == (3, 20, 0.25)
    assert "differs from step 20 on, by 0.25 at most (3 steps that" in str(found)
    assert compare_traces(points(1.0), points(math.nan), "train_loss").largest_difference == math.inf


def test_lines_of_other_steps_are_not_compared() -> None:
    longer = [*points(3.0, 2.0), {"step": 25, "train_loss": 1.0}]
    assert compare_traces(longer, points(3.0, 2.0, 1.5), "train_loss").steps == 2
    nothing = compare_traces([], points(1.0), "train_loss")
    assert str(nothing) == "train_loss: no step that both have logged"


def test_only_what_may_make_another_run_is_a_difference() -> None:
    first = {"torch": "2.13.0", "threads": 2, "load_average": 0.3, "data": {"hash": "a", "num_train": 9}}
    second = {"torch": "2.14.0", "threads": 2, "load_average": 7.0, "data": {"hash": "b", "num_train": 9}}
    assert environment_differences(first, second) == {"torch": ("2.13.0", "2.14.0"), "data.hash": ("a", "b")}
    assert environment_differences(first, first) == {}
    assert environment_differences({}, second)["torch"] == (None, "2.14.0")
