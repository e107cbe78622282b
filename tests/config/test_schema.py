"""The schema: bounds, relations between settings, parts of the project, and warm-up as Hugging Face counts it."""

import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from hotlap.config.command import CommandConfig
from hotlap.config.edits import AgentConfig, EditsConfig
from hotlap.config.load import get_dotted
from hotlap.config.schema import (
    FREE_KEYS,
    PROTOCOL_KEYS,
    TAGGED_KEYS,
    VARIANTS,
    CustomModelConfig,
    CustomTaskConfig,
    GPTConfig,
    LanguageModelConfig,
    RunConfig,
    Section,
    StringRepetitionConfig,
    TrainingConfig,
)


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [f.annotation for f in model.model_fields.values()]
    found = [i for i in inner if isinstance(i, type) and issubclass(i, BaseModel)]
    return [model, *(section for child in found for section in sections(child))]


FORMS = [form for forms in VARIANTS.values() for form in forms.values()]


@pytest.mark.parametrize("section", [*sections(RunConfig), *FORMS], ids=lambda section: section.__name__)
def test_every_setting_has_its_sentence(section: type[BaseModel]) -> None:
    assert issubclass(section, Section)
    missing = {key for key, field in section.model_fields.items() if not (field.description or "").endswith(".")}
    assert missing <= {"name"}


