"""The order of the examples depends on the seed and the batch number alone, in every mode."""

import pickle
from typing import Any, cast, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hotlap.core.errors import ConfigError, DataError
from hotlap.data.order import BatchOrder, OrderMode, best_fit

LONGEST = 60
MODES = st.sampled_from(get_args(OrderMode))


def lengths_of(size: int) -> NDArray[np.int64]:
    return np.random.default_rng(99).integers(5, LONGEST, size)


def order(size: int, batch_size: int, seed: int = 0, mode: str = "random", **options: Any) -> BatchOrder:
    options.setdefault("row_length", 2 * LONGEST)
    return BatchOrder(lengths_of(size), batch_size, seed, mode=cast(OrderMode, mode), **options)


def flat(order: BatchOrder, number: int) -> list[int]:
    """Return the examples of a batch, row by row."""
    return np.concatenate(order.rows(number)).tolist()


@given(
    size=st.integers(1, 300),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 5),
    mode=MODES,
    numbers=st.lists(st.integers(0, 400), min_size=1, max_size=12),
)
@settings(deadline=None, max_examples=50)
def test_the_order_is_a_pure_function_of_seed_and_number(
    size: int, batch_size: int, seed: int, mode: str, numbers: list[int]
) -> None:
    asked_in_turn = order(size, batch_size, seed, mode)
    for number in numbers:
        rows = asked_in_turn.rows(number)
        assert len(rows) == batch_size
        assert all((len(row) > 0) if mode == "packed" else (len(row) == 1) for row in rows)
        fresh = order(size, batch_size, seed, mode).rows(number)
        assert [row.tolist() for row in rows] == [row.tolist() for row in fresh]


def test_the_order_of_earlier_versions_is_kept() -> None:
    """Batches of recorded runs, drawn with the rule as it was first written down."""
    lengths = lengths_of(100)
    stream = np.concatenate([np.random.default_rng([7, 0, epoch]).permutation(100) for epoch in range(8)])
    plain, bucketed = order(100, 4, 7), order(100, 4, 7, "bucketed")
    for number in range(150):
        assert flat(plain, number) == stream[4 * number : 4 * number + 4].tolist()
    for bucket in range(2):
        rows = stream[256 * bucket : 256 * (bucket + 1)]
        batches = rows[np.argsort(lengths[rows], kind="stable")].reshape(64, 4)
        shuffled = np.random.default_rng([7, 1, bucket]).permutation(64)
        for place in range(64):
            assert flat(bucketed, 64 * bucket + place) == batches[shuffled[place]].tolist()


