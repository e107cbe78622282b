"""Examples of bytes laid out as words, as plain arrays: made here or in another process, without torch.

A row is an empty word, which stands for the start, and the words of an example; each word is predicted from those
before it, and where the example has its end, an empty word is the last to be predicted. Prefix and completion are cut
into words by themselves, so no word is half asked and half answered. An example without an end was cut off somewhere:
where its last word ends is not learned. Shapes: B rows, W words in the longest, n words in a group of L bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hotlap.data.encoding import PAD, EncodedExample
from hotlap.data.words import BOS, EOS, SHIFT_IN, SHIFT_OUT, split_words

IGNORED: Final = -100
"""A target that nothing is learned from."""
_EMPTY: Final = -1  # the number of an empty word
_Numbers = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class WordGroupArrays:
    """The arrays of a `WordGroup`, with the same names, shapes and meanings."""

    ids: _Numbers
    is_real: _Flags | None


@dataclass(frozen=True, slots=True)
class TargetGroupArrays:
    """The arrays of a `TargetGroup`, with the same names, shapes and meanings; `IGNORED` where nothing is learned."""

    input_ids: _Numbers
    targets: _Numbers
    latents: _Numbers


@dataclass(frozen=True, slots=True)
class WordArrays:
    """The arrays of a `WordBatch`, with the same names, shapes and meanings."""

    words: tuple[WordGroupArrays, ...]
    word_at: _Numbers
    is_real: _Flags | None
    blocks: _Numbers | None
    targets: tuple[TargetGroupArrays, ...]
    num_tokens: int
    num_slots: int
    num_targets: int
    num_refused: int = 0
    """Samples of generators that were drawn for it and left out, since they are evaluated on or too long."""


@dataclass(frozen=True, slots=True)
class WordRow:
    """An example as words, the first one empty."""

    content: NDArray[np.uint8]
    """The words' bytes, put end to end."""
    lengths: _Numbers
    """Bytes of each word, (w,)."""
    num_given: int
    """Words, the first one included, that nothing is learned of."""
    has_end: bool
    """Whether the example ends with its last word; else it was cut off."""
    blocks: _Numbers | None
    """The shift block that each word is in, -1 outside, (w,); None: there is none."""

    @property
    def num_targets(self) -> int:
        """Bytes and ends of words that are learned."""
        learned = self.lengths[self.num_given :]
        return int(learned.sum()) + len(learned) + (1 if self.has_end else -(len(learned) > 0))


@dataclass(frozen=True, slots=True)
class WordLayout:
    """How rows of words become arrays; a plain value that can be sent to another process."""

    max_word_length: int
    """Places of a word, with BOS and EOS."""
    is_padded: bool = False
    """Whether every word takes all its places, and a word stands in every place of a row, as WeLT has it; else words
    of one length lie together, and nothing is computed for what is not learned."""
    encode_distinct: bool = False
    """Whether each distinct word of a batch is encoded once."""
    row_words: int | None = None
    """Words that rows are padded to; None: those of the longest in the batch."""


def word_row(example: EncodedExample, max_word_length: int) -> WordRow:
    """Cut an example of bytes into words."""
    ids = example.ids
    has_end = len(ids) > example.prefix_length and int(ids[-1]) == EOS
    content = np.asarray(ids[:-1] if has_end else ids, dtype=np.uint8)
    given = split_words(content[: example.prefix_length].tobytes(), max_word_length)
    learned = split_words(content[example.prefix_length :].tobytes(), max_word_length)
    lengths = np.fromiter(map(len, (b"", *given, *learned)), dtype=np.int64, count=1 + len(given) + len(learned))
    return WordRow(content, lengths, 1 + len(given), has_end, shift_blocks([b"", *given], len(lengths)))


def count_words(examples: Iterable[EncodedExample], max_word_length: int) -> _Numbers:
    """Return the words of each example's row, the empty one at its start among them, (E,)."""
    return np.array([len(word_row(example, max_word_length).lengths) for example in examples], dtype=np.int64)


def count_targets(examples: Iterable[EncodedExample], max_word_length: int) -> int:
    """Return the bytes and ends of words that are learned of all examples."""
    return sum(word_row(example, max_word_length).num_targets for example in examples)


