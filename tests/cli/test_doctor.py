"""`hotlap doctor`: marks, exit codes, JSON."""

import json
from importlib import metadata
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from hotlap.cli.doctor import doctor
from hotlap.launch import checks


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with torch, and no time to lose."""
    monkeypatch.setattr(checks, "NOISE_SECONDS", 0.01)
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0")


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_every_line_has_a_mark(tmp_path: Path) -> None:
    result = run("-p", str(tmp_path))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) >= 12
    assert {line[0] for line in lines} <= set("✓!✗")
    assert "✓ torch           2.13.0" in lines


def test_a_missing_essential_exits_7(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    result = run("-p", str(tmp_path))
    assert result.exit_code == 7
    assert "✗ torch           not installed; run: pip install 'hotlap[train]'" in result.stdout


def test_a_folder_that_is_not_there_exits_7(tmp_path: Path) -> None:
    assert run("-p", str(tmp_path / "gone")).exit_code == 7


def test_json_holds_the_same(tmp_path: Path) -> None:
    document = json.loads(run("-p", str(tmp_path), "--json").stdout)
    assert document["schema"] == "hotlap/doctor/1"
    assert {"name", "state", "text", "is_essential"} == set(document["checks"][0])
