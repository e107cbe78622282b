"""The files that a bench ends with: JSON, Markdown, CSV and a picture; and its report."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_bench import BATCH, BF16, LENGTH, measure

from hotlap.bench.answers import answers_of
from hotlap.bench.report import bench_page, bench_tables, write_bench_report
from hotlap.bench.summary import summary_document, write_summary
from hotlap.cli.report import report
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.study_folder import ProjectFolder
from hotlap.report import bench_pictures

CONFIG = """\
name: toy
task: {name: language_model, block_size: 128}
training: {per_device_train_batch_size: 4}
"""
AXES = {BATCH: [1, 2, 4, 8], LENGTH: [64, 128], BF16: [False, True]}


@pytest.fixture
def folder(project: ProjectFolder) -> BenchFolder:
    """A bench with a cell that is out of memory and one that failed."""
    folder = BenchFolder.create(project.benches_path)
    folder.write_config(CONFIG)
    lines = measure(AXES, noise=0.01, matmul_flops=1e11, flops_per_step=1e8)
    folder.write_plan({"name": "toy", "num_repeats": len(lines), "memory_bytes": 10**9})
    parts = {"waiting": 0.0, "data": 0.0002, "forward": 0.003, "backward": 0.004, "optimizer": 0.0005}
    for line in lines:
        rows = line.settings[BATCH] * line.settings[LENGTH]
        one = replace(line, seconds_by_part=parts, peak_memory_bytes=int(2e8 + 4e5 * rows))
        if rows >= 1024:
            one = replace(one, outcome="out_of_memory", message="no room", step_seconds=())
        if line.cell == 0:
            one = replace(one, outcome="failed", message="boom <b>\nTraceback", step_seconds=())
        folder.append(one)
    return folder


def test_everything_is_written_and_says_the_same(folder: BenchFolder) -> None:
    written = write_summary(folder)
    document = json.loads(folder.summary_path.read_text())
    text = folder.markdown_path.read_text()
    rows = list(csv.DictReader(io.StringIO(folder.csv_path.read_text())))
    assert document["suggestion"]["patch"] == {BF16: True}  # at the config's length, batch 8 has no room
    assert document["is_complete"] and document["unit"] == "tokens/s"
    assert f"**{document['headline']}**" in text and "+ training.bf16: true" in text
    assert "- **Out of memory** batch 8, length 128, bf16 false" in text
    assert "boom" in text and "<b>" not in text.replace("\\<b>", "")
    assert len(rows) == len(document["cells"]) == 16
    assert {row["outcome"] for row in rows} == {"measured", "out_of_memory", "failed"}
    assert float(rows[5]["seconds_per_step"]) == document["cells"][5]["seconds_per_step"]
    assert written.not_drawn == "" or "matplotlib" in written.not_drawn


def test_the_same_lines_give_the_same_bytes(folder: BenchFolder) -> None:
    pytest.importorskip("matplotlib")
    first = [path.read_text() for path in write_summary(folder).paths]
    second = [path.read_text() for path in write_summary(folder).paths]
    assert first == second and len(first) == 4


def test_the_picture_names_what_it_shows(folder: BenchFolder) -> None:
    pytest.importorskip("matplotlib")
    write_summary(folder)
    drawn = folder.svg_path.read_text()
    for text in ("bf16 false", "bf16 true", "no memory", "memory of the device", "launch overhead", "tokens/s"):
        assert text in drawn, text


def test_without_matplotlib_the_tables_are_there(folder: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from hotlap.core.errors import MissingExtraError

    def missing(name: str, extra: str) -> None:
        raise MissingExtraError(f"{name} is not installed; run: pip install 'hotlap[{extra}]'")

    monkeypatch.setattr(bench_pictures, "import_optional", missing)
    written = write_summary(folder)
    assert "pip install 'hotlap[report]'" in written.not_drawn
    assert "bench.svg" not in folder.markdown_path.read_text() and not folder.svg_path.exists()


def test_a_bench_of_one_cell_and_an_empty_one(project: ProjectFolder) -> None:
    folder = BenchFolder.create(project.benches_path)
    folder.write_config(CONFIG)
    folder.write_plan({"name": "toy", "num_repeats": 2})
    assert "nothing was measured yet" in render(folder)
    folder.append(measure({BATCH: [4]})[0])
    text = render(folder)
    assert "the config is as fast as anything measured here" in text and "hotlap bench --resume" in text
    assert json.loads(folder.summary_path.read_text())["axes"] == []


def render(folder: BenchFolder) -> str:
    write_summary(folder)
    return folder.markdown_path.read_text()


def test_disturbed_cells_are_marked_and_named(project: ProjectFolder) -> None:
    folder = BenchFolder.create(project.benches_path)
    folder.write_config(CONFIG)
    folder.write_plan({"name": "toy", "num_repeats": 6})
    for line in measure({BATCH: [4, 8]}):
        is_loud = line.settings[BATCH] == 4 and line.repeat == 1
        folder.append(replace(line, message="other processes kept 1.30 cores busy" if is_loud else ""))
    text = render(folder)
    rows = [line for line in text.splitlines() if "not quiet" in line and line.startswith("|")]
    assert len(rows) == 1 and rows[0].replace(" ", "").startswith("|4|")
    assert "- **Not quiet** batch 4: other processes kept 1.30 cores busy; do not compare them" in text
    assert "Emulated" not in text


def test_emulated_bf16_and_how_samples_were_counted_are_said(project: ProjectFolder) -> None:
    folder = BenchFolder.create(project.benches_path)
    folder.write_config(CONFIG)
    folder.write_plan({"name": "toy", "num_repeats": 6})
    for line in measure({BF16: [False, True]}, samples_by="the knob batch, × devices"):
        folder.append(replace(line, evidence={"bf16_is_emulated": 1.0} if line.settings[BF16] else {}))
    text = render(folder)
    assert "- **Emulated** this device has no units for bf16" in text
    assert "- **Samples** those of a step are counted by the knob batch, × devices" in text


def test_what_all_cells_have_other_than_the_config_is_said(project: ProjectFolder) -> None:
    folder = BenchFolder.create(project.benches_path)
    folder.write_config(CONFIG)
    folder.write_plan({"name": "toy", "num_repeats": 6, "own": {"model.max_position_embeddings": 64}})
    for line in measure({BATCH: [4, 8]}):
        folder.append(line)
    suggestion = answers_of(folder).suggestion
    assert suggestion is not None
    assert suggestion.notes[-1] == "all cells have model.max_position_embeddings 256, the config 64"


def test_no_bench_is_told(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no bench"):
        write_summary(BenchFolder(tmp_path))


def test_the_document_has_no_number_that_json_lacks(folder: BenchFolder) -> None:
    json.dumps(summary_document(answers_of(folder)), allow_nan=False)


@pytest.mark.parametrize("form", ["html", "md", "json"])
def test_the_report_in_every_form(folder: BenchFolder, tmp_path: Path, form: str) -> None:
    for package in ("plotly", "jinja2", "matplotlib"):
        pytest.importorskip(package)
    path = tmp_path / f"report.{form}"
    chosen = {"html": "html", "md": "md", "json": "json"}
    assert write_bench_report(folder, path, chosen[form], ".svg") == path  # type: ignore[arg-type]
    text = path.read_text()
    assert "batch 4, length 128, bf16 true" in text
    write_bench_report(folder, path, chosen[form], ".svg")  # type: ignore[arg-type]  its own file is written anew
    path.write_text("mine")
    with pytest.raises(ConfigError, match="was not written by hotlap report"):
        write_bench_report(folder, path, chosen[form], ".svg")  # type: ignore[arg-type]


def test_the_charts_are_ones_that_plotly_takes(folder: BenchFolder) -> None:
    objects = pytest.importorskip("plotly.graph_objects")
    page = bench_page(answers_of(folder))
    charts = [chart for section in page.sections for chart in section.charts]
    assert {chart.key for chart in charts} >= {"heat-0", "heat-1", "lines-0", "shares"}
    for chart in charts:
        objects.Figure(chart.figure)
    assert page.rows_name == "cells" and len(page.rows.rows) == 16


def test_the_report_of_a_study_has_the_last_bench_of_its_name(folder: BenchFolder, project: ProjectFolder) -> None:
    ((title, cells),) = bench_tables(project, "toy")
    assert title.startswith("Throughput, bench b0001: batch 4, length 128, bf16 true: ") and len(cells.rows) == 16
    assert bench_tables(project, "other") == ()
    folder.write_config("name: toy\nmodel: {name: forgotten}\n")
    ((title, cells),) = bench_tables(project, "toy")
    assert title == "Throughput, bench b0001" and "unknown model 'forgotten'" in str(cells.rows)


def test_the_report_command_takes_a_bench(
    folder: BenchFolder, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    report("bench", form="json", project=project.project, json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["subject"] == "b0001" and Path(told["file"]).name == "report-b0001.json"
    assert json.loads(Path(told["file"]).read_text())["schema"] == "hotlap/bench-summary/1"
    with pytest.raises(StudyError, match=r"no bench b0007 .*; there are: b0001 \(toy\)"):
        report("b0007", project=project.project)
