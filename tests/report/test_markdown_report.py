"""The Markdown form: complete by itself, and its pictures are files beside it."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
import synthetic_sweep
from synthetic_sweep import KEYS, NUM_POINTS, sweep_history, write_folders

from hotlap.core.errors import StorageError
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.markdown_report import render_markdown, write_markdown
from hotlap.report.report_data import MARKER, ReportData, SamplePair
from hotlap.report.static_plots import draw_pictures, share_axis_end
from hotlap.study.report_view import sweep_report

SECTIONS = (
    "Best points",
    "Best config",
    "What the runs say",
    "Importance",
    "Correlations",
    "Marginal effects",
    "eval_loss against the clock",
    "Samples",
    "Changes",
    "All runs",
)
PICTURES = ("places", "importance", "correlations", "effects", "curves")


@pytest.fixture
def data(project: ProjectFolder) -> ReportData:
    past = sweep_history()
    write_folders(project, past)
    found = sweep_report(project, past, synthetic_sweep.PROTOCOL)
    return replace(found, analysis=synthetic_sweep.analysis(past))


def test_every_section_is_there_in_its_order(data: ReportData) -> None:
    text = render_markdown(data, {})
    assert text.startswith(MARKER)
    assert tuple(re.findall(r"^## (.*)$", text, flags=re.MULTILINE)) == SECTIONS
    assert "\n\n\n" not in text


def test_every_run_and_the_best_config_are_told(data: ReportData) -> None:
    text = render_markdown(data, {})
    rows = text.split("## All runs")[1]
    assert all(f"| {row[0]} |" in rows for row in data.runs.rows) and len(data.runs.rows) == NUM_POINTS + 1
    best = text.split("## Best config")[1].split("## ")[0]
    assert "```diff" in best and f"+ {KEYS[1]}: muon" in best
    assert f"| {KEYS[0]} | 0.60 | 0.40 to 0.80 | 0.10 | ✓ yes |" in text
    assert f"| {KEYS[1]} | 0.10 | 0.00 to 0.20 | 0.12 | ✗ no |" in text


def test_what_others_wrote_cannot_break_the_page(data: ReportData) -> None:
    text = render_markdown(data, {})
    assert "<script>" not in text.replace("\\<script>", "")
    assert text.count("<details>") == text.count("</details>") == 11


def test_samples_are_shown_as_they_were_written(data: ReportData) -> None:
    nasty = "![x](http://a.b/c.png) **b** `c` _d_ e_f ~~g~~ &lt; \\* $1$\n  two  <i>|"
    shown = replace(data, samples=(SamplePair("say ", "", nasty, " so"),))
    (row,) = re.findall(r"^\| say.*$", render_markdown(shown, {}), flags=re.MULTILINE)
    assert row == (
        r"| say"
        "\u00a0 |  | "
        r"\!\[x\](http://a.b/c.png) \*\*b\*\* \`c\` \_d\_ e_f \~\~g\~\~ \&lt; \\\* \$1\$↵"
        " \u00a0two \u00a0"
        r"\<i>\| | "
        "\u00a0so |"
    )


def test_names_of_columns_make_no_links(data: ReportData) -> None:
    text = render_markdown(replace(data, headline="best ![x](http://a.b/c.png)"), {})
    assert r"**best ![x]\(http://a.b/c.png)**" in text


def test_the_most_telling_diffs_are_shown_and_the_others_can_be_found(data: ReportData) -> None:
    text = render_markdown(data, {}).split("## Changes")[1].split("## ")[0]
    assert text.count("<details>") == 10
    assert "And 8 more: `--format html` and `--format json` have every diff, `hotlap runs show RUN` tells" in text


def test_without_an_analysis_the_report_says_why(data: ReportData) -> None:
    text = render_markdown(replace(data, analysis=None, no_analysis_because="no run has ended"), {})
    assert "## What the runs say\n\nno run has ended" in text and "## Importance" not in text


def test_a_study_that_has_just_begun_has_a_report(project: ProjectFolder) -> None:
    past = replace(sweep_history(), runs=(), proposals=())
    text = render_markdown(sweep_report(project, past, synthetic_sweep.PROTOCOL), {})
    assert "Nothing is better than the baseline so far." in text and "None yet." in text


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_pictures_lie_beside_it_and_are_linked(data: ReportData, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = write_markdown(data, tmp_path / "my report.md", suffix)
    links = re.findall(r"^!\[([^\]]+)\]\(([^)]+)\)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {Path(unquote(link)).stem for _, link in links} == set(PICTURES)
    for alt, link in links:
        file = tmp_path / unquote(link)
        assert alt and file.suffix == suffix and file.stat().st_size > 1000


def test_the_mark_of_chance_lies_in_the_picture(data: ReportData) -> None:
    assert data.analysis is not None
    found = data.analysis.importances
    assert share_axis_end(found) == pytest.approx(1.2 * 0.8)
    one = replace(found.parameters[0], share=0.1, high=0.2, chance=1.0)
    assert share_axis_end(replace(found, parameters=(one,))) > 1.0


def test_same_data_same_pictures(data: ReportData, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first = draw_pictures(data, tmp_path / "one", ".svg")
    second = draw_pictures(data, tmp_path / "two", ".svg")
    assert tuple(sorted(first)) == tuple(sorted(PICTURES))
    assert [path.read_bytes() for path in first.values()] == [path.read_bytes() for path in second.values()]
    assert b"learning_rate" in first["importance"].read_bytes(), "text stays text"


def test_without_matplotlib_the_tables_stand_alone(
    data: ReportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = write_markdown(data, tmp_path / "report.md")
    assert "*No pictures: matplotlib is not installed; run: pip install 'hotlap[report]'*" in path.read_text()
    assert list(tmp_path.glob("report*")) == [path]


def test_a_place_that_cannot_be_written_is_an_error(data: ReportData, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        write_markdown(data, tmp_path / "file" / "report.md")
