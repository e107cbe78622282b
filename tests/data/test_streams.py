"""Endless data: no sample is made twice or lost, whoever makes the batches, and mixtures keep their shares."""

import pickle
import random
import re
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any, cast, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.errors import ConfigError, DataError
from hotlap.data.arrays import BatchArrays
from hotlap.data.encoding import Examples, Limits, encode, encode_all, end_to_end
from hotlap.data.loader import BatchSource
from hotlap.data.order import OrderMode
from hotlap.data.streams import (
    SPAN,
    EndlessExamples,
    SampleEncoder,
    StreamMaker,
    StreamOrder,
    StreamPart,
    fill_rows,
    place_in_mixture,
    row_shares,
    whole_shares,
)
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.tasks.examples import Example

MODES = get_args(OrderMode)
LIMIT = 40
SAMPLE = re.compile(rb"<(\w+):(\d+)>")

Found = list[tuple[str, int]]


class Numbered:
    """Samples that tell their seed and their place; every draw is noted."""

    def __init__(self, longest: int = 20) -> None:
        self.longest = longest
        self.drawn: list[tuple[str, int]] = []

    def draw(self, seed: int) -> Iterator[Example]:
        lengths = random.Random(seed)
        for number in count():
            self.drawn.append((str(seed), number))
            yield Example(f"<{seed}:{number:04}>", "c" * lengths.randrange(1, self.longest))


def generated(source: Numbered, name: str = "samples", weight: float = 1.0, **limits: Any) -> StreamPart:
    limits.setdefault("longest", LIMIT)
    pilot = [
        encode(example, ByteTokenizer())
        for example, _ in zip(Numbered(source.longest).draw(3_999_999_999), range(256), strict=False)
    ]
    return StreamPart(
        name,
        weight,
        SampleEncoder(source, ByteTokenizer(), Limits(**limits), frozenset()),
        np.array([len(example.ids) for example in pilot]),
        np.array([example.num_targets for example in pilot]),
    )


def finite(size: int, name: str, weight: float = 1.0, longest: int = 12) -> StreamPart:
    lengths = random.Random(size)
    examples = [Example(f"<{name}:{number}>", "c" * lengths.randrange(1, longest)) for number in range(size)]
    return StreamPart.of_examples(name, weight, encode_all(examples, ByteTokenizer()))


def stream(*parts: StreamPart, by: str = "samples") -> EndlessExamples:
    return EndlessExamples(parts, by)


def order(mode: str, rows: int = 4, seed: int = 3, accumulation: int = 1) -> StreamOrder:
    return StreamOrder(rows, seed, cast(OrderMode, mode), 4 * LIMIT, accumulation)


def make(examples: EndlessExamples, layout: StreamOrder, rank: int = 0, size: int = 1) -> StreamMaker:
    width = layout.row_length if layout.mode == "packed" else None
    return StreamMaker(examples, layout, width, rank, size)


def samples_in(arrays: BatchArrays) -> Found:
    """Return the samples of a batch, row by row."""
    rows = [bytes(row.astype(np.uint8)) for row in arrays.input_ids]
    return [(seed.decode(), int(number)) for row in rows for seed, number in SAMPLE.findall(row)]


def assert_same(one: BatchArrays, other: BatchArrays) -> None:
    for name in ("input_ids", "target_positions", "targets", "document_ids", "positions"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        assert a is None or np.array_equal(a, b)


SHARES = st.lists(st.floats(0.01, 50), min_size=1, max_size=5)


@given(shares=SHARES, first=st.integers(0, 10**9), length=st.integers(1, 400))
@settings(deadline=None)
def test_any_stretch_of_rows_has_the_shares_asked_for(shares: list[float], first: int, length: int) -> None:
    whole = whole_shares(shares)
    places = [place_in_mixture(number, whole) for number in range(first, first + length)]
    counts = Counter(part for part, _ in places)
    for part, share in enumerate(shares):
        assert abs(counts[part] - length * share / sum(shares)) <= len(shares)


@given(shares=SHARES)
@settings(deadline=None)
def test_each_part_counts_its_rows_without_a_gap(shares: list[float]) -> None:
    whole, seen = whole_shares(shares), Counter[int]()
    for number in range(500):
        part, place = place_in_mixture(number, whole)
        assert place == seen[part]
        seen[part] += 1


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=50),
    rows=st.integers(1, 9),
    places=st.integers(12, 60),
)
@settings(deadline=None)
def test_rows_take_all_that_is_drawn(sizes: list[int], rows: int, places: int) -> None:
    drawn: list[int] = []

    def endless() -> Iterator[int]:
        for number in count():
            drawn.append(number)
            yield number

    size = lambda number: sizes[number % len(sizes)]  # noqa: E731
    filled = fill_rows(endless(), size, rows, places, 12)
    assert sorted(number for row in filled for number in row) == drawn
    taken = [sum(map(size, row)) for row in filled]
    assert all(0 < total <= places for total in taken)
    assert taken[-1] > places - 12
    assert len(filled) == rows


