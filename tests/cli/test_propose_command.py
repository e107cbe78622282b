"""`hotlap propose`: one change, run, judged and told."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from own_project import FASTER, fingerprint, make_project, patch_of

from hotlap.cli.main import app
from hotlap.core.errors import ConfigError
from hotlap.launch.locks import study_lock

pytestmark = pytest.mark.usefixtures("quiet_machine")

GROUNDS = ["--observation", "a step waits", "--hypothesis", "it can wait less"]


def propose(folder: Path, *words: str) -> tuple[int, str, BaseException | None]:
    config = str(folder / "hotlap.yaml")
    found = CliRunner().invoke(app, ["propose", config, "-p", str(folder), *GROUNDS, *words])
    return found.exit_code, found.stdout, found.exception


@pytest.mark.slow
def test_a_patch_is_run_judged_and_told_as_json(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    patch = tmp_path / "faster.patch"
    patch.write_text(patch_of(project, *FASTER))
    before = fingerprint(project)
    code, out, _ = propose(project.project, "--patch", str(patch), "--json")
    document = json.loads(out)
    assert (code, document["schema"], document["verdict"], document["proposal"]) == (0, "hotlap/propose/1", "keep", 1)
    assert document["runs"][0]["role"] == "screen"
    assert document["branch"] == "hotlap/own"
    assert fingerprint(project) == before
    code, out, _ = propose(project.project, "--set", "params.lr=0.5")
    assert code == 3
    assert out.strip().splitlines()[-1].startswith("#2 ")


def test_what_is_refused_leaves_no_trace(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    patch = tmp_path / "protected.patch"
    patch.write_text(patch_of(project, "train.py", "range(1, 60)", "range(1, 61)"))
    code, _, error = propose(project.project, "--patch", str(patch))
    assert isinstance(error, ConfigError)
    assert "train.py, which edits.protect holds" in str(error)
    _, _, error = propose(project.project, "--set", "targets=[val_loss < 9]")
    assert "may not change targets" in str(error)
    assert "proposal" not in {event["event"] for event in project.study("own").ledger()}
    assert code


def test_a_study_that_is_being_driven_takes_it_from_the_queue(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    with study_lock(project.study("own").create()):
        code, out, _ = propose(project.project, "--set", "params.lr=0.5", "--json")
    document = json.loads(out)
    assert (code, document["state"]) == (0, "queued")
    assert Path(document["file"]).exists()


@pytest.mark.parametrize("words", [["--patch", "nowhere.patch"], ["--set", "params.lr"]])
def test_words_that_cannot_be_read_are_told(tmp_path: Path, words: list[str]) -> None:
    project = make_project(tmp_path / "project")
    _, _, error = propose(project.project, *words)
    assert isinstance(error, ConfigError)
