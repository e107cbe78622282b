"""Every command can be read by a program: it has --json, and what that prints names its schema with a version."""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from own_project import FASTER, config_of, make_project, patch_of

from hotlap.cli import screen
from hotlap.cli.main import app
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.locks import study_lock
from hotlap.study.study import open_study

NEVER: dict[str, str] = {}
"""Commands that --json would make no sense for, with the reason; there is none."""
SCHEMA = re.compile(r"hotlap/[a-z-]+/[1-9][0-9]*")
GROUNDS = ("--observation", "a step waits", "--hypothesis", "it can wait less")
CALLS: dict[str, tuple[str, ...]] = {
    "exec": ("-t", "val_loss < 1", "--", "echo", "val_loss: 0.5000"),
    "init": ("--no-probe", "--agents", "--", "python", "train.py", "--lr", "0.5"),
    "propose": (*GROUNDS, "--patch", "patches/faster.patch"),
    "speedrun": ("-n", "--patches", "patches"),
    "status": (),
    "import": ("table.csv", "--name", "table", "--config", "lr", "--metric", "val_loss"),
    "analyze": ("table@import", "--metric", "val_loss"),
    "report": ("table@import", "--format", "json"),
    "reindex": (),
    "doctor": (),
    "runs ls": (),
    "runs show": ("r0001",),
    "runs compare": ("r0001", "r0002"),
    "runs note": ("r0001", "a note"),
    "runs export": (),
}
"""What is called here, in this order after two runs; each prints one document."""
NEED_TRAINING = frozenset(
    (
        *(
            "demo",
            "train",
            "bench",
            "bench-data",
            "profile",
            "sweep",
            "ablate",
            "generate",
            "apply",
            "rerun",
            "replay",
            "export",
        ),
        *("runs check", "runs samples"),
    )
)
"""What needs a study or a trained model: their own tests call them. All print by `print_json`, which wants a schema."""


def commands() -> Iterator[tuple[str, Any]]:
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        yield from ((f"{name} {key}", value) for key, value in inner.items()) if inner else [(name, command)]


NAMES = dict(commands())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_command_has_json(name: str) -> None:
    options = {option for parameter in NAMES[name].params for option in parameter.opts}
    assert ("--json" in options) is (name not in NEVER), name


def test_each_command_is_called_or_said_to_need_a_training() -> None:
    assert not CALLS.keys() & NEED_TRAINING
    assert NAMES.keys() - NEVER.keys() == CALLS.keys() | NEED_TRAINING


@pytest.mark.parametrize("name", sorted(NEED_TRAINING))
def test_what_needs_a_training_prints_by_the_one_printer(name: str) -> None:
    source = inspect.getsource(inspect.getmodule(NAMES[name].callback))  # type: ignore[arg-type]
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
    assert called & {"print_json", "drive_and_tell"}, name


def test_the_one_printer_wants_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ({}, {"schema": ""}, {"schema": "hotlap/status"}, {"schema": "status/1"}):
        with pytest.raises(AssertionError, match="no schema"):
            screen.print_json(wrong)
    assert capsys.readouterr().out == ""
    screen.print_json({"schema": "hotlap/status/1", "loss": float("nan")})
    assert json.loads(capsys.readouterr().out) == {"schema": "hotlap/status/1", "loss": None}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectFolder]:
    """A project with a study that somebody drives already, two measured runs, a patch and a table."""
    made = make_project(tmp_path_factory.mktemp("project"))
    folder = made.project
    (folder / "patches").mkdir()
    (folder / "patches" / "faster.patch").write_text(patch_of(made, *FASTER))
    rows = "".join(f"{0.001 * number},{3 - 0.1 * number}\n" for number in range(1, 13))
    (folder / "table.csv").write_text(f"lr,val_loss\n{rows}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
        patch.chdir(folder)
        assert called("exec", made).exit_code == 0
        open_study(made, config_of(made))
        with study_lock(made.study("own")):
            yield made


def called(name: str, project: ProjectFolder, *more: str) -> Result:
    place = project.project if name != "init" else project.project / "data"  # where there is no hotlap.yaml yet
    words = ["--json", "-p", str(place), *more, *CALLS[name]]
    return CliRunner().invoke(app, [*name.split(), *words], catch_exceptions=False)


@pytest.mark.parametrize("name", list(CALLS))
def test_what_is_printed_is_one_document_with_a_schema(
    name: str, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.project)
    result = called(name, project)
    assert result.exit_code in (0, 7), result.stderr  # doctor: 7 where an essential is missing
    document = json.loads(result.stdout, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert SCHEMA.fullmatch(document["schema"]), name
    if name == "propose":
        assert (document["schema"], document["state"]) == ("hotlap/propose/1", "queued")
    if name == "init":
        assert "hotlap propose" in (project.project / "data" / "AGENTS.md").read_text()
    if name == "speedrun":
        assert document["handed_in"][-1]["files"] == ["model.py"]
    if name == "status":
        assert document["agent"] is None
