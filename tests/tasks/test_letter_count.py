"""The task letter_count: answers, words of any text, split and cache."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.config.load import config_from_values
from hotlap.config.tasks import LetterCountConfig
from hotlap.core.errors import ConfigError, DataError
from hotlap.tasks.examples import Example, MixtureTask, TaskData
from hotlap.tasks.letter_count import counts_of, example_for, load_letter_count, words_of
from hotlap.tasks.registry import load_task

WORDS = [f"{first}{second}{third}ing" for first in "bdglmprst" for second in "aeiou" for third in "bdglmprst"]


def load(folder: Path, text: str | None = "*.txt", **settings: int) -> TaskData:
    return load_letter_count(LetterCountConfig(text=text, **settings), folder, folder / "cache")


def test_the_template_brackets_the_word() -> None:
    assert example_for("neurosis") == Example("<text>\x0eneurosis\x0f<count> ", "N1 E1 U1 R1 O1 S2 I1")


@pytest.mark.parametrize(
    ("word", "counts"),
    [
        ("a", "A1"),
        ("abba", "A2 B2"),
        ("mississippi", "M1 I4 S4 P2"),
        ("straße", "S3 T1 R1 A1 E1"),  # one letter has two capitals
        ("été", "É2 T1"),
        ("e\u0301te\u0301", "É2 T1"),  # the same letters, written with marks
        ("x\u0323ax\u0323", "X\u03232 A1"),  # a mark without a letter of its own
        ("שלום", "ש1 ל1 ו1 ם1"),
    ],
)
def test_letters_are_counted_in_the_order_of_their_first_occurrence(word: str, counts: str) -> None:
    assert counts_of(word) == counts


@given(st.text(st.characters(categories=["Ll"], max_codepoint=0x17F), min_size=1, max_size=14))
def test_counts_add_up_to_the_letters_of_the_word(word: str) -> None:
    parts = counts_of(word).split(" ")
    letters = [part.rstrip("0123456789") for part in parts]
    assert len(set(letters)) == len(letters)
    counted = {letter: int(part[len(letter) :]) for letter, part in zip(letters, parts, strict=True)}
    assert sum(len(letter) * count for letter, count in counted.items()) == len(word.upper())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one\ntwo\nthree\n", ["one", "two", "three"]),
        ("One, (two) “three”!", ["one", "two", "three"]),
        ("don't a-b foo_bar utf8 3rd 12 -- x", ["x"]),
        ("``code`` `:ref:`", ["code", "ref"]),
        ("नमस्ते, हिन्दी।", ["नमस्ते", "हिन्दी"]),
        ("\x0ebell\x07 \x00 \u0301", ["bell"]),
    ],
)
def test_words_of_any_text(text: str, words: list[str]) -> None:
    assert list(words_of(text, 1, 40)) == words


def test_lengths_are_those_in_bytes() -> None:
    assert list(words_of("a ab é éé abc", 2, 3)) == ["ab", "é", "abc"]


@given(st.text(max_size=60))
@settings(deadline=None)
def test_no_text_gives_a_word_that_the_template_or_the_answer_cannot_hold(text: str) -> None:
    for word in words_of(text, 1, 60):
        assert not any(sign.isspace() or sign.isdigit() or not sign.isprintable() for sign in word.strip("\u200d"))
        assert list(words_of(word, 1, 60)) == [word]


def test_words_are_held_out_by_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    data = load(tmp_path, max_eval_samples=3)
    assert (len(data.train), len(data.eval), len(data.audit)) == (397, 3, 3)
    assert not {*data.eval, *data.audit} & {*data.train}
    assert {example.prefix[7:-9] for example in data.train} <= set(WORDS)
    (tmp_path / "words.txt").write_text(" ".join(reversed([word.upper() for word in WORDS])))
    assert load(tmp_path, max_eval_samples=3).hash == data.hash, "the order and the case of the list change nothing"


def test_the_words_of_pythons_docstrings_are_enough(tmp_path: Path) -> None:
    data = load(tmp_path, None)
    assert len(data.train) > 3000 and len(data.eval) == 64
    assert data.source.startswith("docstrings of Python 3.")
    assert load(tmp_path, None) == data, "from the cache, too"


def test_bad_settings_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="task: min_length_bytes 9 is above max_length_bytes 3"):
        config_from_values({"task": {"name": "letter_count", "min_length_bytes": 9, "max_length_bytes": 3}})
    with pytest.raises(ConfigError, match="bits_per_byte is measured on running text"):
        config_from_values({"task": {"name": "letter_count"}, "targets": ["bits_per_byte < 1"]})
    with pytest.raises(DataError, match=r"task\.text: no file matches"):
        load(tmp_path)
    (tmp_path / "empty.txt").write_text("1 2 3")
    with pytest.raises(DataError, match=r"the corpus is empty: 0 word\(s\)"):
        load(tmp_path)


def test_a_mixture_takes_it(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    task = {"name": "letter_count", "text": "*.txt", "weight": 2}
    config = config_from_values({"task": {"name": "mixture", "tasks": {"letters": task}}, "training": {"max_steps": 3}})
    mixture = load_task(config.task, tmp_path, tmp_path / "cache")
    assert isinstance(mixture, MixtureTask) and mixture.has_completions
    assert mixture.parts[0].task.hash == load(tmp_path).hash
