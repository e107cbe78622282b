"""`hotlap init`: from a command to a config, without questions and with them."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hotlap.cli.main import app
from hotlap.config.load import load_config
from hotlap.core.errors import ConfigError

ROOT = Path(__file__).parents[2] / "examples" / "own_script"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the examples; the current folder is one of them."""
    shutil.copytree(ROOT, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own" / "argparse_yaml")
    return tmp_path / "own" / "argparse_yaml"


def contents(folder: Path) -> dict[str, bytes]:
    names = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != "hotlap.yaml"]
    return {path.name: path.read_bytes() for path in names}


def called(*words: str) -> Any:
    return CliRunner().invoke(app, ["init", *words], catch_exceptions=False)


def test_without_questions_it_runs_the_command_and_writes_what_it_saw(folder: Path) -> None:
    before = contents(folder)
    result = called("-y", "--", sys.executable, "train.py", "--config", "config.yaml")
    assert result.exit_code == 0, result.output
    config = load_config(folder / "hotlap.yaml")
    assert config.command is not None
    assert config.params["momentum"] == 0.0 and config.params["lr"] == 1.0
    (target,) = config.targets
    assert target.startswith("eval_loss < 2.6")
    assert "eval_loss" in result.output and "the command ended after" in result.output
    assert contents(folder) == before
    assert not list((folder / ".hotlap" / "runs").iterdir()), "what was tried is no run of the project"


def test_a_target_of_ones_own_and_no_run(folder: Path) -> None:
    result = called("-y", "--no-probe", "-t", "val_loss < 2", "--", "python", "train.py")
    assert result.exit_code == 0, result.output
    assert load_config(folder / "hotlap.yaml").targets == ("val_loss < 2",)
    assert "the command was not run" in result.output


def test_as_json(folder: Path) -> None:
    result = called("--json", "--no-probe", "--", "python", "train.py", "--lr", "0.5")
    document = json.loads(result.stdout)
    assert document["schema"] == "hotlap/init/1"
    assert document["command"].startswith("python train.py --lr {lr}")
    assert [knob["name"] for knob in document["knobs"]][:2] == ["lr", "momentum"]
    assert document["probe"] is None and document["targets"] == []


def test_without_a_terminal_nothing_is_run_unasked(folder: Path) -> None:
    result = called("--", "touch", "ran")
    assert result.exit_code == 0, result.output
    assert not (folder / "ran").exists()
    assert "no settings were found" in result.output


def test_with_a_terminal_it_asks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotlap.cli.init._is_conversation", lambda: True)
    words = ["init", "--", "python", "train.py"]
    result = CliRunner().invoke(app, words, input="n\nnonsense\nval_loss < 2\n", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "Run it for at most 30 s" in result.output and "cannot read the target 'nonsense'" in result.output
    assert load_config(folder / "hotlap.yaml").targets == ("val_loss < 2",)


def test_a_command_that_fails_is_told_and_written_anyway(folder: Path) -> None:
    result = called("-y", "--", "sh", "-c", "echo oh no; exit 3")
    assert result.exit_code == 0, result.output
    assert "the command failed after" in result.output and "oh no" in result.output
    assert load_config(folder / "hotlap.yaml").command is not None


def test_secrets_are_not_written(folder: Path) -> None:
    called("--", "python", "train.py", "--hub_token", "hf_planted0000secret")
    text = (folder / "hotlap.yaml").read_text()
    assert "planted" not in text and "${HOTLAP_SECRET_HUB_TOKEN}" in text


def test_an_expression_names_a_metric(folder: Path) -> None:
    called("-y", "-m", r"val=validation is (\S+)", "--", "sh", "-c", "echo validation is 3; echo validation is 2")
    config = load_config(folder / "hotlap.yaml")
    assert config.command is not None and config.command.metrics == {"val": r"validation is (\S+)"}
    assert config.targets == ("val < 2.05",)


def test_the_section_for_agents(folder: Path) -> None:
    (folder / "AGENTS.md").write_text("# Mine\n")
    assert called("--agents").exit_code == 0
    text = (folder / "AGENTS.md").read_text()
    assert text.startswith("# Mine\n") and "hotlap propose" in text
    again = called("--agents", "--json")
    assert json.loads(again.stdout) == {"schema": "hotlap/agents/1", "file": "AGENTS.md"}
    assert (folder / "AGENTS.md").read_text() == text
    assert not (folder / "hotlap.yaml").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which command trains"),
        (["-t", "good", "--", "x"], "cannot read the target 'good'"),
        (["-m", "loss", "--", "x"], "write NAME=REGEX"),
    ],
)
def test_what_cannot_be_used(folder: Path, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        called(*words)


def test_a_file_that_is_there_is_kept(folder: Path) -> None:
    (folder / "hotlap.yaml").write_text("name: mine\n")
    with pytest.raises(ConfigError, match="is there already"):
        called("--", "python", "train.py")
    assert (folder / "hotlap.yaml").read_text() == "name: mine\n"


def test_flags_that_the_script_does_not_take_are_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.py").write_text("def main(p):\n    p.add_argument('--batch-size', type=int, default=8)\n")
    (tmp_path / "train.py").write_text(
        "import argparse, other\np = argparse.ArgumentParser()\np.add_argument('--lr', type=float, default=0.1)\n"
        "lr = p.parse_args().lr\nfor step in (1, 2):\n    print(f'step {step}: val loss {lr / step}')\n"
    )
    result = called("-y", "--", sys.executable, "train.py", "--lr", "0.5")
    assert result.exit_code == 0, result.output
    assert "the command does not take what its source seems to define: --batch-size" in result.output
    config = load_config(tmp_path / "hotlap.yaml")
    assert config.params == {"lr": 0.5} and config.targets == ("val_loss < 0.263",)
