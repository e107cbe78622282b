"""The order of the training examples: a pure function of the seed and the batch number, so nothing has to be saved."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from hotlap.core.errors import ConfigError, DataError

OrderMode = Literal["random", "sequential", "bucketed", "packed"]

_BATCHES_PER_BUCKET = 64  # rows are sorted by length among the rows of this many batches
_KEPT = 2  # epochs, and buckets: a batch may reach into the next one

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Packing:
    """The rows of one epoch; row r holds `examples[starts[r]:ends[r]]`."""

    examples: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


class BatchOrder:
    """Which examples stand in which row of every batch, in an endless pass over the training examples.

    `random` shuffles each epoch, `sequential` keeps the order of the data, `bucketed` puts examples of like length
    into one batch, `packed` puts several into one row. Epochs follow each other without a gap, so a batch may hold the
    end of one and the start of the next; with `drop_last` an epoch leaves out what fills no batch.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        batch_size: int,
        seed: int,
        *,
        mode: OrderMode = "random",
        row_length: int | None = None,
        drop_last: bool = False,
    ) -> None:
        """Set up the order of examples of these `lengths` in batches of `batch_size` rows, over all devices.

        `row_length` is what `packed` fills: a row of so many tokens has one place less, as the last token of an
        example is never read. Raises DataError when there is no example, no full batch, or an example is too long.
        """
        if len(lengths) == 0:
            raise DataError("there is no training example")
        if mode not in get_args(OrderMode):
            raise ConfigError(f"unknown order {mode!r}; known: {', '.join(get_args(OrderMode))}")
        self.batch_size = batch_size
        self.mode = mode
        self._lengths = lengths
        self._seed = seed
        self._drop_last = drop_last
        self._places = 0
        if mode == "packed":
            if row_length is None or lengths.max() > row_length:
                raise DataError(
                    f"the longest example has {lengths.max()} tokens, a packed row {row_length}; raise "
                    "model.max_position_embeddings or make the task's examples shorter"
                )
            self._places = row_length - 1
        self._epochs: dict[int, NDArray[np.int64]] = {}
        self._buckets: dict[int, list[NDArray[np.int64]]] = {}
        self._packings: dict[int, _Packing] = {}
        self._first_rows = [0]
        """Where in the endless stream of packed rows each epoch starts."""
        if mode != "packed":
            self._full(len(lengths))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_epochs": {}, "_buckets": {}, "_packings": {}}

    @property
    def num_examples(self) -> int:
        """Examples that the order is about."""
        return len(self._lengths)

    @property
    def batches_together(self) -> int:
        """Batches whose rows are drawn together, so that only all of them hold a stretch of the epoch."""
        return _BATCHES_PER_BUCKET if self.mode == "bucketed" else 1

    @property
    def drops_last(self) -> bool:
        """Whether an epoch leaves out what fills no batch."""
        return self._drop_last

    def rows(self, number: int) -> list[NDArray[np.int64]]:
        """Return the example numbers of each row of batch `number` (from 0): one a row, except when packed."""
        first = number * self.batch_size
        if self.mode == "packed":
            return self._packed_rows(first, self.batch_size)
        examples = self._bucketed(number) if self.mode == "bucketed" else self._stream(first, self.batch_size)
        return list(examples.reshape(-1, 1))

    def batches_per_epoch(self, epoch: int = 0) -> int:
        """Return how many batches an epoch needs, the last one perhaps shared with the next epoch."""
        rows = len(self._packing(epoch).starts) if self.mode == "packed" else len(self._lengths)
        return -(-self._full(rows) // self.batch_size)

    def _full(self, rows: int) -> int:
        """Return how many of an epoch's rows are used."""
        used = rows - rows % self.batch_size if self._drop_last else rows
        if not used:
            raise DataError(
                f"an epoch of {rows} row(s) fills no batch of {self.batch_size}; give more text, a smaller batch, or "
                "training.dataloader_drop_last: false"
            )
        return used

    def _stream(self, start: int, count: int) -> NDArray[np.int64]:
        """Return `count` examples from position `start` of all epochs put end to end."""
        size = self._full(len(self._lengths))
        parts = []
        while count:
            epoch, offset = divmod(start, size)
            part = self._epoch(epoch)[offset : min(offset + count, size)]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            size = len(self._lengths)
            if self.mode == "sequential":
                order = np.arange(size)
            else:
                order = np.random.default_rng([self._seed, 0, epoch]).permutation(size)
            _keep(self._epochs, epoch, order)
        return self._epochs[epoch]

    def _bucketed(self, number: int) -> NDArray[np.int64]:
        bucket, place = divmod(number, _BATCHES_PER_BUCKET)
        if bucket not in self._buckets:
            _keep(self._buckets, bucket, self._fill_bucket(bucket))
        return self._buckets[bucket][place]

    def _fill_bucket(self, bucket: int) -> list[NDArray[np.int64]]:
        size = _BATCHES_PER_BUCKET * self.batch_size
        rows = self._stream(bucket * size, size)
        by_length = rows[np.argsort(self._lengths[rows], kind="stable")]
        batches = np.split(by_length, _BATCHES_PER_BUCKET)
        shuffled = np.random.default_rng([self._seed, 1, bucket]).permutation(_BATCHES_PER_BUCKET)
        return [batches[place] for place in shuffled]

    def _packed_rows(self, start: int, count: int) -> list[NDArray[np.int64]]:
        """Return `count` rows from position `start` of all epochs' rows put end to end."""
        rows: list[NDArray[np.int64]] = []
        for position in range(start, start + count):
            while self._first_rows[-1] <= position:
                last = len(self._first_rows) - 1
                self._first_rows.append(self._first_rows[-1] + self._full(len(self._packing(last).starts)))
            epoch = bisect_right(self._first_rows, position) - 1
            packing, row = self._packing(epoch), position - self._first_rows[epoch]
            rows.append(packing.examples[packing.starts[row] : packing.ends[row]])
        return rows

    def _packing(self, epoch: int) -> _Packing:
        if epoch not in self._packings:
            _keep(self._packings, epoch, self._pack(epoch))
        return self._packings[epoch]

    def _pack(self, epoch: int) -> _Packing:
        """Pack an epoch's examples, the longest first, those of one length as they were shuffled; shuffle the rows."""
        shuffled = self._epoch(epoch)
        longest_first = shuffled[np.argsort(-self._lengths[shuffled], kind="stable")]
        row_of = best_fit((self._lengths[longest_first] - 1).tolist(), self._places)
        counts = np.bincount(row_of)
        ends = np.cumsum(counts)
        order = np.random.default_rng([self._seed, 2, epoch]).permutation(len(counts))
        return _Packing(longest_first[np.argsort(row_of, kind="stable")], (ends - counts)[order], ends[order])


def best_fit(sizes: Sequence[int], places: int) -> NDArray[np.int64]:
    """Return for each of `sizes` the number of its row: the fullest one with room for it, else a new one.

    Takes about a microsecond for each: rows lie in lists by the room they have left, and the bits of one whole number
    say which lists are not empty.
    """
    by_room: list[list[int]] = [[] for _ in range(places + 1)]
    is_open = 0
    num_rows = 0
    row_of = []
    for size in sizes:
        fitting = is_open >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                is_open ^= 1 << room
        else:
            room, row = places, num_rows
            num_rows += 1
        row_of.append(row)
        by_room[room - size].append(row)
        is_open |= 1 << (room - size)
    return np.array(row_of, dtype=np.int64)


def _keep(cache: dict[int, T], key: int, value: T) -> None:
    """Put a value into a cache of the last few."""
    while len(cache) >= _KEPT:
        del cache[next(iter(cache))]
    cache[key] = value
