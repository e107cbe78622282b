"""From bytes to lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.capture.capture import Capture
from hotlap.capture.lines import LineReader, without_escapes


def read(data: bytes, *, size: int = 1 << 20, limit: int = 1 << 16) -> list[str]:
    reader = LineReader(limit)
    lines = [line for start in range(0, len(data), size) for line in reader.feed(data[start : start + size])]
    return lines + reader.end()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"one\ntwo\r\nthree", ["one", "two", "three"]),
        (b"\r 10%|\r 20%|\r    \rdone\n", [" 10%|", " 20%|", "done"]),
        (b"10/20\b\b\b\b\b11/20\n", ["10/20", "11/20"]),
        (b"\x1b[1;31mred\x1b[0m \x1b[2K\x1b[1Aup\n", ["red up"]),
        (b"\x1b]0;title\x07a \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", ["a link"]),
        (b"\x1b]0;a title without end\nnext\n", ["next"]),
        (b"\x1b(Bplain\x1b7\n", ["plain"]),
        (b"caf\xe9 \xff\n", ["caf\ufffd \ufffd"]),
        ("é\u2028ü\x85\n".encode(), ["é\u2028ü\x85"]),
        (b"\n\n  \n", []),
        (b"", []),
    ],
)
def test_lines(data: bytes, expected: list[str]) -> None:
    assert read(data) == expected


def test_a_line_waits_for_its_end() -> None:
    reader = LineReader()
    assert reader.feed(b"step 1: los") == []
    assert reader.tail == "step 1: los"
    assert reader.feed("s 2.5 é".encode()[:-1]) == []
    assert reader.feed("é".encode()[1:] + b"\nnext") == ["step 1: loss 2.5 é"]
    assert reader.tail == "next"
    assert reader.end() == ["next"]
    assert reader.end() == []


def test_a_line_that_never_ends_does_not_fill_the_memory() -> None:
    reader = LineReader(100)
    for _ in range(1000):
        assert reader.feed(b"x" * 1000) == []
        assert len(reader.tail) <= 100
    assert reader.feed(b"y\nnext\n")[-1] == "next"


def test_of_a_long_line_the_beginning_is_kept() -> None:
    assert read(b"a" * 250 + b"\nb\n", limit=100) == ["a" * 100, "b"]
    assert read(b"a" * 250 + b"\nb\n", limit=100, size=30) == ["a" * 100, "b"]


@given(st.binary(max_size=400), st.integers(1, 50))
def test_where_the_buffer_cuts_makes_no_difference(data: bytes, size: int) -> None:
    assert read(data, size=size) == read(data)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\b\x1b", codec="utf-8"), max_size=30)), st.integers(1, 9))
def test_text_comes_out_as_it_went_in(lines: list[str], size: int) -> None:
    assert read("\n".join(lines).encode(), size=size) == [line for line in lines if line and not line.isspace()]


@given(st.text())
def test_no_line_breaks_the_capture(line: str) -> None:
    capture = Capture({"read": ["nothing.csv"]})
    capture.feed(line, 0.0)
    capture.end(1.0)


PIECES = st.sampled_from(
    (
        *("{", "}", "'loss'", '"loss"', ":", "=", " ", "3.28", "nan", "1e999", "9" * 5000, ",", "|", "step", "step 1"),
        *("val_loss", "METRIC ", "---", "***** eval metrics *****", "%|", "5%|█| 1/2 [0]", "ms", "[rank0]:", "\t"),
        *("epoch", "loss ", "train loss", "iter 3:", "(", "[", "]", "tensor(", "\x1b[0m", "/", "1,000", "-", ".", "_"),
    )
)


@given(st.lists(st.lists(PIECES, max_size=12).map("".join), max_size=8))
def test_no_mixture_of_what_metrics_are_made_of_breaks_it(lines: list[str]) -> None:
    capture = Capture({"read": ["nothing.csv"]})
    for line in lines:
        for reading in capture.feed(line, 0.0):
            assert all(isinstance(value, float) for value in reading.metrics.values())
    capture.end(1.0)


def test_escapes_are_taken_out() -> None:
    assert without_escapes("plain") == "plain"
    assert without_escapes("\x1b[38;5;12mblue\x1b[m") == "blue"


@pytest.mark.parametrize(
    "line",
    [
        "a" * 60_000 + ": 1",
        "a-" * 30_000 + "=1 loss: 2",
        " " * 60_000 + "5%| loss: 1",
        "a " * 30_000 + "loss: 1",
        "{'" + "a" * 60_000,
        "METRIC " + "a/" * 30_000,
        "step " + "9" * 60_000 + ": train loss 1.0, val loss 2.0",
        "val_loss: 1e-" + "9" * 60_000,
        "loss: " + "1" * 60_000 + "x",
        "{" * 60_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
    ],
)
@pytest.mark.timeout(20)
def test_a_very_long_line_takes_no_long_time(line: str) -> None:
    capture = Capture({"read": ["nothing.csv"]})
    capture.feed(line, 0.0)
    capture.end(1.0)
