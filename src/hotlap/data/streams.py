"""Training data without an end: generators, and mixtures of tasks. Here, too, a batch follows from its number alone.

A stream comes in windows of 64 steps. A lane is one row of every step of a window, and each lane of a window draws its
samples from a shard of its own: a call of the generator with a seed that no other shard has. A device makes the lanes
of its rows and nothing else, and a worker process makes whole windows, so no sample is made twice, whoever makes it.
What a step trains on follows from the seed and the rows of a step alone, not from the number of devices, workers or
micro-batches, and a resumed training goes on where it was, after drawing again what its window had drawn.

A mixture gives each row to one task. Which one follows from the row's number alone, so that any stretch of rows has the
shares that were asked for, to within a row or two; rows of finite tasks come as in a training on that task alone, each
example once before any comes again.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from hotlap.core.errors import ConfigError, DataError
from hotlap.data.arrays import BatchArrays, RowLayout, lay_out
from hotlap.data.encoding import EncodedExample, Examples, Limits, encode
from hotlap.data.order import BatchOrder, OrderMode
from hotlap.data.tokenizers import Tokenizer
from hotlap.data.word_arrays import WordArrays
from hotlap.tasks.examples import Example, GeneratorTask, SampleSource
from hotlap.tasks.generator import shard_seed, stream_start, without

SPAN: Final = 64
"""Steps of a window."""
_PATIENCE: Final = 1000  # samples in a row that are too long
_WHOLE: Final = 1 << 30  # shares are whole parts of this, so that no rounding adds up

Row = list[EncodedExample]
T = TypeVar("T")


class SampleEncoder:
    """The endless examples of a generator as tokens; it can be sent to another process."""

    def __init__(
        self, samples: SampleSource, tokenizer: Tokenizer, limits: Limits, held_out: frozenset[Example]
    ) -> None:
        """Take what draws examples by their seed, and those that must not be trained on."""
        self.limits = limits
        self.num_refused = 0
        """Samples that were drawn and left out since then."""
        self._samples = samples
        self._tokenizer = tokenizer
        self._held_out = held_out

    def draw(self, seed: int) -> Iterator[EncodedExample]:
        """Yield the examples of a seed for ever.

        Raises DataError for one that is longer than the model takes, unless the task says what becomes of it, and when
        hardly any can be used.
        """
        num_long = 0
        for number, example in enumerate(without(self._samples.draw(seed), self._held_out, self._note)):
            encoded = self.limits.fit(encode(example, self._tokenizer))
            if encoded is None:
                num_long += 1
                self._note()
                if num_long == _PATIENCE:
                    raise DataError(
                        f"task.function: {num_long} samples in a row are longer than task.max_length "
                        f"{self.limits.max_length}; raise it, or make them shorter"
                    )
                continue
            num_long = 0
            longest = self.limits.longest
            if longest is not None and len(encoded.ids) > longest:
                raise DataError(
                    f"task.function: sample {number} of seed={seed} has {len(encoded.ids)} tokens with the end of "
                    f"text, the model takes {longest}: {example.prefix[:60]!r}. Raise model.max_position_embeddings, "
                    f"or set task.max_length: {longest} to have the ends of long ones cut off (with task.too_long: "
                    "drop they are left out)"
                )
            yield encoded

    def _note(self) -> None:
        self.num_refused += 1


@dataclass(frozen=True, slots=True)
class StreamPart:
    """A task of a stream."""

    name: str
    weight: float
    examples: Examples | SampleEncoder
    lengths: NDArray[np.int64]
    """Tokens of its examples, or of some that stand for them, shape (E,)."""
    num_targets: NDArray[np.int64]
    """Their targets, shape (E,)."""

    @classmethod
    def of_examples(cls, name: str, weight: float, examples: Examples) -> "StreamPart":
        """Return examples that come again and again."""
        return cls(name, weight, examples, examples.lengths, examples.num_targets)

    @classmethod
    def of_generator(
        cls,
        name: str,
        weight: float,
        task: GeneratorTask,
        tokenizer: Tokenizer,
        limits: Limits,
        held_out: frozenset[Example],
    ) -> "StreamPart":
        """Return a generator's examples without those held out; its pilot tells how long they are.

        Raises DataError when none of the pilot's can be used.
        """
        drawn = [limits.fit(encode(example, tokenizer)) for example in task.pilot]
        pilot = [example for example in drawn if example is not None]
        if not pilot:
            raise DataError(
                f"{task.source}: every one of {len(drawn)} samples is longer than task.max_length {limits.max_length}"
            )
        return cls(
            name,
            weight,
            SampleEncoder(task.samples, tokenizer, limits, held_out),
            np.array([len(example.ids) for example in pilot], dtype=np.int64),
            np.array([example.num_targets for example in pilot], dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class EndlessExamples:
    """Training examples without an end, from one generator or from several tasks."""

    parts: tuple[StreamPart, ...]
    by: str
    """What the weights are shares of: tokens or samples."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of the examples, those of generators told by some of them."""
        return np.concatenate([part.lengths for part in self.parts])

    @property
    def longest(self) -> int:
        """Tokens of the longest of these; a generator may still give longer ones."""
        return int(self.lengths.max())

    @property
    def num_targets(self) -> NDArray[np.int64]:
        """Their targets."""
        return np.concatenate([part.num_targets for part in self.parts])

    @property
    def bound(self) -> int | None:
        """Tokens that no example has more of; None where a generator might give any number."""
        bounds = [
            part.examples.limits.bound if isinstance(part.examples, SampleEncoder) else int(part.lengths.max())
            for part in self.parts
        ]
        known = [bound for bound in bounds if bound is not None]
        return max(known) if len(known) == len(bounds) else None

    @property
    def required_bound(self) -> int:
        """Tokens that no example has more of; raises ConfigError where a generator might give any number."""
        if self.bound is None:
            raise ConfigError(
                "training.padding: max_length and packed need to know how long the samples of a generator can be, and "
                "the model does not say; set task.max_length"
            )
        return self.bound


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """How a stream is laid out in batches."""

    batch_size: int
    """Rows of a batch, over all devices."""
    seed: int
    mode: OrderMode
    row_length: int | None = None
    """Tokens of a row that `packed` fills."""
    accumulation: int = 1
    """Batches of a step."""

    @property
    def num_lanes(self) -> int:
        """Rows of a step."""
        return self.batch_size * self.accumulation

    @property
    def places(self) -> int:
        """Places of a packed row: the last token of an example is never read."""
        assert self.row_length is not None
        return self.row_length - 1


