"""Words: the rules, that nothing is lost of any text or bytes, and the published segmentation where it is installed."""

import json
import re
from pathlib import Path

import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hotlap.data.words import BOS, EOS, SHIFT_IN, SHIFT_OUT, split_words

PIECES = [
    *("a", "word", " ", "  ", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x1c", "\x0e", "\x0f", "\x7f", "\x00"),
    *(
        "e\u0301",
        "o\u0302\u0323\u0300",
        "\u0301",
        "ש\u05c1ל\u05d5\u05dd",
        "\u202eمرحبا\u202c",
        "नि",
        "한국",
        "\u1112\u1161\u11ab",
    ),
    *(
        "👩\u200d👩\u200d👧\u200d👦",
        "👍🏽",
        "🇮🇱🇫🇷",
        "❤\ufe0f",
        "🏴\U000e0067\U000e0062\U000e007f",
        "日本語",
        "ไทย",
        "\U0001d800",
    ),
]
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))
CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1f\x7f]")
OTHERWISE = regex.compile(
    r"[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Thai}\p{scx=SignWriting}\x1c-\x1f\U00040001-\U0004f480]"
)
"""What the published segmentation cuts in ways of its own, on purpose left out here."""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("a b", ["a ", "b"]),
        ("a  b\n\nc ", ["a ", " ", "b\n", "\n", "c "]),
        (" a", [" ", "a"]),
        ("<text>\x0ea\x0f<repeat> ", ["<text>", "\x0e", "a", "\x0f", "<repeat> "]),
        ("a\x1c b\x1d\x1e", ["a", "\x1c", " ", "b", "\x1d", "\x1e"]),
        ("שלום עולם", ["שלום ", "עולם"]),
        ("a\u00a0b\u3000\u3000c", ["a\u00a0", "b\u3000", "\u3000", "c"]),
        ("a\u200db c", ["a\u200db ", "c"]),
    ],
)
def test_text_is_cut_behind_white_space_and_around_control_characters(text: str, words: list[str]) -> None:
    assert [word.decode() for word in split_words(text.encode(), 32)] == words


def test_long_words_are_cut_between_characters_as_people_see_them() -> None:
    assert split_words(b"internationalization ", 16) == [b"internationali", b"zation "]
    assert split_words(("e\u0301" * 4).encode(), 9) == ["e\u0301e\u0301".encode()] * 2  # 3 bytes each, room for 7
    assert split_words("👍🏽👍🏽".encode(), 16) == ["👍🏽".encode()] * 2
    assert split_words(b" " * 5, 6) == [b" " * 4, b" "]


def test_one_character_that_is_too_long_is_cut_between_its_code_points() -> None:
    family = "👩\u200d👩\u200d👧"
    assert split_words(f"a{family}".encode(), 12) == [part.encode() for part in ("a👩\u200d", "👩\u200d", "👧")]


@settings(deadline=None)
@given(TEXTS, st.integers(6, 40))
def test_words_put_end_to_end_are_the_text(text: str, places: int) -> None:
    words = split_words(text.encode(), places)
    assert b"".join(words) == text.encode()
    assert all(0 < len(word) <= places - 2 for word in words)
    assert all(word.decode() for word in words)  # no code point is cut


@settings(deadline=None)
@given(st.one_of(st.binary(), TEXTS.map(str.encode)), st.integers(6, 40))
def test_bytes_that_are_no_text_are_kept(data: bytes, places: int) -> None:
    words = split_words(data, places)
    assert b"".join(words) == data
    assert all(0 < len(word) <= places - 2 for word in words)
    assert all(len(word) == 1 for word in words if CONTROL.search(word))


@settings(deadline=None)
@given(TEXTS)
def test_words_do_not_depend_on_what_follows_a_finished_one(text: str) -> None:
    words = split_words(text.encode(), 16)
    assert split_words(f"end {text}".encode(), 16) == [b"end ", *words]


def test_a_word_needs_room_for_a_character() -> None:
    with pytest.raises(ValueError, match="max_word_length is 5"):
        split_words(b"a", 5)


def test_words_are_those_that_the_published_segmentation_made() -> None:
    """What the package made of texts like `TEXTS`, kept in a file: the package itself needs far more than hotlap."""
    rows = json.loads(Path(__file__).with_name("published_words.json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) > 50
    for places, words in rows:
        assert [word.decode() for word in split_words("".join(words).encode(), places)] == words


@settings(deadline=None)
@given(TEXTS, st.sampled_from([12, 16, 32]))
def test_words_are_those_of_the_published_segmentation(text: str, places: int) -> None:
    published = pytest.importorskip("words_segmentation.pretokenizer")
    assume(not OTHERWISE.search(text))
    theirs = published.text_to_words(text, max_bytes=places - 2)
    assume(max((len(word.encode()) for word in theirs), default=0) <= places - 2)  # it leaves long characters whole
    assert [word.decode() for word in split_words(text.encode(), places)] == theirs


def test_bytes_around_words_are_those_of_the_published_tokenizer() -> None:
    control = pytest.importorskip("utf8_tokenizer.control")
    assert (chr(BOS), chr(EOS)) == (control.ControlTokens.StartOfText, control.ControlTokens.EndOfText)
    assert (chr(SHIFT_OUT), chr(SHIFT_IN)) == (control.ControlTokens.ShiftOut, control.ControlTokens.ShiftIn)
    for character in map(chr, range(1, 128)):
        is_control = re.fullmatch(f"[{control.CONTROL_TOKENS_PATTERN}]", character) is not None
        assert (split_words(f"a{character}b".encode(), 6) == [b"a", character.encode(), b"b"]) == is_control
