"""A study becomes the data of its report: nothing is lost, nothing is made up, and JSON can hold it."""

import json
import math
from dataclasses import replace

import pytest
import synthetic
import synthetic_sweep
from hypothesis import given
from hypothesis import strategies as st
from synthetic_sweep import DIVERGED, KEYS, NASTY, NUM_POINTS, best_number, sweep_history, write_folders

from hotlap.config.load import config_from_values
from hotlap.core.records import History
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.report_data import ReportData, thinned
from hotlap.study import report_view
from hotlap.study.report_view import speedrun_report, sweep_report


@pytest.fixture
def swept(project: ProjectFolder) -> ReportData:
    past = sweep_history()
    write_folders(project, past)
    return sweep_report(project, past, synthetic_sweep.PROTOCOL)


@pytest.fixture
def raced(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> ReportData:
    past = speedrun_history()
    write_folders(project, past)
    monkeypatch.setattr(report_view, "study_summary", lambda history, protocol: synthetic.summary(history))
    return speedrun_report(project, past, synthetic.PROTOCOL)


def speedrun_history() -> History:
    base = config_from_values(synthetic.PROTOCOL["config"]).model_dump(mode="json")
    return replace(synthetic.history(), base_config=base)


def test_a_sweep_tells_its_best_points_first_and_the_baseline_last(swept: ReportData) -> None:
    assert swept.kind == "sweep" and swept.metric == "eval_loss" and swept.target == 0.9
    values = [place.value for place in swept.places[:-1]]
    assert values == sorted(values) and len(values) == 10
    assert swept.places[-1].label.endswith("baseline")
    best = f"r{best_number() + 1:04}"
    assert best in swept.places[0].label and swept.best_name.startswith(best)


def test_every_run_is_in_the_table_with_what_was_varied(swept: ReportData) -> None:
    headers, rows = swept.runs.headers, swept.runs.rows
    assert len(rows) == NUM_POINTS + 1 and {len(row) for row in rows} == {len(headers)}
    assert headers[-2:] == KEYS
    by_run = {row[0]: dict(zip(headers, row, strict=True)) for row in rows}
    third = by_run["r0003"]
    assert third["change"] == NASTY and third[KEYS[1]] == "adamw_torch_fused"
    assert third[KEYS[0]] == pytest.approx(synthetic_sweep.patch(2)[KEYS[0]])
    diverged = by_run[f"r{DIVERGED + 1:04}"]
    assert diverged["eval_loss"] is None and diverged["outcome"] == "diverged"
    assert diverged["note"] == "the loss is not finite" and diverged["seconds to target"] is None


def test_curves_are_finite_and_the_best_one_is_marked(swept: ReportData) -> None:
    kinds = [curve.kind for curve in swept.curves]
    assert kinds[0] == "baseline" and kinds.count("best") == 1 and kinds.count("rung") == 3
    best = next(curve for curve in swept.curves if curve.kind == "best")
    assert best.run_id == f"r{best_number() + 1:04}" and len(best.values) == len(best.seconds) == 8
    assert all(x > 0 and math.isfinite(y) for c in swept.curves for x, y in zip(c.seconds, c.values, strict=True))
    assert all((curve.label == "") == (curve.kind == "other") for curve in swept.curves)


def test_samples_are_the_last_ones_of_baseline_and_best(swept: ReportData) -> None:
    best = f"r{best_number() + 1:04}"
    assert swept.sample_runs == ("r0001", best)
    (pair,) = swept.samples
    assert pair.prompt == "say <b>\n" and pair.expected == "yes"
    assert (pair.baseline, pair.best) == ("r0001 at 8", f"{best} at 8")


def test_prompts_of_the_config_come_first_and_each_with_its_last_answer(project: ProjectFolder) -> None:
    """The metrics of generated text need not be taken at the end, where the last samples of the config are."""
    past = sweep_history()
    write_folders(project, past)
    best = f"r{best_number() + 1:04}"
    for run_id in ("r0001", best):
        for step in (0, 8, 10):
            sample = {"step": step, "train_seconds": step / 2, "prompt": "Once upon", "expected": "", "prompt_index": 0}
            RunFolder(project.runs_path / run_id).append_sample({**sample, "generated": f"{run_id} after {step}"})
    found = sweep_report(project, past, synthetic_sweep.PROTOCOL)
    assert [pair.prompt for pair in found.samples] == ["Once upon", "say <b>\n"]
    assert (found.samples[0].baseline, found.samples[0].best) == ("r0001 after 10", f"{best} after 10")
    assert (found.samples[1].baseline, found.samples[1].best) == ("r0001 at 8", f"{best} at 8")
    assert found.sample_runs == ("r0001", best)


def test_the_best_config_is_told_as_its_differences(swept: ReportData) -> None:
    found = {key: after for key, _, after in swept.differences}
    assert float(found[KEYS[0]]) == pytest.approx(synthetic_sweep.patch(best_number())[KEYS[0]], rel=1e-3)
    assert found[KEYS[1]] == "muon"
    assert len(swept.changes) == NUM_POINTS
    assert swept.changes[0].number == best_number() and swept.changes[0].diff.startswith("--- parent")


def test_a_speedrun_tells_its_ladder(raced: ReportData) -> None:
    assert raced.kind == "speedrun" and raced.target == 0.76
    assert [place.value for place in raced.places] == [55.2, 25.5, 14.0, 10.7]
    assert raced.place_table.rows[-1][:2] == ("7", "RoPE")
    assert [curve.kind for curve in raced.curves] == ["baseline"] * 3 + ["rung", "rung", "best"]
    assert [curve.run_id for curve in raced.curves[:3]] == ["r0001", "r0002", "r0003"]
    assert raced.best_name == "#7 RoPE"
    assert ("model.positions", "rope") in [(key, after) for key, _, after in raced.differences]
    assert [change.number for change in raced.changes[:4]] == [7, 3, 1, 9], "what was kept comes first"
    assert len(raced.runs.rows) == len(synthetic.history().runs)
    assert dict(raced.facts)["Targets"] and dict(raced.measured)["Clock"]


def test_json_can_hold_it_also_with_misses(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    past = replace(synthetic.history("missed"), base_config=speedrun_history().base_config)
    candidates = {**synthetic.CANDIDATES, 0: synthetic.MISSED_BASELINE}
    monkeypatch.setattr(report_view, "study_summary", lambda *_: synthetic.summary(past, candidates))
    data = speedrun_report(project, past, synthetic.PROTOCOL)
    again = json.loads(json.dumps(data.document(), allow_nan=False))
    assert again["schema"] == "hotlap/report/1"
    assert again["places"][0]["value"] is None and again["places"][0]["text"] == "a miss"
    assert again["curves"] == [] and again["samples"] == []


def test_the_analysis_goes_into_the_document(swept: ReportData) -> None:
    data = replace(swept, analysis=synthetic_sweep.analysis(sweep_history()))
    again = json.loads(json.dumps(data.document(), allow_nan=False))
    assert again["analysis"]["importances"]["parameters"][0]["share"] == 0.6


def test_a_sweep_without_a_run_has_a_report(project: ProjectFolder) -> None:
    past = History(clock="train", base_config=synthetic_sweep.BASE)
    data = sweep_report(project, past, synthetic_sweep.PROTOCOL)
    assert data.places == () and data.curves == () and data.best_name == "" and data.runs.rows == ()


@given(st.lists(st.integers(), max_size=200), st.integers(2, 50))
def test_thinning_keeps_order_and_ends(items: list[int], most: int) -> None:
    numbered = list(enumerate(items))
    found = thinned(numbered, most)
    assert found == sorted(found) and len(set(found)) == len(found) == min(most, len(items))
    assert found[:1] == numbered[:1] and found[-1:] == numbered[-1:]
