"""Sentences from text: how it is cut, what is left out, and which files it comes from."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.errors import DataError
from hotlap.tasks import sentences
from hotlap.tasks.sentences import docstring_texts, file_texts, matching_files, split_sentences

TEXT = st.text(st.sampled_from("ab cd.!?\n\t\x0e\x85é語9") | st.characters(codec="utf-8"), max_size=120)


def split(text: str, shortest: int = 1, longest: int = 40) -> list[str]:
    return list(split_sentences(text, shortest, longest))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One two. Three four! Five six? Seven", ["One two.", "Three four!", "Five six?"]),
        ("no full stop\n\nanother paragraph", ["no full stop", "another paragraph"]),
        ("a line\nthat goes\ton   and on", ["a line that goes on and on"]),
        ("version 3.11 of it", ["version 3.11 of it"]),
        ("single", []),
        ("", []),
        ("1 2 3 4", []),
        ("bell \x07 rings", []),
        ("the source \x0e ends", []),
    ],
)
def test_a_text_is_split_into_sentences(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces


def test_a_long_sentence_is_cut_between_words() -> None:
    assert split("the quick brown fox jumps over", longest=12) == ["the quick", "brown fox", "jumps over"]


def test_a_word_that_is_too_long_is_left_out() -> None:
    assert split("a bc unpronounceable d ef", longest=6) == ["a bc", "d ef"]
    assert split("unpronounceable", longest=6) == []


def test_lengths_count_bytes_not_letters() -> None:
    assert split("é é é", longest=7) == ["é é"]
    assert split("é é", shortest=5) == ["é é"]
    assert split("é é", shortest=6) == []


@given(text=TEXT, shortest=st.integers(1, 20), longest=st.integers(1, 40))
@settings(deadline=None, max_examples=300)
def test_every_piece_lies_within_the_bounds(text: str, shortest: int, longest: int) -> None:
    folded = " ".join(text.split())
    for piece in split(text, shortest, longest):
        assert shortest <= len(piece.encode()) <= longest
        assert len(piece.split(" ")) >= 2
        assert any(letter.isalpha() for letter in piece)
        assert not any(ord(letter) < 32 or ord(letter) == 127 for letter in piece)
        assert f" {piece} " in f" {folded} "


@given(words=st.lists(st.text("abcé", min_size=1, max_size=4), min_size=2, max_size=20), longest=st.integers(17, 40))
@settings(deadline=None)
def test_a_cut_loses_no_word_and_comes_as_late_as_it_can(words: list[str], longest: int) -> None:
    pieces = split(" ".join(words), longest=longest)
    kept = " ".join(pieces).split(" ")
    assert kept in (words, words[:-1])  # a last piece of one word is no sentence
    for left, right in pairwise([*pieces, words[-1]]):
        is_full = len(f"{left} {right.split(' ')[0]}".encode()) > longest
        assert is_full or (right == words[-1] and kept == words)


def test_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.md", "deep/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.txt").mkdir()
    assert list(file_texts("*.txt", tmp_path)) == ["a.txt", "b.txt"]
    assert list(file_texts("**/*.txt", tmp_path)) == ["a.txt", "b.txt", "deep/d.txt"]
    assert list(file_texts("./c.md", tmp_path)) == ["c.md"]


def test_the_name_of_a_folder_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "a[1] *"
    folder.mkdir()
    (folder / "text.py").write_text("x = 1")
    assert matching_files(str(folder / "*.py"), Path("elsewhere")) == [folder / "text.py"]
    assert matching_files("*.py", folder) == [folder / "text.py"]


def test_an_absolute_glob_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("here")
    assert list(file_texts(str(tmp_path / "*.txt"), Path("/nowhere"))) == ["here"]


@pytest.mark.parametrize("pattern", ["*.md", "missing.txt", "no/such/folder/*", "", "/", "**nothing"])
def test_a_glob_that_matches_no_file_is_told(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"^task\.text: .*; give a glob such as corpus/\*\.txt$"):
        list(file_texts(pattern, tmp_path))


def test_a_file_that_is_not_utf8_is_told_with_its_byte(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine \xc3\xa9, not \xe9 though")
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8 at byte 13 \(0xe9\)"):
        list(file_texts("*.txt", tmp_path))


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sentences.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    return tmp_path


def test_docstrings_come_from_modules_classes_and_functions(library: Path) -> None:
    (library / "b.py").write_text("'''Module b.'''\n")
    (library / "a.py").write_text(
        "'''Module a.'''\nclass C:\n    '''Class.'''\n    def f(self):\n        '''Method.'''\n"
        "async def g():\n    '''Coroutine.'''\ndef h():\n    x = 'no docstring'\n"
    )
    assert sorted(docstring_texts()) == ["Class.", "Coroutine.", "Method.", "Module a.", "Module b."]
    assert list(docstring_texts())[-1] == "Module b."


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages", "test", "tests", "deep/idle_test"])
def test_packages_and_tests_are_not_part_of_the_library(library: Path, folder: str) -> None:
    (library / folder).mkdir(parents=True)
    (library / folder / "a.py").write_text("'''Not this.'''\n")
    assert list(docstring_texts()) == []


@pytest.mark.parametrize("source", [b"def (", b"\xff\xff", b"x = '\x00'", b"'''Old \\escape.'''; 0x = 1"])
def test_a_broken_library_file_is_passed_over(library: Path, source: bytes) -> None:
    (library / "a.py").write_bytes(source)
    (library / "b.py").write_bytes(b"'''An \\escape is no warning.'''")
    assert list(docstring_texts()) == ["An \\escape is no warning."]


def test_this_python_has_docstrings_enough() -> None:
    first = [text for text, _ in zip(docstring_texts(), range(50), strict=False)]
    assert len(first) == 50, sys.version
    assert any(split(text, 8, 48) for text in first)
