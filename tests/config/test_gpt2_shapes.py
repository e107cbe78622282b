"""Presets of GPT-2's shape, and what a config.json says of others."""

from typing import Any

import pytest

from hotlap.config.gpt2 import PRESETS, contradictions, shape_of
from hotlap.config.load import config_from_values
from hotlap.config.models import GPTConfig
from hotlap.core.errors import ConfigError

SIZES = {"gpt2": (768, 12, 12), "gpt2-medium": (1024, 24, 16), "gpt2-large": (1280, 36, 20), "gpt2-xl": (1600, 48, 25)}
TINY = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12}


def model(**values: Any) -> GPTConfig:
    found = config_from_values({"model": values}).model
    assert isinstance(found, GPTConfig)
    return found


def parameters(config: GPTConfig, vocab_size: int) -> int:
    """Count a GPT-2's parameters by hand: tables, per block four matrices with biases and two norms, the last norm."""
    width, inner = config.hidden_size, config.intermediate_size or 4 * config.hidden_size
    block = 4 * width * width + 4 * width + 2 * width * inner + inner + width + 4 * width
    tables = (vocab_size + config.max_position_embeddings) * width
    return tables + config.num_hidden_layers * block + 2 * width


@pytest.mark.parametrize(
    ("name", "count"),
    [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200)],
)
def test_a_preset_is_as_large_as_the_model_of_its_name(name: str, count: int) -> None:
    config = model(preset=name)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == SIZES[name]
    assert (config.positions, config.norm, config.hidden_act) == ("learned", "layer_norm", "gelu_new")
    assert config.use_bias and config.tie_word_embeddings
    assert config.max_position_embeddings == 1024
    assert parameters(config, 50_257) == count


def test_what_is_written_wins_over_the_preset() -> None:
    config = model(preset="gpt2", num_hidden_layers=2, positions="rope")
    assert (config.num_hidden_layers, config.positions, config.hidden_size) == (2, "rope", 768)


def test_a_preset_survives_being_written_out() -> None:
    config = config_from_values({"model": {"preset": "gpt2", "num_hidden_layers": 2}})
    assert config_from_values(config.model_dump(mode="json")) == config


def test_another_preset_takes_the_place_of_the_first_but_not_of_what_was_written() -> None:
    first = config_from_values({"model": {"preset": "gpt2", "num_hidden_layers": 2}}).model_dump(mode="json")
    changed = config_from_values(first, {"model.preset": "gpt2-medium"}).model
    assert isinstance(changed, GPTConfig)
    assert (changed.hidden_size, changed.num_attention_heads, changed.num_hidden_layers) == (1024, 16, 2)
    both = config_from_values(first, {"model.preset": "gpt2-medium", "model.num_hidden_layers": 3}).model
    assert isinstance(both, GPTConfig)
    assert (both.hidden_size, both.num_hidden_layers) == (1024, 3)
    begun = config_from_values(config_from_values({}).model_dump(mode="json"), {"model.preset": "gpt2"}).model
    assert isinstance(begun, GPTConfig)
    assert (begun.hidden_size, begun.max_position_embeddings) == (768, 1024)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"preset": "gpt3"}, r"model\.preset: Input should be 'gpt2', 'gpt2-medium', 'gpt2-large' or 'gpt2-xl'"),
        ({"preset": "gpt2", "model_name_or_path": "x"}, "preset and model_name_or_path both give the shape"),
        ({"preset": "gpt2", "num_attention_heads": 7}, "7 does not divide hidden_size 768"),
    ],
)
def test_a_preset_that_does_not_go_is_told(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        model(**values)


def test_a_config_json_gives_the_section() -> None:
    found = shape_of({**TINY, "n_inner": 40, "activation_function": "gelu_pytorch_tanh"}, "x/config.json")
    assert model(**found) == GPTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        intermediate_size=40,
        hidden_act="gelu_new",
    )
    assert shape_of({"model_type": "gpt2"}, "x").items() == PRESETS["gpt2"].items()  # its defaults are the small one


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"model_type": "llama"}, "x: its architecture is llama, expected gpt2; use model.name: hf"),
        ({"architectures": ["BertModel"]}, "its architecture is BertModel"),
        ({}, "its architecture is not named"),
        ({**TINY, "activation_function": "silu"}, "activation_function is 'silu', hotlap's GPT has gelu_new"),
        ({**TINY, "layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06, hotlap's GPT has 1e-05"),
        ({**TINY, "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
    ],
)
def test_another_architecture_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        shape_of(values, "x")


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ({}, []),
        ({"hidden_size": 16, "num_hidden_layers": 2}, []),
        ({"hidden_size": 32}, ["model.hidden_size is 32, the weights have 16"]),
        ({"positions": "rope"}, []),
        ({"positions": "rope", "max_position_embeddings": 100}, []),
        ({"max_position_embeddings": 8}, []),
        ({"max_position_embeddings": 100}, ["model.max_position_embeddings is 100, the weights have 12"]),
        ({"intermediate_size": 64}, []),
        ({"intermediate_size": 65}, ["model.intermediate_size is 65, the weights have absent"]),
        ({"smear": True}, []),
        ({"use_bias": False, "norm": "rms_norm"}, ["model.norm is rms_norm", "model.use_bias is false"]),
        ({"attn_pdrop": 0.1, "initializer_range": 0.1}, []),
    ],
)
def test_keys_that_contradict_the_weights_are_told(given: dict[str, Any], problems: list[str]) -> None:
    found = list(contradictions(shape_of(TINY, "x"), given))
    assert len(found) == len(problems)
    assert all(text.startswith(problem) for text, problem in zip(found, problems, strict=True))
