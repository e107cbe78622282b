"""Arguments of schedules: the same as those that are computed with, and checked before a training starts."""

import re
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hotlap.config.schedule_arguments import SCHEDULE_BOUNDS, schedule_problems
from hotlap.config.schema import TrainingConfig
from hotlap.config.training_settings import ScheduleName
from hotlap.core.schedules import SCHEDULE_ARGUMENTS, SCHEDULES, learning_rate_factor


def test_what_the_schema_takes_is_what_can_be_computed() -> None:
    assert set(get_args(ScheduleName)) == SCHEDULES.keys() == SCHEDULE_BOUNDS.keys()
    assert {name: set(bounds) for name, bounds in SCHEDULE_BOUNDS.items()} == {
        name: set(arguments) for name, arguments in SCHEDULE_ARGUMENTS.items()
    }


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_decay_steps": 5, "cycles": 1}, "not cycles"),
        ({"num_decay_steps": "many"}, "num_decay_steps is a number from 0 up, got 'many'"),
        ({"num_decay_steps": True}, "num_decay_steps is a number from 0 up, got True"),
        ({"num_decay_steps": -5}, "num_decay_steps is a number from 0 up, got -5"),
        ({"num_decay_steps": float("inf")}, "num_decay_steps is a number from 0 up, got inf"),
        ({"num_decay_steps": 5, "min_lr_ratio": float("nan")}, "min_lr_ratio is a number from 0 to 1, got nan"),
        ({"num_decay_steps": 5, "min_lr_ratio": 1.5}, "min_lr_ratio is a number from 0 to 1, got 1.5"),
        ({"num_decay_steps": 5, "decay_type": "sqrt"}, "decay_type is linear, cosine or 1-sqrt, got 'sqrt'"),
        ({"num_decay_steps": 5, "warmup_type": ["linear"]}, "warmup_type is linear, cosine or 1-sqrt"),
    ],
)
def test_arguments_are_checked_before_the_training_starts(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        TrainingConfig(lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs=kwargs)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("cosine", {"num_cycles": -1}, "num_cycles is a number from 0 up"),
        ("cosine_with_restarts", {"num_cycles": 0}, "num_cycles is a number from 1 up"),
        ("polynomial", {"lr_end": 1e-3}, "lr_end 0.001 is above learning_rate 0.0001"),
        ("inverse_sqrt", {"timescale": 0}, "timescale is a number from 1 up"),
        ("cosine_with_min_lr", {}, "exactly one of min_lr and min_lr_rate"),
        ("cosine_with_min_lr", {"min_lr": 0, "min_lr_rate": 0}, "exactly one of min_lr and min_lr_rate"),
        ("cosine_with_min_lr", {"min_lr": 1}, "min_lr 1 is above learning_rate"),
        ("cosine_warmup_with_min_lr", {"min_lr": 0, "warmup_lr_rate": 2}, "warmup_lr_rate is a number from 0 to 1"),
        ("triangular", {"num_cycles": 0}, "num_cycles is a number above 0, got 0"),
        ("step_down", {"at": 0}, "at is a number above 0, got 0"),
        ("step_down", {"at": 5, "to": 2}, "to is a number from 0 to 1, got 2"),
        ("step_down", {"at": 5, "smooth": -1}, "smooth is a number from 0 up, got -1"),
    ],
)
def test_each_argument_has_its_bounds(name: str, kwargs: dict[str, Any], message: str) -> None:
    assert message in "; ".join(schedule_problems(name, kwargs, learning_rate=1e-4))


def test_a_schedule_of_the_project_checks_its_own_arguments() -> None:
    assert list(schedule_problems("mine:curve", {"anything": object()}, learning_rate=1e-4)) == []


EXACT = st.sampled_from([0, 0.25, 0.5, 1, 1.5, 2, 5, 17, 25])
"""Lengths that come out exact as fractions of 20 steps."""
WORDS = st.sampled_from(["linear", "cosine", "1-sqrt", "other"])


@given(data=st.data(), name=st.sampled_from(sorted(SCHEDULES)))
@settings(deadline=None, max_examples=300)
def test_a_schedule_that_the_schema_takes_can_be_computed(data: st.DataObject, name: str) -> None:
    keys = st.sampled_from([*SCHEDULE_BOUNDS[name], "other"])
    kwargs = data.draw(st.dictionaries(keys, EXACT | WORDS, max_size=4))
    values = {"lr_scheduler_type": name, "lr_scheduler_kwargs": kwargs, "max_steps": 20, "learning_rate": 1.0}
    try:
        training = TrainingConfig(**values, warmup_steps=3)
    except ValidationError:
        return
    warmup, arguments = training.num_warmup_steps, training.lr_scheduler_kwargs
    for step in range(20):
        assert 0 <= learning_rate_factor(name, step, warmup, 20, arguments, training.learning_rate) <= 1
