"""Bytes as tokens, and which word each byte belongs to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.data.encoding import EOS, VOCAB_SIZE, decode, encode, word_numbers
from hotlap.tasks.examples import Example

PLAIN = st.text(st.characters(codec="utf-8", exclude_characters=chr(EOS)), max_size=20)


@given(prefix=PLAIN, completion=PLAIN)
@settings(deadline=None)
def test_an_example_is_its_bytes_and_an_end(prefix: str, completion: str) -> None:
    encoded = encode(Example(prefix, completion))
    assert bytes(encoded.ids) == prefix.encode() + completion.encode() + bytes([EOS])
    assert encoded.prefix_length == len(prefix.encode())
    assert encoded.num_targets == len(completion.encode()) + 1
    assert decode(encoded.ids[encoded.prefix_length :].tolist()) == completion


def test_every_byte_is_a_token() -> None:
    assert VOCAB_SIZE == 256
    assert encode(Example("", "\x00\x7f")).ids.dtype == np.uint8


def test_generated_text_ends_at_the_first_end() -> None:
    assert decode([*b"yes", EOS, *b"no", EOS]) == "yes"
    assert decode([*b"no end"]) == "no end"
    assert decode([EOS]) == decode([]) == ""


def test_broken_bytes_become_a_mark() -> None:
    assert decode([0xC3, EOS]) == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("completion", "numbers"),
    [
        (b"", [0]),
        (b"ab", [0, 0, 1]),
        (b"a b", [0, 0, 1, 2]),
        (b"ab cd ", [0, 0, 0, 1, 1, 1, 2]),
        (b"a  b", [0, 0, 1, 2, 3]),
        (b" a", [0, 1, 2]),
        ("é ü".encode(), [0, 0, 0, 1, 1, 2]),
    ],
)
def test_a_word_takes_one_space_after_it_and_the_end_is_a_word(completion: bytes, numbers: list[int]) -> None:
    assert word_numbers(completion) == numbers


@given(words=st.lists(st.text("abé", min_size=1, max_size=5), max_size=6))
@settings(deadline=None)
def test_words_are_counted_as_people_do(words: list[str]) -> None:
    numbers = word_numbers(" ".join(words).encode())
    assert numbers[-1] == len(words)
    spaces = [1] * (len(words) - 1) + [0]
    sizes = [len(word.encode()) + space for word, space in zip(words, spaces, strict=False)]
    assert [numbers.count(number) for number in range(len(words))] == sizes