BAD_VALUES: list[tuple[type[Section], dict[str, Any], str]] = [
    (StringRepetitionConfig, {"min_length_bytes": 9, "max_length_bytes": 8}, "9 is above max_length_bytes 8"),
    (GPTConfig, {"hidden_size": 10, "num_attention_heads": 4}, "4 does not divide hidden_size 10"),
    (GPTConfig, {"hidden_size": 12, "num_attention_heads": 4, "positions": "rope"}, "even number of dimensions"),
    (GPTConfig, {"embd_pdrop": 1.0}, "less than 1"),
    (TrainingConfig, {"learning_rate": 0}, "greater than 0"),
    (TrainingConfig, {"learning_rate": math.inf}, "finite number"),
    (TrainingConfig, {"warmup_steps": math.nan}, "finite number"),
    (TrainingConfig, {"max_steps": 2.5}, "fractional part"),
    (TrainingConfig, {"max_steps": 0}, "max_steps is at least 1, or -1 for num_train_epochs"),
    (TrainingConfig, {"max_steps": -2}, "greater than or equal to -1"),
    (
        TrainingConfig,
        {"optim": "adam"},
        "Known: adafactor, adamw_torch, adamw_torch_fused, muon, sgd. Code of your own",
    ),
    (TrainingConfig, {"optim": "paged_adamw_8bit"}, "unknown optimizer 'paged_adamw_8bit'."),
    (TrainingConfig, {"optim": 5}, "'adamw_torch', 'adamw_torch_fused', 'adafactor', 'sgd' or 'muon'"),
    (TrainingConfig, {"optim": "a:b:c"}, "match pattern"),
    (TrainingConfig, {"optim_args": [1]}, "write a mapping, or a text such as momentum=0.9"),
    (TrainingConfig, {"lr_scheduler_type": "cosin"}, "Did you mean 'cosine'?"),
    (TrainingConfig, {"lr_scheduler_type": 5}, "'triangular' or 'step_down'"),
    (TrainingConfig, {"lr_scheduler_type": "reduce_lr_on_plateau"}, "so runs could not be compared on a clock"),
    (TrainingConfig, {"lr_scheduler_type": "greedy"}, "greedy is not supported: it moves the rate"),
    (TrainingConfig, {"lr_scheduler_type": "warmup_stable_decay"}, "{num_decay_steps: N}"),
    (TrainingConfig, {"lr_scheduler_type": "step_down"}, "step_down needs lr_scheduler_kwargs: {at: N}"),
    (TrainingConfig, {"lr_scheduler_kwargs": {"num_cycles": 1}}, "linear takes none, not num_cycles"),
    (TrainingConfig, {"lr_scheduler_kwargs": "num_cycles=1"}, "write a mapping, or one as text"),
    (TrainingConfig, {"per_device_train_batch_size": 0}, "greater than or equal to 1"),
    (TrainingConfig, {"per_device_train_batch_size": "many"}, "valid integer"),
    (TrainingConfig, {"per_device_train_batch_size": "auto"}, "auto needs total_batch_size"),
    (TrainingConfig, {"total_batch_size": 64}, "total_batch_size goes with per_device_train_batch_size: auto only"),
    (
        TrainingConfig,
        {"per_device_train_batch_size": "auto", "total_batch_size": 64, "gradient_accumulation_steps": 2},
        "gradient_accumulation_steps follows from total_batch_size",
    ),
    (TrainingConfig, {"schedule_by": "tokens"}, "schedule_by: tokens needs max_tokens"),
    (TrainingConfig, {"max_tokens": 100}, "max_tokens goes with schedule_by: tokens only"),
    (TrainingConfig, {"schedule_by": "seconds", "warmup_steps": 100}, "warmup_steps 100 counts steps, but schedule_by"),
    (TrainingConfig, {"schedule_by": "seconds", "eval_steps": 0.1}, "eval_steps 0.1 is a fraction of max_steps, but"),
    (TrainingConfig, {"logging_steps": 1.5}, "logging_steps is whole or, below 1, a fraction of max_steps, got 1.5"),
    (TrainingConfig, {"eval_steps": 2.5}, "eval_steps is whole or"),
    (TrainingConfig, {"save_steps": 100.5}, "save_steps is whole or"),
    (TrainingConfig, {"save_steps": 0}, "greater than 0"),
    (TrainingConfig, {"save_every": "soon"}, "cannot read the duration 'soon'"),
    (TrainingConfig, {"group_by_length": True, "train_sampling_strategy": "sequential"}, "are two orders"),
    (TrainingConfig, {"padding": "bucketed", "train_sampling_strategy": "sequential"}, "are two orders"),
    (TrainingConfig, {"padding": "packed", "group_by_length": True}, "packed fills its rows in an order of its own"),
    (TrainingConfig, {"train_sampling_strategy": "batch_rebalance"}, "'random', 'sequential' or 'group_by_length'"),
    (TrainingConfig, {"dataloader_prefetch_factor": 2}, "needs dataloader_num_workers above 0"),
    (TrainingConfig, {"dataloader_persistent_workers": True}, "needs dataloader_num_workers above 0"),
    (TrainingConfig, {"load_best_model_at_end": True}, "needs a checkpoint of the best evaluation"),
    (TrainingConfig, {"load_best_model_at_end": True, "eval_strategy": "epoch"}, "the same for eval_strategy and"),
    (TrainingConfig, {"save_strategy": "best", "eval_strategy": "no"}, "save_strategy: best needs evaluations"),
    (
        TrainingConfig,
        {"load_best_model_at_end": True, "eval_steps": 20, "save_steps": 50},
        "save_steps to be a multiple of eval_steps, got 50.0 and 20.0",
    ),
    (
        TrainingConfig,
        {"load_best_model_at_end": True, "eval_steps": 0.5, "save_steps": 50},
        "save_steps to be a multiple of eval_steps",
    ),
    (TrainingConfig, {"ddp_backend": "mpi"}, "'nccl' or 'gloo'"),
    (RunConfig, {"name": "../run"}, "match pattern"),
    (RunConfig, {"name": ""}, "match pattern"),
    (RunConfig, {"targets": ["eval_bleu > 0.3"]}, "unknown metric in a target 'eval_bleu'"),
    (RunConfig, {"targets": ["eval_loss < 1"], "training": {"eval_strategy": "no"}}, "targets need evaluations"),
    (RunConfig, {"training": {"metric_for_best_model": "los"}}, "Did you mean 'eval_loss'?"),
    (RunConfig, {"budget": {"run": 0}}, "greater than 0"),
    (RunConfig, {"calibrate": {"runs": 1}}, "greater than or equal to 2"),
    (RunConfig, {"devices": 0}, "greater than or equal to 1"),
    (RunConfig, {"task": {"name": "string_repetiton"}}, "Did you mean 'string_repetition'? Known: generator, "),
    (RunConfig, {"task": {"name": "custom"}}, "unknown task 'custom'"),
    (RunConfig, {"task": {"name": None}}, "unknown task 'None'"),
    (RunConfig, {"model": {"name": ["gpt"]}}, "unknown model"),
    (RunConfig, {"model": {"name": "my-file:build"}}, "Code of your own: module:function"),
    (RunConfig, {"model": 5}, "valid dictionary"),
]


