"""What commands share on the screen: text of others, and lines that fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.cli.screen import harmless, width_of, wrapped


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert harmless("a\x1b[2Jb\x07\r\x9b1m\x7f\tc\nd é 家") == "a\\x1b[2Jb\\x07\\r\\x9b1m\\x7f\tc\nd é 家"


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("家と庭", 6), ("e\u0301", 1), ("дом", 3), ("", 0)])
def test_the_width_of_a_text_is_that_on_the_screen(text: str, width: int) -> None:
    assert width_of(text) == width


def test_lines_break_at_blanks_where_they_can() -> None:
    assert wrapped("the cat sat on the mat", 7) == ["the cat", "sat on", "the mat"]
    assert wrapped("abcdefghij kl", 4) == ["abcd", "efgh", "ij", "kl"]
    assert wrapped("one\n\ntwo", 10) == ["one", "", "two"]
    assert wrapped("家と庭と道", 4) == ["家と", "庭と", "道"]
    assert wrapped("", 5) == [""]


@given(text=st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc")), max_size=80), width=st.integers(2, 30))
def test_no_line_is_too_wide_and_only_blanks_are_lost(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(width_of(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
