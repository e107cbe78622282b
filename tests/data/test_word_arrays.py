"""Examples laid out as words: every layout holds the same words and targets, and the worked example comes out."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.data.encoding import EncodedExample, encode
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.data.word_arrays import IGNORED, WordArrays, WordLayout, arrange_words, shift_blocks, word_row
from hotlap.data.word_batches import WordBatch, word_batch_of
from hotlap.data.words import split_words
from hotlap.tasks.examples import Example

LAYOUTS = [WordLayout(12, padded, distinct) for padded in (True, False) for distinct in (False, True)]
TEXTS = st.lists(st.sampled_from(["a", "bc ", " ", "\x0e", "\x0f", "\x00", "é", "long-winded ", "👍🏽"])).map("".join)
EXAMPLES = st.lists(st.builds(Example, TEXTS.map(lambda text: f"p{text}"), TEXTS), min_size=1, max_size=4).map(
    lambda examples: [encode(example, ByteTokenizer()) for example in examples]
)


def words_in(arrays: WordArrays) -> list[list[bytes]]:
    """Return what each row reads."""
    found = []
    for group in arrays.words:
        is_real = np.ones(group.ids.shape, dtype=bool) if group.is_real is None else group.is_real
        found.extend(bytes(ids[real].astype(np.uint8)) for ids, real in zip(group.ids, is_real, strict=True))
    is_real = np.ones(arrays.word_at.shape, dtype=bool) if arrays.is_real is None else arrays.is_real
    return [[found[place] for place in row[real]] for row, real in zip(arrays.word_at, is_real, strict=True)]


def targets_in(arrays: WordArrays) -> list[tuple[int, int, bytes, bytes]]:
    """Return row and place that each learned word is predicted from, what its decoder reads, and what is learned."""
    width, found = arrays.word_at.shape[1], []
    for group in arrays.targets:
        for latent, ids, targets in zip(group.latents, group.input_ids, group.targets, strict=True):
            learned = targets != IGNORED
            if learned.any():
                last = int(np.flatnonzero(learned)[-1]) + 1
                assert learned[:last].all()
                read = bytes(ids[:last].astype(np.uint8))
                found.append((*divmod(int(latent), width), read, bytes(targets[:last].astype(np.uint8))))
    return sorted(found)


def example_of(prefix: str, completion: str) -> EncodedExample:
    """Return an example of bytes with its end."""
    return encode(Example(prefix, completion), ByteTokenizer())


def test_a_row_is_the_start_and_the_words_and_predicts_each_next_one() -> None:
    arrays = arrange_words([example_of("a ", "b")], WordLayout(12))
    assert words_in(arrays) == [[b"\x02\x03", b"\x02a \x03", b"\x02b\x03"]]
    assert targets_in(arrays) == [(0, 1, b"\x02b", b"b\x03"), (0, 2, b"\x02", b"\x03")]
    assert arrays.is_real is arrays.blocks is None
    assert (arrays.num_tokens, arrays.num_slots, arrays.num_targets) == (3, 3, 3)


@settings(deadline=None)
@given(EXAMPLES)
def test_every_layout_holds_the_same_words_and_targets(examples: list[EncodedExample]) -> None:
    first, *others = [arrange_words(examples, layout) for layout in LAYOUTS]
    expected = []
    for example in examples:
        cut = example.prefix_length
        parts = (bytes(example.ids[:cut]), bytes(example.ids[cut:-1]))
        expected.append([b"", *(word for part in parts for word in split_words(part, 12))])
    assert [[word[1:-1] for word in row] for row in words_in(first)] == expected
    for other in others:
        assert words_in(other) == words_in(first)
        assert targets_in(other) == targets_in(first)
        assert other.num_targets == first.num_targets == sum(len(learned) for *_, learned in targets_in(first))
        assert other.num_tokens <= other.num_slots <= first.num_slots
        assert (other.blocks is None) == (first.blocks is None)


@settings(deadline=None)
@given(EXAMPLES)
def test_distinct_words_are_encoded_once(examples: list[EncodedExample]) -> None:
    for layout in LAYOUTS:
        arrays = arrange_words(examples, layout)
        rows = [(*row, len(row)) for group in arrays.words for row in group.ids.tolist()]
        if layout.encode_distinct and not layout.is_padded:
            assert len(set(rows)) == len(rows)
        if layout.encode_distinct:
            assert len(rows) <= len({word for row in words_in(arrays) for word in row}) + 1
        for group in arrays.words:
            assert (group.is_real is None) == (not layout.is_padded)


@pytest.mark.parametrize("is_padded", [True, False])
def test_only_completions_are_learned_and_where_a_cut_word_ends_is_not(is_padded: bool) -> None:
    window = EncodedExample(np.frombuffer(b"x of runn", dtype=np.uint8), 1)
    arrays = arrange_words([window], WordLayout(12, is_padded))
    assert targets_in(arrays) == [
        (0, 1, b"\x02 ", b" \x03"),
        (0, 2, b"\x02of ", b"of \x03"),
        (0, 3, b"\x02run", b"runn"),
    ]
    assert arrays.num_targets == 2 + 4 + 4


def test_padded_words_have_one_shape_whatever_the_words_are() -> None:
    layout = WordLayout(16, is_padded=True, row_words=9)
    short, long = (arrange_words([example_of("a", text)], layout) for text in ("b", "one two three four five"))
    for arrays in (short, long):
        (group,), (targets,) = arrays.words, arrays.targets
        assert group.ids.shape == (9, 16)
        assert targets.targets.shape == (9, 15)
        assert arrays.num_slots == 9 * 14
    with pytest.raises(ValueError, match="a row of 9 places cannot take 10 words"):
        arrange_words([example_of("a", "1 2 3 4 5 6 7 8 ")], layout)


def test_blocks_reach_from_shift_out_to_the_next_shift_in() -> None:
    words = split_words(b"a \x0eb c\x0f d\x0e\x0e\x0f\x0f\x0e", 12)
    blocks = shift_blocks(words)
    assert blocks is not None
    assert list(zip(words, blocks.tolist(), strict=True)) == [
        *((b"a ", -1), (b"\x0e", 0), (b"b ", 0), (b"c", 0), (b"\x0f", 0), (b" ", -1), (b"d", -1)),
        *((b"\x0e", 1), (b"\x0e", 1), (b"\x0f", 1), (b"\x0f", -1), (b"\x0e", -1)),
    ]
    assert shift_blocks(split_words(b"a \x0eb", 12)) is None


def test_a_completion_has_no_blocks() -> None:
    row = word_row(example_of("<a>\x0eb\x0f", "\x0ec\x0f"), 12)
    assert row.blocks is not None
    assert row.blocks.tolist() == [-1, -1, 0, 0, 0, -1, -1, -1]


def test_arrays_become_tensors_that_can_be_moved_and_arrays_can_be_sent() -> None:
    for layout in LAYOUTS:
        arrays = arrange_words([example_of("<a>\x0eb\x0f", "c d"), example_of("a", "bcd")], layout)
        sent = pickle.loads(pickle.dumps(arrays))
        assert targets_in(sent) == targets_in(arrays)
        batch = word_batch_of(arrays)
        moved = batch.to(torch.device("cpu"))
        assert isinstance(moved, WordBatch)
        assert torch.equal(moved.word_at, batch.word_at)
        assert moved.blocks is not None
        assert torch.equal(moved.blocks, torch.from_numpy(arrays.blocks))
        assert (moved.num_tokens, moved.num_slots, moved.num_targets) == (
            arrays.num_tokens,
            arrays.num_slots,
            arrays.num_targets,
        )
