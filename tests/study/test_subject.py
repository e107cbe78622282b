"""What is analysed and reported: a study by its own metric, imported runs by what their source was about."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.foreign import ForeignRun, ForeignSource
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.markdown_report import write_markdown
from hotlap.runs.imports import import_runs
from hotlap.study.report_view import report_data
from hotlap.study.subject import Subject, analysis_of, metric_of, read_subject

RUNS = 24


def foreign(number: int, figure: str = "value", **changes: object) -> ForeignRun:
    """Return a run whose figure is its learning rate, and a little of its optimizer."""
    rate, optim = 10 ** (-4 + 0.1 * number), ("muon", "sgd")[number % 2]
    value = 100 * rate + 0.001 * (optim == "sgd")
    made = ForeignRun(
        own_id=f"t{number}",
        identity=f"test:{number}",
        name=f"run-{number}",
        outcome="missed",
        reason="complete there",
        config={"lr": rate, "optim": optim, "layers": 2},
        metrics={figure: value},
        points=tuple({"step": 10 * step, figure: value + 1 / step} for step in (1, 2, 4)),
        started_at="2026-11-13T09:48:11",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def source(*runs: ForeignRun, label: str = "there", **facts: object) -> ForeignSource:
    told = tuple(replace(run, facts=facts) for run in runs)
    return ForeignSource(kind="test", place=f"{label}.csv", label=label, runs=told)


@pytest.fixture
def swept(project: ProjectFolder) -> Subject:
    import_runs(project, source(*map(foreign, range(RUNS)), directions={"value": "minimize"}))
    return read_subject(project)


def test_the_last_import_is_the_subject_where_there_is_no_study(project: ProjectFolder, swept: Subject) -> None:
    assert (swept.name, len(swept.history.runs), len(swept.imported)) == ("there@import", RUNS, RUNS)
    import_runs(project, source(foreign(RUNS), label="later"))
    assert read_subject(project).name == "later@import"
    assert read_subject(project, "there@import").imported.keys() == swept.imported.keys()


def test_imported_runs_are_analysed_by_what_their_source_optimised(swept: Subject) -> None:
    found = analysis_of(swept)
    assert found.table.score_name == "value"
    assert [column.name for column in found.table.parameters] == ["lr", "optim"]
    assert [one.parameter for one in found.importances.visible] == ["lr"]
    assert found.differences == ()
    assert found.table.run_ids[found.table.best] == "r0001"


def test_a_source_that_maximised_ranks_the_other_way_round(project: ProjectFolder) -> None:
    import_runs(project, source(*map(foreign, range(RUNS)), directions={"value": "maximize"}))
    subject = read_subject(project)
    assert metric_of(subject) == ("value", True)
    assert analysis_of(subject).table.best == RUNS - 1
    assert report_data(project, subject).places[0].label == f"r{RUNS:04} run-{RUNS - 1}"


def test_a_metric_that_is_named_goes_first(swept: Subject) -> None:
    assert metric_of(swept, "other", maximize=True) == ("other", True)
    with pytest.raises(ConfigError, match="other"):
        analysis_of(swept, "other")
    with pytest.raises(ConfigError, match="name that, too"):
        analysis_of(swept, maximize=True)


def test_where_nobody_knows_the_metric_its_name_is_asked_for(project: ProjectFolder) -> None:
    import_runs(project, source(*(foreign(number, "f1_score") for number in range(RUNS))))
    subject = read_subject(project)
    with pytest.raises(ConfigError, match=r"--metric; its runs have: f1_score"):
        analysis_of(subject)
    assert analysis_of(subject, "f1_score", maximize=True).table.score_name == "-f1_score"
    data = report_data(project, subject)
    assert data.places == () and len(data.runs.rows) == RUNS


def test_a_name_that_is_not_there_is_told(project: ProjectFolder, swept: Subject) -> None:
    with pytest.raises(StudyError, match="there are: there@import"):
        read_subject(project, "elsewhere@import")
    with pytest.raises(StudyError, match="no study 'elsewhere'"):
        read_subject(project, "elsewhere")


def test_nothing_at_all_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no study yet"):
        read_subject(ProjectFolder(tmp_path))


def test_the_report_on_imported_runs_claims_no_clock(project: ProjectFolder, swept: Subject, tmp_path: Path) -> None:
    data = replace(report_data(project, swept), analysis=analysis_of(swept))
    assert data.kind == "import" and data.axis == "steps"
    assert data.curves[0].seconds == (10.0, 20.0, 40.0) and data.curves[0].kind == "best"
    assert all(math.isnan(place.low) for place in data.places)
    assert data.runs.headers == ("run", "name", "outcome", "steps", "value", "lr", "optim")
    assert len(data.runs.rows) == RUNS
    text = write_markdown(data, tmp_path / "report.md").read_text(encoding="utf-8")
    assert "# there@import: imported runs" in text and "| lr | 0.0001 |" in text
    assert "baseline" not in text.replace("best config", "") and "None of hotlap's" in text
