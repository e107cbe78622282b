"""The section `tokenizer`: short and long forms, and what is told of a wrong one."""

from typing import Any

import pytest

from hotlap.config.load import config_from_values, config_text
from hotlap.config.tokenizers import (
    BPETokenizerConfig,
    ByteTokenizerConfig,
    CharacterTokenizerConfig,
    PretrainedTokenizerConfig,
)
from hotlap.core.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("byte", ByteTokenizerConfig()),
        ("character", CharacterTokenizerConfig()),
        ("bpe", BPETokenizerConfig()),
        ("gpt2", PretrainedTokenizerConfig(path="gpt2")),
        ("tokenizers/mine.json", PretrainedTokenizerConfig(path="tokenizers/mine.json")),
        ({"name": "bpe", "vocab_size": 512}, BPETokenizerConfig(vocab_size=512)),
        ({"name": "pretrained", "path": "here"}, PretrainedTokenizerConfig(path="here")),
        ({}, ByteTokenizerConfig()),
    ],
)
def test_a_name_alone_will_do(value: Any, expected: object) -> None:
    config = config_from_values({"tokenizer": value})
    assert config.tokenizer == expected
    assert "tokenizer:" in config_text(config)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "bep"}, r"unknown tokenizer 'bep'.*Did you mean 'bpe'"),
        ({"name": "bpe", "vocab_size": 200}, r"tokenizer\.vocab_size"),
        ({"name": "byte", "vocab_size": 256}, r"tokenizer\.vocab_size"),
        ({"name": "pretrained"}, r"tokenizer\.path"),
        (7, "tokenizer"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_values({"tokenizer": value})
