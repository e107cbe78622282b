"""Batches of words, laid out here by the plainest code: what the model is checked against does not come from hotlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BOS, EOS, PAD, IGNORED = 2, 3, 0, -100


@dataclass(frozen=True)
class Words:
    """A group of words that are encoded together."""

    ids: Tensor
    is_real: Tensor | None


@dataclass(frozen=True)
class Targets:
    """A group of words that are decoded together."""

    input_ids: Tensor
    targets: Tensor
    latents: Tensor


@dataclass(frozen=True)
class Batch:
    """One forward pass."""

    words: tuple[Words, ...]
    word_at: Tensor
    blocks: Tensor | None
    targets: tuple[Targets, ...]


@dataclass(frozen=True)
class Row:
    """A prefix, which is a shift block where `is_block`, and its completion."""

    prefix: tuple[bytes, ...]
    completion: tuple[bytes, ...]
    is_block: bool = False

    @property
    def words(self) -> list[bytes]:
        """All of them, behind the empty word that a row begins with."""
        return [b"", *self.prefix, *self.completion]

    @property
    def places(self) -> range:
        """Places whose next word is learned: the last one's is empty."""
        return range(len(self.prefix), len(self.words))

    @property
    def blocks(self) -> list[int]:
        """Number of the block that each word is in."""
        return [0 if self.is_block and 0 < place <= len(self.prefix) else -1 for place in range(len(self.words))]


def padded(rows: Sequence[Row], width: int = 0, length: int = 0) -> Batch:
    """Pad words to the longest and rows to the longest, or more: one group of each kind."""
    width = max(width, *(len(row.words) for row in rows))
    length = max(length, *(len(word) + 2 for row in rows for word in row.words))
    words = [word for row in rows for word in [*row.words, *[None] * (width - len(row.words))]]
    ids = torch.tensor([_filled([] if word is None else [BOS, *word, EOS], length, PAD) for word in words])
    wanted: list[tuple[list[int], list[int]]] = []
    for row in rows:
        for place in range(width):
            after = [*row.words, b""][place + 1] if place in row.places else None
            wanted.append(([BOS, *(after or b"")], [] if after is None else [*after, EOS]))
    targets = Targets(
        torch.tensor([_filled(inputs, length, PAD) for inputs, _ in wanted]),
        torch.tensor([_filled(found, length, IGNORED) for _, found in wanted]),
        torch.arange(len(rows) * width),
    )
    word_at = torch.arange(len(rows) * width).view(len(rows), width)
    return Batch((Words(ids, ids != PAD),), word_at, _blocks(rows, width), (targets,))


def bucketed(rows: Sequence[Row], *, distinct: bool = False) -> Batch:
    """Group words by length, each as often as it comes, or once."""
    width = max(len(row.words) for row in rows)
    everywhere = [(number, place, word) for number, row in enumerate(rows) for place, word in enumerate(row.words)]
    pool = sorted({word for *_, word in everywhere} if distinct else [word for *_, word in everywhere], key=len)
    lengths = sorted({len(word) for word in pool})
    groups = [[word for word in pool if len(word) == length] for length in lengths]
    word_at = torch.zeros(len(rows), width, dtype=torch.int64)
    left = {word: [at for at, other in enumerate(pool) if other == word] for word in pool}
    for number, place, word in everywhere:
        word_at[number, place] = left[word][0] if distinct else left[word].pop()
    wanted = [
        (number * width + place, [*row.words, b""][place + 1])
        for number, row in enumerate(rows)
        for place in row.places
    ]
    targets = []
    for length in sorted({len(word) for _, word in wanted}):
        chosen = [(place, word) for place, word in wanted if len(word) == length]
        inputs, found = [[BOS, *word] for _, word in chosen], [[*word, EOS] for _, word in chosen]
        targets.append(Targets(torch.tensor(inputs), torch.tensor(found), torch.tensor([place for place, _ in chosen])))
    words = tuple(Words(torch.tensor([[BOS, *word, EOS] for word in group]), None) for group in groups)
    return Batch(words, word_at, _blocks(rows, width), tuple(targets))


def _blocks(rows: Sequence[Row], width: int) -> Tensor | None:
    if not any(row.is_block for row in rows):
        return None
    return torch.tensor([_filled(row.blocks, width, -1) for row in rows])


def _filled(values: Sequence[int], length: int, filling: int) -> list[int]:
    return [*values, *[filling] * (length - len(values))]