@pytest.mark.parametrize("mode", MODES)
def test_every_sample_that_is_drawn_is_in_one_batch(mode: str) -> None:
    source = Numbered()
    maker = make(stream(generated(source)), order(mode))
    batches = [samples_in(maker.make(number)[0]) for number in range(3 * SPAN)]
    found = [sample for batch in batches for sample in batch]
    assert len(found) == len(set(found)), "none comes twice"
    assert sorted(found) == sorted(source.drawn), "none is drawn and not used"
    by_seed = Counter(seed for seed, _ in found)
    assert len(by_seed) == 3 * 4
    assert all((seed, place) in set(found) for seed, size in by_seed.items() for place in range(size))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_share_the_rows_of_one_and_draw_nothing_twice(mode: str, size: int) -> None:
    whole = make(stream(generated(Numbered())), order(mode))
    sources = [Numbered() for _ in range(size)]
    ranks = [make(stream(generated(source)), order(mode), rank, size) for rank, source in enumerate(sources)]
    assert whole.knows_all_targets
    for number in range(SPAN + 2):
        (arrays, num_targets), parts = whole.make(number), [rank.make(number) for rank in ranks]
        assert sum(targets for _, targets in parts) == num_targets
        found = [samples_in(part) for part, _ in parts]
        assert sorted(sample for samples in found for sample in samples) == sorted(samples_in(arrays))
        if mode == "packed":
            for rank, (part, _) in enumerate(parts):
                assert np.array_equal(part.input_ids, arrays.input_ids[rank::size])
    drawn = [sample for source in sources for sample in source.drawn]
    assert len(drawn) == len(set(drawn))
    assert not ranks[0].knows_all_targets


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_draw_nothing_twice(mode: str, workers: int) -> None:
    sources = [Numbered() for _ in range(workers)]
    makers = [make(stream(generated(source)), order(mode)) for source in sources]
    alone = make(stream(generated(Numbered())), order(mode))
    for number in range(4 * SPAN):
        arrays, _ = makers[number // alone.span % workers].make(number)  # as the pool gives them their turns
        assert_same(arrays, alone.make(number)[0])
    drawn = [sample for source in sources for sample in source.drawn]
    assert len(drawn) == len(set(drawn))
    assert all(source.drawn for source in sources)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "bucketed"])
def test_a_step_trains_on_the_same_in_one_batch_or_several(mode: str) -> None:
    parts = generated(Numbered()), finite(30, "few")
    whole, halves = make(stream(*parts), order(mode, 8)), make(stream(*parts), order(mode, 4, accumulation=2))
    assert (whole.span, halves.span) == (SPAN, 2 * SPAN)
    for step in (0, 3, SPAN, SPAN + 1):
        both = [samples_in(halves.make(number)[0]) for number in (2 * step, 2 * step + 1)]
        assert [*both[0], *both[1]] == samples_in(whole.make(step)[0])


@given(
    mode=st.sampled_from(MODES),
    accumulation=st.integers(1, 3),
    numbers=st.lists(st.integers(0, 5 * SPAN), min_size=1, max_size=6),
    rows=st.integers(1, 5),
    seed=st.integers(0, 3),
)
@settings(deadline=None, max_examples=30)
def test_a_batch_is_a_pure_function_of_seed_and_number(
    mode: str, accumulation: int, numbers: list[int], rows: int, seed: int
) -> None:
    def fresh() -> StreamMaker:
        parts = generated(Numbered(), weight=2.0), finite(7, "few"), finite(50, "many", 0.3)
        return make(stream(*parts), order(mode, rows, seed, accumulation))

    asked_in_turn = fresh()
    for number in numbers:
        assert_same(asked_in_turn.make(number)[0], fresh().make(number)[0])


