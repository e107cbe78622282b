"""A log that keeps its beginning and its end, written through descriptors as a worker does."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotlap.core.capped_log import CappedLog, LogFollower, log_end, log_position, piece_numbers


@pytest.fixture
def log(tmp_path: Path) -> Iterator[CappedLog]:
    """Return a log with small pieces, and a descriptor of its own that leads to it."""
    path = tmp_path / "stdout.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    yield CappedLog(path, (descriptor,), head_bytes=1000, piece_bytes=500)
    os.close(descriptor)


def line(number: int) -> bytes:
    return f"line {number:05} of a program that prints without end\n".encode()


def test_a_short_log_is_one_file(log: CappedLog, tmp_path: Path) -> None:
    for number in range(20):
        log.write(line(number))
    assert [path.name for path in tmp_path.iterdir()] == ["stdout.log"]
    assert (tmp_path / "stdout.log").read_bytes() == b"".join(map(line, range(20)))


def test_of_a_long_one_the_beginning_and_the_end_stay(log: CappedLog, tmp_path: Path) -> None:
    for number in range(3000):
        log.write(line(number))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1000 + 2 * 500 + 400
    head = (tmp_path / "stdout.log").read_text()
    assert head.startswith(line(0).decode())
    assert "stdout.log ends here, at 1,000 bytes. Of what comes next the last 500 bytes or more are kept" in head
    numbers = piece_numbers(tmp_path / "stdout.log")
    assert len(numbers) == 2
    end = b"".join((tmp_path / f"stdout.{number}.log").read_bytes() for number in numbers)
    assert len(end) >= 500
    first = int(end[5:10])
    assert end == b"".join(map(line, range(first, 3000)))  # whole lines, none missing
    assert log_end(tmp_path / "stdout.log", 300) == b"".join(map(line, range(3000)))[-300:]


def test_a_follower_that_keeps_up_sees_everything(log: CappedLog, tmp_path: Path) -> None:
    follower, seen = LogFollower(tmp_path / "stdout.log"), b""
    for number in range(300):
        log.write(line(number))
        seen += b"".join(follower.read())
    shown = b"".join(text for text in seen.splitlines(keepends=True) if not text.startswith(b"hotlap: "))
    assert shown == b"".join(map(line, range(300)))
    follower.close()


def test_a_follower_that_is_too_slow_is_told(log: CappedLog, tmp_path: Path) -> None:
    follower = LogFollower(tmp_path / "stdout.log")
    log.write(line(0))
    assert b"".join(follower.read()) == line(0)
    for number in range(1, 300):
        log.write(line(number))
    seen = b"".join(follower.read())
    assert b"hotlap: output came faster than it was read here" in seen
    assert seen.endswith(line(299))
    follower.close()


def test_each_output_moves_the_position(log: CappedLog, tmp_path: Path) -> None:
    places = [log_position(tmp_path / "stdout.log")]
    for number in range(200):
        log.write(line(number))
        places.append(log_position(tmp_path / "stdout.log"))
    assert len(set(places)) == 201


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    log = CappedLog(path, (descriptor,), head_bytes=1000, piece_bytes=2**21)
    for _ in range(40):
        log.write(b"x" * 2**18)
    os.close(descriptor)
    assert path.stat().st_size < 2**21
    assert len(piece_numbers(path)) == 2


def test_what_leads_elsewhere_has_no_cap(tmp_path: Path) -> None:
    path, other = tmp_path / "stdout.log", tmp_path / "terminal"
    path.touch()
    descriptor = os.open(other, os.O_WRONLY | os.O_CREAT)
    log = CappedLog(path, (descriptor,), head_bytes=10, piece_bytes=10)
    for number in range(5):
        log.write(line(number))
    os.close(descriptor)
    assert other.read_bytes() == b"".join(map(line, range(5)))
    assert piece_numbers(path) == []
