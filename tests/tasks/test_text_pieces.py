"""Pieces of texts: the split by hashes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.errors import DataError
from hotlap.tasks.text_pieces import audit_by_hash, split_by_hash


@given(numbers=st.sets(st.integers(0, 10**6), min_size=2, max_size=120), size=st.integers(1, 5), seed=st.integers(0, 9))
@settings(deadline=None)
def test_the_split_never_depends_on_the_order(numbers: set[int], size: int, seed: int) -> None:
    ordered = [f"sentence {number}" for number in numbers]
    shuffled = random.Random(seed).sample(ordered, len(ordered))
    split = split_by_hash(set(ordered), size, "sentence")
    assert split_by_hash(set(shuffled), size, "sentence") == split
    train, evaluation = split
    assert not set(train) & set(evaluation)
    assert 1 <= len(evaluation) <= size
    assert set(train) | set(evaluation) <= set(ordered)


def test_new_sentences_move_none_from_evaluation_to_training_or_back() -> None:
    """A sentence's rank is its hash, so a larger corpus only moves the border."""
    sentences = {f"sentence {number}" for number in range(1000)}
    train, evaluation = split_by_hash(sentences, 100, "sentence")
    ranked = [*evaluation, *train]
    more = {*sentences, *(f"another {number}" for number in range(500))}
    train, evaluation = split_by_hash(more, 100, "sentence")
    assert [sentence for sentence in [*evaluation, *train] if sentence in sentences] == ranked


def test_audit_pieces_are_neither_trained_nor_evaluated_on() -> None:
    pieces = {f"piece {number}" for number in range(500)}
    train, evaluation = split_by_hash(pieces, 4, "piece")
    audit = audit_by_hash(pieces, 4)
    assert (len(evaluation), len(audit), len(train)) == (4, 4, 490)
    assert not {*audit} & {*train, *evaluation}


@pytest.mark.parametrize("pieces", [set(), {"one"}])
def test_too_few_pieces_are_told_by_their_name(pieces: set[str]) -> None:
    with pytest.raises(DataError, match=rf"{len(pieces)} word\(s\) within the length bounds"):
        split_by_hash(pieces, 4, "word")
