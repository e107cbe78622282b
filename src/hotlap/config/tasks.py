"""The section `task`: what the model learns, and what it is evaluated on."""

import codecs
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializationInfo,
    Tag,
    model_serializer,
    model_validator,
)

from hotlap.config.base import CUSTOM, PART_PATTERN, Section, check_variant, file_name, is_part, variant_of

LIBRARY_TEXTS: Final = ("docstrings",)
"""Names that `task.text` may have instead of a file's."""
FILE_KEYS: Final = ("text", "validation_text", "file", "validation_file", "chat_template")
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
        _check_bounds(self.min_length_bytes, self.max_length_bytes)
        return self


class LetterCountConfig(Section):
    """Count the letters of a word: N1 E1 U1 R1 O1 S2 I1 for neurosis. The answers are made here, from any words."""

    name: Literal["letter_count"] = "letter_count"
    text: str | None = None
    """Glob of word lists or any other text, relative to the config; absent: the words of Python's own docstrings."""
    min_length_bytes: int = Field(2, ge=1)
    """Shortest word, in UTF-8 bytes."""
    max_length_bytes: int = Field(14, ge=1)
    """Longest word, in UTF-8 bytes."""
    max_eval_samples: int = Field(64, ge=1)
    """Words in the evaluation set."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        _check_bounds(self.min_length_bytes, self.max_length_bytes)
        return self


def _check_bounds(min_length_bytes: int, max_length_bytes: int) -> None:
    """Raise ValueError for bounds that leave nothing between them."""
    if min_length_bytes > max_length_bytes:
        raise ValueError(f"min_length_bytes {min_length_bytes} is above max_length_bytes {max_length_bytes}")


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
        problem = _encoding_problem(self.encoding) or _separator_problem(self.document_separator, self.encoding)
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


def _separator_problem(separator: str | None, encoding: str) -> str | None:
    """Say why a separator cannot stand in a text of an encoding, or None."""
    try:
        (separator or "").encode(encoding)
    except UnicodeEncodeError:
        return f"document_separator: {separator!r} cannot be written in the encoding {encoding}"
    return None


class CustomTaskConfig(Section):
    """A task of your own: a function in the project's folder. Every key but `name` is one of its keyword arguments."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(pattern=PART_PATTERN)
    """The function, as `module:function`."""


class PromptCompletionConfig(Section):
    """Learn the completions of prompts, or the answers in conversations, from files of your own."""

    name: Literal["prompt_completion"] = "prompt_completion"
    file: str = Field(min_length=1)
    """Glob of the training files, relative to the config: .jsonl, .jsonl.gz or .tsv."""
    validation_file: str | None = Field(None, min_length=1)
    """Glob of the files to evaluate on; absent: one example in fifty, chosen by its hash, is held out."""
    prompt_key: str = Field("prompt", min_length=1)
    """Key, or column, of what the model reads."""
    completion_key: str = Field("completion", min_length=1)
    """Key, or column, of what it learns to write."""
    messages_key: str = Field("messages", min_length=1)
    """Key of a conversation, a list of {role, content}: it takes the place of a prompt and a completion."""
    chat_template: str | None = Field(None, min_length=1)
    """Jinja template of conversations, text or file; absent: the tokenizer's own, else `role: content` lines."""
    assistant_turns: Literal["last", "all"] = "last"
    """Answers of a conversation that are learned: the last, or all, each as an example with what stands before it."""
    max_length: int | None = Field(None, ge=2)
    """Tokens of an example at most, its end of text among them; absent: as many as the model takes, or an error."""
    too_long: Literal["truncate", "drop"] = "truncate"
    """What becomes of an example longer than max_length: its end is cut off, or it is left out."""
    max_eval_samples: int = Field(64, ge=1)
    """Examples in the evaluation set."""


class GeneratorConfig(Section):
    """Endless examples from a function of your own. Every key not named here is one of its keyword arguments."""

    model_config = ConfigDict(extra="allow")

    name: Literal["generator"] = "generator"
    function: str = Field(pattern=PART_PATTERN)
    """The function, as `module:function`: it takes a seed and yields prompts and completions for ever."""
    eval_seed: int = Field(0, ge=0)
    """Seed of the evaluation examples; those of the training follow from training.data_seed, else training.seed."""
    max_length: int | None = Field(None, ge=2)
    """Tokens of an example at most, its end of text among them; absent: as many as the model takes, or an error."""
    too_long: Literal["truncate", "drop"] = "truncate"
    """What becomes of an example longer than max_length: its end is cut off, or it is left out."""
    max_eval_samples: int = Field(64, ge=1)
    """Examples in the evaluation set; they are generated apart, and no training example is one of them."""


_SIMPLE: Final[Mapping[str, type[Section]]] = {
    "string_repetition": StringRepetitionConfig,
    "letter_count": LetterCountConfig,
    "language_model": LanguageModelConfig,
    "prompt_completion": PromptCompletionConfig,
    "generator": GeneratorConfig,
}


def _variant(value: Any) -> str:
    return variant_of(value, "string_repetition")


def _check_simple(value: Any) -> Any:
    if isinstance(value, Mapping) and value.get("name") == "mixture":
        raise ValueError("a mixture holds no mixtures; put its tasks beside the others")
    return check_variant("task", [*_SIMPLE, CUSTOM], value)


