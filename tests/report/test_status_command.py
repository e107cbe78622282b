"""`hotlap status` prints the facts of the journal's header."""

import json
from pathlib import Path

import pytest
from synthetic import history, summary
from typer.testing import CliRunner

from hotlap.cli.main import app
from hotlap.report.header import header_facts, headline
from hotlap.study import view

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def one_study(monkeypatch: pytest.MonkeyPatch) -> None:
    past = history()
    monkeypatch.setattr(view, "view_study", lambda project, name: (past, summary(past)))


def test_prints_the_result_the_facts_and_the_ladder(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["status", "-p", str(tmp_path)])
    found = summary(history())
    assert result.exit_code == 0
    assert headline(found) in result.output
    assert all(text in result.output for _, text in header_facts(found))
    assert any(line.split()[:2] == ["7", "RoPE"] and "10.7 s" in line for line in result.output.splitlines())
    assert result.output.splitlines()[-1].startswith("next: hotlap ")


def test_json_has_the_keys_that_scripts_read() -> None:
    document = json.loads(RUNNER.invoke(app, ["status", "--json"]).output)
    assert document["schema"] == "hotlap/status/1"
    expected = {"baseline_seconds": 55.2, "record_seconds": 10.65, "incumbent_seconds": 10.7, "tries": 7, "kept": 3}
    assert expected.items() <= document.items()
    assert document["speedup"] == pytest.approx(55.2 / 10.65)
