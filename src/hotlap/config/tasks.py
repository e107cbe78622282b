"""The section `task`: what the model learns, and what it is evaluated on."""

from collections.abc import Mapping
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

from hotlap.config.base import CUSTOM, PART_PATTERN, Section, check_variant, is_part, variant_of

FILE_KEYS: Final = ("text", "file", "validation_file", "chat_template")
"""Settings of tasks that name files, relative to the config."""


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


TASKS: Final[Mapping[str, type[Section]]] = {**_SIMPLE, "mixture": MixtureConfig, CUSTOM: CustomTaskConfig}


def _check(value: Any) -> Any:
    return check_variant("task", TASKS, value)


TaskConfig = Annotated[
    Annotated[StringRepetitionConfig, Tag("string_repetition")]
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
    named = {key: getattr(task, key) for key in FILE_KEYS if key in type(task).model_fields}
    found = {key: str(folder / name) for key, name in named.items() if name is not None and not is_template(name)}
    return task.model_copy(update=found) if found else task


def is_template(text: str) -> bool:
    """Say whether a text is a Jinja template rather than the name of a file."""
    return any(sign in text for sign in ("{{", "{%", "{#", "\n"))
