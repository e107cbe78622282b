"""Tasks by the name in the config."""

import inspect
from collections.abc import Callable
from pathlib import Path

from hotlap.config.schema import CustomTaskConfig, LanguageModelConfig, StringRepetitionConfig
from hotlap.core.errors import ConfigError
from hotlap.tasks.examples import Task, TaskData, TextTask, TokenTask
from hotlap.tasks.language_model import load_language_model
from hotlap.tasks.string_repetition import load_string_repetition


def load_task(
    config: StringRepetitionConfig | LanguageModelConfig | CustomTaskConfig,
    directory: Path,
    cache: Path,
    custom: Callable[..., object] | None = None,
) -> Task | TextTask:
    """Return the task that the config names; `custom` is the function of the project that `module:function` names.

    Raises DataError for unusable text, ConfigError when the project's function does not fit.
    """
    match config:
        case StringRepetitionConfig():
            return load_string_repetition(config, directory, cache)
        case LanguageModelConfig():
            return load_language_model(config, directory)
    if custom is None:
        raise ConfigError(f"task.name: {config.name} was not loaded; it needs a function of the project's folder")
    arguments = config.model_extra or {}
    try:
        inspect.signature(custom).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"task: {config.name} cannot be called with the keys of the section: {error}") from error
    task = custom(**arguments)
    if not isinstance(task, TaskData | TokenTask):
        raise ConfigError(
            f"task.name: {config.name} has to return a TaskData or a TokenTask of hotlap.tasks.examples, got "
            f"{type(task).__name__}"
        )
    return task
