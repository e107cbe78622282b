"""The tables of a report: what they say of samples, and how they say it."""

from dataclasses import replace

import pytest
import synthetic_sweep
from synthetic_sweep import KEYS, sweep_history

from hotlap.analysis.effects import Difference
from hotlap.cli.analyze import analysis_lines
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.report_data import ReportData, SamplePair
from hotlap.report.report_tables import sample_grid
from hotlap.study.report_view import sweep_report


@pytest.fixture
def data(project: ProjectFolder) -> ReportData:
    return sweep_report(project, sweep_history(), synthetic_sweep.PROTOCOL)


@pytest.mark.parametrize(
    ("generated", "expected", "mark"),
    [("tightly with\n", "tightly with", "✓"), ("so", " so ", "✓"), ("so", "soo", "✗"), ("a b", "ab", "✗")],
)
def test_a_sample_is_right_where_the_exact_match_counts_it(
    data: ReportData, generated: str, expected: str, mark: str
) -> None:
    told = sample_grid(replace(data, samples=(SamplePair("say", expected, generated, None),)))
    assert told.rows[0][2].startswith(mark) and told.rows[0][3] == "–"


def test_analyze_and_the_report_show_settings_alike(data: ReportData) -> None:
    found = synthetic_sweep.analysis(sweep_history())
    told = replace(found, differences=(Difference(key="training.bf16", baseline=False, best=50.0),))
    assert "  training.bf16: false → 50" in analysis_lines("toy", told)
    assert (KEYS[1], "adamw_torch_fused", "muon") in data.differences
