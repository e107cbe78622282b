"""The section of the word-latent model: presets part by part, and what does not go with it."""

from typing import Any

import pytest
from pydantic import ValidationError

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.config.word_latent import WORD_PRESETS, WordLatentConfig
from hotlap.core.errors import ConfigError

WORDS: dict[str, Any] = {"model": {"name": "word_latent"}, "training": {}}


@pytest.mark.parametrize("preset", WORD_PRESETS)
def test_a_preset_gives_all_parts_their_shapes(preset: Any) -> None:
    config = WordLatentConfig(preset=preset)
    found = {part: getattr(config, part).model_dump() for part in ("encoder", "latent", "decoder")}
    assert found == WORD_PRESETS[preset]


@pytest.mark.parametrize("preset", ["huge", ["tiny"], {"tiny": 1}, 3], ids=str)
def test_a_preset_that_there_is_not_is_told(preset: Any) -> None:
    with pytest.raises(ConfigError, match="preset"):
        config_from_values(WORDS, {"model": {"name": "word_latent", "preset": preset}})


def test_a_written_key_wins_over_the_preset_and_leaves_the_others() -> None:
    config = WordLatentConfig.model_validate({"preset": "tiny", "latent": {"num_hidden_layers": 7}})
    assert config.latent.num_hidden_layers == 7
    assert config.latent.hidden_size == 256
    assert config.encoder == WordLatentConfig(preset="tiny").encoder


def test_a_section_that_was_written_out_reads_back() -> None:
    config = WordLatentConfig.model_validate({"preset": "micro", "decoder": {"hidden_size": 32}})
    assert WordLatentConfig.model_validate(config.model_dump(mode="json")) == config


def test_another_preset_replaces_the_shapes_that_came_from_the_first() -> None:
    values = config_from_values({"model": {"name": "word_latent", "latent": {"num_hidden_layers": 7}}})
    changed = config_from_values(values.model_dump(mode="json"), {"model.preset": "tiny"}).model
    assert isinstance(changed, WordLatentConfig)
    assert (changed.latent.num_hidden_layers, changed.latent.hidden_size) == (7, 256)
    assert changed.decoder.num_hidden_layers == 4


def test_heads_must_leave_pairs_of_dimensions() -> None:
    with pytest.raises(ValidationError, match="num_attention_heads 8 does not divide hidden_size 72"):
        WordLatentConfig.model_validate({"latent": {"hidden_size": 72, "num_attention_heads": 8}})


def test_an_unknown_preset_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"(?s)preset.*'tiny', 'mini' or 'micro'"):
        config_from_values({"model": {"name": "word_latent", "preset": "huge"}})


@pytest.mark.parametrize(
    ("patch", "problem"),
    [
        ({"training.torch_compile": True}, "torch_compile"),
        ({"training.torch_compile": True, "training.padding": "bucketed"}, "torch_compile"),
        (
            {"training.torch_compile": True, "training.padding": "max_length", "model.encode_distinct": True},
            "torch_compile",
        ),
        ({"training.padding": "packed"}, "padding: packed"),
        ({"tokenizer": "bpe"}, "reads bytes"),
        ({"backend": "hf"}, "backend: hf"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_does_not_go_with_it_is_told(patch: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config_from_values(WORDS, patch)


def test_constant_shapes_may_be_compiled() -> None:
    config = config_from_values(WORDS, {"training.torch_compile": True, "training.padding": "max_length"})
    assert isinstance(config, RunConfig)