@pytest.mark.parametrize(("section", "values", "message"), BAD_VALUES)
def test_a_value_that_cannot_be_used_is_refused(section: type[Section], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        section.model_validate(values)


def test_relations_that_do_not_hold_are_told_at_once() -> None:
    values = {"lr_scheduler_type": "step_down", "max_tokens": 5, "dataloader_prefetch_factor": 2, "max_steps": 0}
    with pytest.raises(ValidationError) as caught:
        TrainingConfig(**values)
    [problem] = caught.value.errors()
    assert [text.split()[0] for text in problem["msg"].removeprefix("Value error, ").split("; ")] == [
        "step_down",
        "max_steps",
        "max_tokens",
        "dataloader_prefetch_factor",
    ]


@pytest.mark.parametrize(
    ("values", "implied"),
    [
        ({}, {"max_steps": 1000, "eval_steps": None, "torch_compile": False, "metric_for_best_model": None}),
        ({"num_train_epochs": 2}, {"max_steps": -1, "is_by_epochs": True}),
        ({"num_train_epochs": 2, "max_steps": 5}, {"max_steps": 5, "is_by_epochs": False}),
        ({"eval_strategy": "steps"}, {"eval_steps": 100}),
        ({"eval_strategy": "steps", "logging_steps": 7}, {"eval_steps": 7}),
        ({"eval_strategy": "steps", "eval_steps": 3, "logging_steps": 7}, {"eval_steps": 3}),
        ({"eval_strategy": False}, {"eval_strategy": "no"}),
        ({"torch_compile_mode": "max-autotune"}, {"torch_compile": True}),
        ({"torch_compile_backend": "eager", "torch_compile": False}, {"torch_compile": True}),
        ({"save_strategy": "best"}, {"metric_for_best_model": "eval_loss", "greater_is_better": False}),
        ({"metric_for_best_model": "loss"}, {"metric_for_best_model": "eval_loss", "greater_is_better": False}),
        ({"metric_for_best_model": "chrf"}, {"metric_for_best_model": "eval_chrf", "greater_is_better": True}),
        ({"metric_for_best_model": "perplexity"}, {"metric_for_best_model": "perplexity", "greater_is_better": False}),
        ({"metric_for_best_model": "chrf", "greater_is_better": False}, {"greater_is_better": False}),
        ({"load_best_model_at_end": True, "eval_steps": 20, "save_steps": 40}, {"metric_for_best_model": "eval_loss"}),
        ({"load_best_model_at_end": True, "eval_steps": 0.1, "save_steps": 0.3}, {"save_steps": 0.3}),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}, {"eval_steps": None}),
        ({"include_num_input_tokens_seen": True}, {"include_num_input_tokens_seen": "all"}),
        ({"include_num_input_tokens_seen": "no"}, {"include_num_input_tokens_seen": None}),
        ({"include_num_input_tokens_seen": "non_padding"}, {"include_num_input_tokens_seen": "non_padding"}),
        ({"lr_scheduler_kwargs": None}, {"lr_scheduler_kwargs": {}}),
        (
            {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": '{"num_cycles": 2}'},
            {"lr_scheduler_kwargs": {"num_cycles": 2}},
        ),
        ({"per_device_train_batch_size": "auto", "total_batch_size": 64}, {"per_device_train_batch_size": "auto"}),
        ({"save_every": "10m"}, {"save_every": 600.0}),
        ({"optim_args": "momentum=0.9"}, {"optim_args": "momentum=0.9"}),
        ({"padding": "packed"}, {"batch_order": "packed"}),
        ({"padding": "bucketed"}, {"batch_order": "bucketed"}),
        ({"group_by_length": True}, {"batch_order": "bucketed"}),
        ({"train_sampling_strategy": "group_by_length"}, {"batch_order": "bucketed"}),
        ({"train_sampling_strategy": "sequential", "padding": "max_length"}, {"batch_order": "sequential"}),
        ({"optim": "mine.rules:build", "lr_scheduler_type": "mine:curve"}, {"optim": "mine.rules:build"}),
        ({"lr_scheduler_type": "mine:curve", "lr_scheduler_kwargs": {"any": [1]}}, {"lr_scheduler_type": "mine:curve"}),
    ],
)
def test_settings_imply_others_as_in_hugging_face(values: dict[str, Any], implied: dict[str, Any]) -> None:
    training = TrainingConfig(**values)
    assert {name: getattr(training, name) for name in implied} == implied
    assert TrainingConfig(**training.model_dump(mode="json")) == training


