"""Targets over several lines, and numbers with too few digits."""

import math

from hotlap.capture.reading import Reading
from hotlap.core.targets import parse_target
from hotlap.worker.target_watch import TargetWatch


def watch(*texts: str) -> TargetWatch:
    return TargetWatch([parse_target(text, is_any_metric=True) for text in texts])


def test_all_targets_have_to_hold_in_one_evaluation() -> None:
    both = watch("val_loss < 1", "acc > 0.5")
    assert not both.note(Reading(step=1, metrics={"val_loss": 0.9}))
    assert not both.note(Reading(step=2, metrics={"acc": 0.6}))
    assert both.note(Reading(step=2, metrics={"val_loss": 0.8}))


def test_without_steps_a_metric_that_comes_again_begins_anew() -> None:
    both = watch("val_loss < 1", "acc > 0.5")
    assert not both.note(Reading(metrics={"val_loss": 0.9}))
    assert not both.note(Reading(metrics={"val_loss": 1.1}))
    assert not both.note(Reading(metrics={"acc": 0.9}))
    assert not both.note(Reading(metrics={"val_loss": 0.9}))
    assert both.note(Reading(metrics={"acc": 0.9}))


def test_the_same_step_again_replaces_and_keeps_the_rest() -> None:
    both = watch("val_loss < 1", "acc > 0.5")
    assert not both.note(Reading(step=5, metrics={"val_loss": 1.0, "acc": 0.7}))
    assert both.note(Reading(step=5, metrics={"val_loss": 0.9996}))


def test_rounded_numbers_do_not_decide() -> None:
    close = watch("val_loss < 3.28")
    assert not close.note(Reading(step=1, metrics={"val_loss": 3.28}, decimals={"val_loss": 2}))
    assert close.undecided == {"val_loss": "3.28"}
    assert not close.note(Reading(step=2, metrics={"val_loss": 3.2799}, decimals={"val_loss": 3}))
    assert close.note(Reading(step=3, metrics={"val_loss": 3.279}, decimals={"val_loss": 3}))


def test_the_digits_of_a_better_source_decide_after_all() -> None:
    close = watch("val_loss <= 3.28")
    assert not close.note(Reading(step=1, metrics={"val_loss": 3.28}, decimals={"val_loss": 2}))
    assert close.note(Reading(step=1, metrics={"val_loss": 3.2798}))


def test_numbers_in_thousands_may_be_undecided() -> None:
    large = watch("tokens > 12000")
    assert not large.note(Reading(step=1, metrics={"tokens": 12000.0}, decimals={"tokens": -3}))
    assert large.undecided == {"tokens": "12000"}


def test_not_a_number_never_passes() -> None:
    assert not watch("val_loss < 1").note(Reading(step=1, metrics={"val_loss": math.nan}, decimals={"val_loss": 2}))
