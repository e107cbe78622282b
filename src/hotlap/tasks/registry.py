"""Tasks by the name in the config."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

from hotlap.config.base import Section
from hotlap.config.schema import CustomTaskConfig, LanguageModelConfig, StringRepetitionConfig
from hotlap.config.tasks import (
    GeneratorConfig,
    LetterCountConfig,
    MixtureConfig,
    PromptCompletionConfig,
    SimpleTaskConfig,
    TaskConfig,
)
from hotlap.config.tokenizers import ByteTokenizerConfig
from hotlap.core.errors import ConfigError, DataError
from hotlap.tasks.examples import (
    Example,
    GeneratorTask,
    MixturePart,
    MixtureTask,
    Task,
    TaskData,
    TextTask,
    TokenTask,
)
from hotlap.tasks.generator import load_generator
from hotlap.tasks.language_model import load_language_model
from hotlap.tasks.letter_count import load_letter_count
from hotlap.tasks.prompt_completion import load_prompt_completion
from hotlap.tasks.string_repetition import load_string_repetition

Function = Callable[..., object]
SimpleTask = TaskData | TokenTask | TextTask | GeneratorTask


def load_task(
    config: TaskConfig,
    directory: Path,
    cache: Path,
    custom: Mapping[str, Function] | None = None,
    tokenizer: Section | None = None,
) -> Task | TextTask:
    """Return the task that the config names.

    `custom` has the functions of the project by the dotted keys that name them, `tokenizer` is the section whose chat
    template is used. Raises DataError for unusable text, ConfigError when a function of the project does not fit.
    """
    functions, tokenizer = custom or {}, tokenizer or ByteTokenizerConfig()
    if not isinstance(config, MixtureConfig):
        return _load(config, directory, cache, functions, tokenizer, "task")
    parts = tuple(
        MixturePart(name, sub.weight, _load(sub.task, directory, cache, functions, tokenizer, f"task.tasks.{name}"))
        for name, sub in config.tasks.items()
    )
    _refuse_shared(parts)
    return MixtureTask(parts, config.by)


def _load(
    config: SimpleTaskConfig,
    directory: Path,
    cache: Path,
    custom: Mapping[str, Function],
    tokenizer: Section,
    key: str,
) -> SimpleTask:
    """Return one task; `key` is where its section stands."""
    match config:
        case StringRepetitionConfig():
            return load_string_repetition(config, directory, cache)
        case LetterCountConfig():
            return load_letter_count(config, directory, cache)
        case LanguageModelConfig():
            return load_language_model(config, directory, cache)
        case PromptCompletionConfig():
            return load_prompt_completion(config, tokenizer, directory)
        case GeneratorConfig():
            return load_generator(config, directory, custom.get(f"{key}.function"), key)
    return _load_custom(config, custom.get(f"{key}.name"), key)


def _load_custom(config: CustomTaskConfig, custom: Function | None, key: str) -> TaskData | TokenTask:
    if custom is None:
        raise ConfigError(f"{key}.name: {config.name} was not loaded; it needs a function of the project's folder")
    arguments = config.model_extra or {}
    try:
        signature = inspect.signature(custom)
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{key}: {config.name} cannot be called with the keys of the section: {error}") from error
    if key != "task" and "weight" in signature.parameters:
        raise ConfigError(f"{key}: {config.name} has a parameter weight, which is the task's in the mixture; rename it")
    task = custom(**arguments)
    if not isinstance(task, TaskData | TokenTask):
        raise ConfigError(
            f"{key}.name: {config.name} has to return a TaskData or a TokenTask of hotlap.tasks.examples, got "
            f"{type(task).__name__}"
        )
    return task


def _refuse_shared(parts: tuple[MixturePart, ...]) -> None:
    """Raise DataError when what one task of a mixture is evaluated on is what another one trains on."""
    trained_on: dict[Example, str] = {}
    for part in parts:
        if isinstance(part.task, TaskData):
            trained_on.update(dict.fromkeys(part.task.train, part.name))
    for part in parts:
        if not isinstance(part.task, TaskData | GeneratorTask):
            continue
        shared = [example for example in (*part.task.eval, *part.task.audit) if example in trained_on]
        if shared:
            raise DataError(
                f"task.tasks.{part.name}: {len(shared)} of its evaluation examples stand in the training data of "
                f"task.tasks.{trained_on[shared[0]]}, such as {shared[0].prefix[:60]!r}; take them out of one of them"
            )
