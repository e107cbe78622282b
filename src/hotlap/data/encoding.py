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
from hotlap.tasks.examples import Example, Task, TaskData, TokenWindows, map_tokens

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
        tokens: Ids,
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        prefix_lengths: NDArray[np.int64],
        path: Path | None = None,
        num_bytes: NDArray[np.int64] | None = None,
    ) -> None:
        self._tokens = tokens
        self._starts = starts
        self.lengths = lengths
        """Tokens of each example, shape (E,)."""
        self.prefix_lengths = prefix_lengths
        """Tokens of each example that the loss is not on, shape (E,)."""
        self.num_targets = lengths - np.maximum(prefix_lengths, 1)
        """Tokens of each example that are predicted, shape (E,); a first token never is."""
        self._path = path
        self.num_bytes = num_bytes
        """Bytes of UTF-8 that each example's targets stand for, shape (E,); None where nobody asks."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> EncodedExample:
        start = self._starts[number]
        return EncodedExample(self._tokens[start : start + self.lengths[number]], int(self.prefix_lengths[number]))

    def __iter__(self) -> Iterator[EncodedExample]:
        return (self[number] for number in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._path is None:
            return Examples, (self._tokens, self._starts, self.lengths, self.prefix_lengths)
        return _map_examples, (self._path, self._tokens.dtype.str, self._starts, self.lengths, self.prefix_lengths)


def _map_examples(
    path: Path, dtype: str, starts: NDArray[np.int64], lengths: NDArray[np.int64], prefix_lengths: NDArray[np.int64]
) -> Examples:
    return Examples(map_tokens(path, dtype), starts, lengths, prefix_lengths, path)


def encode_task(task: Task, tokenizer: Tokenizer) -> tuple[Examples, Examples]:
    """Return the examples of a task as tokens, for training and for evaluation.

    Raises DataError when there are none, or when one has no prefix.
    """
    if isinstance(task, TaskData):
        parts = encode_all(task.train, tokenizer), encode_all(task.eval, tokenizer)
    else:
        parts = _windows(task.train), _windows(task.eval)
    for name, examples in zip(("training", "evaluation"), parts, strict=True):
        if not len(examples):
            raise DataError(f"the task has no {name} examples ({task.source}); give it more text")
        if examples.prefix_lengths.min() < 1:
            raise DataError(f"a {name} example has an empty prefix; the first token has to stand after something")
    return parts


def encode_held_out(task: Task, tokenizer: Tokenizer) -> tuple[Examples, Examples | None]:
    """Return the examples that a task is evaluated on, and those for audits (None where it has none)."""
    parts = [
        None if not part else encode_all(part, tokenizer) if isinstance(part, tuple) else _windows(part)
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


def encode_all(examples: Sequence[Example], tokenizer: Tokenizer) -> Examples:
    """Encode examples, each with the end of text at its end; prefix and completion share no token."""
    prefixes = tokenizer.encode_batch([example.prefix for example in examples])
    completions = tokenizer.encode_batch([example.completion for example in examples])
    num_bytes = np.array([len(example.completion.encode()) for example in examples], dtype=np.int64)
    joined = [_joined(*pair, tokenizer) for pair in zip(prefixes, completions, strict=True)]
    return end_to_end(joined, num_bytes)


def encode(example: Example, tokenizer: Tokenizer) -> EncodedExample:
    """Encode one example, with the end of text at its end."""
    return _joined(tokenizer.encode(example.prefix), tokenizer.encode(example.completion), tokenizer)


def _joined(prefix: Ids, completion: Ids, tokenizer: Tokenizer) -> EncodedExample:
    end = np.array([tokenizer.eos], dtype=prefix.dtype)
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
