"""`hotlap runs`: what it prints, and what it says when it cannot."""

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hotlap.cli.runs import app
from hotlap.config.load import config_from_values, config_text
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder

POINTS = 500


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A baseline, a faster run and a raced one."""
    folder = ProjectFolder(tmp_path).create()
    add_run(folder, 20.0, "baseline", {})
    add_run(folder, 10.0, "screen", {"training.optim": "muon"})
    raced = add_run(folder, None, "screen", {"training.learning_rate": 0.5})
    raced.write("stop", {"outcome": "raced", "reason": "far [behind] at equal clock"})
    return tmp_path


def add_run(project: ProjectFolder, seconds: float | None, role: str, patch: dict[str, Any]) -> RunFolder:
    folder = RunFolder.create(project.runs_path)
    folder.write_config(config_text(config_from_values({}, patch)))
    folder.write("command", {"study": "tiny", "role": role, "candidate": 0, "seed": 1, "driver": {}})
    lines = [{"step": i, "train_seconds": i / 50, "eval_loss": 3 - i / 250} for i in range(POINTS)]
    folder.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if seconds is not None:
        facts = {"step": 500, "train_seconds": seconds, "wall_seconds": seconds + 3, "metrics": {"eval_loss": math.nan}}
        target = {"train": seconds, "wall": seconds + 2, "step": 500}
        parts = {"setup": 2.0, "steps": seconds, "forward": seconds / 2}
        folder.write("result", {"outcome": "reached", "time_to_target": target, "seconds": parts, **facts})
    return folder


def run(project: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "-p", str(project)], catch_exceptions=False)


def document(project: Path, *arguments: str) -> dict[str, Any]:
    result = run(project, *arguments, "--json")
    assert result.exit_code == 0
    loaded: dict[str, Any] = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert loaded["schema"] == "hotlap/runs/1"
    return loaded


def test_ls_aligns_its_columns(project: Path) -> None:
    header, *rows = run(project, "ls").stdout.splitlines()
    assert header.split()[:4] == ["run", "study", "role", "outcome"]
    assert [row.split()[0] for row in rows] == ["r0001", "r0002", "r0003"]
    assert rows[0].index("reached") == rows[2].index("raced") == header.index("outcome")


def test_ls_sorts_limits_and_selects(project: Path) -> None:
    assert [r["run_id"] for r in document(project, "ls", "--sort", "time")["runs"]] == ["r0002", "r0001", "r0003"]
    assert [r["run_id"] for r in document(project, "ls", "--limit", "1")["runs"]] == ["r0003"]
    assert document(project, "ls", "--study", "none")["runs"] == []
    rows = list(csv.DictReader(io.StringIO(run(project, "ls", "--csv").stdout)))
    assert rows[1]["config.training.optim"] == "muon"
    assert run(project, "ls", "--csv", "--json").exit_code == 2


def test_ls_of_an_empty_project_says_what_to_do(tmp_path: Path) -> None:
    result = run(tmp_path, "ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "hotlap train" in result.stderr


def test_show_tells_everything(project: Path) -> None:
    run(project, "note", "r2", "looks good", "-t", "muon")
    text = run(project, "show", "@best").stdout
    assert "r0002  screen of tiny" in text
    assert "time to target 10.0 s (train clock), 12.0 s (wall clock), at step 500" in text
    assert "eval_loss █" in text
    assert "looks good #muon" in text
    assert "where the seconds went" in text
    assert "training.optim  adamw_torch_fused   muon" in text
    assert "hotlap rerun r0002" in text
    assert text.count("\n") < 40


def test_show_of_a_stopped_run_prints_its_reason_as_it_is(project: Path) -> None:
    assert "far [behind] at equal clock" in run(project, "show", "@last").stdout


def test_show_as_json(project: Path) -> None:
    shown = document(project, "show", "r0002")
    assert shown["base"] == "r0001"
    assert shown["differences"] == {"training.optim": ["adamw_torch_fused", "muon"]}
    assert shown["runs"][0]["metrics"] == {"eval_loss": None}
    assert shown["reproduce"].startswith("hotlap rerun r0002")


def test_compare_prints_differences_only(project: Path) -> None:
    text = run(project, "compare", "@baseline", "@best", "r3").stdout
    assert "training.optim" in text
    assert "training.learning_rate" in text
    assert "training.bf16" not in text
    assert "time to target" in text
    compared = document(project, "compare", "r1", "r2")
    assert compared["differences"] == {"training.optim": ["adamw_torch_fused", "muon"]}
    assert "(equal)" in run(project, "compare", "r1", "r1").stdout


@pytest.mark.parametrize("arguments", [["show", "r9"], ["compare", "r1", "@bset"], ["note", "r0009", "lost"]])
def test_an_unknown_run_is_one_clear_message(project: Path, arguments: list[str]) -> None:
    result = run(project, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "unknown" in result.stderr


def test_a_missing_project_is_named(tmp_path: Path) -> None:
    result = run(tmp_path / "gone", "ls")
    assert result.exit_code == 2
    assert "gone is no folder" in result.stderr


def test_export_never_leaves_points_out(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "points.csv"
    result = run(project, "export", "--points", "--out", str(out))
    assert (result.exit_code, result.stdout) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert len(rows) == 3 * POINTS
    assert rows[POINTS]["run_id"] == "r0002"
    assert len(document(project, "export", "--points")["points"]) == 3 * POINTS


def test_export_of_runs(project: Path) -> None:
    assert len(document(project, "export")["runs"]) == 3
    rows = list(csv.DictReader(io.StringIO(run(project, "export").stdout)))
    assert [row["outcome"] for row in rows] == ["reached", "reached", "raced"]
    assert run(project, "export", "--out", str(project / "no" / "where.csv")).exit_code == 125


def test_the_module_loads_nothing_heavy() -> None:
    script = "import sys, hotlap.cli.runs, hotlap.cli.doctor; print(*(m for m in sys.modules if 'hotlap.' in m))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    names = ("doctor", "runs", "samples", "screen", "stores")
    assert set(loaded.split()) == {"hotlap.cli", *(f"hotlap.cli.{name}" for name in names)}


def test_show_tells_what_the_guards_found(project: Path) -> None:
    folder = ProjectFolder(project).runs_path / "r0002"
    RunFolder(folder).write(
        "guards", {"state": "failed", "problems": ["eval_loss is nan in a result that says reached"]}
    )
    shown = run(project, "show", "r0002").stdout
    assert "r0002  screen of tiny, candidate 0, seed 1: invalid\n  eval_loss is nan in a result" in shown
    assert "guards: failed: the run does not count" in shown
    assert "invalid" in run(project, "ls").stdout
    assert "guards" not in run(project, "show", "r0001").stdout


def test_a_run_is_checked_by_hand(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run(project, "check", "r0001")
    assert refused.exit_code == 2
    assert "r0001: there is no model.safetensors of hotlap's own trainer" in refused.stderr
    folder = RunFolder(ProjectFolder(project).runs_path / "r0001")
    folder.write("command", {**(folder.read("command") or {}), "argv": ["python", "-m", "hotlap.worker", "x"]})
    folder.write("result", {**(folder.read("result") or {}), "metrics": {"eval_loss": 0.75}})
    folder.weights_path.touch()
    part = {"num_examples": 32, "num_targets": 900, "hash": "fedcba9876543210", "metrics": {"eval_loss": 0.75}}
    found = {"eval": part, "audit": {**part, "metrics": {"eval_loss": 0.77}}, "shared": 0}
    monkeypatch.setattr("hotlap.launch.evaluate.evaluate_again", lambda _: found)
    same = run(project, "check", "r0001")
    assert same.exit_code == 0 and "r0001: its weights give its metrics again" in same.stdout
    assert "0.77" in same.stdout
    part["metrics"] = {"eval_loss": 0.9}
    other = run(project, "check", "r0001")
    assert other.exit_code == 5 and "eval_loss was 0.75, its saved weights give 0.9" in other.stderr
