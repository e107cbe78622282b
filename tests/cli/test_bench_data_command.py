"""`hotlap bench data` in this process, with a program of our own in the place of the one that loads torch."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hotlap.bench import data_speed
from hotlap.cli import main

PROGRAM = """
import json, sys
request = json.load(sys.stdin)
function = request.get("function")
def say(**event): print(json.dumps(event))
say(event="stage", text="measuring")
if not function:
    part = {"name": "collating", "seconds_per_step": 0.001, "rate": 4000.0, "unit": "samples", "is_once": False}
    say(event="part", part=part)
    say(event="need", need={"step_seconds": 0.041, "samples_per_step": 4.0, "tokens_per_step": 80.0, "workers": 0})
for count in request["workers"]:
    seconds = {"startup_seconds": 0.1, "seconds_per_step": 0.001, "step_seconds": 0.042, "data_seconds": 0.001}
    rate = 100.0 * (count + 1)
    say(event="loader", loader={**seconds, "workers": count, "is_computed": False, "samples_per_second": rate})
say(event="check", check={"name": "a check", "passed": function != "own:bad", "text": "it was looked at"})
"""

Start = Callable[..., int]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Call the entry point in a project, as a shell would; return the exit code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hotlap.yaml").write_text("name: small\n", encoding="utf-8")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setattr(data_speed, "verb_command", lambda *_: [sys.executable, "-c", PROGRAM])
    monkeypatch.setattr(data_speed, "prepare_data", lambda *_: "4 examples")
    monkeypatch.setattr(data_speed, "require_training_side", lambda: None)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hotlap", *words])
        with pytest.raises(SystemExit) as ended:
            main.run()
        return int(ended.value.code or 0)

    return call


@pytest.mark.parametrize("words", [("bench", "data"), ("bench-data",)])
def test_the_data_of_a_config_are_told(
    start: Start, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(*words, "--workers", "0,2") == 0
    told = capsys.readouterr()
    assert told.err == "4 examples\nmeasuring\n"
    assert "data sampling is 41 × faster than training needs" in told.out
    assert "✓ a check: it was looked at" in told.out
    rows = [line.split() for line in told.out.splitlines()]
    assert ["2", "4,000", "41", "×", "42", "2%", "0.1"] in rows


def test_a_function_is_held_against_what_is_needed(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("bench", "data", "own:good", "--needs", "250", "--workers", "0,2", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "hotlap/bench-data/1"
    assert document["reading"]["advice"] == "use 2 workers"
    assert document["need"] is None


def test_a_check_that_fails_is_the_exit_code(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("bench", "data", "own:bad") == 3
    assert "✗ a check" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("missing.yaml",), 2, "missing.yaml"),
        (("--workers", "many"), 2, "--workers 'many': expected whole numbers"),
        (("--needs", "5"), 2, "--needs goes with module:function"),
        (("own:good", "-s", "training.bf16=true"), 2, "module:function has none"),
        (("command.yaml",), 7, "hotlap bench data module:function"),
    ],
)
def test_what_cannot_be_measured_is_told(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, text: str
) -> None:
    (tmp_path / "command.yaml").write_text("command: {run: python train.py}\n", encoding="utf-8")
    assert start("bench", "data", *words) == code
    assert text in capsys.readouterr().err
