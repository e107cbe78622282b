"""Where a training gets its batches from: made in place, or ahead of it by worker processes.

In place means while the training waits: on a CPU every core is busy with the training, and a batch takes a few hundred
microseconds. Workers pay on a GPU, whose host has cores to spare. Either way the batches are the same.
"""

from hotlap.data.arrays import BatchArrays, BatchMaker, RowLayout
from hotlap.data.batches import Batch, batch_of
from hotlap.data.encoding import EncodedExample, Examples
from hotlap.data.order import BatchOrder
from hotlap.data.streaming import ShardOrder
from hotlap.data.streams import EndlessExamples, StreamMaker, StreamOrder
from hotlap.data.word_arrays import WordArrays
from hotlap.data.word_batches import WordBatch, word_batch_of
from hotlap.data.workers import Maker, WorkerPool

AnyBatch = Batch | WordBatch
Order = BatchOrder | ShardOrder | StreamOrder


class BatchSource:
    """The micro-batches of one device, by their number in the endless order of all of them."""

    def __init__(
        self,
        examples: Examples | EndlessExamples,
        order: Order,
        layout: RowLayout,
        *,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        """Set up the source; workers are started with the first batch. Endless examples have an order of their own.

        `layout` says how rows become arrays, `prefetch` how many batches each worker makes ahead of those asked for:
        then it waits, also while the clock is stopped.
        """
        self.order = order
        self.layout = layout
        """How rows become arrays."""
        self.row_length = layout if isinstance(layout, int) else None
        """Tokens that every row is padded to; None: the longest of its batch, or rows are words."""
        self._maker = _maker(examples, order, layout, rank, world_size)
        self.num_refused = 0
        """Samples of generators that were drawn for the batches taken, and left out."""
        self._num_workers = workers
        self._ahead = workers * (prefetch if self._maker.span == 1 else self._maker.span)
        self._pin_memory = pin_memory
        self._pool: WorkerPool | None = None
        self._next = 0
        """The number that follows the last batch taken."""
        self._asked = 0
        """The batches from `_next` to before this one have been asked of the workers."""

    def wait_for(self, first: int, count: int) -> None:
        """Wait until the text of so many batches is prepared, where it comes in the course of the training.

        Raises DataError for text that turns out to be unusable, RunFailedError when what prepares it has ended.
        """
        if isinstance(self.order, ShardOrder):
            self.order.wait_for(first, count)

    @property
    def num_ahead(self) -> int:
        """Batches that the workers make ahead of those asked for."""
        return self._ahead

    @property
    def span(self) -> int:
        """Batches in a row that one worker makes."""
        return self._maker.span

    @property
    def knows_all_targets(self) -> bool:
        """Whether `micro_batches` counts the targets of all devices, and not only those of this one."""
        return self._maker.knows_all_targets

    def micro_batches(self, first: int, count: int) -> tuple[list[AnyBatch], int]:
        """Return this device's part of batches `first` to `first` + `count`, and their targets on all devices.

        Raises RunFailedError when a worker has ended, DataError when a generator fails.
        """
        made = [self._make(number) for number in range(first, first + count)]
        batches = [word_batch_of(arrays) if isinstance(arrays, WordArrays) else batch_of(arrays) for arrays, _ in made]
        self.num_refused += sum(arrays.num_refused for arrays, _ in made)
        if self._pin_memory:
            batches = [batch.pin_memory() for batch in batches]
        return batches, sum(num_targets for _, num_targets in made)

    def rows_of(self, number: int) -> list[list[EncodedExample]]:
        """Return the examples in each of this device's rows of a batch, drawn here and now."""
        return self._maker.rows_of(number)

    def arrays_of(self, number: int) -> BatchArrays | WordArrays:
        """Return this device's part of a batch as arrays, made here and now."""
        return self._maker.make(number)[0]

    def start(self, first: int = 0) -> None:
        """Start the workers, if there are any, and have them make batches from `first` on."""
        if self._num_workers:
            self._request(first, first)
        elif first:
            self._maker.prepare(first)  # what a resumed run has to sort, pack or draw comes before the clock

    def close(self) -> None:
        """End the workers and what prepares text; a later call for batches would start them again."""
        if isinstance(self.order, ShardOrder):
            self.order.close()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _make(self, number: int) -> tuple[BatchArrays | WordArrays, int]:
        if not self._num_workers:
            return self._maker.make(number)
        pool = self._request(number, number + 1)  # no more at once: orders fill a pipe before anybody reads results
        self._next = number + 1
        return pool.take(number)

    def _request(self, number: int, last: int) -> WorkerPool:
        """Ask the workers for the batches from `number` to before `last` and those ahead, as far as it is not done."""
        if self._pool is None:
            self._pool = WorkerPool(self._maker, self._num_workers)
            self._asked = number
        elif not self._next <= number <= self._asked:
            self._asked = number  # a jump: what was made ahead is dropped
        for wanted in range(self._asked, last + self._ahead):
            self._pool.ask(wanted)
        self._next, self._asked = number, max(self._asked, last + self._ahead)
        return self._pool


def _maker(examples: Examples | EndlessExamples, order: Order, layout: RowLayout, rank: int, size: int) -> Maker:
    if isinstance(examples, EndlessExamples):
        assert isinstance(order, StreamOrder)
        return StreamMaker(examples, order, layout, rank, size)
    assert not isinstance(order, StreamOrder)
    return BatchMaker(examples, order, layout, rank, size)
