"""The command line as a whole: its list of commands, its exit codes, its way of telling errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hotlap
from hotlap.cli import main, screen
from hotlap.cli.errors import exit_plainly
from hotlap.core.errors import ConfigError, HotlapError, MissingExtraError, StorageError

RUNNER = CliRunner()
NAMES = (
    *("demo", "train", "speedrun", "sweep", "generate", "analyze", "status", "apply"),
    *("rerun", "replay", "export", "import", "doctor", "reindex", "runs"),
)


def start(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Call the entry point as a shell would; return the exit code."""
    monkeypatch.setattr(sys, "argv", ["hotlap", *words])
    with pytest.raises(SystemExit) as ended:
        main.run()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command(flag: str) -> None:
    result = RUNNER.invoke(main.app, [flag])
    assert result.exit_code == 0
    listed = {line.split()[0] for line in result.output.splitlines() if line.startswith("  ")}
    assert set(NAMES) <= listed


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_in_one_sentence(name: str) -> None:
    result = RUNNER.invoke(main.app, [name, "-h"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_version() -> None:
    assert RUNNER.invoke(main.app, ["--version"]).output == f"hotlap {hotlap.__version__}\n"


def test_an_unknown_command_is_a_usage_error() -> None:
    result = RUNNER.invoke(main.app, ["speedrum"])
    assert result.exit_code == 2
    assert "speedrum" in result.output


@pytest.mark.parametrize("error", [ConfigError, MissingExtraError, StorageError])
def test_our_errors_are_one_message_and_their_exit_code(
    error: type[HotlapError], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, exit_plainly():
        raise error("hotlap.yaml:3: what is wrong and what to do")
    assert ended.value.code == error.exit_code
    assert capsys.readouterr().err == "hotlap: error: hotlap.yaml:3: what is wrong and what to do\n"


def test_a_bug_shows_its_traceback_and_says_that_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exit_plainly():
        raise KeyError("x")
    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert "Traceback" in told and "This is a bug in hotlap" in told


def test_interrupted_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exit_plainly():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


def test_errors_of_commands_pass_through_the_entry_point(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert start(monkeypatch, "train", str(tmp_path / "absent.yaml")) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("hotlap: error: ") and "absent.yaml" in told.err


def test_reindex_counts_runs_and_refuses_a_folder_without_any(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert start(monkeypatch, "reindex", "-p", str(tmp_path)) == 125
    (tmp_path / ".hotlap").mkdir()
    assert start(monkeypatch, "reindex", "-p", str(tmp_path)) == 0
    assert "0 runs in" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="CPU time of children is counted on POSIX only")
def test_help_is_quick() -> None:
    """The budget is 150 ms on a quiet machine; the fastest of a few calls forgives a busy one, twice over."""
    command = [sys.executable, "-c", "from hotlap.cli.main import run; run()", "--help"]
    spent = []
    for _ in range(4):
        before = os.times()
        subprocess.run(command, capture_output=True, check=True)
        after = os.times()
        children = (after.children_user - before.children_user) + (after.children_system - before.children_system)
        spent.append(children)
    assert min(spent) < 0.3


def test_sparkline_follows_the_values_and_skips_what_is_not_finite() -> None:
    assert screen.sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert screen.sparkline([3.0, float("nan"), 1.0], 10) == "█ ▁"
    assert screen.sparkline([2.0, 2.0], 10) == "▁▁"
    assert screen.sparkline([], 10) == ""
    assert len(screen.sparkline(list(range(1000)), 40)) == 40


def test_tables_are_aligned_without_trailing_blanks() -> None:
    assert screen.table_lines(["name", "n"], [["a", "1"], ["bcdef", "23"]]) == ["name    n", "a       1", "bcdef  23"]


def test_on_a_terminal_the_head_of_a_table_is_bold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen.print_table(["key", "value"], [["a [bold]", "1"]])
    assert capsys.readouterr().out.splitlines() == ["\x1b[1mkey       value\x1b[0m", "a [bold]      1"]


def test_colour_needs_a_terminal_and_no_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert screen.bold("x") != "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert screen.bold("x") == "x"


def test_json_holds_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    screen.print_json({"schema": "hotlap/test/1", "a": [float("inf"), 1.0], "b": {"c": float("nan")}})
    assert json.loads(capsys.readouterr().out) == {"schema": "hotlap/test/1", "a": [None, 1.0], "b": {"c": None}}
