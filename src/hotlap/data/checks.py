"""Does a training get the samples that it should? Looked at on its own batches, made again and in other ways.

Batches follow from seed and number, so all of this holds by construction, except for what a generator of the project's
does: draw from somewhere else than its seed, or depend on the process that it runs in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotlap.data.arrays import BatchArrays
from hotlap.data.encoding import EncodedExample
from hotlap.data.loader import AnyBatch, BatchSource
from hotlap.data.order import BatchOrder
from hotlap.data.speed import generators_of
from hotlap.data.streams import StreamOrder
from hotlap.data.word_arrays import WordArrays
from hotlap.data.word_batches import WordBatch
from hotlap.tasks.examples import Example, Task
from hotlap.tasks.generator import shard_seed

_LOOKED_AT: Final = 4  # batches that are made twice
_CALLS, _SAMPLES = 8, 8  # of a generator
_MOST_ROWS: Final = 2_000_000  # of an epoch

Arrays = BatchArrays | WordArrays
MakeSource = Callable[[int, int, int], BatchSource]
"""Rank, processes and workers to a source whose steps have the same rows, however many processes share them."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool | None
    """None: it could not be looked at, or does not apply."""
    text: str


def checks(task: Task, make_source: MakeSource, num_workers: int) -> list[Check]:
    """Return what was found; `num_workers` is how many make the batches that are compared with those made here."""
    return [
        _repeats(make_source),
        _workers(make_source, num_workers),
        _ranks(make_source),
        _seeds(task),
        _epoch(make_source),
    ]


def _repeats(make_source: MakeSource) -> Check:
    name = "the same first samples for a seed"
    first, second = (_batches(make_source(0, 1, 0)) for _ in range(2))
    where = _first_difference(first, second)
    if where is not None:
        return Check(name, False, f"batch {where} is another one when it is made again from the same seed")
    return Check(name, True, f"{len(first)} batches made twice are the same")


def _workers(make_source: MakeSource, num_workers: int) -> Check:
    name = "workers do not repeat samples"
    if not num_workers:
        return Check(name, None, "no workers were asked for")
    source = make_source(0, 1, num_workers)
    try:
        source.start()
        made = [batch for number in range(_LOOKED_AT) for batch in source.micro_batches(number, 1)[0]]
    finally:
        source.close()
    for number, (one, other) in enumerate(zip(made, _batches(make_source(0, 1, 0)), strict=True)):
        if not _is_same(one, other):
            text = "what makes samples depends on more than its seed, such as the order of a set or the process"
            return Check(name, False, f"batch {number} of {num_workers} workers is not the one made here: {text}")
    return Check(name, True, f"{num_workers} of them make the batches that one process makes, bit by bit")


def _ranks(make_source: MakeSource) -> Check:
    name = "devices do not repeat samples"
    whole = make_source(0, 1, 0)
    if whole.order.batch_size < 2:
        return Check(name, None, "a batch of one row is not shared by devices")
    shares = [make_source(rank, 2, 0) for rank in range(2)]
    for number in range(_LOOKED_AT):
        parts = [[_key(row) for row in share.rows_of(number)] for share in shares]
        rows = [_key(row) for row in whole.rows_of(number)]
        if sorted(parts[0] + parts[1]) != sorted(rows):
            return Check(name, False, f"two devices together do not get the rows of batch {number}")
    return Check(name, True, "two devices get the rows of one between them, each row once")


def _seeds(task: Task) -> Check:
    """Look at whether calls of a generator differ: one that does not heed its seed gives all workers the same."""
    name = "a generator heeds its seed"
    found = generators_of(task)
    if not found:
        return Check(name, None, "the examples are not generated in the training")
    samples: list[Example] = []
    for _, _, generator in found:
        calls = [tuple(islice(generator.samples.draw(shard_seed(0, call)), _SAMPLES)) for call in range(_CALLS)]
        if len(set(calls)) == 1:
            text = f"{generator.source} yields the same samples for {_CALLS} different seeds"
            return Check(name, False, f"{text}; draw every number from a generator made of the seed")
        samples += [sample for call in calls for sample in call]
    share = len(set(samples)) / len(samples)
    return Check(name, True, f"{share:.0%} of {len(samples)} samples of {_CALLS} seeds are different ones")


def _epoch(make_source: MakeSource) -> Check:
    name = "an epoch covers every example"
    order = make_source(0, 1, 0).order
    if isinstance(order, StreamOrder):
        return Check(name, None, "the data have no end, and so no epoch")
    if not isinstance(order, BatchOrder):
        return Check(name, None, "the text is still being prepared while it is trained on")
    batches, together = order.batches_per_epoch(0), order.batches_together
    whole = -(-batches // together) * together
    looked_at = min(whole, max(1, _MOST_ROWS // order.batch_size))
    seen = np.concatenate([np.concatenate(order.rows(number)) for number in range(looked_at)])
    counts = np.bincount(seen, minlength=order.num_examples)
    if looked_at < whole:
        is_once = bool(counts.max() <= -(-looked_at // batches))
        return Check(name, is_once, f"only the first {len(seen):,} of {order.num_examples:,} examples were looked at")
    return _covered(name, counts, order, looked_at)


def _covered(name: str, counts: NDArray[np.int64], order: BatchOrder, num_batches: int) -> Check:
    """Say whether so many batches hold every example as often as all others, or once more."""
    size = order.num_examples
    times, rest = divmod(int(counts.sum()), size)
    if order.drops_last:
        left_out = int((counts == 0).sum())
        most = -(-num_batches // order.batches_per_epoch(0))
        text = f"{num_batches:,} batches hold none of {size:,} examples more than {_often(most)}"
        return Check(name, bool(counts.max() <= most), f"{text}; {left_out:,} that fill no batch are left out")
    missing, more = int((counts < times).sum()), int((counts > times).sum())
    if missing or more > rest:
        text = f"{missing:,} of {size:,} examples come less than {_often(times)} in {num_batches:,} batches"
        return Check(name, False, f"{text}, {more:,} more often")
    again = f", {rest:,} of them once more where the next epoch begins" if rest else ""
    return Check(name, True, f"{num_batches:,} batches hold each of {size:,} examples {_often(times)}{again}")


def _often(times: int) -> str:
    return "once" if times == 1 else f"{times} times"


def _batches(source: BatchSource) -> list[Arrays]:
    return [source.arrays_of(number) for number in range(_LOOKED_AT)]


def _first_difference(first: Sequence[Arrays], second: Sequence[Arrays]) -> int | None:
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        if not _is_same(one, other):
            return number
    return None


def _is_same(one: Arrays | AnyBatch, other: Arrays | AnyBatch) -> bool:
    """Say whether two batches, as arrays or as tensors, hold the same inputs and targets at the same places."""
    contents = list(_content(one)), list(_content(other))
    return len(contents[0]) == len(contents[1]) and all(map(np.array_equal, *contents))


def _content(batch: Arrays | AnyBatch) -> Iterator[Any]:
    if isinstance(batch, WordArrays | WordBatch):
        yield batch.word_at
        for words in batch.words:
            yield words.ids
        for group in batch.targets:
            yield from (group.input_ids, group.targets, group.latents)
    else:
        yield from (batch.input_ids, batch.targets)


def _key(row: Sequence[EncodedExample]) -> bytes:
    """Return what tells a row from others by its tokens."""
    return b"|".join(each.ids.tobytes() for each in row)