@pytest.mark.parametrize(
    ("values", "form", "extra"),
    [
        ({}, StringRepetitionConfig, None),
        ({"name": "string_repetition"}, StringRepetitionConfig, None),
        ({"name": "language_model", "block_size": 64}, LanguageModelConfig, None),
        ({"name": "my_tasks.count:make", "rows": 3, "of": {"a": [1]}}, CustomTaskConfig, {"rows": 3, "of": {"a": [1]}}),
    ],
)
def test_the_name_of_a_task_chooses_its_settings(values: dict[str, Any], form: type, extra: Any) -> None:
    config = RunConfig.model_validate({"task": values})
    assert type(config.task) is form
    assert config.task.model_extra == extra
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_model_of_the_project_keeps_its_arguments() -> None:
    config = RunConfig.model_validate({"model": {"name": "nets:tiny", "width": 8}})
    assert isinstance(config.model, CustomModelConfig)
    assert config.model.model_extra == {"width": 8}
    assert config.model_dump()["model"] == {"name": "nets:tiny", "width": 8}
    assert RunConfig(model=GPTConfig(hidden_size=64)).model.model_dump()["hidden_size"] == 64


def test_a_metric_of_a_task_of_the_project_is_not_judged() -> None:
    training = {"metric_for_best_model": "wins", "save_strategy": "best"}
    config = RunConfig.model_validate({"task": {"name": "games:chess"}, "training": training})
    assert config.training.metric_for_best_model == "eval_wins"


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
        ({"warmup_ratio": 0.5, "max_steps": -1}, 0),
        ({"warmup_steps": 30, "max_steps": -1}, 30),
    ],
)
def test_warm_up_counts_as_in_hugging_face(values: dict[str, Any], steps: int) -> None:
    assert TrainingConfig(**values).num_warmup_steps == steps


@given(max_steps=st.integers(1, 10**6), ratio=st.floats(0, 1))
@settings(deadline=None)
def test_a_warm_up_ratio_is_rounded_up(max_steps: int, ratio: float) -> None:
    training = TrainingConfig(max_steps=max_steps, warmup_ratio=ratio)
    assert training.num_warmup_steps == training.warmup_steps_of(max_steps) == math.ceil(max_steps * ratio)


@given(max_steps=st.integers(1, 10**6), share=st.floats(0, 1, exclude_min=True, exclude_max=True))
@settings(deadline=None)
def test_an_interval_below_1_is_a_share_of_all_steps(max_steps: int, share: float) -> None:
    training = TrainingConfig(logging_steps=share, eval_steps=share, save_steps=share)
    steps = training.interval(training.logging_steps, max_steps)
    assert steps == math.ceil(max_steps * share)
    assert 1 <= steps <= max_steps


@pytest.mark.parametrize("value", [1, 2, 100, 10**6])
def test_an_interval_from_1_up_is_in_steps(value: int) -> None:
    assert TrainingConfig(logging_steps=value).interval(value, 10) == value


def test_the_protocol_names_keys_that_exist() -> None:
    own = RunConfig().model_dump()
    foreign = RunConfig(
        command=CommandConfig(run="python train.py {seed}"),
        params={"seed": 1},
        edits=EditsConfig(files=("train.py",)),
        agent=AgentConfig(command="improve"),
        search={"seed": {"values": [1, 2]}},
    ).model_dump()
    for key in (*PROTOCOL_KEYS, *FREE_KEYS):
        get_dotted(foreign if key.split(".")[0] in foreign.keys() - own.keys() else own, key)


def test_the_protocol_has_all_that_is_measured_and_saved() -> None:
    prefixes = ("eval_", "logging_", "save_", "measure_", "seed", "data_seed")
    names = {f"training.{name}" for name in TrainingConfig.model_fields if name.startswith(prefixes)}
    assert names <= set(PROTOCOL_KEYS)


def test_values_of_several_forms_are_known_by_their_keys() -> None:
    for key in TAGGED_KEYS:
        get_dotted(RunConfig().model_dump(), ".".join(key))


def test_targets_are_read_once_for_all() -> None:
    targets = RunConfig(targets=("eval_loss < 0.76", "eval_chrf > 8")).parsed_targets()
    assert [str(target) for target in targets] == ["eval_loss < 0.76", "eval_chrf > 8"]
