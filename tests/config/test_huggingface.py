"""The Trainer's names: each is a setting or has a fate, and a translation says what became of it."""

import dataclasses
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.config.huggingface import FATES, TRAINER_DEFAULTS, Remark, translate
from hotlap.config.schema import TrainingConfig


def names(fate: str) -> list[str]:
    return sorted(name for name, row in FATES.items() if row.fate == fate)


def test_the_tables_hold_every_name_once() -> None:
    assert not TRAINER_DEFAULTS.keys() & FATES.keys()
    assert TRAINER_DEFAULTS.keys() <= TrainingConfig.model_fields.keys()
    assert not FATES.keys() & TrainingConfig.model_fields.keys()
    # 133 names of 4.57, 10 that 5 added, 5 of Seq2SeqTrainingArguments, and evaluation_strategy from before 4.46
    assert len(TRAINER_DEFAULTS) + len(FATES) == 133 + 10 + 5 + 1


@pytest.mark.parametrize("name", sorted(TRAINER_DEFAULTS))
def test_the_default_of_each_setting_is_taken(name: str) -> None:
    translation = translate({name: TRAINER_DEFAULTS[name]})
    assert (translation.notices, translation.problems) == ([], [])
    TrainingConfig(**translation.values)


@pytest.mark.parametrize("name", names("no effect"))
@pytest.mark.parametrize("value", [None, True, "text", 3, ["list"]])
def test_a_name_without_effect_is_accepted_with_one_notice(name: str, value: Any) -> None:
    translation = translate({name: value, "bf16": True})
    assert translation.values == {"bf16": True}
    assert translation.problems == []
    assert [notice.key for notice in translation.notices] == [name]
    assert translation.notices[0].text.startswith("no effect here: ")


RENAMED: list[tuple[str, Any, dict[str, Any]]] = [
    ("per_gpu_train_batch_size", 4, {"per_device_train_batch_size": 4}),
    ("per_gpu_train_batch_size", None, {}),
    ("per_gpu_eval_batch_size", 4, {"per_device_eval_batch_size": 4}),
    ("no_cuda", True, {"use_cpu": True}),
    ("no_cuda", "yes", {"use_cpu": True}),
    ("no_cuda", "no", {}),
    ("adafactor", True, {"optim": "adafactor"}),
    ("adafactor", False, {}),
    ("torchdynamo", "eager", {"torch_compile_backend": "eager"}),
    ("activation_checkpointing", True, {"gradient_checkpointing": True}),
    ("activation_checkpointing", None, {}),
    ("include_tokens_per_second", True, {"include_num_input_tokens_seen": "all"}),
    ("sortish_sampler", True, {"train_sampling_strategy": "group_by_length"}),
    ("evaluation_strategy", "epoch", {"eval_strategy": "epoch"}),
    ("evaluation_strategy", "no", {"eval_strategy": "no"}),
    ("evaluation_strategy", False, {"eval_strategy": "no"}),
]


@pytest.mark.parametrize(("name", "value", "values"), RENAMED)
def test_a_renamed_setting_is_taken_with_a_notice(name: str, value: Any, values: dict[str, Any]) -> None:
    translation = translate({name: value})
    assert translation.values == values
    assert translation.problems == []
    assert [notice.key for notice in translation.notices] == [name]
    assert f"called {FATES[name].target} here" in translation.notices[0].text
    assert translation.sources == dict.fromkeys(values, name)
    TrainingConfig(**values)


def test_every_renamed_setting_is_tried() -> None:
    assert {name for name, _, _ in RENAMED} == set(names("renamed"))
    assert {FATES[name].target for name in names("renamed")} <= TrainingConfig.model_fields.keys()


def test_a_renamed_setting_may_not_contradict_the_one_that_it_became() -> None:
    contradiction = translate({"no_cuda": True, "use_cpu": False})
    assert contradiction.problems == [Remark("no_cuda", contradiction.problems[0].text)]
    assert "called use_cpu here, which is False already" in contradiction.problems[0].text
    agreement = translate({"use_cpu": True, "no_cuda": True})
    assert (agreement.values, agreement.problems) == ({"use_cpu": True}, [])


def test_an_optimizer_of_apex_is_taken_as_its_twin_with_a_notice() -> None:
    translation = translate({"optim": "adamw_apex_fused"})
    assert translation.values == {"optim": "adamw_torch_fused"}
    assert translation.notices == [Remark("optim", translation.notices[0].text)]
    assert "needs apex, which is not used here: taken as adamw_torch_fused" in translation.notices[0].text
    assert translate({"optim": "adamw_torch"}).notices == []


