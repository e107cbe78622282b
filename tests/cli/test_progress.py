"""What a running training shows: the progress text, the live line, the follower of its log."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotlap.cli import progress
from hotlap.cli.progress import PLAIN_SECONDS, LiveLine, TextFollower, progress_text, seconds_to_target
from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig

CLEAR = "\r\x1b[K"


def config(*targets: str) -> RunConfig:
    return config_from_values({"targets": list(targets), "training": {"max_steps": 1000}})


def evaluations(*curve: tuple[float, float]) -> list[dict[str, Any]]:
    """Return points from seconds and losses, ten steps and a thousand tokens a second."""
    return [
        {"step": round(10 * seconds), "train_seconds": seconds, "tokens": round(1000 * seconds), "eval_loss": loss}
        for seconds, loss in curve
    ]


FALLING = evaluations((10.0, 4.0), (24.0, 2.6), (30.0, 2.0))


def test_before_the_first_point_it_says_so() -> None:
    assert progress_text("r0007", config(), []) == "run r0007 starting"


def test_step_losses_speed_and_both_estimates_are_told() -> None:
    training = {"step": 300, "train_seconds": 30.0, "tokens": 30_000, "train_loss": 2.25}
    text = progress_text("r0007", config("eval_loss < 1.5"), [*FALLING, training])
    assert text.startswith("run r0007 step 300/1000 30%  30s")
    assert "train_loss 2.250  eval_loss 2.000" in text
    assert "end in 70.0 s" in text
    assert text.endswith("target in ~5.00 s")
    assert "1,000 tok/s" in progress_text("r0007", config(), FALLING)


def test_what_is_not_known_is_not_told() -> None:
    first = {"step": 0, "train_seconds": 0.0, "tokens": 0, "train_loss": 5.5}
    assert progress_text("r1", config("eval_loss < 1"), [first]) == "run r1 step 0/1000 0%  0s  train_loss 5.500"


def test_the_time_to_target_follows_the_recent_slope() -> None:
    assert seconds_to_target(config("eval_loss < 1.5"), FALLING) == pytest.approx(5.0)
    assert seconds_to_target(config("eval_loss <= 0.5", "eval_loss < 1"), FALLING) == pytest.approx(15.0)
    slowing = evaluations((10.0, 9.0), (80.0, 2.0), (90.0, 1.9), (100.0, 1.8))
    assert seconds_to_target(config("eval_loss < 1.5"), slowing) == pytest.approx(30.0), (
        "the steep start does not count"
    )


def test_a_target_that_is_met_already_is_no_time_away() -> None:
    assert seconds_to_target(config("eval_loss < 3"), FALLING) == 0.0


@pytest.mark.parametrize(
    ("targets", "points"),
    [
        ((), FALLING),
        (("eval_byte_accuracy > 0.75",), FALLING),
        (("eval_loss > 0.75",), FALLING),
        (("eval_loss < 1",), FALLING[:2]),
        (("eval_loss < 1",), evaluations((10.0, 1.5), (29.0, 2.0), (30.0, 2.0))),
        (("eval_loss < 1",), evaluations((10.0, 1.5), (29.0, 2.0), (30.0, 2.5))),
        (("eval_loss < 1",), evaluations((10.0, 3.0), (29.0, 2.0), (30.0, float("nan")))),
        (("eval_loss < 1",), evaluations((10.0, 3.0), (29.0, 2.0), (30.0, float("inf")))),
        (("eval_loss < 1",), evaluations((30.0, 3.0), (30.0, 2.0), (30.0, 1.5))),
    ],
)
def test_where_the_loss_does_not_fall_there_is_no_estimate(targets: tuple[str, ...], points: Any) -> None:
    assert seconds_to_target(config(*targets), points) is None
    assert "target in" not in progress_text("r1", config(*targets), points)


def test_a_terminal_gets_one_line_that_is_written_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    line = LiveLine(on_terminal=True)
    line.show("step 1")
    line.show("a text of more than twelve letters")
    assert capsys.readouterr().out == f"{CLEAR}step 1{CLEAR}a text of …"
    line.say("kept")
    line.say("twice")
    line.clear()
    assert capsys.readouterr().out == f"{CLEAR}kept\ntwice\n"


def test_a_log_gets_a_plain_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now, strftime=lambda form: "12:34:56")
    monkeypatch.setattr(progress, "time", fake)
    line = LiveLine(on_terminal=False)
    for seconds in (0.0, PLAIN_SECONDS - 1, PLAIN_SECONDS, PLAIN_SECONDS + 9, 2 * PLAIN_SECONDS):
        clock.now = 100.0 + seconds
        line.show(f"at {seconds:.0f}")
    line.clear()
    assert capsys.readouterr().out == "12:34:56 at 10\n12:34:56 at 20\n"


@pytest.mark.parametrize(("term", "is_moving"), [("xterm", True), ("dumb", False)])
def test_a_terminal_is_recognised(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, term: str, is_moving: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", term)
    LiveLine().show("step 1")
    assert (CLEAR in capsys.readouterr().out) == is_moving


def test_a_log_is_followed_by_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    follower = TextFollower(path)
    assert follower.read_new() == []
    path.write_bytes("one\ntwö".encode()[:-1])
    assert follower.read_new() == ["one"]
    assert follower.read_new() == []
    with path.open("ab") as file:
        file.write("twö".encode()[-1:] + b"\n\nthr\xffee\nfour")
    assert follower.read_new() == ["twö", "", "thr�ee"]
    assert follower.read_new() == []
