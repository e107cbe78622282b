"""Batches: what is predicted from where, alone in a row or one after the other."""

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.data.batches import collate
from hotlap.data.encoding import PAD, EncodedExample, encode
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.tasks.examples import Example

EOS = ByteTokenizer.eos
LETTERS = st.text("abcé", max_size=6)
EXAMPLE = st.builds(Example, st.text("pqé", min_size=1, max_size=6), LETTERS)
EXAMPLES = st.lists(EXAMPLE, min_size=1, max_size=6)
PACKED = st.lists(st.lists(EXAMPLE, min_size=1, max_size=4), min_size=1, max_size=4)


def encoded(examples: Sequence[Example]) -> list[EncodedExample]:
    return [encode(example, ByteTokenizer()) for example in examples]


def test_a_batch_by_hand() -> None:
    batch = collate(encoded([Example("pq", "ab"), Example("p", "c")]))
    p, q, a, b, c = b"pqabc"
    assert batch.input_ids.tolist() == [[p, q, a, b], [p, c, PAD, PAD]]
    assert batch.targets.tolist() == [a, b, EOS, c, EOS]
    assert batch.target_positions.tolist() == [1, 2, 3, 4, 5]
    assert (batch.num_tokens, batch.num_slots) == (6, 8)
    assert {batch.input_ids.dtype, batch.targets.dtype, batch.target_positions.dtype} == {torch.int64}
    assert batch.document_ids is None
    assert batch.positions is None


def test_a_packed_batch_by_hand() -> None:
    batch = collate([encoded([Example("pq", "ab"), Example("p", "c")]), encoded([Example("q", "")])], 8)
    p, q, a, b, c = b"pqabc"
    assert batch.input_ids.tolist() == [[p, q, a, b, p, c, PAD], [q, *[PAD] * 6]]
    assert batch.targets.tolist() == [a, b, EOS, c, EOS, EOS]
    assert batch.target_positions.tolist() == [1, 2, 3, 4, 5, 7]
    assert batch.document_ids is not None
    assert batch.document_ids.tolist() == [[0, 0, 0, 0, 1, 1, -1], [2, *[-1] * 6]]
    assert batch.positions is not None
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 0], [0] * 7]
    assert (batch.num_tokens, batch.num_slots) == (7, 14)


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


@given(rows=PACKED)
@settings(deadline=None)
def test_packing_changes_the_places_of_tokens_and_targets_and_nothing_else(rows: list[list[Example]]) -> None:
    packed = collate([encoded(row) for row in rows])
    examples = encoded(list(itertools.chain(*rows)))
    assert packed.document_ids is not None
    assert packed.positions is not None
    assert packed.targets.tolist() == collate(examples).targets.tolist()
    assert packed.num_tokens == collate(examples).num_tokens
    targets = list(zip(packed.target_positions.tolist(), packed.targets.tolist(), strict=True))
    for number, example in enumerate(examples):
        places = (packed.document_ids.flatten() == number).nonzero().flatten()
        assert places.diff().eq(1).all()
        assert bytes(packed.input_ids.flatten()[places].tolist()) == bytes(example.ids[:-1])
        assert packed.positions.flatten()[places].tolist() == list(range(len(places)))
        own = [target for position, target in targets if position in places]
        assert bytes(own) == bytes(example.ids[example.prefix_length :])
    padding = packed.document_ids < 0
    assert not packed.input_ids[padding].any()
    assert int((~padding).sum()) == packed.num_tokens


@given(examples=EXAMPLES, extra=st.integers(0, 5))
@settings(deadline=None)
def test_padding_is_never_counted_as_a_token(examples: list[Example], extra: int) -> None:
    rows = encoded(examples)
    batch = collate(rows, max(len(row.ids) for row in rows) + extra)
    assert batch.num_tokens == sum(len(row.ids) - 1 for row in rows)
    assert batch.num_tokens == int((batch.input_ids != PAD).sum())
    assert batch.num_slots == batch.input_ids.numel()


def test_a_first_token_is_never_a_target() -> None:
    batch = collate(encoded([Example("", "ab")]))
    assert bytes(batch.targets.tolist()) == b"b" + bytes([EOS])
    assert batch.target_positions.tolist() == [0, 1]


def test_a_row_that_is_too_short_is_refused() -> None:
    rows = encoded([Example("p", "abc")])
    assert collate(rows, 5).num_slots == 4
    with pytest.raises(ValueError, match="a row of 3 places cannot take 4 tokens"):
        collate(rows, 4)
    with pytest.raises(ValueError, match="a row of 7 places cannot take 8 tokens"):
        collate([rows * 2], 8)


def test_a_batch_moves_as_a_whole() -> None:
    for batch in (collate(encoded([Example("p", "a")])), collate([encoded([Example("p", "a")])])):
        moved = batch.to(torch.device("meta"))
        for name in ("input_ids", "target_positions", "targets", "document_ids", "positions"):
            before, after = getattr(batch, name), getattr(moved, name)
            assert (after is None) == (before is None)
            assert after is None or (after.is_meta and after.shape == before.shape)
        assert moved.num_tokens == batch.num_tokens
        assert batch.to(torch.device("cpu")).input_ids is batch.input_ids