SimpleTaskConfig = Annotated[
    Annotated[StringRepetitionConfig, Tag("string_repetition")]
    | Annotated[LetterCountConfig, Tag("letter_count")]
    | Annotated[LanguageModelConfig, Tag("language_model")]
    | Annotated[PromptCompletionConfig, Tag("prompt_completion")]
    | Annotated[GeneratorConfig, Tag("generator")]
    | Annotated[CustomTaskConfig, Tag(CUSTOM)],
    Discriminator(_variant),
    BeforeValidator(_check_simple),
]
"""A task that is no mixture."""


class SubtaskConfig(Section):
    """A task of a mixture: its own section, with a weight beside its keys."""

    weight: float = Field(1.0, gt=0)
    """Its share in the mixture, relative to the weights of the others."""
    task: SimpleTaskConfig
    """The task."""

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Take the weight out of the keys of the task."""
        if not isinstance(value, Mapping) or isinstance(value.get("task"), Section):
            return value
        rest = {key: inner for key, inner in value.items() if key != "weight"}
        return {"task": rest, **({"weight": value["weight"]} if "weight" in value else {})}

    @model_serializer(mode="plain")
    def _join(self, info: SerializationInfo) -> dict[str, Any]:
        """Write the weight among the keys of the task, as it is read."""
        return {"weight": self.weight, **self.task.model_dump(mode=info.mode)}


def _check_subtask_name(name: Any) -> Any:
    if name in ("byte", "word"):
        raise ValueError(f"a task cannot be called {name}: eval_{name}_accuracy is a metric of all tasks together")
    return name


SubtaskName = Annotated[str, BeforeValidator(_check_subtask_name), Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


class MixtureConfig(Section):
    """Several tasks in one training, each evaluated by itself, too."""

    name: Literal["mixture"] = "mixture"
    tasks: dict[SubtaskName, SubtaskConfig] = Field(min_length=1)
    """The tasks, by names that their metrics get (eval_NAME_loss): each a task section with a weight."""
    by: Literal["tokens", "samples"] = "tokens"
    """What the weights are shares of: tokens without padding, or examples."""

    @model_validator(mode="after")
    def _refuse_streaming(self) -> Self:
        """A mixture draws from whole texts."""
        for name, sub in self.tasks.items():
            if isinstance(sub.task, LanguageModelConfig) and sub.task.streaming:
                raise ValueError(f"tasks.{name}.streaming: a mixture needs the whole text; leave streaming out")
        return self


TASKS: Final[Mapping[str, type[Section]]] = {**_SIMPLE, "mixture": MixtureConfig, CUSTOM: CustomTaskConfig}


def _check(value: Any) -> Any:
    return check_variant("task", TASKS, value)


TaskConfig = Annotated[
    Annotated[StringRepetitionConfig, Tag("string_repetition")]
    | Annotated[LetterCountConfig, Tag("letter_count")]
    | Annotated[LanguageModelConfig, Tag("language_model")]
    | Annotated[PromptCompletionConfig, Tag("prompt_completion")]
    | Annotated[GeneratorConfig, Tag("generator")]
    | Annotated[MixtureConfig, Tag("mixture")]
    | Annotated[CustomTaskConfig, Tag(CUSTOM)],
    Discriminator(_variant),
    BeforeValidator(_check),
]
EndlessTaskConfig = GeneratorConfig | MixtureConfig
"""Tasks whose training examples never end, so that there are no epochs."""


def reads_special_tokens(task: Any) -> bool:
    """Say whether special tokens are meant that a task's prompts write out: running text means their letters."""
    tasks = [sub.task for sub in task.tasks.values()] if isinstance(task, MixtureConfig) else [task]
    return any(isinstance(each, PromptCompletionConfig | GeneratorConfig) for each in tasks)


def task_parts(task: Any, key: str = "task") -> dict[str, str]:
    """Return the functions of the project that a task section names, `module:function` by dotted key."""
    if isinstance(task, MixtureConfig):
        inner = (task_parts(sub.task, f"{key}.tasks.{name}") for name, sub in task.tasks.items())
        return {key: part for parts in inner for key, part in parts.items()}
    if isinstance(task, GeneratorConfig):
        return {f"{key}.function": task.function}
    return {f"{key}.name": task.name} if is_part(task.name) else {}


def with_absolute_files(task: Any, folder: Path) -> Any:
    """Return a task section whose files are named from the root on; relative ones start from `folder`."""
    if isinstance(task, MixtureConfig):
        tasks = {
            name: sub.model_copy(update={"task": with_absolute_files(sub.task, folder)})
            for name, sub in task.tasks.items()
        }
        return task.model_copy(update={"tasks": tasks})
    if isinstance(task, CustomTaskConfig):
        return task
    found: dict[str, Any] = {}
    for key in FILE_KEYS:
        names = getattr(task, key) if key in type(task).model_fields else None
        if isinstance(names, tuple):
            found[key] = tuple(_absolute(name, folder) for name in names)
        elif names is not None and not _is_no_file(task, names):
            found[key] = _absolute(names, folder)
    if isinstance(task, LanguageModelConfig) and task.dataset_name:
        place = folder / file_name(task.dataset_name)
        found |= {"dataset_name": str(place)} if place.is_dir() else {}
    return task.model_copy(update=found) if found else task


def _absolute(name: str, folder: Path) -> str:
    """Return a name from the root on; one that is that already stays as it is written."""
    name = file_name(name)
    return name if Path(name).is_absolute() else str(folder / name)


def _is_no_file(task: Any, name: str) -> bool:
    return is_template(name) or (isinstance(task, LanguageModelConfig) and name in LIBRARY_TEXTS)


def is_template(text: str) -> bool:
    """Say whether a text is a Jinja template rather than the name of a file."""
    return any(sign in text for sign in ("{{", "{%", "{#", "\n"))
