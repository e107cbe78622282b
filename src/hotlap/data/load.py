"""From a config to the examples of a training: the task's text, its tokenizer, and both sides encoded."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hotlap.config.schema import RunConfig
from hotlap.data.corpus import prepare_corpus
from hotlap.data.encoding import Examples, encode_held_out, encode_task
from hotlap.data.tokenizers import Tokenizer, load_tokenizer
from hotlap.tasks.examples import Task, TextTask, TokenTask
from hotlap.tasks.registry import load_task


@dataclass(frozen=True, slots=True)
class LoadedData:
    """A task, its tokenizer and its examples as tokens."""

    task: Task
    tokenizer: Tokenizer
    train: Examples
    eval: Examples


def load_data(
    config: RunConfig, directory: Path, cache: Path, custom: Callable[..., object] | None = None
) -> LoadedData:
    """Return the data of a config; `custom` is the function of the project that `task.name` names.

    What is prepared on the way is kept in `cache`. Raises DataError for unusable text, ConfigError for a task or a
    tokenizer that does not fit, StorageError when the cache cannot be written.
    """
    task, tokenizer = load_tokens(config, directory, cache, custom)
    train, evaluation = encode_task(task, tokenizer)
    return LoadedData(task, tokenizer, train, evaluation)


def load_held_out(
    config: RunConfig, directory: Path, cache: Path, custom: Callable[..., object] | None = None
) -> tuple[Task, Tokenizer, Examples, Examples | None]:
    """Return the task, its tokenizer, and the examples for evaluation and for audits; those of training stay text."""
    task, tokenizer = load_tokens(config, directory, cache, custom)
    return task, tokenizer, *encode_held_out(task, tokenizer)


def load_tokens(
    config: RunConfig, directory: Path, cache: Path, custom: Callable[..., object] | None = None
) -> tuple[Task, Tokenizer]:
    """Return the task, running text as windows of tokens, and the tokenizer that made them."""
    found = load_task(config.task, directory, cache, custom)

    def texts() -> Iterable[str]:
        if isinstance(found, TextTask):
            return found.documents()
        if isinstance(found, TokenTask):
            return ()
        return (text for example in found.train for text in (example.prefix, example.completion))

    identity = found.identity if isinstance(found, TextTask) else found.hash
    tokenizer = load_tokenizer(config.tokenizer, texts, identity, directory, cache)
    return (prepare_corpus(found, tokenizer, cache) if isinstance(found, TextTask) else found), tokenizer
