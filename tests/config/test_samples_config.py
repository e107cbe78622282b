"""The section `samples`, and the settings of generation as the command line gives them."""

import math
from typing import Any

import pytest

from hotlap.config.load import config_from_values, config_text, load_config, refuse_protocol_keys
from hotlap.config.samples import GenerationSettings, generation_settings
from hotlap.core.errors import ConfigError


def test_without_the_section_nothing_is_generated() -> None:
    section = config_from_values({}).samples
    assert section.prompts == () and section.every == "evaluation" and section.every_steps is None
    assert (section.max_new_tokens, section.temperature, section.top_k, section.top_p, section.seed) == (
        *(64, 0.0),
        *(None, 1.0, 0),
    )


@pytest.mark.parametrize(
    ("written", "every", "steps"),
    [
        ("evaluation", "evaluation", None),
        ("500 steps", "500 steps", 500),
        ("1 step", "1 steps", 1),
        ("  20   steps", "20 steps", 20),
        (30, "30 steps", 30),
    ],
)
def test_samples_come_with_evaluations_or_every_so_many_steps(written: Any, every: str, steps: int | None) -> None:
    section = config_from_values({"samples": {"every": written}}).samples
    assert (section.every, section.every_steps) == (every, steps)


@pytest.mark.parametrize("written", ["epoch", "0 steps", 0, -5, "2.5 steps", 2.5, True, "500 stepss", None])
def test_another_rhythm_is_refused(written: Any) -> None:
    with pytest.raises(ConfigError, match=r"samples\.every: expected evaluation, or a number of steps such as 500"):
        config_from_values({"samples": {"every": written}})


def test_a_stored_config_gives_the_same_prompts_again(tmp_path: Any) -> None:
    prompts = ["В начале", "two\nlines: [x]", "", "  blanks  ", "#no comment", "\x07\u2028"]
    config = config_from_values({"samples": {"prompts": prompts, "temperature": 0.5}})
    (tmp_path / "config.yaml").write_text(config_text(config), encoding="utf-8")
    again = load_config(tmp_path / "config.yaml")
    assert again.samples == config.samples and list(again.samples.prompts) == prompts


def test_the_section_belongs_to_the_protocol() -> None:
    for key in ("samples", "samples.prompts", "samples.temperature"):
        with pytest.raises(ConfigError, match="belongs to the protocol"):
            refuse_protocol_keys({key: []})


def test_what_is_not_given_is_as_in_the_config() -> None:
    section = config_from_values({"samples": {"temperature": 0.5, "seed": 3, "prompts": ["a"]}}).samples
    found = generation_settings({"seed": 4, "top_k": 2}, section)
    assert found == GenerationSettings(temperature=0.5, seed=4, top_k=2)
    assert generation_settings({}) == GenerationSettings()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"temperature": -0.1}, "--temperature: Input should be greater than or equal to 0, got -0.1"),
        ({"temperature": math.nan}, "--temperature: Input should be a finite number, got nan"),
        ({"top_p": 0.0}, "--top-p: Input should be greater than 0, got 0.0"),
        ({"top_p": 1.5}, "--top-p: Input should be less than or equal to 1, got 1.5"),
        ({"top_k": 0}, "--top-k: Input should be greater than or equal to 1, got 0"),
        ({"max_new_tokens": 0}, "--max-new-tokens: Input should be greater than or equal to 1, got 0"),
        ({"seed": -1}, "--seed: Input should be greater than or equal to 0, got -1"),
    ],
)
def test_a_value_out_of_range_is_told_with_its_option(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        generation_settings(given)
    assert str(caught.value) == told