def test_seeds_give_other_samples() -> None:
    found = [set(samples_in(make(stream(generated(Numbered())), order("random", seed=s)).make(0)[0])) for s in range(3)]
    assert not found[0] & found[1]
    assert not found[1] & found[2]


@pytest.mark.parametrize("mode", MODES)
def test_finite_tasks_come_as_a_whole_before_they_come_again(mode: str) -> None:
    examples = stream(finite(40, "few", 3), generated(Numbered(), weight=1))
    maker = make(examples, order(mode))
    found = [number for batch in range(SPAN) for name, number in samples_in(maker.make(batch)[0]) if name == "few"]
    counts = Counter(found)
    assert set(counts) == set(range(40))
    assert max(counts.values()) - min(counts.values()) <= (2 if mode == "packed" else 1)


def tokens_by_task(maker: StreamMaker, names: list[str], batches: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the shares of the tasks in tokens and in samples; a sample that no name fits is of the first task."""
    tokens, samples = Counter[str](), Counter[str]()
    for number in range(batches):
        for row in maker._rows(number):
            for example in row:
                found = SAMPLE.match(bytes(example.ids.astype(np.uint8)))
                assert found
                name = found[1].decode() if found[1].decode() in names else names[0]
                tokens[name] += len(example.ids) - 1
                samples[name] += 1
    return (
        {name: tokens[name] / tokens.total() for name in names},
        {name: samples[name] / samples.total() for name in names},
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("by", ["tokens", "samples"])
def test_mixtures_keep_their_shares(mode: str, by: str) -> None:
    parts = generated(Numbered(), "drawn", 2.0), finite(90, "short", 1.0, 4), finite(60, "long", 5.0, 20)
    tokens, samples = tokens_by_task(make(stream(*parts, by=by), order(mode)), ["drawn", "short", "long"], 6 * SPAN)
    shares = tokens if by == "tokens" else samples
    for name, expected in {"drawn": 2 / 8, "short": 1 / 8, "long": 5 / 8}.items():
        assert shares[name] == pytest.approx(expected, rel=0.04)


def test_shares_of_rows_follow_from_lengths() -> None:
    parts = finite(50, "short", 1.0, 4), finite(50, "long", 1.0, 30)
    assert row_shares(stream(*parts, by="samples"), order("random")) == [0.5, 0.5]
    short, long = row_shares(stream(*parts, by="tokens"), order("random"))
    means = [(part.lengths - 1).mean() for part in parts]
    assert short / long == pytest.approx(means[1] / means[0])
    packed = row_shares(stream(*parts, by="tokens"), order("packed"))
    assert packed[0] == pytest.approx(0.5, rel=0.05), "a packed row of one has as many tokens as one of the other"


def test_packed_rows_are_nearly_full_and_buckets_hold_like_lengths() -> None:
    packed = make(stream(generated(Numbered())), order("packed"))
    fill = [packed.make(number)[0] for number in range(SPAN)]
    assert np.mean([arrays.num_tokens / arrays.input_ids.size for arrays in fill]) > 0.95
    spread = {}
    for mode in ("random", "bucketed"):
        maker = make(stream(generated(Numbered())), order(mode))
        arrays = [maker.make(number)[0] for number in range(SPAN)]
        spread[mode] = np.mean([1 - each.num_tokens / each.input_ids.size for each in arrays])
    assert spread["bucketed"] < 0.5 * spread["random"]


def test_a_maker_can_be_sent_to_another_process_and_leaves_what_it_has_drawn() -> None:
    maker = make(stream(generated(Numbered()), finite(30, "few")), order("bucketed"))
    before = maker.make(5)[0]
    assert_same(pickle.loads(pickle.dumps(maker)).make(5)[0], before)


def test_held_out_and_long_samples_are_left_out_and_counted() -> None:
    plain = make(stream(generated(Numbered())), order("random", 1))
    seen = [samples_in(plain.make(number)[0])[0] for number in range(SPAN)]
    source = Numbered()
    drawn = [example for example, _ in zip(source.draw(int(seen[0][0])), range(2), strict=False)]
    part = generated(Numbered())
    assert isinstance(part.examples, SampleEncoder)
    part.examples._held_out = frozenset(drawn)
    maker = make(stream(part), order("random", 1))
    made = [maker.make(number)[0] for number in range(4)]
    assert [arrays.num_refused for arrays in made] == [2, 0, 0, 0]
    assert [samples_in(arrays)[0] for arrays in made] == seen[2:6]
    short = make(stream(generated(Numbered(), max_length=24, too_long="drop")), order("random", 1))
    arrays = [short.make(number)[0] for number in range(SPAN)]
    assert max(each.num_tokens for each in arrays) <= 23
    assert sum(each.num_refused for each in arrays) > 5
    cut = make(stream(generated(Numbered(), max_length=24)), order("random", 1))
    assert max(cut.make(number)[0].num_tokens for number in range(SPAN)) == 23


@pytest.mark.parametrize("mode", ["random", "packed"])
@pytest.mark.parametrize("is_prepared", [False, True])
def test_a_resumed_training_counts_no_sample_twice_that_was_left_out(mode: str, is_prepared: bool) -> None:
    first, last = SPAN + 20, SPAN + 40

    def counted(maker: StreamMaker, numbers: range) -> list[int]:
        return [maker.make(number)[0].num_refused for number in numbers]

    def fresh() -> StreamMaker:
        return make(stream(generated(Numbered(), max_length=24, too_long="drop")), order(mode, 2, accumulation=2))

    whole = counted(fresh(), range(2 * last))[2 * first :]
    resumed = fresh()
    if is_prepared:
        resumed.prepare(2 * first)
    assert counted(resumed, range(2 * first, 2 * last)) == whole
    assert mode == "packed" or sum(whole) > 5


def test_samples_that_cannot_be_used_are_told() -> None:
    long = make(stream(generated(Numbered(), longest=24)), order("random"))
    with pytest.raises(
        DataError, match=r"sample \d+ of seed=\d+ has \d+ tokens .*, the model takes 24: '<.*max_length: 24"
    ):
        for number in range(SPAN):
            long.make(number)
    never = make(stream(generated(Numbered(), max_length=3, too_long="drop")), order("random"))
    with pytest.raises(DataError, match=r"1000 samples in a row are longer than task\.max_length 3"):
        never.make(0)
    with pytest.raises(ConfigError, match=r"max_length and packed need to know how long .*; set task\.max_length"):
        _ = stream(generated(Numbered(), longest=None)).required_bound
    assert stream(generated(Numbered(), longest=None, max_length=9), finite(9, "few")).required_bound >= 9


class Failing:
    """A generator that fails after some samples."""

    def draw(self, seed: int) -> Iterator[Example]:
        yield from [Example("p", "c")] * 2
        raise DataError("task.function: it fails")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_source_makes_them_in_place_or_ahead(workers: int) -> None:
    examples, layout = stream(generated(Numbered()), finite(30, "few")), order("random")
    source = BatchSource(examples, layout, None, workers=workers)
    alone = make(examples, layout)
    try:
        source.start(SPAN - 2)
        for first in (SPAN - 2, SPAN, SPAN + 2, 3 * SPAN - 1):
            batches, num_targets = source.micro_batches(first, 2)
            expected = [alone.make(number) for number in (first, first + 1)]
            assert num_targets == sum(targets for _, targets in expected)
            for batch, (arrays, _) in zip(batches, expected, strict=True):
                assert np.array_equal(batch.input_ids.numpy(), arrays.input_ids)
    finally:
        source.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_generator_reaches_the_training(workers: int) -> None:
    failing = SampleEncoder(Failing(), ByteTokenizer(), Limits(longest=LIMIT), frozenset())
    part = StreamPart("samples", 1.0, failing, np.array([3]), np.array([2]))
    source = BatchSource(stream(part), order("random", 1), None, workers=workers)
    try:
        assert len(source.micro_batches(0, 2)[0]) == 2
        with pytest.raises(DataError, match=r"^task\.function: it fails$"):
            source.micro_batches(2, 1)
    finally:
        source.close()


def test_windows_of_text_may_be_mixed_in() -> None:
    windows = Examples(
        np.arange(90, dtype=np.uint8) + 97, np.arange(8) * 10, np.full(8, 11), np.ones(8, dtype=np.int64)
    )
    maker = make(stream(StreamPart.of_examples("text", 1.0, windows), generated(Numbered())), order("random"))
    arrays, num_targets = maker.make(0)
    assert num_targets == len(arrays.targets)
    assert len(end_to_end(list(windows))) == 8
