"""What a task gives: pairs of prefix and completion, or windows of tokens, split into training and evaluation."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hotlap.core.progress import show_bytes
from hotlap.tasks.documents import TextSource


@dataclass(frozen=True, slots=True)
class Example:
    """One example; the loss is on the completion only."""

    prefix: str
    completion: str
    place: str = field(default="", compare=False, repr=False)
    """File and line that it was read from, for people."""
    family: str = field(default="", compare=False, repr=False)
    """What the answers of one conversation share, which are held out together; empty: it stands alone."""


TooLong = Literal["truncate", "drop"]
"""What becomes of an example that is too long: its end is cut off, or it is left out."""


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
    max_length: int | None = None
    """Tokens of an example at most; None: as many as the model takes."""
    too_long: TooLong = "truncate"
    """What becomes of one that is longer than `max_length`."""
    reads_specials: bool = False
    """Whether a special token that the texts write out is meant, such as the marks of a chat template."""

    @property
    def hash(self) -> str:
        """Hash over every example, stored with each run."""
        digest = hashlib.sha256()
        for part in (self.train, self.eval):
            for example in part:
                digest.update(f"{example.prefix}\x1e{example.completion}\x1d".encode())
            digest.update(b"\x1c")
        return digest.hexdigest()[:16]


class TokenShards:
    """Tokens in several files, put end to end without being copied: to be sliced within one of them.

    A file is mapped into memory when it is first read from. Pickled, it is the files' names.
    """

    def __init__(self, dtype: Any, paths: Sequence[Path] = (), counts: Sequence[int] = ()) -> None:
        """Put files together that hold so many tokens each."""
        self.dtype = np.dtype(dtype)
        """What a token is stored as."""
        self._paths: list[Path] = []
        self._ends: list[int] = []
        self._mapped: list[NDArray[np.unsignedinteger[Any]] | None] = []
        for path, count in zip(paths, counts, strict=True):
            self.append(path, count)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, place: slice) -> NDArray[np.unsignedinteger[Any]]:
        """Return the tokens from `place.start` to before `place.stop`; they lie in one file."""
        number = bisect_right(self._ends, place.start)
        mapped = self._mapped[number]
        if mapped is None:
            mapped = self._mapped[number] = map_tokens(self._paths[number], self.dtype)
        before = self._ends[number - 1] if number else 0
        return mapped[place.start - before : place.stop - before]

    def __reduce__(self) -> tuple[Any, ...]:
        counts = np.diff(self._ends, prepend=0).tolist() if self._ends else []
        return TokenShards, (self.dtype.str, tuple(self._paths), counts)

    def append(self, path: Path, count: int) -> None:
        """Add a file of so many tokens at the end."""
        self._paths.append(path)
        self._ends.append(len(self) + count)
        self._mapped.append(None)


@dataclass(frozen=True, slots=True, eq=False)
class TokenWindows:
    """Examples that are stretches of one long array of tokens; every token but a stretch's first is a target."""

    tokens: NDArray[np.unsignedinteger[Any]] | TokenShards
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
    documents: Mapping[str, int] = field(default_factory=dict)
    """What preparing the text found: documents, duplicates dropped, how many are held out, how many are shared."""
    stream: Any = None
    """Where more windows to train on come from in the course of the training; None: `train` has them all."""


@dataclass(frozen=True, slots=True, eq=False)
class TextTask:
    """Running text as documents that are still to be made into tokens; `data.corpus` makes a `TokenTask` of it."""

    text: TextSource
    """What is trained on, and evaluated on where there is no `validation`."""
    source: str
    """Where the text came from, for people."""
    block_size: int
    """Tokens predicted per example."""
    max_eval_samples: int
    """Examples in the evaluation set, at most."""
    validation: TextSource | None = None
    """What is evaluated on; None: documents of `text`, chosen by their hash."""
    streaming: bool = False
    """Whether training starts while the text is still being prepared."""
    num_workers: int | None = None
    """Processes that prepare the text; None: as many as there are cores."""

    @property
    def identity(self) -> str:
        """Names the content of the documents."""
        return self.text.identity

    def documents(self) -> Iterator[str]:
        """Yield the documents to train on, from the first one on at each call, in the same order."""
        for chunk in self.text.chunks():
            yield from chunk.documents()


class SampleSource(Protocol):
    """Endless examples by their seed; it can be sent to another process."""

    def draw(self, seed: int) -> Iterator[Example]:
        """Yield examples for ever: the same ones for the same seed. Raises DataError when it cannot."""


