"""Examples laid out in the rows of a batch, as plain arrays: made here or in another process, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from hotlap.data.encoding import PAD, EncodedExample, Examples
from hotlap.data.order import BatchOrder
from hotlap.data.streaming import ShardOrder
from hotlap.data.word_arrays import WordArrays, WordLayout, arrange_words

PADDING_ID: Final = -1
"""Document number of padding."""

RowLayout = int | WordLayout | None
"""Tokens that each row is padded to (None: to the longest of the batch), or how rows of words are laid out."""
PlainRows = Sequence[EncodedExample]
PackedRows = Sequence[Sequence[EncodedExample]]


@dataclass(frozen=True, slots=True)
class BatchArrays:
    """The arrays of a `Batch`, with the same names, shapes and meanings."""

    input_ids: NDArray[np.int64]
    target_positions: NDArray[np.int64]
    targets: NDArray[np.int64]
    num_tokens: int
    document_ids: NDArray[np.int64] | None = None
    positions: NDArray[np.int64] | None = None
    num_refused: int = 0
    """Samples of generators that were drawn for it and left out, since they are evaluated on or too long."""


def arrange(rows: PlainRows | PackedRows, length: int | None = None) -> BatchArrays:
    """Lay out one example per row, or several one after the other, padded to `length` tokens or else to the longest.

    The last token of an example is never an input, since nothing follows it; the first one never is a target. A row
    of `length` tokens therefore has `length` - 1 places.
    """
    packed = [[row] if isinstance(row, EncodedExample) else row for row in rows]
    examples = [example for row in packed for example in row]
    sizes = np.array([len(example.ids) - 1 for example in examples])
    prefixes = np.array([example.prefix_length for example in examples])
    counts = np.array([len(row) for row in packed])
    before = np.cumsum(sizes) - sizes  # places taken in the batch before each example
    first = np.cumsum(counts) - counts  # each row's first example
    filled = np.add.reduceat(sizes, first)
    width = int(filled.max()) if length is None else length - 1
    if filled.max() > width:
        raise ValueError(f"a row of {width} places cannot take {filled.max()} tokens")
    starts = before + np.repeat(np.arange(len(packed)) * width - before[first], counts)
    within = np.arange(sizes.sum()) - np.repeat(before, sizes)  # place of each token in its example
    places = np.repeat(starts, sizes) + within

    def spread(values: NDArray[np.int64], padding: int) -> NDArray[np.int64]:
        grid = np.full(len(packed) * width, padding, dtype=np.int64)
        grid[places] = values
        return grid.reshape(len(packed), width)

    is_target = within >= np.repeat(prefixes - 1, sizes)
    has_documents = not isinstance(rows[0], EncodedExample)
    return BatchArrays(
        input_ids=spread(np.concatenate([example.ids[:-1] for example in examples]), PAD),
        target_positions=places[is_target],
        targets=np.concatenate([example.ids[1:] for example in examples])[is_target].astype(np.int64),
        num_tokens=len(places),
        document_ids=spread(np.repeat(np.arange(len(examples)), sizes), PADDING_ID) if has_documents else None,
        positions=spread(within, 0) if has_documents else None,
    )


def lay_out(rows: PackedRows, layout: RowLayout, *, is_packed: bool) -> BatchArrays | WordArrays:
    """Return rows of examples as arrays; unless they are packed, each row has one example."""
    if isinstance(layout, WordLayout):
        return arrange_words([row[0] for row in rows], layout)
    return arrange(rows if is_packed else [row[0] for row in rows], layout)


@dataclass(frozen=True, slots=True)
class BatchMaker:
    """Makes the batches of one device by their numbers; a plain value that can be sent to another process."""

    span: ClassVar[int] = 1
    """Batches in a row that one worker should make."""

    examples: Examples
    order: BatchOrder | ShardOrder
    layout: RowLayout
    rank: int
    world_size: int

    @property
    def knows_all_targets(self) -> bool:
        """Whether the targets of all devices are known to each of them; words are counted where they are cut."""
        return not isinstance(self.layout, WordLayout) or self.world_size == 1

    def prepare(self, first: int) -> None:
        """Sort or pack what the batches from `first` on need."""
        self.order.rows(first)

    def rows_of(self, number: int) -> list[list[EncodedExample]]:
        """Return the examples in each of this device's rows of a batch."""
        return self._own(self.order.rows(number))

    def make(self, number: int) -> tuple[BatchArrays | WordArrays, int]:
        """Return this device's rows of batch `number`, and how many targets the batch has on all devices.

        Of words, only this device's targets are known.
        """
        rows = self.order.rows(number)
        arrays = lay_out(self._own(rows), self.layout, is_packed=self.order.mode == "packed")
        if isinstance(arrays, WordArrays):
            return arrays, arrays.num_targets
        return arrays, int(self.examples.num_targets[np.concatenate(rows)].sum())

    def _own(self, rows: list[NDArray[np.int64]]) -> list[list[EncodedExample]]:
        return [[self.examples[place] for place in row] for row in rows[self.rank :: self.world_size]]
