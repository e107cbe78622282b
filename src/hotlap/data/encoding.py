"""Text to byte tokens: ids 0-255 are the UTF-8 bytes themselves, PAD 0x00 and EOS 0x03 among them.

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
from hotlap.tasks.examples import Example, Task, TaskData, TokenWindows, map_tokens

VOCAB_SIZE: Final = 256
PAD: Final = 0
EOS: Final = 3
_WORD = re.compile(rb"\S+\s?|\s+")


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of prefix, completion and EOS in one array of shape (T,), and how many of them are prefix."""

    ids: NDArray[np.uint8]
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
        tokens: NDArray[np.uint8],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        prefix_lengths: NDArray[np.int64],
        path: Path | None = None,
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
        return _map_examples, (self._path, self._starts, self.lengths, self.prefix_lengths)


def _map_examples(
    path: Path, starts: NDArray[np.int64], lengths: NDArray[np.int64], prefix_lengths: NDArray[np.int64]
) -> Examples:
    return Examples(map_tokens(path), starts, lengths, prefix_lengths, path)


def encode_task(task: Task) -> tuple[Examples, Examples]:
    """Return the examples of a task as tokens, for training and for evaluation.

    Raises DataError when there are none, or when one has no prefix.
    """
    if isinstance(task, TaskData):
        parts = end_to_end([encode(e) for e in task.train]), end_to_end([encode(e) for e in task.eval])
    else:
        parts = _windows(task.train), _windows(task.eval)
    for name, examples in zip(("training", "evaluation"), parts, strict=True):
        if not len(examples):
            raise DataError(f"the task has no {name} examples ({task.source}); give it more text")
        if examples.prefix_lengths.min() < 1:
            raise DataError(f"a {name} example has an empty prefix; the first byte has to stand after something")
    return parts


def encode_held_out(task: Task) -> tuple[Examples, Examples | None]:
    """Return the examples that a task is evaluated on, and those for audits (None where it has none)."""
    parts = [
        None if not part else end_to_end([encode(e) for e in part]) if isinstance(part, tuple) else _windows(part)
        for part in (task.eval, task.audit)
    ]
    evaluation, audit = parts
    if evaluation is None:
        raise DataError(f"the task has no evaluation examples ({task.source}); give it more text")
    return evaluation, audit


def evaluation_facts(examples: Examples) -> dict[str, Any]:
    """Return what names an evaluation set: the hash of its content, and its examples, target tokens and bytes."""
    digest, num_bytes = hashlib.sha256(), 0
    for example in examples:
        digest.update(f"{len(example.ids)} {example.prefix_length} ".encode())
        digest.update(example.ids.tobytes())
        num_bytes += int((example.ids[example.prefix_length :] != EOS).sum())
    return {
        "hash": digest.hexdigest()[:16],
        "num_examples": len(examples),
        "num_targets": int(examples.num_targets.sum()),
        "num_bytes": num_bytes,
    }


def end_to_end(examples: Sequence[EncodedExample]) -> Examples:
    """Put examples into one array of tokens."""
    lengths = np.array([len(example.ids) for example in examples], dtype=np.int64)
    prefix_lengths = np.array([example.prefix_length for example in examples], dtype=np.int64)
    tokens = np.concatenate([np.empty(0, dtype=np.uint8), *(example.ids for example in examples)])
    return Examples(tokens, np.cumsum(lengths) - lengths, lengths, prefix_lengths)


def _windows(windows: TokenWindows) -> Examples:
    prefix_lengths = np.ones(len(windows), dtype=np.int64)
    return Examples(windows.tokens, windows.starts, windows.lengths, prefix_lengths, windows.path)


def encode(example: Example) -> EncodedExample:
    """Encode one example as bytes, with EOS at the end."""
    prefix, completion = example.prefix.encode(), example.completion.encode()
    return EncodedExample(np.frombuffer(prefix + completion + bytes([EOS]), dtype=np.uint8), len(prefix))


def decode(ids: list[int]) -> str:
    """Turn generated ids into text, up to EOS; bytes that are not UTF-8 become U+FFFD."""
    end = ids.index(EOS) if EOS in ids else len(ids)
    return bytes(ids[:end]).decode("utf-8", errors="replace")


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
