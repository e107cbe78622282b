"""Batches: what is predicted from where, and an order that depends on the seed and the number alone."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.errors import DataError
from hotlap.data.batches import BatchOrder, collate
from hotlap.data.encoding import EOS, PAD, EncodedExample, encode
from hotlap.tasks.examples import Example

LETTERS = st.text("abcé", max_size=6)
EXAMPLES = st.lists(st.builds(Example, st.text("pqé", min_size=1, max_size=6), LETTERS), min_size=1, max_size=6)


def encoded(examples: Sequence[Example]) -> list[EncodedExample]:
    return [encode(example) for example in examples]


def test_a_batch_by_hand() -> None:
    batch = collate(encoded([Example("pq", "ab"), Example("p", "c")]))
    p, q, a, b, c = b"pqabc"
    assert batch.input_ids.tolist() == [[p, q, a, b], [p, c, PAD, PAD]]
    assert batch.targets.tolist() == [a, b, EOS, c, EOS]
    assert batch.target_positions.tolist() == [1, 2, 3, 4, 5]
    assert (batch.num_tokens, batch.num_slots) == (6, 8)
    assert {batch.input_ids.dtype, batch.targets.dtype, batch.target_positions.dtype} == {torch.int64}


@given(examples=EXAMPLES, extra=st.none() | st.integers(0, 5))
@settings(deadline=None)
def test_the_targets_are_completions_and_ends_each_read_from_the_token_before(
    examples: list[Example], extra: int | None
) -> None:
    rows = encoded(examples)
    longest = max(len(row.ids) for row in rows)
    batch = collate(rows, None if extra is None else longest + extra)
    width = longest + (extra or 0) - 1
    assert batch.input_ids.shape == (len(examples), width)
    expected_targets = b"".join(example.completion.encode() + bytes([EOS]) for example in examples)
    assert bytes(batch.targets.tolist()) == expected_targets
    places = [divmod(position, width) for position in batch.target_positions.tolist()]
    for (row, column), target in zip(places, batch.targets.tolist(), strict=True):
        assert rows[row].ids[column + 1] == target
        assert batch.input_ids[row, column] == rows[row].ids[column]
    assert Counter(row for row, _ in places) == {n: row.num_targets for n, row in enumerate(rows)}


@given(examples=EXAMPLES, extra=st.integers(0, 5))
@settings(deadline=None)
def test_padding_is_never_counted_as_a_token(examples: list[Example], extra: int) -> None:
    rows = encoded(examples)
    batch = collate(rows, max(len(row.ids) for row in rows) + extra)
    assert batch.num_tokens == sum(len(row.ids) - 1 for row in rows)
    assert batch.num_tokens == int((batch.input_ids != PAD).sum())
    assert batch.num_slots == batch.input_ids.numel()


def order(size: int, batch_size: int, seed: int = 0, *, bucketed: bool = False) -> BatchOrder:
    lengths = np.random.default_rng(99).integers(5, 60, size)
    return BatchOrder(lengths, batch_size, seed, bucketed=bucketed)


@given(
    size=st.integers(1, 300),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 5),
    bucketed=st.booleans(),
    numbers=st.lists(st.integers(0, 400), min_size=1, max_size=12),
)
@settings(deadline=None)
def test_the_order_is_a_pure_function_of_seed_and_number(
    size: int, batch_size: int, seed: int, bucketed: bool, numbers: list[int]
) -> None:
    asked_in_turn = order(size, batch_size, seed, bucketed=bucketed)
    for number in numbers:
        rows = asked_in_turn.rows(number)
        assert rows.shape == (batch_size,)
        assert rows.tolist() == order(size, batch_size, seed, bucketed=bucketed).rows(number).tolist()


@given(size=st.integers(1, 50), batch_size=st.integers(1, 60), seed=st.integers(0, 5))
@settings(deadline=None)
def test_each_epoch_covers_each_row_once(size: int, batch_size: int, seed: int) -> None:
    plain = order(size, batch_size, seed)
    stream = np.concatenate([plain.rows(number) for number in range(3 * size // batch_size + 1)])
    for epoch in range(len(stream) // size):
        assert sorted(stream[epoch * size : (epoch + 1) * size]) == list(range(size))


@pytest.mark.parametrize("bucketed", [False, True])
def test_seeds_and_epochs_are_shuffled_differently(bucketed: bool) -> None:
    def epoch(seed: int, number: int) -> list[int]:
        rows = order(256, 4, seed, bucketed=bucketed)
        return np.concatenate([rows.rows(batch) for batch in range(64 * number, 64 * (number + 1))]).tolist()

    orders = [epoch(0, 0), epoch(0, 1), epoch(1, 0), list(range(256))]
    assert all(orders[a] != orders[b] for a in range(4) for b in range(a))


@given(size=st.integers(1, 300), batch_size=st.integers(1, 5), seed=st.integers(0, 3), bucket=st.integers(0, 2))
@settings(deadline=None)
def test_a_bucket_holds_the_same_rows_as_the_stream(size: int, batch_size: int, seed: int, bucket: int) -> None:
    numbers = range(64 * bucket, 64 * (bucket + 1))
    stream, by_length = order(size, batch_size, seed), order(size, batch_size, seed, bucketed=True)
    expected = np.concatenate([stream.rows(number) for number in numbers])
    assert sorted(np.concatenate([by_length.rows(number) for number in numbers])) == sorted(expected)


def test_batches_of_a_bucket_hold_rows_of_like_length_in_no_order() -> None:
    lengths = np.random.default_rng(99).integers(5, 60, 500)
    rows = [order(500, 4, bucketed=True).rows(number) for number in range(64)]
    spreads = [np.ptp(lengths[batch]) for batch in rows]
    assert np.mean(spreads) < 2
    shortest = [lengths[batch].min() for batch in rows]
    assert shortest != sorted(shortest)
    plain = [np.ptp(lengths[order(500, 4).rows(number)]) for number in range(64)]
    assert np.mean(plain) > 20


def test_without_an_example_there_is_no_order() -> None:
    with pytest.raises(DataError, match="no training example"):
        BatchOrder(np.array([], dtype=np.int64), 4, 0, bucketed=False)
