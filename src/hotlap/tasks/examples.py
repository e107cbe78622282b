"""What a task gives: pairs of prefix and completion, or windows of tokens, split into training and evaluation."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Example:
    """One example; the loss is on the completion only."""

    prefix: str
    completion: str


@dataclass(frozen=True, slots=True)
class TaskData:
    """The examples of a task; training and evaluation share no sentence."""

    has_completions: ClassVar[bool] = True
    """Whether a prompt asks for an answer, so that generating it can be scored."""

    train: tuple[Example, ...]
    eval: tuple[Example, ...]
    source: str
    """Where the text came from, for people."""
    audit: tuple[Example, ...] = ()
    """Held out like `eval`, and looked at by no run: results are checked on them."""
    files: tuple[Path, ...] = ()
    """Prepared files that the examples were read from."""

    @property
    def hash(self) -> str:
        """Hash over every example, stored with each run."""
        digest = hashlib.sha256()
        for part in (self.train, self.eval):
            for example in part:
                digest.update(f"{example.prefix}\x1e{example.completion}\x1d".encode())
            digest.update(b"\x1c")
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class TokenWindows:
    """Examples that are stretches of one long array of tokens; every token but a stretch's first is a target."""

    tokens: NDArray[np.unsignedinteger[Any]]
    """The whole text, shape (N,)."""
    starts: NDArray[np.int64]
    """Where each example begins, shape (E,)."""
    lengths: NDArray[np.int64]
    """Tokens of each example, at least 2, shape (E,)."""
    path: Path | None = None
    """The file that `tokens` is mapped from, if it is: other processes then map it, too, instead of copying it."""
    num_bytes: NDArray[np.int64] | None = None
    """Bytes of UTF-8 that each example's targets stand for, shape (E,); None: not known, or tokens are bytes."""

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, slots=True, eq=False)
class TokenTask:
    """Running text as windows of tokens; training and evaluation share no document."""

    has_completions: ClassVar[bool] = False

    train: TokenWindows
    eval: TokenWindows
    source: str
    """Where the text came from, for people."""
    hash: str
    """Names the content of both parts, stored with each run."""
    audit: TokenWindows | None = None
    """Held out like `eval`, and looked at by no run: results are checked on them."""
    files: tuple[Path, ...] = ()
    """Prepared files that the tokens were read from."""


Task = TaskData | TokenTask


@dataclass(frozen=True, slots=True, eq=False)
class TextTask:
    """Running text as documents that are still to be made into tokens; `data.corpus` makes a `TokenTask` of it."""

    documents: Callable[[], Iterator[str]]
    """The documents, from the first one on at each call, in the same order."""
    identity: str
    """Names the content of the documents."""
    source: str
    """Where the text came from, for people."""
    block_size: int
    """Tokens predicted per example."""
    max_eval_samples: int
    """Examples in the evaluation set, at most."""


def num_shared(task: Task) -> int:
    """Return how many evaluation examples are trained on, too.

    Windows count where they have targets in common (a window's first token is none); two texts that happen to say the
    same do not.
    """
    if isinstance(task, TaskData):
        train = set(task.train)
        return sum(example in train for example in task.eval)
    if not np.shares_memory(task.train.tokens, task.eval.tokens):
        return 0
    order = np.argsort(task.train.starts)
    starts = task.train.starts[order]
    reach = np.maximum.accumulate(starts + task.train.lengths[order])  # where the windows so far end
    num_before = np.searchsorted(starts + 1, task.eval.starts + task.eval.lengths)  # those that begin before the end
    return int((reach[np.maximum(num_before, 1) - 1] > task.eval.starts + 1)[num_before > 0].sum())


def map_tokens(path: Path, dtype: Any = np.uint8) -> NDArray[np.unsignedinteger[Any]]:
    """Map a file of tokens into memory, shape (N,); it cannot be written to."""
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))  # a plain array: slices of a memmap are slow
