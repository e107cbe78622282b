"""The section `task`: what the model learns, and what it is evaluated on."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from hotlap.config.base import CUSTOM, PART_PATTERN, Section, check_variant, variant_of


class StringRepetitionConfig(Section):
    """Repeat a sentence: the easy task of the WeLT benchmark."""

    name: Literal["string_repetition"] = "string_repetition"
    text: str | None = None
    """Glob of the text files to take sentences from, relative to the config; absent: Python's own docstrings."""
    min_length_bytes: int = Field(8, ge=1)
    """Shortest sentence, in UTF-8 bytes."""
    max_length_bytes: int = Field(48, ge=2)
    """Longest sentence, in UTF-8 bytes."""
    max_eval_samples: int = Field(64, ge=1)
    """Sentences in the evaluation set."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.min_length_bytes > self.max_length_bytes:
            bounds = f"{self.min_length_bytes} is above max_length_bytes {self.max_length_bytes}"
            raise ValueError(f"min_length_bytes {bounds}")
        return self


class LanguageModelConfig(Section):
    """Predict each next byte of running text."""

    name: Literal["language_model"] = "language_model"
    text: str | None = None
    """Glob of the text files, relative to the config; absent: the source code of Python's standard library."""
    block_size: int = Field(256, ge=2)
    """Bytes predicted per example; it reads one more."""
    max_eval_samples: int = Field(64, ge=1)
    """Examples in the evaluation set."""


class CustomTaskConfig(Section):
    """A task of your own: a function in the project's folder. Every key but `name` is one of its keyword arguments."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(pattern=PART_PATTERN)
    """The function, as `module:function`."""


TASKS: Final[Mapping[str, type[Section]]] = {
    "string_repetition": StringRepetitionConfig,
    "language_model": LanguageModelConfig,
    CUSTOM: CustomTaskConfig,
}


def _variant(value: Any) -> str:
    return variant_of(value, "string_repetition")


def _check(value: Any) -> Any:
    return check_variant("task", TASKS, value)


TaskConfig = Annotated[
    Annotated[StringRepetitionConfig, Tag("string_repetition")]
    | Annotated[LanguageModelConfig, Tag("language_model")]
    | Annotated[CustomTaskConfig, Tag(CUSTOM)],
    Discriminator(_variant),
    BeforeValidator(_check),
]
