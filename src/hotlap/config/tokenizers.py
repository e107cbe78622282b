"""The section `tokenizer`: what the model's tokens are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from hotlap.config.base import Section, file_name
from hotlap.core.errors import unknown_name


class ByteTokenizerConfig(Section):
    """The bytes of the text in UTF-8: 256 tokens, nothing to train."""

    name: Literal["byte"] = "byte"


class CharacterTokenizerConfig(Section):
    """The characters of the training text, each a token."""

    name: Literal["character"] = "character"
    vocab_size: int | None = Field(None, ge=8)
    """Tokens at most: the most frequent characters, and three special ones; absent: every character."""


class BPETokenizerConfig(Section):
    """Byte pairs (BPE) as GPT-2 has them, trained on the task's text: every text can be written with them."""

    name: Literal["bpe"] = "bpe"
    vocab_size: int = Field(8192, ge=258)
    """Tokens: 256 bytes, one that ends a document, and as many merged pairs as that leaves room for."""
    max_training_bytes: int = Field(100_000_000, ge=1)
    """Text to learn the pairs from, taken evenly from the training documents."""


class PretrainedTokenizerConfig(Section):
    """A tokenizer that exists: GPT-2's, or any other."""

    name: Literal["pretrained"] = "pretrained"
    path: str = Field(min_length=1)
    """A tokenizer.json, a folder that holds one (or vocab.json and merges.txt), or a Hugging Face name such as gpt2."""


TOKENIZERS: Final[Mapping[str, type[Section]]] = {
    "byte": ByteTokenizerConfig,
    "character": CharacterTokenizerConfig,
    "bpe": BPETokenizerConfig,
    "pretrained": PretrainedTokenizerConfig,
}


def with_absolute_path(tokenizer: Any, folder: Path) -> Any:
    """Return a tokenizer section whose file is named from the root on, if there is one that starts from `folder`.

    Any other name is left as it is: the hub may have it.
    """
    if not isinstance(tokenizer, PretrainedTokenizerConfig):
        return tokenizer
    path = folder / file_name(tokenizer.path)
    return tokenizer.model_copy(update={"path": str(path)}) if path.exists() else tokenizer


def _variant(value: Any) -> str:
    name = value.get("name", "byte") if isinstance(value, Mapping) else getattr(value, "name", "byte")
    return str(name)


def _check(value: Any) -> Any:
    """Take a bare text for the section that it stands for: a tokenizer's name, else the path of a pretrained one."""
    if isinstance(value, str):
        is_name = value in TOKENIZERS and value != "pretrained"
        return {"name": value} if is_name else {"name": "pretrained", "path": value}
    if isinstance(value, Mapping) and str(value.get("name", "byte")) not in TOKENIZERS:
        problem = unknown_name("tokenizer", str(value["name"]), list(TOKENIZERS))
        raise ValueError(
            f"{problem} A file, a folder or a Hugging Face name: {{name: pretrained, path: {value['name']}}}"
        )
    return value


TokenizerConfig = Annotated[
    Annotated[ByteTokenizerConfig, Tag("byte")]
    | Annotated[CharacterTokenizerConfig, Tag("character")]
    | Annotated[BPETokenizerConfig, Tag("bpe")]
    | Annotated[PretrainedTokenizerConfig, Tag("pretrained")],
    Discriminator(_variant),
    BeforeValidator(_check),
]
"""Tokenizers by the name in the config."""