def shift_blocks(words: Sequence[bytes], count: int | None = None) -> _Numbers | None:
    """Return which block from SHIFT_OUT to SHIFT_IN each of the words is in, -1 outside; None: there is none.

    A SHIFT_OUT that no SHIFT_IN follows starts no block. With `count` the array is that long.
    """
    found = np.full(len(words) if count is None else count, -1, dtype=np.int64)
    start, number = None, 0
    for place, word in enumerate(words):
        if start is None and word == bytes([SHIFT_OUT]):
            start = place
        elif start is not None and word == bytes([SHIFT_IN]):
            found[start : place + 1] = number
            start, number = None, number + 1
    return found if number else None


def arrange_words(examples: Sequence[EncodedExample], layout: WordLayout) -> WordArrays:
    """Lay out one example per row."""
    return arrange_rows([word_row(example, layout.max_word_length) for example in examples], layout)


def arrange_rows(rows: Sequence[WordRow], layout: WordLayout) -> WordArrays:
    """Lay out rows of words. Raises ValueError for one that is longer than the layout has places for."""
    counts = np.array([len(row.lengths) for row in rows])
    width = int(counts.max()) if layout.row_words is None else layout.row_words
    if counts.max() > width:
        raise ValueError(f"a row of {width} places cannot take {counts.max()} words")
    lengths = np.concatenate([row.lengths for row in rows])
    words = _Words(np.concatenate([row.content for row in rows]), np.cumsum(lengths) - lengths, lengths)
    is_real = np.arange(width) < counts[:, None]
    number_at = np.zeros(is_real.shape, dtype=np.int64)
    number_at[is_real] = np.arange(len(lengths))
    num_tokens, learned = int(lengths.sum()), _learned(rows, width)
    groups: tuple[WordGroupArrays, ...]
    targets: tuple[TargetGroupArrays, ...]
    if layout.is_padded:
        most = layout.max_word_length - 2
        group, word_at = _padded_group(words, np.where(is_real, number_at, _EMPTY), most, layout)
        groups, targets = (group,), (_padded_targets(words, learned, is_real.size, most),)
        num_slots = is_real.size * most
    else:
        groups, row_of = _dense_groups(words, distinct=layout.encode_distinct)
        word_at = np.where(is_real, row_of[number_at], 0)
        targets = _dense_targets(words, learned)
        num_slots = num_tokens + int((~is_real).sum())
    return WordArrays(
        words=groups,
        word_at=word_at,
        is_real=None if is_real.all() else is_real,
        blocks=_blocks(rows, width),
        targets=targets,
        num_tokens=num_tokens,
        num_slots=num_slots,
        num_targets=sum(row.num_targets for row in rows),
    )


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of a batch in one array of bytes."""

    content: NDArray[np.uint8]
    starts: _Numbers
    lengths: _Numbers

    def dense(self, numbers: _Numbers, length: int) -> _Numbers:
        """Return the bytes of words that all have so many, (n, length)."""
        return self.content[self.starts[numbers][:, None] + np.arange(length)].astype(np.int64)

    def padded(self, numbers: _Numbers, width: int) -> tuple[_Numbers, _Numbers]:
        """Return the bytes of words with PAD behind them, (n, width), and how many each has, (n,)."""
        lengths = np.where(numbers == _EMPTY, 0, self.lengths[numbers])
        is_real = np.arange(width) < lengths[:, None]
        found = np.full(is_real.shape, PAD, dtype=np.int64)
        found[is_real] = self.content[(self.starts[numbers][:, None] + np.arange(width))[is_real]]
        return found, lengths


@dataclass(frozen=True, slots=True)
class _Learned:
    """The words of a batch that are learned, T of them."""

    numbers: _Numbers
    """Among all words, `_EMPTY` for the end of an example, (T,)."""
    latents: _Numbers
    """(T,)."""
    is_cut: _Flags
    """Whether it is not known where the word ends, (T,)."""


def _learned(rows: Sequence[WordRow], width: int) -> _Learned:
    numbers, latents, is_cut, before = [], [], [], 0
    for number, row in enumerate(rows):
        first, count = row.num_given, len(row.lengths)
        own = np.arange(first, count)
        numbers.append(before + own)
        latents.append(number * width + own - 1)
        is_cut.append((own == count - 1) & (not row.has_end))
        if row.has_end:
            numbers.append(np.array([_EMPTY]))
            latents.append(np.array([number * width + count - 1]))
            is_cut.append(np.array([False]))
        before += count
    return _Learned(np.concatenate(numbers), np.concatenate(latents), np.concatenate(is_cut))


def _dense_groups(words: _Words, *, distinct: bool) -> tuple[tuple[WordGroupArrays, ...], _Numbers]:
    """Return groups of words of one length, and the row in them of each word, (w,)."""
    groups, row_of, count = [], np.zeros(len(words.lengths), dtype=np.int64), 0
    for length in np.unique(words.lengths).tolist():
        numbers = np.flatnonzero(words.lengths == length)
        found = words.dense(numbers, length)
        rows = np.arange(len(numbers))
        if distinct:
            found, rows = _distinct(found)
        row_of[numbers] = count + rows
        count += len(found)
        ids = np.full((len(found), length + 2), BOS, dtype=np.int64)
        ids[:, 1:-1], ids[:, -1] = found, EOS
        groups.append(WordGroupArrays(ids, None))
    return tuple(groups), row_of


def _padded_group(
    words: _Words, number_at: _Numbers, most: int, layout: WordLayout
) -> tuple[WordGroupArrays, _Numbers]:
    """Return the words of all places (B, W), padding as empty ones, in one group, and the row of each."""
    found, lengths = words.padded(number_at.reshape(-1), most)
    ids = np.concatenate([np.full((len(found), 1), BOS), found, np.full((len(found), 1), PAD)], axis=1)
    ids[np.arange(len(ids)), lengths + 1] = EOS
    rows = np.arange(len(ids))
    if layout.encode_distinct:
        # A word's length tells words apart that differ in bytes that are PAD.
        kept, rows = _distinct(np.concatenate([ids, lengths[:, None]], axis=1))
        ids, lengths = kept[:, :-1], kept[:, -1]
    is_real = np.arange(ids.shape[1]) < lengths[:, None] + 2
    return WordGroupArrays(np.ascontiguousarray(ids), is_real), rows.reshape(number_at.shape)


def _distinct(rows: _Numbers) -> tuple[_Numbers, _Numbers]:
    """Return each distinct row of an array (n, L) once, and for each row its number among these, (n,)."""
    if not rows.shape[1]:
        return rows[:1], np.zeros(len(rows), dtype=np.int64)
    found, inverse = np.unique(rows, axis=0, return_inverse=True)
    return found, inverse.reshape(-1)


def _dense_targets(words: _Words, learned: _Learned) -> tuple[TargetGroupArrays, ...]:
    """Return groups of learned words of one length."""
    lengths = np.where(learned.numbers == _EMPTY, 0, words.lengths[learned.numbers])
    groups = []
    for length in np.unique(lengths).tolist():
        chosen = np.flatnonzero(lengths == length)
        found = words.dense(learned.numbers[chosen], length)
        ends = np.where(learned.is_cut[chosen], IGNORED, EOS)[:, None]
        input_ids = np.concatenate([np.full_like(ends, BOS), found], axis=1)
        groups.append(TargetGroupArrays(input_ids, np.concatenate([found, ends], axis=1), learned.latents[chosen]))
    return tuple(groups)


def _padded_targets(words: _Words, learned: _Learned, size: int, most: int) -> TargetGroupArrays:
    """Return a group with a word for each of so many places: the one that is predicted there, if any is."""
    numbers = np.full(size, _EMPTY, dtype=np.int64)
    numbers[learned.latents] = learned.numbers
    found, lengths = words.padded(numbers, most)
    targets = np.full((size, most + 1), IGNORED, dtype=np.int64)
    is_byte = np.arange(most) < lengths[:, None]
    targets[:, :-1][is_byte] = found[is_byte]
    ends = learned.latents[~learned.is_cut]
    targets[ends, lengths[ends]] = EOS
    input_ids = np.concatenate([np.full((size, 1), BOS), found], axis=1)
    return TargetGroupArrays(input_ids, targets, np.arange(size))


def _blocks(rows: Sequence[WordRow], width: int) -> _Numbers | None:
    """Return the shift blocks of all rows, (B, W)."""
    if all(row.blocks is None for row in rows):
        return None
    found = np.full((len(rows), width), -1, dtype=np.int64)
    for number, row in enumerate(rows):
        if row.blocks is not None:
            found[number, : len(row.blocks)] = row.blocks
    return found
