"""Lines that were kept back are told from lines that came when they were printed."""

from pathlib import Path

import pytest

from hotlap.worker.arrivals import Arrivals, ReaderDelay


def told(times: list[float], *, has_steps: bool = True) -> Arrivals:
    arrivals = Arrivals()
    for number, at_seconds in enumerate(times):
        arrivals.note_output(at_seconds)
        arrivals.note({"val_loss": 1.0}, number if has_steps else None)
    return arrivals


@pytest.mark.parametrize("has_steps", [True, False])
def test_lines_in_blocks_are_seen(has_steps: bool) -> None:
    blocks = [start + 1e-4 * line for start in (3.0, 6.0, 9.0) for line in range(20)]
    assert told(blocks, has_steps=has_steps).is_buffered


def test_everything_at_the_end_is_seen() -> None:
    assert told([60.0 + 1e-5 * line for line in range(100)]).is_buffered


@pytest.mark.parametrize("interval", [0.001, 0.01, 0.5, 20.0])
def test_lines_at_their_time_are_believed(interval: float) -> None:
    assert not told([4.0 + interval * line for line in range(50)]).is_buffered


def test_two_lines_of_one_step_are_one_point() -> None:
    arrivals = Arrivals()
    for step in range(10):
        arrivals.note_output(2.0 * step + 2)
        arrivals.note({"val_loss": 1.0}, step)
        arrivals.note({"val_loss": 1.0, "val_accuracy": 0.5}, step)
    assert not arrivals.is_buffered


def test_a_fast_start_after_a_long_load_is_no_block() -> None:
    assert not told([20.0, 20.0005, *(20.1 + 0.1 * line for line in range(10))]).is_buffered


def test_a_program_that_is_done_at_once_has_kept_nothing_back() -> None:
    arrivals = Arrivals()
    arrivals.note_start(0.41)
    for number in range(2):
        arrivals.note_output(0.48 + 1e-4 * number)
        arrivals.note({"val_loss": 1.0}, number)
    assert not arrivals.is_buffered


@pytest.mark.parametrize("late_seconds", [0.0, 0.04])
def test_lines_that_only_the_reader_kept_back_are_believed(late_seconds: float) -> None:
    told_late = iter([late_seconds])
    arrivals = Arrivals(lambda: next(told_late))
    for number, at_seconds in enumerate((0.4, 0.4001, 0.4002, 0.45)):
        arrivals.note_output(at_seconds)
        arrivals.note({"val_loss": 1.0}, number)
    assert arrivals.is_buffered == (late_seconds == 0.0)


def test_only_what_the_reader_waited_since_its_last_look_counts() -> None:
    waited = iter([5.0, 0.0])
    arrivals = Arrivals(lambda: next(waited))
    arrivals.note_silence()
    for number in range(3):
        arrivals.note_output(0.4 + 1e-4 * number)
        arrivals.note({"val_loss": 1.0}, number)
    assert arrivals.is_buffered


def test_the_wait_for_a_core_is_read_from_the_scheduler(tmp_path: Path) -> None:
    schedstat = tmp_path / "schedstat"
    schedstat.write_text("5000000 2000000 7\n")
    delay = ReaderDelay(schedstat)
    schedstat.write_text("6000000 42000000 9\n")
    assert delay.since_last() == pytest.approx(0.04)
    assert delay.since_last() == 0.0


@pytest.mark.parametrize("text", [None, "", "0\n", "a b c\n"])
def test_where_the_scheduler_tells_nothing_nobody_is_late(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "schedstat").write_text(text)
    assert ReaderDelay(tmp_path / "schedstat").since_last() == 0.0
