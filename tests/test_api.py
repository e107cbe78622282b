"""hotlap from Python: quick to import, complete, escaped, and the same as on the command line."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hotlap
from hotlap.api import Project, Run, Runs
from hotlap.config.load import config_from_values, config_text
from hotlap.core.errors import ConfigError, MissingExtraError, StorageError, StudyError
from hotlap.core.foreign import ForeignRun, ForeignSource
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.summary import StudySummary
from hotlap.report.sweep_summary import SweepSummary
from hotlap.runs.imports import import_runs
from hotlap.study.study import open_study
from hotlap.study.sweep import open_sweep, point_proposal
from hotlap.study.sweep_plan import SweepSettings

POINTS = 500
NASTY = "<script>alert('x')</script> & \"more\""


def add_run(project: ProjectFolder, seconds: float | None, study: str = "tiny", role: str = "screen") -> RunFolder:
    folder = RunFolder.create(project.runs_path)
    folder.write_config(config_text(config_from_values({}, {"training.learning_rate": 0.25})))
    folder.write("command", {"study": study, "role": role, "candidate": 0, "seed": 1, "driver": {}})
    lines = [{"step": i, "train_seconds": i / 50, "eval_loss": 3 - i / 250} for i in range(POINTS)]
    folder.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    target = None if seconds is None else {"train": seconds, "wall": seconds + 2, "step": 500}
    facts = {"step": 500, "train_seconds": 20.0, "wall_seconds": 23.0, "metrics": {"eval_loss": 0.75, NASTY: 1.0}}
    folder.write("result", {"outcome": "missed" if seconds is None else "reached", "time_to_target": target, **facts})
    return folder


@pytest.fixture
def opened(project: ProjectFolder) -> Project:
    """Return a project with a baseline, a faster run, a miss, and a run of another study with a nasty name."""
    add_run(project, 20.0, role="baseline")
    add_run(project, 10.0)
    add_run(project, None)
    add_run(project, 15.0, study=NASTY)
    found: Project = hotlap.open(project.project)
    return found


def test_importing_the_package_loads_nothing_of_it() -> None:
    script = (
        "import sys\nbefore = set(sys.modules)\nimport hotlap\nprint(*sorted(set(sys.modules) - before))\n"
        "assert hotlap.__version__ and callable(hotlap.open)\n"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "hotlap" in loaded
    assert not [name for name in loaded if name.startswith("hotlap.")]
    assert not {"pydantic", "ruamel", "sqlite3", "numpy", "optuna", "torch"} & set(loaded)


@pytest.mark.parametrize("name", ["open", "Project", "Run", "Runs", "Study"])
def test_the_names_of_the_package_lead_to_the_api(name: str) -> None:
    assert getattr(hotlap, name) is getattr(sys.modules["hotlap.api"], name)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hotlap' has no attribute 'opne'"):
        _ = hotlap.opne


def test_a_folder_that_is_no_project_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no \.hotlap in"):
        hotlap.open(tmp_path)


def ids(runs: Runs) -> list[str]:
    return [run.id for run in runs]


def test_runs_are_a_sequence(opened: Project) -> None:
    runs = opened.runs()
    assert (len(runs), ids(runs)) == (4, ["r0001", "r0002", "r0003", "r0004"])
    assert (runs[0].id, runs[-1].id, runs["r0002"].id, runs["3"].id) == ("r0001", "r0004", "r0002", "r0003")
    assert runs["@last"].id == "r0004"
    assert isinstance(runs[1:3], Runs) and ids(runs[1:3]) == ["r0002", "r0003"]
    assert runs[1] in runs
    assert ids(runs.filter(lambda run: run.outcome == "missed")) == ["r0003"]
    with pytest.raises(ConfigError, match="unknown run 'r9'"):
        runs["r9"]
    with pytest.raises(IndexError):
        runs[9]


def test_runs_are_selected_and_sorted_as_on_the_command_line(opened: Project) -> None:
    assert ids(opened.runs("tiny", sort="time", limit=2)) == ["r0002", "r0001"]
    assert ids(opened.runs(limit=1)) == ["r0004"]
    assert len(opened.runs("none")) == 0
    unknown: Any = "loss"
    with pytest.raises(ConfigError, match="unknown order of runs 'loss'"):
        opened.runs(sort=unknown)


def test_a_run_has_its_settings_metrics_and_every_point(opened: Project) -> None:
    run = opened.run("r2")
    assert (run.id, run.study, run.outcome, run.time_to_target) == ("r0002", "tiny", "reached", 10.0)
    assert run.config["training"]["learning_rate"] == 0.25
    assert run.metrics["eval_loss"] == 0.75
    assert (run.imported, run.record.seed) == ({}, 1)
    assert len(run.points()) == POINTS
    assert run.points()[7] == {"step": 7, "train_seconds": 7 / 50, "eval_loss": 3 - 7 / 250}
    assert repr(run) == "Run(r0002: reached)"
    with pytest.raises(ConfigError, match="unknown run"):
        opened.run("r9")


def test_what_was_read_stays_as_it_was(opened: Project) -> None:
    before = opened.runs()
    add_run(opened.folder, 5.0)
    assert (len(before), len(opened.runs())) == (4, 5)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_exports_are_complete(opened: Project, tmp_path: Path) -> None:
    runs = opened.runs()
    runs.to_csv(tmp_path / "runs.csv")
    runs.to_csv(tmp_path / "points.csv", points=True)
    runs.to_json(str(tmp_path / "runs.json"))
    runs.to_json(tmp_path / "points.json", points=True)
    assert [row["config.training.learning_rate"] for row in read_csv(tmp_path / "runs.csv")] == ["0.25"] * 4
    points = read_csv(tmp_path / "points.csv")
    assert len(points) == 4 * POINTS
    assert (points[POINTS]["run_id"], points[POINTS]["step"]) == ("r0002", "0")
    assert [run["run_id"] for run in json.loads((tmp_path / "runs.json").read_text())["runs"]] == ids(runs)
    assert json.loads((tmp_path / "points.json").read_text())["points"] == runs.points()
    with pytest.raises(StorageError, match="cannot write"):
        runs.to_csv(tmp_path / "gone" / "runs.csv")


def test_what_needs_a_package_says_how_to_get_it(
    opened: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hotlap\[data\]'"):
        opened.runs().to_pandas()
    with pytest.raises(MissingExtraError, match=r"pip install 'hotlap\[data\]'"):
        opened.runs().to_parquet(tmp_path / "runs.parquet", points=True)


def test_a_real_frame(opened: Project) -> None:
    pytest.importorskip("pandas")
    assert list(opened.runs().to_pandas()["run_id"]) == ["r0001", "r0002", "r0003", "r0004"]
    assert len(opened.runs().to_pandas(points=True)) == 4 * POINTS


def test_a_study_and_its_journal(opened: Project) -> None:
    with pytest.raises(StudyError, match="no study yet"):
        opened.study()
    assert opened.studies() == []
    study = open_study(opened.folder, config_from_values({"name": "toy", "targets": ["eval_loss < 0.76"]}))
    facts = {"run": "r0001", "role": "baseline", "candidate": 0, "seed": 1}
    study.folder.append("run", {**facts, "phase": "started"})
    study.folder.append("run", {**facts, "phase": "ended"})
    found = opened.study("toy")
    assert [run.run_id for run in found.history.runs] == ["r0001"]
    assert isinstance(found.summary, StudySummary)
    assert (found.name, found.summary.num_runs) == ("toy", 1)
    assert [each.name for each in opened.studies()] == ["toy"]
    journal = found.journal()
    assert "# Speedrun: toy" in journal
    assert "*No picture: none was drawn yet*" in journal
    assert not (opened.folder.project / "SPEEDRUN.md").exists()
    with pytest.raises(StudyError, match="there are: toy"):
        opened.study("other")


def test_a_sweep_is_told_as_a_sweep(opened: Project) -> None:
    config = config_from_values({"name": "swept", "budget": {"run": 60.0, "total": 3600.0}})
    study = open_sweep(opened.folder, config, SweepSettings(run_cap=9), {"method": "random"})
    study.append(point_proposal(study.history, {"training.learning_rate": 0.25}, "random"))
    for candidate, run in enumerate(("r0001", "r0002")):
        facts = {"run": run, "role": "screen" if candidate else "baseline", "candidate": candidate, "seed": 42}
        study.folder.append("run", {**facts, "phase": "started"})
        study.folder.append("run", {**facts, "phase": "ended"})
    found = opened.study("swept")
    assert isinstance(found.summary, SweepSummary)
    assert (found.summary.method, found.summary.run_cap, len(found.summary.points)) == ("random", 9, 1)
    assert repr(found) == "Study(swept: best eval_loss 0.75 (one run), the baseline 0.75: no point is better than that)"
    text = found._repr_html_()
    assert "learning_rate 0.25" in text and "time to target" not in text and "<b>" not in text
    assert repr(found.analysis()) == repr(opened.analysis("swept"))
    with pytest.raises(StudyError, match="is a sweep"):
        found.journal()


def shown(*objects: Any) -> Iterator[str]:
    for each in objects:
        yield each._repr_html_()


def test_what_a_notebook_shows_is_escaped(opened: Project) -> None:
    open_study(opened.folder, config_from_values({"name": "toy", "targets": ["eval_loss < 0.76"]}))
    runs = opened.runs()
    texts = list(shown(opened, runs, runs["r4"], opened.study("toy")))
    assert all("<script>" not in text for text in texts)
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;more&quot;" in texts[1]
    assert "&lt;script&gt;" in texts[2], "the name of a metric, too"
    assert all(text.count("<table>") == text.count("</table>") for text in texts)
    assert "r0002" in texts[1] and "10.0 s" in texts[1]
    assert "4 runs" in texts[0] and "toy" in texts[3]


def test_a_notebook_shows_the_first_runs_and_says_how_many_more(opened: Project) -> None:
    run: Run = opened.run("r1")
    many = Runs([run] * 60)
    text = many._repr_html_()
    assert text.count("<tr>") == 1 + 50
    assert "and 10 more" in text
    assert "more" not in Runs([run] * 50)._repr_html_()


def test_an_analysis_is_a_plain_object_with_a_page_of_its_own(opened: Project) -> None:
    run = ForeignRun(own_id="a", identity="a", outcome="missed", reason="", metrics={"eval_loss": 2.0})
    import_runs(opened.folder, ForeignSource(kind="test", place="there.csv", label="there", runs=(run,)))
    found = opened.analysis("there@import")
    assert repr(found) == f"Analysis({len(found.table.run_ids)} runs by {found.table.score_name})"
    assert found._repr_html_().startswith("<p>") and "not enough" in found.words
    with pytest.raises(StudyError):
        opened.analysis("nowhere")