REFUSED: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("fp16", True, (False, "no", None)),
    ("fp16_full_eval", True, (False,)),
    ("push_to_hub", True, (False,)),
    ("resume_from_checkpoint", "out/checkpoint-5", (None, False)),
    ("ignore_data_skip", True, (False,)),
    ("average_tokens_across_devices", False, (True,)),
    ("neftune_noise_alpha", 5.0, (None,)),
    ("optim_target_modules", ["attn"], (None,)),
    ("accelerator_config", {"split_batches": True}, (None, {"dispatch_batches": False}, {})),
    ("accelerator_config", "accelerator.json", (None,)),
    ("parallelism_config", {"tp": 2}, (None,)),
    ("fsdp", "full_shard", (None, "", [])),
    ("fsdp_config", {"xla": True}, (None, {})),
    ("fsdp_min_num_params", 1000, (0,)),
    ("fsdp_transformer_layer_cls_to_wrap", "Block", (None,)),
    ("deepspeed", "zero.json", (None,)),
    ("mp_parameters", "x=1", ("",)),
    ("tpu_num_cores", 8, (None,)),
    ("past_index", 1, (-1,)),
    ("debug", "underflow_overflow", ("", [])),
    ("generation_num_beams", 4, (None, 1)),
    ("generation_config", "config.json", (None,)),
]


@pytest.mark.parametrize(("name", "value", "harmless"), REFUSED)
def test_what_is_not_supported_is_refused_unless_it_asks_for_nothing(
    name: str, value: Any, harmless: tuple[Any, ...]
) -> None:
    translation = translate({name: value})
    assert (translation.values, translation.notices) == ({}, [])
    assert [problem.key for problem in translation.problems] == [name]
    assert translation.problems[0].text.startswith("not supported: ")
    assert translation.problems[0].text.endswith(f", got {value!r}")
    for nothing in harmless:
        assert translate({name: nothing}) == translate({})


def test_everything_that_is_not_supported_is_tried() -> None:
    assert {name for name, _, _ in REFUSED} == set(names("not supported"))


@pytest.mark.parametrize(
    ("training", "keys"),
    [
        ({"eval_strategy": "no", "eval_steps": 50}, ["eval_steps"]),
        ({"eval_strategy": False, "eval_steps": 50}, ["eval_steps"]),
        ({"save_strategy": "best", "save_steps": 50}, ["save_steps"]),
        ({"eval_strategy": "steps", "eval_steps": 50}, []),
        ({"eval_steps": 50}, []),
        ({"eval_strategy": "no", "eval_steps": None}, []),
    ],
)
def test_an_interval_that_its_strategy_switches_off_is_told(training: dict[str, Any], keys: list[str]) -> None:
    translation = translate(training)
    assert translation.values == training
    assert [notice.key for notice in translation.notices] == keys


ANY_NAME = st.sampled_from([*TRAINER_DEFAULTS, *FATES]) | st.text(max_size=5)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(training=st.dictionaries(ANY_NAME, ANY_VALUE, max_size=6))
@settings(deadline=None)
def test_a_translation_leaves_nothing_out_without_a_word(training: dict[str, Any]) -> None:
    translation = translate(training)
    assert not translation.values.keys() & FATES.keys()
    for name in training.keys() & FATES.keys():
        row = FATES[name]
        said = [remark.key for remark in (*translation.notices, *translation.problems)].count(name)
        assert said == 1 or (row.fate == "not supported" and said == 0)
    for name in training.keys() - FATES.keys() - {"gradient_checkpointing", "include_num_input_tokens_seen"}:
        is_default = name == "warmup_ratio" and training[name] is None  # None is what leaves it out
        assert is_default or translation.values[name] is training[name] or name in translation.sources


def installed(name: str) -> dict[str, Any]:
    """Return the names and defaults of a class of the installed transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
        fields = dataclasses.fields(getattr(transformers, name))
    return {field.name: field.default for field in fields}


@pytest.mark.parametrize("name", ["TrainingArguments", "Seq2SeqTrainingArguments"])
def test_every_name_of_the_installed_transformers_is_known(name: str) -> None:
    assert installed(name).keys() <= TRAINER_DEFAULTS.keys() | FATES.keys()


def test_the_defaults_are_those_of_the_installed_transformers() -> None:
    found = installed("TrainingArguments")
    told_apart = {"include_num_input_tokens_seen": (False, "no"), "gradient_checkpointing": (False, None)}
    for name, default in TRAINER_DEFAULTS.items():
        if name in found:
            theirs = getattr(found[name], "value", found[name])
            assert theirs in told_apart.get(name, (default,)), name
