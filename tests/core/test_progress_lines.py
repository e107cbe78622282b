"""How far a long piece of work is, in one line."""

import pytest

from hotlap.core.progress import Progress, show_bytes


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_share_speed_and_time_left_are_told() -> None:
    clock, said = Clock(), list[str]()
    progress = Progress(2_000_000_000, said.append, clock)
    clock.seconds = 10.0
    progress.advance(500_000_000)
    assert said == ["25%, 500 MB of 2 GB, 50 MB/s, 30.0 s left"]


def test_what_an_earlier_call_made_is_no_speed() -> None:
    clock, said = Clock(), list[str]()
    progress = Progress(2_000_000_000, said.append, clock)
    progress.advance(1_000_000_000, is_new=False)
    clock.seconds = 10.0
    progress.advance(500_000_000)
    assert said == ["75%, 1.5 GB of 2 GB, 50 MB/s, 10.0 s left"]


def test_it_is_said_twice_a_second_at_most() -> None:
    clock, said = Clock(), list[str]()
    progress = Progress(None, said.append, clock)
    for _ in range(40):
        clock.seconds += 0.05
        progress.advance(1000)
    assert 3 <= len(said) <= 4
    assert said[0].endswith("kB read, 20 kB/s")


def test_nobody_has_to_listen() -> None:
    clock = Clock()
    progress = Progress(10, None, clock)
    clock.seconds = 9.0
    progress.advance(10)
    assert progress.text() == "100%, 10 B of 10 B, 1 B/s"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (12_300_000, "12.3 MB"),
        (999_999, "1,000 kB"),
        (2.5e13, "25,000 GB"),
    ],
)
def test_bytes_for_people(count: float, text: str) -> None:
    assert show_bytes(count) == text
