"""Examples as tokens: encoded one by one, or windows over a long text.

Nothing here needs torch, so that the processes that make batches start quickly and stay small.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotlap.core.errors import DataError
from hotlap.data.tokenizers import Ids, Tokenizer
from hotlap.tasks.examples import Example, TaskData, TokenShards, TokenTask, TokenWindows, TooLong, map_tokens

PAD: Final = 0
"""What fills up rows: any token would do, since nothing looks at it and it never is a target."""
_WORD = re.compile(rb"\S+\s?|\s+")


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of prefix, completion and EOS in one array of shape (T,), and how many of them are prefix."""

    ids: Ids
    prefix_length: int

    @property
    def num_targets(self) -> int:
        """Tokens that the loss is on: the completion and EOS."""
        return len(self.ids) - self.prefix_length


class Examples:
    """Encoded examples as stretches of one array of tokens, which costs no object per example.

    Pickled, they name the file that the tokens are mapped from, if there is one, instead of holding a copy.
    """

    def __init__(
        self,
        tokens: Ids | TokenShards,
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        prefix_lengths: NDArray[np.int64],
        path: Path | None = None,
        num_bytes: NDArray[np.int64] | None = None,
    ) -> None:
        self._tokens = tokens
        self.starts = starts
        """Where each begins, shape (E,)."""
        self.lengths = lengths
        """Tokens of each example, shape (E,)."""
        self.prefix_lengths = prefix_lengths
        """Tokens of each example that the loss is not on, shape (E,)."""
        self.num_targets = lengths - np.maximum(prefix_lengths, 1)
        """Tokens of each example that are predicted, shape (E,); a first token never is."""
        self.sizes = lengths
        """What rows of like size are found by, shape (E,): the tokens, or where a model reads words the words."""
        self._path = path
        self.num_bytes = num_bytes
        """Bytes of UTF-8 that each example's targets stand for, shape (E,); None where nobody asks."""
        self.groups: tuple[tuple[str, int], ...] = ()
        """Names and sizes of the tasks of a mixture, whose examples follow each other; empty for a single task."""
        self.stream: Any = None
        """Where more of them come from in the course of the training; None: these are all."""

    @property
    def longest(self) -> int:
        """Tokens of the longest example, also of those that are still to come."""
        return int(self.lengths.max()) if self.stream is None else int(self.stream.longest)

    def append(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Add windows, each with one token that the loss is not on."""
        self.starts = np.concatenate([self.starts, starts])
        self.lengths = np.concatenate([self.lengths, lengths])
        self.prefix_lengths = np.concatenate([self.prefix_lengths, np.ones_like(lengths)])
        self.num_targets = np.concatenate([self.num_targets, lengths - 1])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> EncodedExample:
        start = self.starts[number]
        return EncodedExample(self._tokens[start : start + self.lengths[number]], int(self.prefix_lengths[number]))

    def __iter__(self) -> Iterator[EncodedExample]:
        return (self[number] for number in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._path is None:
            return Examples, (self._tokens, self.starts, self.lengths, self.prefix_lengths)
        return _map_examples, (self._path, self._tokens.dtype.str, self.starts, self.lengths, self.prefix_lengths)


def _map_examples(
    path: Path, dtype: str, starts: NDArray[np.int64], lengths: NDArray[np.int64], prefix_lengths: NDArray[np.int64]
) -> Examples:
    return Examples(map_tokens(path, dtype), starts, lengths, prefix_lengths, path)


def encode_task(
    task: TaskData | TokenTask, tokenizer: Tokenizer, longest: int | None = None
) -> tuple[Examples, Examples]:
    """Return the examples of a task as tokens, for training and for evaluation.

    `longest` is what the model takes at most (None: unknown). Raises DataError when there are none, when one has no
    prefix, or when one of a file is too long.
    """
    if isinstance(task, TaskData):
        limits = Limits(task.max_length, task.too_long, longest)
        tokenizer = tokenizer.with_specials if task.reads_specials else tokenizer
        parts = encode_all(task.train, tokenizer, limits), encode_all(task.eval, tokenizer, limits)
    else:
        train = _windows(task.train) if task.stream is None else task.stream.examples
        parts = train, _windows(task.eval)
    for name, examples in zip(("training", "evaluation"), parts, strict=True):
        if not len(examples) and isinstance(task, TaskData) and task.max_length is not None:
            raise DataError(
                f"the task has no {name} examples left ({task.source}): every one is longer than task.max_length "
                f"{task.max_length}; raise it"
            )
        if not len(examples):
            raise DataError(f"the task has no {name} examples ({task.source}); give it more text")
        if examples.prefix_lengths.min() < 1:
            raise DataError(f"a {name} example has an empty prefix; the first token has to stand after something")
    return parts


def encode_held_out(
    task: TaskData | TokenTask, tokenizer: Tokenizer, longest: int | None = None
) -> tuple[Examples, Examples | None]:
    """Return the examples that a task is evaluated on, and those for audits (None where it has none)."""
    limits = Limits()
    if isinstance(task, TaskData):
        limits = Limits(task.max_length, task.too_long, longest)
        tokenizer = tokenizer.with_specials if task.reads_specials else tokenizer
    parts = [
        None if not part else encode_all(part, tokenizer, limits) if isinstance(part, tuple) else _windows(part)
        for part in (task.eval, task.audit)
    ]
    evaluation, audit = parts
    if evaluation is None:
        raise DataError(f"the task has no evaluation examples ({task.source}); give it more text")
    return evaluation, audit


def evaluation_facts(examples: Examples) -> dict[str, Any]:
    """Return what names an evaluation set: the hash of its content, and its examples, target tokens and bytes."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(f"{len(example.ids)} {example.prefix_length} ".encode())
        digest.update(example.ids.tobytes())
    return {
        "hash": digest.hexdigest()[:16],
        "num_examples": len(examples),
        "num_targets": int(examples.num_targets.sum()),
        "num_bytes": None if examples.num_bytes is None else int(examples.num_bytes.sum()),
    }


def end_to_end(examples: Sequence[EncodedExample], num_bytes: NDArray[np.int64] | None = None) -> Examples:
    """Put examples into one array of tokens."""
    lengths = np.array([len(example.ids) for example in examples], dtype=np.int64)
    prefix_lengths = np.array([example.prefix_length for example in examples], dtype=np.int64)
    tokens = np.concatenate([example.ids for example in examples]) if examples else np.empty(0, dtype=np.uint8)
    return Examples(tokens, np.cumsum(lengths) - lengths, lengths, prefix_lengths, num_bytes=num_bytes)


def _windows(windows: TokenWindows) -> Examples:
    prefix_lengths = np.ones(len(windows), dtype=np.int64)
    is_bytes = windows.tokens.dtype == np.uint8 and windows.num_bytes is None
    num_bytes = windows.lengths - 1 if is_bytes else windows.num_bytes
    return Examples(windows.tokens, windows.starts, windows.lengths, prefix_lengths, windows.path, num_bytes)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long examples may be, in tokens, and what becomes of those that are longer."""

    max_length: int | None = None
    """What the task's section says."""
    too_long: TooLong = "truncate"
    longest: int | None = None
    """What the model takes; None: unknown."""

    @property
    def bound(self) -> int | None:
        """Tokens that no example has more of; None: unknown."""
        known = [length for length in (self.max_length, self.longest) if length is not None]
        return min(known, default=None)

    def fit(self, example: EncodedExample) -> EncodedExample | None:
        """Return an example that is short enough, cut off where that is asked for; None for one to leave out.

        One of which only the prompt would be left has nothing to learn and is left out.
        """
        if self.max_length is None or len(example.ids) <= self.max_length:
            return example
        if self.too_long == "drop" or example.prefix_length >= self.max_length:
            return None
        return EncodedExample(example.ids[: self.max_length], example.prefix_length)


def encode_all(examples: Sequence[Example], tokenizer: Tokenizer, limits: Limits | None = None) -> Examples:
    """Encode examples, each with the end of text at its end; prefix and completion share no token.

    Raises DataError for examples of a file that are longer than the model takes.
    """
    prefixes = tokenizer.encode_batch([example.prefix for example in examples])
    completions = tokenizer.encode_batch([example.completion for example in examples])
    joined = [_joined(*pair, tokenizer) for pair in zip(prefixes, completions, strict=True)]
    num_bytes = np.array([len(example.completion.encode()) for example in examples], dtype=np.int64)
    if limits is None:
        return end_to_end(joined, num_bytes)
    fitted = [limits.fit(example) for example in joined]
    _check_lengths(examples, fitted, limits)
    kept = [example for example in fitted if example is not None]
    is_whole = len(kept) == len(joined) and all(one is other for one, other in zip(kept, joined, strict=True))
    return end_to_end(kept, num_bytes if is_whole else None)


def _check_lengths(examples: Sequence[Example], encoded: Sequence[EncodedExample | None], limits: Limits) -> None:
    """Raise DataError for examples that were read from a file and are longer than the model takes."""
    longest = limits.longest
    lengths = np.array([0 if example is None else len(example.ids) for example in encoded], dtype=np.int64)
    if longest is None or not len(lengths) or lengths.max() <= longest:
        return
    place = examples[int(lengths.argmax())].place
    if not place:  # of a task without the settings that are named here
        return
    raise DataError(
        f"{int((lengths > longest).sum())} of {len(lengths)} examples are longer than the model takes ({longest} "
        f"tokens with the end of text); the longest, {place}, has {lengths.max()}. Raise "
        f"model.max_position_embeddings to {lengths.max() - 1}, or set task.max_length: {longest} to have their ends "
        "cut off (with task.too_long: drop they are left out)"
    )


def encode(example: Example, tokenizer: Tokenizer) -> EncodedExample:
    """Encode one example, with the end of text at its end."""
    return _joined(tokenizer.encode(example.prefix), tokenizer.encode(example.completion), tokenizer)


def _joined(prefix: Ids, completion: Ids, tokenizer: Tokenizer) -> EncodedExample:
    """Put an example together; a completion that writes the end of text out has it already."""
    has_end = len(completion) > 0 and completion[-1] == tokenizer.eos
    end = np.array([] if has_end else [tokenizer.eos], dtype=prefix.dtype)
    return EncodedExample(np.concatenate([prefix, completion, end]), len(prefix))


def word_numbers(completion: bytes) -> list[int]:
    """Return for each byte of a completion, and for its EOS, the number of the word it belongs to.

    A word is a run of non-spaces and at most one space after it; EOS is a word of its own (as in WeLT, where the
    last word's label is empty).
    """
    numbers: list[int] = []
    count = 0
    for match in _WORD.finditer(completion):
        numbers.extend([count] * len(match[0]))
        count += 1
    return [*numbers, count]