@dataclass(frozen=True, slots=True, eq=False)
class GeneratorTask:
    """Endless training examples, and some that were generated apart; no training example is one of those."""

    has_completions: ClassVar[bool] = True

    samples: SampleSource
    pilot: tuple[Example, ...]
    """Some examples as the training has them, to tell their lengths by; none of them is trained on."""
    eval: tuple[Example, ...]
    audit: tuple[Example, ...]
    source: str
    """Where the examples come from, for people."""
    hash: str
    """Names the function, its arguments and what it gives, stored with each run."""
    max_length: int | None = None
    """Tokens of an example at most; None: as many as the model takes."""
    too_long: TooLong = "truncate"
    """What becomes of one that is longer than `max_length`."""
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class MixturePart:
    """A task of a mixture."""

    name: str
    weight: float
    """Relative to the weights of the others."""
    task: TaskData | TokenTask | TextTask | GeneratorTask


@dataclass(frozen=True, slots=True, eq=False)
class MixtureTask:
    """Several tasks in one training; their evaluation examples follow each other in this order."""

    parts: tuple[MixturePart, ...]
    by: Literal["tokens", "samples"]
    """What the weights are shares of."""

    @property
    def has_completions(self) -> bool:
        """Whether every task's prompts ask for an answer, so that generating it can be scored."""
        return not any(isinstance(part.task, TokenTask | TextTask) for part in self.parts)

    @property
    def source(self) -> str:
        """Where the examples come from, for people."""
        return ", ".join(f"{part.name}: {part.task.source}" for part in self.parts)

    @property
    def hash(self) -> str:
        """Names the content of all tasks and how they are mixed, stored with each run."""
        facts = [[part.name, part.weight, _identity(part.task)] for part in self.parts]
        return hashlib.sha256(json.dumps([self.by, facts]).encode()).hexdigest()[:16]

    @property
    def files(self) -> tuple[Path, ...]:
        """Prepared files that the examples are read from."""
        found = (path for part in self.parts if not isinstance(part.task, TextTask) for path in part.task.files)
        return tuple(dict.fromkeys(found))


def _identity(task: TaskData | TokenTask | TextTask | GeneratorTask) -> str:
    return task.identity if isinstance(task, TextTask) else task.hash


Task = TaskData | TokenTask | GeneratorTask | MixtureTask


def num_shared(task: Task) -> int:
    """Return how many evaluation examples are trained on, too.

    Windows count where they have targets in common (a window's first token is none); two texts that happen to say the
    same do not. A generator's examples are compared while they are drawn, and never trained on.
    """
    if isinstance(task, TokenTask):
        return _shared_windows(task)
    parts = [part.task for part in task.parts] if isinstance(task, MixtureTask) else [task]
    train = {example for part in parts if isinstance(part, TaskData) for example in part.train}
    held_out = (part.eval for part in parts if isinstance(part, TaskData | GeneratorTask))
    windows = sum(_shared_windows(part) for part in parts if isinstance(part, TokenTask))
    return windows + sum(example in train for examples in held_out for example in examples)


def _shared_windows(task: TokenTask) -> int:
    tokens, held_out = task.train.tokens, task.eval.tokens
    is_shared = tokens is held_out
    if isinstance(tokens, np.ndarray) and isinstance(held_out, np.ndarray):
        is_shared = np.shares_memory(tokens, held_out)
    if not is_shared:
        return 0
    order = np.argsort(task.train.starts)
    starts = task.train.starts[order]
    reach = np.maximum.accumulate(starts + task.train.lengths[order])  # where the windows so far end
    num_before = np.searchsorted(starts + 1, task.eval.starts + task.eval.lengths)  # those that begin before the end
    return int((reach[np.maximum(num_before, 1) - 1] > task.eval.starts + 1)[num_before > 0].sum())


def describe(task: Task) -> str:
    """Return in a line what there is to train on and to be evaluated on."""
    if isinstance(task, MixtureTask):
        parts = (f"{part.name}: {describe(part.task)}" for part in task.parts if not isinstance(part.task, TextTask))
        return f"{'; '.join(parts)}; mixed ({task.hash})"
    trained_on = "endless" if isinstance(task, GeneratorTask) else str(len(task.train))
    told = f"{trained_on} training and {len(task.eval)} evaluation examples from {task.source} ({task.hash})"
    if isinstance(task, TokenTask) and task.stream is not None:
        return f"{told}, and more to come while the training runs"
    if isinstance(task, TokenTask) and task.documents:
        found = task.documents
        told += (
            f": {found['documents']:,} documents ({show_bytes(found['bytes'])}), {found['duplicates']:,} left out that "
            f"came again, {found['held_out']:,} held out, {found['shared']} on both sides"
        )
    return told


def distinct(examples: Iterable[Example]) -> tuple[Example, ...]:
    """Return each example once, in the order in which they come."""
    return tuple(dict.fromkeys(examples))


def map_tokens(path: Path, dtype: Any = np.uint8) -> NDArray[np.unsignedinteger[Any]]:
    """Map a file of tokens into memory, shape (N,); it cannot be written to."""
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))  # a plain array: slices of a memmap are slow
