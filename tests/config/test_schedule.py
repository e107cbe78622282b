"""The schedule of a config: its unit, its warm-up, where it ends."""

from typing import Any

import pytest

from hotlap.config.schedule import Schedule, schedule_of
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError


def config(**training: Any) -> RunConfig:
    return RunConfig.model_validate({"training": {"learning_rate": 0.1, **training}, "budget": {"run": 80}})


@pytest.mark.parametrize(
    ("settings", "unit", "warmup", "horizon"),
    [
        ({"max_steps": 50}, "steps", 0, 50),
        ({"max_steps": 50, "warmup_steps": 7}, "steps", 7, 50),
        ({"max_steps": 50, "warmup_steps": 0.05}, "steps", 3, 50),
        ({"max_steps": 50, "warmup_ratio": 0.1}, "steps", 5, 50),
        ({"schedule_by": "seconds", "warmup_ratio": 0.05}, "seconds", 4, 80),
        ({"schedule_by": "tokens", "max_tokens": 1000, "warmup_steps": 0.25}, "tokens", 250, 1000),
    ],
)
def test_a_config_says_where_its_schedule_begins_and_ends(
    settings: dict[str, Any], unit: str, warmup: float, horizon: float
) -> None:
    found = schedule_of(config(**settings))
    assert (found.unit, found.horizon, found.peak) == (unit, horizon, 0.1)
    assert found.warmup == pytest.approx(warmup)


def test_a_training_by_epochs_is_told_its_steps() -> None:
    by_epochs = config(max_steps=-1, warmup_ratio=0.1)
    with pytest.raises(ConfigError, match="max_steps"):
        schedule_of(by_epochs)
    assert (schedule_of(by_epochs, max_steps=40).horizon, schedule_of(by_epochs, max_steps=40).warmup) == (40, 4)


def test_factors_are_those_of_the_named_schedule_and_end_with_the_budget() -> None:
    by_steps = schedule_of(config(max_steps=10, warmup_steps=2))
    assert [by_steps.factor(step) for step in (0, 1, 2, 6, 9)] == pytest.approx([0, 0.5, 1, 0.5, 0.125])
    by_seconds = schedule_of(
        config(schedule_by="seconds", lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr": 0.01})
    )
    assert [by_seconds.factor(seconds) for seconds in (0, 40, 80, 81)] == pytest.approx([1, 0.55, 0.1, 0.1])


def test_the_projects_own_function_takes_the_same_numbers() -> None:
    def falling(position: float, warmup: float, horizon: float, *, power: float) -> float:
        return (1 - (position - warmup) / (horizon - warmup)) ** power

    numbers: dict[str, Any] = {"unit": "steps", "warmup": 2, "horizon": 12, "peak": 0.1, "arguments": {"power": 2}}
    assert Schedule(name="mine:falling", custom=falling, **numbers).factor(7) == 0.25
    with pytest.raises(ConfigError, match="mine:falling"):
        Schedule(name="mine:falling", **numbers).factor(7)
