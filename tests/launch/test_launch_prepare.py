"""Preparing in a process of its own: what it says is passed on, and what it fails with becomes an error."""

import io
import sys
from typing import Any

import pytest

from hotlap.config.load import config_from_values
from hotlap.core.errors import DataError, MissingExtraError, StorageError
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import prepare

CONFIG = config_from_values({"name": "a-name"})

PROGRAM = """
import sys
config = sys.stdin.read()
print("preparing: 10%, soon", file=sys.stderr, flush=True)
print("a warning", file=sys.stderr, flush=True)
print("preparing: 90%, sooner", file=sys.stderr, flush=True)
print("read", "a-name" in config)
sys.exit(CODE)
"""


class Terminal(io.StringIO):
    """A screen."""

    def isatty(self) -> bool:
        return True


def run(monkeypatch: pytest.MonkeyPatch, project: ProjectFolder, code: int) -> str:
    """Prepare with a program that ends with a code in place of the real one."""
    follow = prepare._follow
    program = [sys.executable, "-c", PROGRAM.replace("CODE", str(code))]
    monkeypatch.setattr(prepare, "_follow", lambda _, text: follow(program, text))
    return prepare.prepare_data(project, CONFIG)


def test_what_it_prints_is_returned(monkeypatch: pytest.MonkeyPatch, project: ProjectFolder, capsys: Any) -> None:
    assert run(monkeypatch, project, 0) == "read True"
    assert capsys.readouterr().err == "", "no line for what takes no time"


def test_progress_is_passed_on_now_and_then(
    monkeypatch: pytest.MonkeyPatch, project: ProjectFolder, capsys: Any
) -> None:
    monkeypatch.setattr(prepare, "_PLAIN_SECONDS", 0.0)
    run(monkeypatch, project, 0)
    assert capsys.readouterr().err == "preparing: 10%, soon\npreparing: 90%, sooner\n"


def test_progress_is_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch, project: ProjectFolder) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    run(monkeypatch, project, 0)
    assert screen.getvalue() == "\r\x1b[Kpreparing: 10%, soon\r\x1b[Kpreparing: 90%, sooner\r\x1b[K"


@pytest.mark.parametrize(
    ("code", "kind"), [(2, DataError), (1, DataError), (7, MissingExtraError), (125, StorageError)]
)
def test_what_it_fails_with_is_raised(
    monkeypatch: pytest.MonkeyPatch, project: ProjectFolder, code: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"\Aa warning\Z"):
        run(monkeypatch, project, code)


def test_a_process_that_reads_no_config_is_told(monkeypatch: pytest.MonkeyPatch, project: ProjectFolder) -> None:
    follow = prepare._follow
    program = [sys.executable, "-c", "import sys; sys.stdin.close(); sys.exit(3)"]
    monkeypatch.setattr(prepare, "_follow", lambda _, text: follow(program, text * 1000))
    with pytest.raises(DataError, match="preparing the corpus failed with exit code 3"):
        prepare.prepare_data(project, CONFIG)
