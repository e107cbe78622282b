"""Bytes as tokens, and which word each byte belongs to."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.data.encoding import encode, encode_held_out, encode_task, end_to_end, word_numbers
from hotlap.data.tokenizers import END_OF_TEXT, ByteTokenizer, SubwordTokenizer, train_bpe
from hotlap.tasks.examples import Example, TaskData, TokenTask, TokenWindows, map_tokens

BYTES = ByteTokenizer()
EOS = BYTES.eos
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters=chr(EOS)), max_size=20)


@given(prefix=PLAIN, completion=PLAIN)
@settings(deadline=None)
def test_an_example_is_its_bytes_and_an_end(prefix: str, completion: str) -> None:
    encoded = encode(Example(prefix, completion), BYTES)
    assert bytes(encoded.ids) == prefix.encode() + completion.encode() + bytes([EOS])
    assert encoded.prefix_length == len(prefix.encode())
    assert encoded.num_targets == len(completion.encode()) + 1
    assert BYTES.decode(encoded.ids[encoded.prefix_length :].tolist()) == completion


def test_every_byte_is_a_token() -> None:
    assert BYTES.vocab_size == 256
    assert encode(Example("", "\x00\x7f"), BYTES).ids.dtype == np.uint8


def test_generated_text_ends_at_the_first_end() -> None:
    assert BYTES.decode([*b"yes", EOS, *b"no", EOS]) == "yes"
    assert BYTES.decode([*b"no end"]) == "no end"
    assert BYTES.decode([EOS]) == BYTES.decode([]) == ""


def test_broken_bytes_become_a_mark() -> None:
    assert BYTES.decode([0xC3, EOS]) == "\N{REPLACEMENT CHARACTER}"


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


def test_examples_lie_end_to_end() -> None:
    encoded = [encode(Example("pq", "a"), BYTES), encode(Example("", "bc"), BYTES), encode(Example("r", ""), BYTES)]
    examples = end_to_end(encoded)
    assert len(examples) == 3
    assert examples.lengths.tolist() == [4, 3, 2]
    assert examples.prefix_lengths.tolist() == [2, 0, 1]
    assert examples.num_targets.tolist() == [2, 2, 1]  # a first token is never a target
    assert [(bytes(e.ids), e.prefix_length) for e in examples] == [(bytes(e.ids), e.prefix_length) for e in encoded]
    assert bytes(examples[-1].ids) == bytes(encoded[2].ids)
    with pytest.raises(IndexError):
        examples[3]
    assert len(end_to_end([])) == 0


def test_a_task_of_texts_and_a_task_of_windows_give_the_same_kind_of_examples(tmp_path: Path) -> None:
    texts = TaskData(train=(Example("p", "a"), Example("q", "b")), eval=(Example("r", "c"),), source="here")
    train, evaluation = encode_task(texts, BYTES)
    assert [bytes(e.ids) for e in train] == [b"pa\x03", b"qb\x03"]
    assert [bytes(e.ids) for e in evaluation] == [b"rc\x03"]
    (tmp_path / "tokens").write_bytes(b"abcdefgh")
    tokens = map_tokens(tmp_path / "tokens")
    windows = TokenWindows(tokens, np.array([2, 4]), np.array([3, 4]), tmp_path / "tokens")
    train, evaluation = encode_task(TokenTask(windows, windows, "there", "0"), BYTES)
    assert [bytes(e.ids) for e in train] == [b"cde", b"efgh"]
    assert {e.prefix_length for e in train} == {1}
    assert train.num_targets.tolist() == [2, 3]


def test_examples_of_a_file_are_sent_as_its_name(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(bytes(range(250)) * 400)
    windows = TokenWindows(map_tokens(path), np.array([7, 90_000]), np.array([5, 9]), path)
    examples, _ = encode_task(TokenTask(windows, windows, "there", "0"), BYTES)
    copied, _ = encode_task(TokenTask(replace(windows, path=None), windows, "there", "0"), BYTES)
    sent = pickle.dumps(examples)
    assert len(sent) < 2000
    assert len(pickle.dumps(copied)) > 100_000
    for received in (pickle.loads(sent), pickle.loads(pickle.dumps(copied))):
        assert [bytes(e.ids) for e in received] == [bytes(e.ids) for e in examples]
        assert received.num_targets.tolist() == [4, 8]


def test_mapped_tokens_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(b"abc")
    tokens = map_tokens(tmp_path / "tokens")
    assert type(tokens) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 1


@pytest.mark.parametrize("reads_specials", [False, True])
def test_the_marks_of_a_chat_are_tokens_where_a_task_means_them(reads_specials: bool) -> None:
    tokenizer = SubwordTokenizer(train_bpe(lambda: ["how do you do? fine, and you?"], 280, 10**6), END_OF_TEXT)
    example = Example(f"how{END_OF_TEXT}you", f"fine{END_OF_TEXT}")
    task = TaskData(train=(example,), eval=(example,), audit=(example,), source="x", reads_specials=reads_specials)
    found = [*encode_task(task, tokenizer), *encode_held_out(task, tokenizer)]
    for examples in found:
        assert examples is not None
        ids = examples[0].ids.tolist()
        assert ids.count(tokenizer.eos) == (2 if reads_specials else 1)
        assert ids[-1] == tokenizer.eos
        assert examples[0].num_targets == len(tokenizer.encode(example.completion)) + 1 or reads_specials