@given(size=st.integers(1, 50), batch_size=st.integers(1, 60), seed=st.integers(0, 5), mode=MODES)
@settings(deadline=None)
def test_each_epoch_covers_each_example_once(size: int, batch_size: int, seed: int, mode: str) -> None:
    if mode == "bucketed":
        return  # a bucket reaches over the end of an epoch
    ordered = order(size, batch_size, seed, mode)
    count = sum(ordered.batches_per_epoch(epoch) for epoch in range(3)) + 1
    stream = [place for number in range(count) for place in flat(ordered, number)]
    for epoch in range(3):
        assert sorted(stream[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_sequential_is_the_order_of_the_data() -> None:
    ordered = order(10, 4, mode="sequential")
    assert [flat(ordered, number) for number in range(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1], [2, 3, 4, 5]]


@pytest.mark.parametrize("mode", ["random", "bucketed", "packed"])
def test_seeds_and_epochs_are_shuffled_differently(mode: str) -> None:
    def epoch(seed: int, number: int) -> list[int]:
        ordered = order(256, 4, seed, mode)
        return [place for batch in range(16 * number, 16 * (number + 1)) for place in flat(ordered, batch)]

    orders = [epoch(0, 0), epoch(0, 4), epoch(1, 0), list(range(256))]
    assert all(orders[a] != orders[b] for a in range(4) for b in range(a))


@given(size=st.integers(1, 300), batch_size=st.integers(1, 5), seed=st.integers(0, 3), bucket=st.integers(0, 2))
@settings(deadline=None)
def test_a_bucket_holds_the_same_rows_as_the_stream(size: int, batch_size: int, seed: int, bucket: int) -> None:
    numbers = range(64 * bucket, 64 * (bucket + 1))
    stream, by_length = order(size, batch_size, seed), order(size, batch_size, seed, "bucketed")
    expected = sorted(place for number in numbers for place in flat(stream, number))
    assert sorted(place for number in numbers for place in flat(by_length, number)) == expected


def test_batches_of_a_bucket_hold_rows_of_like_length_in_no_order() -> None:
    lengths = lengths_of(500)
    by_length, plain = order(500, 4, mode="bucketed"), order(500, 4)
    batches = [flat(by_length, number) for number in range(64)]
    assert np.mean([np.ptp(lengths[batch]) for batch in batches]) < 2
    shortest = [lengths[batch].min() for batch in batches]
    assert shortest != sorted(shortest)
    assert np.mean([np.ptp(lengths[flat(plain, number)]) for number in range(64)]) > 20


def test_packed_rows_are_nearly_full_and_never_too_full() -> None:
    lengths, ordered = lengths_of(5000), order(5000, 4, mode="packed")
    rows = [row for number in range(ordered.batches_per_epoch()) for row in ordered.rows(number)]
    filled = np.array([(lengths[row] - 1).sum() for row in rows])
    assert filled.max() <= 2 * LONGEST - 1
    assert filled.mean() > 0.95 * (2 * LONGEST - 1)
    halves = np.array_split(filled, 2)
    assert abs(halves[0].mean() - halves[1].mean()) < 2  # rows that stayed open are not left to the end


@given(sizes=st.lists(st.integers(0, 9), max_size=40), spare=st.integers(0, 12))
@settings(deadline=None)
def test_best_fit_is_the_fullest_row_with_room(sizes: list[int], spare: int) -> None:
    places = max(sizes, default=1) + spare
    room: list[int] = []
    for size, row in zip(sizes, best_fit(sizes, places).tolist(), strict=True):
        fitting = [left for left in room if left >= size]
        if fitting:
            assert room[row] == min(fitting)
        else:
            assert row == len(room)
            room.append(places)
        room[row] -= size


@pytest.mark.parametrize("mode", ["random", "sequential", "packed"])
def test_without_the_last_an_epoch_starts_with_a_batch(mode: str) -> None:
    ordered = order(30, 4, mode=mode, drop_last=True)
    number = 0
    for epoch in range(4):
        count = ordered.batches_per_epoch(epoch)
        seen = [place for batch in range(number, number + count) for place in flat(ordered, batch)]
        assert len(seen) == len(set(seen))
        number += count
    rows = order(30, 1, mode=mode).batches_per_epoch()
    assert ordered.batches_per_epoch() == rows // 4


def test_an_epoch_has_as_many_batches_as_it_takes() -> None:
    assert [order(size, 4).batches_per_epoch() for size in (1, 4, 5, 8)] == [1, 1, 2, 2]
    assert order(8, 4, mode="bucketed").batches_per_epoch(3) == 2
    rows = order(300, 1, mode="packed").batches_per_epoch(2)
    assert order(300, 4, mode="packed").batches_per_epoch(2) == -(-rows // 4)
    assert rows < 200


def test_an_order_can_be_sent_to_another_process() -> None:
    for mode in get_args(OrderMode):
        first = order(1000, 4, 3, mode)
        before = [flat(first, number) for number in range(70)]
        sent = pickle.dumps(first)
        assert len(sent) < 10_000  # the lengths, but not the plans
        assert [flat(pickle.loads(sent), number) for number in range(70)] == before


def test_what_cannot_be_ordered_is_told() -> None:
    with pytest.raises(DataError, match="no training example"):
        BatchOrder(np.array([], dtype=np.int64), 4, 0)
    with pytest.raises(ConfigError, match="unknown order 'by_size'; known: random, sequential, bucketed, packed"):
        order(4, 4, mode="by_size")
    with pytest.raises(DataError, match=r"an epoch of 3 row\(s\) fills no batch of 4; .*dataloader_drop_last: false"):
        order(3, 4, drop_last=True)
    with pytest.raises(DataError, match=r"the longest example has \d+ tokens, a packed row 20; raise model\.max_pos"):
        order(30, 4, mode="packed", row_length=20)
    with pytest.raises(DataError, match="a packed row None"):
        BatchOrder(lengths_of(4), 4, 0, mode="packed")