class _Lane:
    """The rows of one lane of a window, made when they are asked for."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._made: list[Row] = []

    def row(self, place: int) -> Row:
        """Return a row by its step in the window."""
        while len(self._made) <= place:
            self._made.append(next(self._rows))
        return self._made[place]


class StreamMaker:
    """Makes the batches of one device by their numbers; it can be sent to another process."""

    def __init__(
        self, examples: EndlessExamples, order: StreamOrder, layout: RowLayout, rank: int, world_size: int
    ) -> None:
        """Take the stream, its order, and how its rows become arrays."""
        self.knows_all_targets = world_size == 1
        self.span = SPAN * order.accumulation
        self._examples = examples
        self._order = order
        self._layout = layout
        self._rank = rank
        self._world_size = world_size
        self._shares = whole_shares(row_shares(examples, order))
        seeds = [stream_start(order.seed, "training", part.name) for part in examples.parts]
        self._starts = seeds
        mode: OrderMode = "random" if order.mode == "bucketed" else order.mode
        self._orders = [
            BatchOrder(part.lengths, 1, seed, mode=mode, row_length=order.row_length)
            if isinstance(part.examples, Examples)
            else None
            for part, seed in zip(examples.parts, seeds, strict=True)
        ]
        self._window = -1
        self._lanes: dict[int, _Lane] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_window": -1, "_lanes": {}}

    def prepare(self, first: int) -> None:
        """Draw what the window of batch `first`, the first of a step, has drawn before it, where that is not done."""
        window, place = divmod(first // self._order.accumulation, SPAN)
        if place and window != self._window:
            for number in range(first - self._order.accumulation, first):
                self._rows(number)

    def rows_of(self, number: int) -> list[Row]:
        """Return the examples in each of this device's rows of a batch."""
        self.prepare(number - number % self._order.accumulation)
        return self._rows(number)

    def make(self, number: int) -> tuple[BatchArrays | WordArrays, int]:
        """Return this device's rows of batch `number`, and how many targets they have."""
        self.prepare(number - number % self._order.accumulation)  # what was left out before has been counted before
        before = self._num_refused()
        rows = self._rows(number)
        arrays = lay_out(rows, self._layout, is_packed=self._order.mode == "packed")
        refused = self._num_refused() - before
        if isinstance(arrays, WordArrays):
            return replace(arrays, num_refused=refused), arrays.num_targets
        num_targets = sum(example.num_targets for row in rows for example in row)
        return replace(arrays, num_refused=refused), num_targets

    def _num_refused(self) -> int:
        parts = (part.examples for part in self._examples.parts)
        return sum(part.num_refused for part in parts if isinstance(part, SampleEncoder))

    def _rows(self, number: int) -> list[Row]:
        step, part = divmod(number, self._order.accumulation)
        window, place = divmod(step, SPAN)
        if window != self._window:
            self._lanes, self._window = {}, window
        first = part * self._order.batch_size
        own = range(first + self._rank, first + self._order.batch_size, self._world_size)
        for lane in own:
            if lane not in self._lanes:
                self._lanes[lane] = _Lane(self._lane(lane, window))
        return [self._lanes[lane].row(place) for lane in own]

    def _lane(self, lane: int, window: int) -> Iterator[Row]:
        """Yield the rows of a lane of a window, of like length in each batch where that is asked for."""
        rows = self._drawn(lane, window)
        if self._order.mode != "bucketed":
            yield from rows
            return
        by_length = sorted(rows, key=lambda row: len(row[0].ids))
        part = lane // self._order.batch_size  # the lanes of a batch have one order
        for place in np.random.default_rng([self._order.seed, 1, window, part]).permutation(SPAN):
            yield by_length[place]

    def _drawn(self, lane: int, window: int) -> Iterator[Row]:
        """Yield the rows of a lane of a window as they are drawn."""
        size = self._order.num_lanes
        steps = range(window * SPAN, (window + 1) * SPAN)
        # Step by step the lanes change places, so that each gets rows of all tasks.
        wanted = [place_in_mixture(step * size + (lane + step) % size, self._shares) for step in steps]
        counts = Counter(part for part, _ in wanted)
        drawn = {
            part: self._generated(part, window * size + lane, count)
            for part, count in counts.items()
            if self._orders[part] is None
        }
        for part, number in wanted:
            yield next(drawn[part]) if part in drawn else self._row(part, number)

    def _generated(self, part: int, shard: int, count: int) -> Iterator[Row]:
        """Return so many rows of a generator's shard."""
        encoder = self._examples.parts[part].examples
        assert isinstance(encoder, SampleEncoder)
        samples = encoder.draw(shard_seed(self._starts[part], shard))
        if self._order.mode != "packed":
            return ([sample] for sample in samples)
        longest = self._examples.required_bound - 1
        return iter(fill_rows(samples, lambda sample: len(sample.ids) - 1, count, self._order.places, longest))

    def _row(self, part: int, number: int) -> Row:
        """Return a row of a finite task by its number among that task's rows."""
        examples, order = self._examples.parts[part].examples, self._orders[part]
        assert isinstance(examples, Examples)
        assert order is not None
        return [examples[place] for place in order.rows(number)[0]]


