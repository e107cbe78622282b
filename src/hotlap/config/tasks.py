"""The section `task`: what the model learns, and what it is evaluated on."""

import codecs
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from hotlap.config.base import CUSTOM, PART_PATTERN, Section, check_variant, variant_of

LIBRARY_TEXTS: Final = ("docstrings",)
"""Names that `task.text` may have instead of a file's."""
FILE_KEYS: Final = ("text", "validation_text")
"""Settings of tasks that name files, relative to the config; several of them in a list."""
_NOT_BY_LINES: Final = (
    "utf_7",
    "iso2022",
    "hz",
    "idna",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
    "undefined",
)
"""Encodings whose bytes mean nothing without what stands before them, or that encode something else than text."""


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
    """Predict each next token of running text."""

    name: Literal["language_model"] = "language_model"
    text: str | tuple[str, ...] | None = None
    """A file, a folder or a glob relative to the config, or a list of them: text, .jsonl, .parquet, .gz; docstrings:
    those of Python's standard library; absent: its source code."""
    document_separator: str | None = Field(None, min_length=1)
    """What stands between the documents of a text file, such as "\\n\\n"; absent: each file is a document."""
    text_key: str = Field("text", min_length=1)
    """Where the text stands in JSONL, Parquet and data sets."""
    encoding: str = "utf-8"
    """What text files are encoded in."""
    dataset_name: str | None = Field(None, min_length=1)
    """A data set of Hugging Face's hub, or a folder that datasets.load_dataset takes, in place of text (extra hf)."""
    dataset_config_name: str | None = None
    """Which configuration of the data set."""
    dataset_split: str = "train"
    """Which of its splits to train on."""
    validation_text: str | tuple[str, ...] | None = None
    """Text to evaluate on, written as text is; absent: one document in fifty, chosen by its hash."""
    validation_split: str | None = None
    """Split of the data set to evaluate on, in place of documents of dataset_split."""
    streaming: bool = False
    """Start to train while the text is still being prepared; the data set is then read as it comes."""
    preprocessing_num_workers: int | None = Field(None, ge=1)
    """Processes that prepare the text; absent: as many as there are cores."""
    block_size: int = Field(256, ge=2)
    """Tokens predicted per example; it reads one more."""
    max_eval_samples: int = Field(64, ge=1)
    """Examples in the evaluation set."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if self.text is not None and self.dataset_name is not None:
            yield "text and dataset_name are two sources of text; leave one out"
        if self.text == () or self.validation_text == ():
            yield "text and validation_text name a file at least; leave the key out instead of giving an empty list"
        for key in ("dataset_config_name", "validation_split"):
            if getattr(self, key) is not None and self.dataset_name is None:
                yield f"{key} needs dataset_name"
        if self.validation_split is not None and self.validation_text is not None:
            yield "validation_split and validation_text are two evaluation sets; leave one out"
        if self.dataset_name is not None and self.validation_split == self.dataset_split:
            yield f"validation_split and dataset_split are both {self.dataset_split}; leave validation_split out"
        problem = _encoding_problem(self.encoding)
        if problem:
            yield problem


def _encoding_problem(name: str) -> str | None:
    """Say what is wrong with the name of an encoding, or None."""
    try:
        known = codecs.lookup(name)
    except LookupError:
        return f"encoding: Python knows no {name!r}; write utf-8, latin-1, cp1251, utf-16 …"
    if not getattr(known, "_is_text_encoding", True) or known.name.replace("-", "_").startswith(_NOT_BY_LINES):
        return f"encoding: {name} is not one that a text can be cut in; convert it to utf-8 first"
    return None


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


def with_absolute_files(task: Any, folder: Path) -> Any:
    """Return a task section whose files are named from the root on; relative ones start from `folder`."""
    if isinstance(task, CustomTaskConfig):
        return task
    found: dict[str, Any] = {}
    for key in FILE_KEYS:
        names = getattr(task, key, None)
        if isinstance(names, tuple):
            found[key] = tuple(str(folder / name) for name in names)
        elif names is not None and not (isinstance(task, LanguageModelConfig) and names in LIBRARY_TEXTS):
            found[key] = str(folder / names)
    if isinstance(task, LanguageModelConfig) and task.dataset_name and (folder / task.dataset_name).is_dir():
        found["dataset_name"] = str(folder / task.dataset_name)
    return task.model_copy(update=found) if found else task
