"""From a config to the examples of a training: the task's text, its tokenizer, and both sides encoded."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from hotlap.config.schema import RunConfig
from hotlap.core.errors import DataError
from hotlap.data.corpus import Say, prepare_corpus
from hotlap.data.encoding import Examples, Limits, encode_all, encode_held_out, encode_task, end_to_end
from hotlap.data.streaming import stream_corpus
from hotlap.data.streams import EndlessExamples, StreamPart
from hotlap.data.tokenizers import Tokenizer, load_tokenizer
from hotlap.tasks.examples import GeneratorTask, MixturePart, MixtureTask, Task, TaskData, TextTask, TokenTask
from hotlap.tasks.generator import tokenizer_texts
from hotlap.tasks.registry import load_task

Functions = Mapping[str, Callable[..., object]]
"""Functions of the project by the dotted keys that name them."""
_FIRST_CHARACTERS: Final = 100_000_000
"""What a tokenizer is trained on where the text is still to come."""


@dataclass(frozen=True, slots=True)
class LoadedData:
    """A task, its tokenizer and its examples as tokens."""

    task: Task
    tokenizer: Tokenizer
    train: Examples | EndlessExamples
    eval: Examples


def load_data(config: RunConfig, directory: Path, cache: Path, custom: Functions | None = None) -> LoadedData:
    """Return the data of a config; `custom` has the functions of the project that the task names.

    What is prepared on the way is kept in `cache`. Raises DataError for unusable text, ConfigError for a task or a
    tokenizer that does not fit, StorageError when the cache cannot be written.
    """
    task, tokenizer = load_tokens(config, directory, cache, custom)
    longest = _longest(config)
    if isinstance(task, TaskData | TokenTask):
        train, evaluation = encode_task(task, tokenizer, longest)
        return LoadedData(task, tokenizer, train, evaluation)
    if isinstance(task, GeneratorTask):
        single = MixtureTask((MixturePart("samples", 1.0, task),), "samples")
        stream, found = _endless(single, tokenizer, longest)
        return LoadedData(task, tokenizer, stream, found["samples"])
    stream, found = _endless(task, tokenizer, longest)
    return LoadedData(task, tokenizer, stream, _joined(task, found))


def load_held_out(
    config: RunConfig, directory: Path, cache: Path, custom: Functions | None = None
) -> tuple[Task, Tokenizer, Examples, Examples | None]:
    """Return the task, its tokenizer, and the examples for evaluation and for audits; those of training stay text."""
    task, tokenizer = load_tokens(config, directory, cache, custom)
    longest = _longest(config)
    if not isinstance(task, MixtureTask):
        return task, tokenizer, *_held_out(task, tokenizer, longest)
    found = {part.name: _held_out(_loaded(part), tokenizer, longest) for part in task.parts}
    audits = {name: audit for name, (_, audit) in found.items() if audit is not None}
    evaluation = _joined(task, {name: examples for name, (examples, _) in found.items()})
    # With a task left out, the audit would differ from the evaluation in more than its examples.
    return task, tokenizer, evaluation, _joined(task, audits) if len(audits) == len(found) else None


def load_tokens(
    config: RunConfig, directory: Path, cache: Path, custom: Functions | None = None, say: Say | None = None
) -> tuple[Task, Tokenizer]:
    """Return the task, running text as windows of tokens, and the tokenizer that made them.

    `say` is told how far the preparation of running text is.
    """
    found = load_task(config.task, directory, cache, custom, config.tokenizer)
    parts = [part.task for part in found.parts] if isinstance(found, MixtureTask) else [found]

    def texts() -> Iterable[str]:
        return (text for part in parts for text in _texts(part))

    identity = found.identity if isinstance(found, TextTask) else found.hash
    if isinstance(found, TextTask) and found.streaming:
        identity = f"{identity} {_FIRST_CHARACTERS}"  # trained on another share than the whole text's
    tokenizer = load_tokenizer(config.tokenizer, texts, identity, directory, cache)
    if isinstance(found, MixtureTask):
        prepared = [
            replace(part, task=prepare_corpus(part.task, tokenizer, cache, say))
            if isinstance(part.task, TextTask)
            else part
            for part in found.parts
        ]
        return replace(found, parts=tuple(prepared)), tokenizer
    if not isinstance(found, TextTask):
        return found, tokenizer
    if found.streaming:
        return stream_corpus(found, tokenizer, cache), tokenizer
    return prepare_corpus(found, tokenizer, cache, say), tokenizer


def _first(documents: Iterator[str]) -> Iterator[str]:
    """Yield documents up to a number of characters."""
    left = _FIRST_CHARACTERS
    for text in documents:
        yield text
        left -= len(text)
        if left <= 0:
            return


def _longest(config: RunConfig) -> int | None:
    """Return the tokens of an example that the model takes at most, None where it does not say.

    The last one is predicted and never read.
    """
    positions = getattr(config.model, "max_position_embeddings", None)
    return positions + 1 if isinstance(positions, int) else None


def _texts(task: TaskData | TokenTask | TextTask | GeneratorTask) -> Iterable[str]:
    """Return the texts that a tokenizer is trained on."""
    match task:
        case TextTask():
            return _first(task.documents()) if task.streaming else task.documents()
        case GeneratorTask():
            return tokenizer_texts(task)
        case TaskData():
            return (text for example in task.train for text in (example.prefix, example.completion))
    return ()


def _endless(
    task: MixtureTask, tokenizer: Tokenizer, longest: int | None
) -> tuple[EndlessExamples, dict[str, Examples]]:
    """Return a mixture's stream of training examples, and what each of its tasks is evaluated on.

    A generator's samples that any of the tasks holds out are not trained on.
    """
    held_out = frozenset(
        example
        for part in task.parts
        if isinstance(part.task, TaskData | GeneratorTask)
        for example in (*part.task.eval, *part.task.audit)
    )
    parts, evaluations = [], {}
    for part in task.parts:
        inner = _loaded(part)
        if isinstance(inner, GeneratorTask):
            limits, reader = Limits(inner.max_length, inner.too_long, longest), tokenizer.with_specials
            parts.append(StreamPart.of_generator(part.name, part.weight, inner, reader, limits, held_out))
            evaluations[part.name] = _held_out(inner, tokenizer, longest)[0]
        else:
            train, evaluations[part.name] = encode_task(inner, tokenizer, longest)
            parts.append(StreamPart.of_examples(part.name, part.weight, train))
    return EndlessExamples(tuple(parts), task.by), evaluations


def _held_out(
    task: TaskData | TokenTask | GeneratorTask, tokenizer: Tokenizer, longest: int | None
) -> tuple[Examples, Examples | None]:
    """Return the examples that a task is evaluated on, and those for audits (None where it has none)."""
    if not isinstance(task, GeneratorTask):
        return encode_held_out(task, tokenizer, longest)
    limits, tokenizer = Limits(task.max_length, task.too_long, longest), tokenizer.with_specials
    evaluation = encode_all(task.eval, tokenizer, limits)
    if not len(evaluation):
        raise DataError(f"{task.source}: every evaluation example is longer than task.max_length {task.max_length}")
    return evaluation, encode_all(task.audit, tokenizer, limits) if task.audit else None


def _loaded(part: MixturePart) -> TaskData | TokenTask | GeneratorTask:
    assert not isinstance(part.task, TextTask), part.name
    return part.task


def _joined(task: MixtureTask, parts: Mapping[str, Examples]) -> Examples:
    """Put the evaluation examples of several tasks after each other; their bytes count where all are running text."""
    is_text = all(isinstance(part.task, TokenTask) for part in task.parts)
    known = [examples.num_bytes for examples in parts.values() if examples.num_bytes is not None and is_text]
    whole = end_to_end(
        [example for examples in parts.values() for example in examples],
        np.concatenate(known) if len(known) == len(parts) else None,
    )
    whole.groups = tuple((name, len(examples)) for name, examples in parts.items())
    return whole
