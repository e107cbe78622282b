"""The words of a shell text, their places, and what paths they are."""

from pathlib import Path

import pytest

from hotlap.knobs.shell_words import as_path, quotes_around, replaced, simple_commands, words_of


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ('a \'b c\' "d \\"e" f\\ g', ["a", "b c", 'd "e', "f g"]),
        ('-v "$(pwd)/x:/y" $HOME ${A:-b c}', ["-v", "$(pwd)/x:/y", "$HOME", "${A:-b c}"]),
        ("a # b\nc", ["a", "c"]),
        ("a \\\n b", ["a", "b"]),
        ("echo `date +%s` \"$(echo 'x y')\"", ["echo", "`date +%s`", "$(echo 'x y')"]),
        ("a 'open", ["a", "open"]),
        ("", []),
    ],
)
def test_words(text: str, values: list[str]) -> None:
    words = words_of(text)
    assert [word.value for word in words] == values
    assert all(text[word.start : word.end].strip() for word in words)


def test_simple_commands() -> None:
    found = simple_commands("A=1 b c && d | e; for i in 1 2; do f > log; done\ng")
    assert [[word.value for word in words] for words in found] == [
        ["A=1", "b", "c"],
        ["d"],
        ["e"],
        ["for", "i", "in", "1", "2"],
        ["do", "f", "log"],
        ["done"],
        ["g"],
    ]


def test_words_are_exchanged_in_their_places() -> None:
    text = "a  'b'  # c\nd"
    _, second, third = words_of(text)
    assert replaced(text, {third: "D", second: "B B"}) == "a  B B  # c\nD"


def test_quotes() -> None:
    text = "a'b'c"
    assert quotes_around(text) == ["", "", "'", "'", ""]
    assert quotes_around('"\\"x"y') == ["", '"', '"', '"', '"', ""]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x.yaml", "/project/x.yaml"),
        ("$(pwd)/a/../x", "/project/x"),
        ("${PWD}/x", "/project/x"),
        ("$WHERE/x", "/there/x"),
        ("/abs", "/abs"),
        ("$UNKNOWN/x", None),
        ("$(date)", None),
        ("", None),
    ],
)
def test_paths(value: str, expected: str | None) -> None:
    found = as_path(value, Path("/project"), {"WHERE": "/there"})
    assert found == (None if expected is None else Path(expected))
    assert as_path("~/x", Path("/project"), {}) == Path.home() / "x"
