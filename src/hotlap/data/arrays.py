"""Examples laid out in the rows of a batch, as plain arrays: made here or in another process, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from hotlap.data.encoding import PAD, EncodedExample, Examples
from hotlap.data.order import BatchOrder
from hotlap.data.streaming import ShardOrder

PADDING_ID: Final = -1
"""Document number of padding."""

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


@dataclass(frozen=True, slots=True)
class BatchMaker:
    """Makes the batches of one device by their numbers; a plain value that can be sent to another process."""

    span: ClassVar[int] = 1
    """Batches in a row that one worker should make."""
    knows_all_targets: ClassVar[bool] = True
    """Whether the targets of all devices are known to each of them."""

    examples: Examples
    order: BatchOrder | ShardOrder
    row_length: int | None
    """Tokens that each row is padded to; None: to the longest of the batch."""
    rank: int
    world_size: int

    def prepare(self, first: int) -> None:
        """Sort or pack what the batches from `first` on need."""
        self.order.rows(first)

    def rows_of(self, number: int) -> list[list[EncodedExample]]:
        """Return the examples in each of this device's rows of a batch."""
        own = self.order.rows(number)[self.rank :: self.world_size]
        return [[self.examples[place] for place in row] for row in own]

    def make(self, number: int) -> tuple[BatchArrays, int]:
        """Return this device's rows of batch `number`, and how many targets the batch has on all devices."""
        rows = self.order.rows(number)
        num_targets = int(self.examples.num_targets[np.concatenate(rows)].sum())
        own = rows[self.rank :: self.world_size]
        if self.order.mode == "packed":
            return arrange([[self.examples[place] for place in row] for row in own], self.row_length), num_targets
        return arrange([self.examples[row[0]] for row in own], self.row_length), num_targets
