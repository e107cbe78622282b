"""The page: well-formed, complete without a script, nothing fetched, and nothing of others run."""

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import synthetic_sweep
from synthetic_sweep import NASTY, NUM_POINTS, sweep_history, write_folders

from hotlap.core.errors import MissingExtraError
from hotlap.core.study_folder import ProjectFolder
from hotlap.report import page
from hotlap.report.page import diff_lines, first_changes, page_sections, plotly_script, render_page, write_page
from hotlap.report.report_data import ReportData
from hotlap.study.report_view import sweep_report

pytest.importorskip("jinja2")

STAND_IN = "const Plotly = {}; // stands in for the script"
VOID = {"meta", "link", "br", "img", "input", "hr", "col"}
ADDRESSES = ("src", "href", "action", "poster", "data", "srcset", "formaction")


class Page(HTMLParser):
    """Reads a page and keeps what the tests ask for; raises where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._at = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._at = dict(attrs).get("id") or tag
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag
        self._at = ""

    def handle_data(self, data: str) -> None:
        self.texts[self._at] = self.texts.get(self._at, "") + data

    def ids(self) -> list[str]:
        return [str(attrs["id"]) for _, attrs in self.tags if "id" in attrs]


@pytest.fixture
def data(project: ProjectFolder) -> ReportData:
    past = sweep_history()
    write_folders(project, past)
    found = sweep_report(project, past, synthetic_sweep.PROTOCOL)
    return replace(found, analysis=synthetic_sweep.analysis(past))


@pytest.fixture
def text(data: ReportData) -> str:
    return render_page(data, STAND_IN)


def values_of(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.texts["page-data"], parse_constant=lambda name: pytest.fail(name))
    return found


def test_the_page_parses_and_every_id_is_there_once(text: str) -> None:
    ids = Page(text).ids()
    assert len(set(ids)) == len(ids)
    sections = ("places", "curves", "analysis", "parallel", "importance", "correlations", "slices", "samples", "best")
    assert {*sections, "changes", "runs"} <= set(ids)


def test_nothing_is_fetched(text: str) -> None:
    page = Page(text)
    addresses = [value or "" for _, attrs in page.tags for name, value in attrs.items() if name in ADDRESSES]
    assert addresses and all(address.startswith(("#", "data:")) for address in addresses)
    assert "url(" not in page.texts["style"] and "@import" not in page.texts["style"]
    assert not re.search(r"https?://", text)
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none';")


def test_what_others_wrote_is_text(data: ReportData, text: str) -> None:
    assert any(NASTY in str(cell) for row in data.runs.rows for cell in row)
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    assert [attrs for tag, attrs in Page(text).tags if tag == "script"] == [
        {"type": "application/json", "id": "page-data"},
        {},
        {},
    ]
    assert any(NASTY in row for row in values_of(Page(text))["runs"]["rows"]), "the exact title, for the CSV"


def test_every_chart_has_its_place_its_words_and_its_numbers(data: ReportData, text: str) -> None:
    page = Page(text)
    figures = values_of(page)["figures"]
    charts = {str(attrs["id"]): attrs for _, attrs in page.tags if str(attrs.get("id", "")).startswith("chart-")}
    assert charts.keys() == {f"chart-{key}" for key in figures}
    assert {"places", "curves", "parallel", "importance", "correlations", "slice-0", "slice-1"} == figures.keys()
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in charts.values())
    without = [
        chart.key for section in page_sections(data) for chart in section.charts if not (chart.grid and chart.grid.rows)
    ]
    assert without == ["parallel"], "its numbers are the table of all runs"


def test_the_table_of_runs_is_complete_without_a_script(data: ReportData, text: str) -> None:
    body = text.split('id="runs-table"')[1].split("</table>")[0]
    assert body.count("<tr>") == NUM_POINTS + 2
    assert all(f'<td class="word">{row[0]}</td>' in body for row in data.runs.rows)
    values = values_of(Page(text))
    assert values["runs"]["headers"] == list(data.runs.headers) and len(values["runs"]["rows"]) == NUM_POINTS + 1
    assert values["order"] == [row[0] for row in data.runs.rows]


def test_without_an_analysis_the_page_says_why(data: ReportData) -> None:
    text = render_page(replace(data, analysis=None, no_analysis_because="no run has <ended>"), STAND_IN)
    assert "no run has &lt;ended&gt;" in text
    assert "chart-importance" not in Page(text).ids()


def test_a_study_that_has_just_begun_has_a_page(project: ProjectFolder) -> None:
    past = replace(sweep_history(), runs=(), proposals=())
    page = Page(render_page(sweep_report(project, past, synthetic_sweep.PROTOCOL), STAND_IN))
    assert values_of(page)["figures"] == {}


def test_same_data_same_page(data: ReportData) -> None:
    assert render_page(data, STAND_IN) == render_page(data, STAND_IN)


def test_lines_of_a_diff_know_what_they_are() -> None:
    diff = "--- parent\n+++ child\n@@ -1 +1 @@\n-  x: 0\n+  x: 1\n same\n"
    assert [kind for kind, _ in diff_lines(diff)] == ["", "", "hunk", "removed", "added", ""]
    assert "".join(f"{line}\n" for _, line in diff_lines(diff)) == diff


def test_without_plotly_one_line_says_what_to_install(
    data: ReportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.delitem(sys.modules, "plotly.offline", raising=False)
    with pytest.raises(
        MissingExtraError, match=re.escape("plotly is not installed; run: pip install 'hotlap[report]'")
    ):
        write_page(data, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_whole_page_is_one_file_below_six_megabytes(data: ReportData, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    path = write_page(data, tmp_path / "report.html")
    assert list(tmp_path.glob("report*")) == [path]
    assert 1_000_000 < path.stat().st_size < 6_000_000
    assert Page(path.read_text(encoding="utf-8")).ids()
    assert "</script" not in plotly_script().lower()


def test_the_parser_of_these_tests_finds_a_tag_that_is_left_open() -> None:
    with pytest.raises(AssertionError):
        Page("<p><b></p>")


def test_every_diff_is_in_the_page_unless_there_is_no_room(data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert render_page(data, STAND_IN).count('<pre class="diff">') == NUM_POINTS
    monkeypatch.setattr(page, "MOST_DIFF_SIGNS", 3 * len(data.changes[0].diff))
    assert 0 < len(first_changes(data.changes)) < NUM_POINTS
    assert "more have no room in this page" in render_page(data, STAND_IN)


def test_the_table_of_all_runs_has_a_place_for_how_many_are_chosen(text: str) -> None:
    caption = text.split('id="runs-table">')[1].split("</caption>")[0]
    assert f'{NUM_POINTS + 1} runs<span id="shown"></span>; ' in caption
    assert 'getElementById("shown")' in text, "the script fills it in"