def fill_rows(samples: Iterator[T], size: Callable[[T], int], count: int, places: int, longest: int) -> list[list[T]]:
    """Fill rows with samples as they come, each into the fullest row with room for it; all that is drawn is used.

    The last row takes what fits nowhere else, and nothing more is drawn once it might not take a sample of `longest`
    places, so it alone may stay less full.
    """
    rows: list[list[T]] = [[] for _ in range(count)]
    room = [places] * count
    while room[-1] >= longest:
        sample = next(samples)
        needed = size(sample)
        fitting = [row for row in range(count - 1) if room[row] >= needed]
        row = min(fitting, key=room.__getitem__, default=count - 1)
        rows[row].append(sample)
        room[row] -= needed
    return rows


def row_shares(examples: EndlessExamples, order: StreamOrder) -> list[float]:
    """Return each task's share of the rows, which gives the tokens or samples that the weights ask for."""
    whole = sum(part.weight for part in examples.parts)
    found = []
    for part in examples.parts:
        tokens_per_example = float((part.lengths - 1).mean())
        tokens_per_row = tokens_per_example
        if order.mode == "packed":
            tokens_per_row = _tokens_per_packed_row(part, order, part.weight / whole, examples)
        per_row = tokens_per_row if examples.by == "tokens" else tokens_per_row / tokens_per_example
        found.append(part.weight / per_row)
    total = sum(found)
    return [share / total for share in found]


def _tokens_per_packed_row(part: StreamPart, order: StreamOrder, share: float, examples: EndlessExamples) -> float:
    sizes = (part.lengths - 1).tolist()
    if isinstance(part.examples, Examples):
        packed = BatchOrder(part.lengths, 1, 0, mode="packed", row_length=order.row_length)
        return sum(sizes) / packed.batches_per_epoch()
    count = max(1, round(SPAN * share))
    rows = fill_rows(cycle(sizes), int, count, order.places, examples.required_bound - 1)
    return sum(map(sum, rows)) / count


def whole_shares(shares: Sequence[float]) -> list[int]:
    """Return shares as whole numbers, each at least 1."""
    total = sum(shares)
    return [max(1, round(share / total * _WHOLE)) for share in shares]


def place_in_mixture(number: int, shares: Sequence[int]) -> tuple[int, int]:
    """Return which part a row belongs to, by the row's number, and how many rows of that part come before it.

    The rows of a part are spread evenly over all rows, those of the others evenly over what is left.
    """
    left = sum(shares)
    for part, share in enumerate(shares[:-1]):
        before = number * share // left
        if (number + 1) * share // left > before:
            return part, before
        number -= before
        left -= share
    return len(shares) - 1, number
