"""The schema: bounds, relations between settings, and warm-up as Hugging Face counts it."""

import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from hotlap.config.load import get_dotted
from hotlap.config.schema import PROTOCOL_KEYS, GPTConfig, RunConfig, Section, StringRepetitionConfig, TrainingConfig
from hotlap.core.schedules import SCHEDULES, learning_rate_factor


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [f.annotation for f in model.model_fields.values()]
    found = [i for i in inner if isinstance(i, type) and issubclass(i, BaseModel)]
    return [model, *(section for child in found for section in sections(child))]


@pytest.mark.parametrize("section", sections(RunConfig), ids=lambda section: section.__name__)
def test_every_setting_has_its_sentence(section: type[BaseModel]) -> None:
    assert issubclass(section, Section)
    missing = {key for key, field in section.model_fields.items() if not (field.description or "").endswith(".")}
    assert missing <= {"name"}


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (StringRepetitionConfig, {"min_length_bytes": 9, "max_length_bytes": 8}, "9 is above max_length_bytes 8"),
        (GPTConfig, {"hidden_size": 10, "num_attention_heads": 4}, "4 does not divide hidden_size 10"),
        (GPTConfig, {"hidden_size": 12, "num_attention_heads": 4, "positions": "rope"}, "even number of dimensions"),
        (GPTConfig, {"embd_pdrop": 1.0}, "less than 1"),
        (TrainingConfig, {"learning_rate": 0}, "greater than 0"),
        (TrainingConfig, {"learning_rate": math.inf}, "finite number"),
        (TrainingConfig, {"warmup_steps": math.nan}, "finite number"),
        (TrainingConfig, {"max_steps": 2.5}, "fractional part"),
        (TrainingConfig, {"optim": "adam"}, "'adamw_torch', 'adamw_torch_fused' or 'muon'"),
        (TrainingConfig, {"lr_scheduler_type": "warmup_stable_decay"}, "{num_decay_steps: N}"),
        (TrainingConfig, {"lr_scheduler_kwargs": {"num_cycles": 1}}, "linear takes none, not num_cycles"),
        (RunConfig, {"name": "../run"}, "match pattern"),
        (RunConfig, {"name": ""}, "match pattern"),
        (RunConfig, {"targets": ["eval_bleu > 0.3"]}, "unknown metric in a target 'eval_bleu'"),
        (RunConfig, {"budget": {"run": 0}}, "greater than 0"),
        (RunConfig, {"calibrate": {"runs": 1}}, "greater than or equal to 2"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(section: type[Section], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        section.model_validate(values)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_decay_steps": 5, "cycles": 1}, "not cycles"),
        ({"num_decay_steps": "many"}, "num_decay_steps is a number from 0 up, got 'many'"),
        ({"num_decay_steps": -5}, "num_decay_steps is a number from 0 up, got -5"),
        ({"num_decay_steps": 5, "min_lr_ratio": math.nan}, "min_lr_ratio is a number from 0 up, got nan"),
        ({"num_decay_steps": 5, "decay_type": "sqrt"}, "decay_type is linear, cosine or 1-sqrt, got 'sqrt'"),
    ],
)
def test_schedule_arguments_are_checked_before_the_training_starts(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        TrainingConfig(lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs=kwargs)


ARGUMENTS = {
    "num_cycles": st.sampled_from([0.5, 1, 2.0]),
    "num_decay_steps": st.integers(1, 17),
    "decay_type": st.sampled_from(["linear", "cosine", "1-sqrt", "other"]),
    "min_lr_ratio": st.floats(0, 1),
}


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    kwargs=st.fixed_dictionaries({}, optional=ARGUMENTS),
    step=st.integers(0, 20),
)
@settings(deadline=None)
def test_a_schedule_that_the_schema_takes_can_be_computed(name: Any, kwargs: dict[str, Any], step: int) -> None:
    try:
        training = TrainingConfig(lr_scheduler_type=name, lr_scheduler_kwargs=kwargs, max_steps=20, warmup_steps=3)
    except ValidationError:
        with pytest.raises((TypeError, KeyError)):  # the schema refused what could not have been computed
            [learning_rate_factor(name, number, 3, 20, kwargs) for number in range(3, 20)]
        return
    factor = learning_rate_factor(name, step, training.num_warmup_steps, 20, training.lr_scheduler_kwargs)
    assert 0 <= factor <= 1


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({}, 0),
        ({"warmup_steps": 0.5, "max_steps": 11}, 6),
        ({"warmup_steps": 0.05, "max_steps": 5000}, 250),
        ({"warmup_steps": 1}, 1),
        ({"warmup_steps": 1.9}, 1),
        ({"warmup_steps": 300, "warmup_ratio": 0.5}, 300),
        ({"warmup_ratio": 0.05, "max_steps": 5000}, 250),
        ({"warmup_ratio": 0.001, "max_steps": 10}, 1),
        ({"warmup_ratio": 1.0, "max_steps": 10}, 10),
        ({"warmup_steps": 0.2, "warmup_ratio": 0.9, "max_steps": 10}, 2),
    ],
)
def test_warm_up_counts_as_in_hugging_face(values: dict[str, Any], steps: int) -> None:
    assert TrainingConfig(**values).num_warmup_steps == steps


@given(max_steps=st.integers(1, 10**6), ratio=st.floats(0, 1))
@settings(deadline=None)
def test_a_warm_up_ratio_is_rounded_up(max_steps: int, ratio: float) -> None:
    training = TrainingConfig(max_steps=max_steps, warmup_ratio=ratio)
    assert training.num_warmup_steps == math.ceil(max_steps * ratio)


def test_the_protocol_names_keys_that_exist() -> None:
    values = RunConfig().model_dump()
    for key in PROTOCOL_KEYS:
        get_dotted(values, key)


def test_targets_are_read_once_for_all() -> None:
    targets = RunConfig(targets=("eval_loss < 0.76", "eval_chrf > 8")).parsed_targets()
    assert [str(target) for target in targets] == ["eval_loss < 0.76", "eval_chrf > 8"]
