"""The summary: what is claimed, what is only seen, and what is unknown."""

import json
import math
from dataclasses import replace

import pytest
from synthetic import CANDIDATES, MISSED_BASELINE, NOISE, PROTOCOL, figures, history, summary

from hotlap.core.records import Decision, History
from hotlap.report.header import header_facts, headline
from hotlap.report.summary import summarize


def test_a_confirmed_record_gives_the_speedup() -> None:
    found = summary(history())
    assert found.record_seconds == 10.65
    assert found.speedup == pytest.approx(55.2 / 10.65)
    assert not found.is_lower_bound
    assert headline(found) == "55.2 s → 10.7 s: 5.18× faster, a record (p = 0.0143)"


def test_a_claim_brings_its_own_speedup_and_interval() -> None:
    past = history()
    claimed = replace(past.claims[0], speedup=5.0, speedup_interval=(4.6, 5.4))
    found = summary(replace(past, claims=(claimed,)))
    assert found.speedup == 5.0 and found.document()["speedup_interval"] == [4.6, 5.4]
    assert headline(found) == "55.2 s → 10.7 s: 5.00× faster, a record (90 % interval 4.60× to 5.40×, p = 0.0143)"
    assert "with the baseline at" not in dict(header_facts(found))["Record"]
    faster = summary(replace(past, claims=(replace(claimed, pace=0.8),)))
    assert "with the baseline at 44.2 s: its steps took 0.80 times as long" in dict(header_facts(faster))["Record"]
    open_end = summary(replace(past, claims=(replace(claimed, speedup_interval=(4.6, math.inf)),)))
    assert "at least 4.60×" in headline(open_end)
    assert "speedup over the baseline at least 4.60× (90 % interval)" in dict(header_facts(open_end))["Record"]


def test_the_header_tells_noise_metric_and_drift() -> None:
    past = history()
    assert not {"Calibration", "Drift"} & dict(header_facts(summary(past))).keys()
    noise = replace(
        NOISE,
        clock_sigma=0.004,
        smallest_visible_timing=0.985,
        metric="eval_loss",
        metric_at_seconds=50.0,
        metric_mean=0.771,
        metric_sigma=0.0042,
        metric_slope=-0.0032,
        drifts=(1.1, 0.95),
    )
    facts = dict(header_facts(summarize(past, PROTOCOL, noise, CANDIDATES)))
    assert "runs of each side that would show 1 %: 306, 2 %: 76, 5 %: 12" in facts["Noise"]
    assert "σ = 0.4 %" in facts["Noise"] and "shows from 1.5 %" in facts["Noise"]
    assert facts["Calibration"] == (
        "eval_loss of the baseline at 50.0 s is 0.771, σ = 0.0042 between seeds; it falls by 0.0032 a second: "
        "1 % of the time is worth 0.0016"
    )
    assert facts["Drift"].startswith("step times changed by +10.0 %, −5.0 %;")
    assert "by chance alone 0.019" in facts["Tries"]


@pytest.mark.parametrize(
    ("goal", "text", "is_reached"),
    [
        ("10x", "10x (stop_when), so 5.52 s or less: not reached, #7 takes 10.7 s", False),
        ("4x", "4x (stop_when), so 13.8 s or less: reached, #7 takes 10.7 s", True),
        ("10s", "10.0 s (stop_when), so 10.0 s or less: not reached, #7 takes 10.7 s", False),
    ],
)
def test_a_goal_is_told_with_what_is_reached(goal: str, text: str, is_reached: bool) -> None:
    protocol = {**PROTOCOL, "config": {**PROTOCOL["config"], "stop_when": goal}}
    found = summarize(history(), protocol, NOISE, CANDIDATES)
    assert dict(header_facts(found))["Goal"] == text and found.has_reached_goal is is_reached
    assert found.document()["has_reached_goal"] is is_reached
    begun = summarize(History(clock="train", base_config={}), protocol, NOISE, {})
    assert not begun.has_reached_goal and "Goal" in dict(header_facts(begun))
    plain = summary(history())
    assert "Goal" not in dict(header_facts(plain)) and plain.document()["goal"] is None


def test_without_a_confirmed_record_the_incumbent_counts_and_no_record_is_shown() -> None:
    found = summary(history(is_confirmed=False))
    assert found.record_seconds is None
    assert found.speedup == pytest.approx(55.2 / 10.7)
    assert "not confirmed" in headline(found)


def test_a_missed_baseline_makes_the_speedup_a_lower_bound() -> None:
    found = summary(history("missed"), {**CANDIDATES, 0: MISSED_BASELINE})
    assert found.is_lower_bound
    assert found.speedup == pytest.approx(55.2 / 10.65)  # its median run had reached nothing by 55.2 s
    assert headline(found).startswith("a miss → 10.7 s: ≥ 5.18× faster")


def test_ablations_and_withdrawn_keeps_do_not_count_as_kept() -> None:
    found = summary(history())
    assert (found.tries, found.kept) == (7, 3)
    assert [row.number for row in found.ladder] == [0, 1, 3, 7]
    assert found.ladder[2].ratio == pytest.approx(25.5 / 14.0)
    assert found.ladder[2].delta_seconds == pytest.approx(-11.5)


def test_what_was_decided_without_a_run_is_no_try() -> None:
    past = history()
    decisions = (*past.decisions, Decision(proposal=9, verdict="discard", reason="a repetition of #4"))
    assert summary(replace(past, decisions=decisions)).tries == summary(past).tries == 7


def test_the_rung_above_a_missed_baseline_has_no_ratio() -> None:
    first = summary(history("missed"), {**CANDIDATES, 0: MISSED_BASELINE}).ladder[1]
    assert math.isnan(first.ratio) and math.isnan(first.delta_seconds)


def test_a_study_that_has_not_begun() -> None:
    found = summarize(History(clock="train", base_config={}), PROTOCOL, NOISE, {})
    assert math.isnan(found.speedup) and not found.is_lower_bound
    assert headline(found) == "the baseline has not run yet"
    assert all(text for _, text in header_facts(found))


def test_nothing_kept() -> None:
    past = replace(history(), decisions=(), claims=())
    assert headline(summary(past)) == "the baseline stands at 55.2 s; nothing was kept so far"


def test_the_document_is_json_with_null_for_what_is_not_finite() -> None:
    document = summary(history("missed", is_confirmed=False), {**CANDIDATES, 0: MISSED_BASELINE}).document()
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again["schema"] == "hotlap/status/1"
    assert again["baseline_seconds"] is None and again["record_seconds"] is None
    assert again["incumbent_seconds"] == 10.7
    assert again["speedup_is_lower_bound"] is True
    assert again["noise"]["runs_needed"] == {"0.01": 306, "0.02": 76, "0.05": 12}
    assert again["ladder"][1]["ratio"] is None


def test_header_names_everything_that_makes_times_comparable() -> None:
    facts = dict(header_facts(summary(history())))
    assert "eval_loss < 0.76 and eval_byte_accuracy > 0.75" in facts["Targets"]
    assert "Toy CPU" in facts["Hardware"] and "torch 2.13.0" in facts["Hardware"]
    assert "seconds inside optimizer steps" in facts["Clock"] and "3 % apart" in facts["Clock"]
    assert "σ = 5.0 %" in facts["Noise"] and "12.7 % less time" in facts["Noise"] and "5 %: 12" in facts["Noise"]
    assert "7 changes tried, 3 kept" in facts["Tries"] and "0.019" in facts["Tries"]
    assert "3 of 3 reached" in facts["Baseline"]
    assert "p = 0.0143" in facts["Record"]


def test_wall_clock_studies_name_their_clock() -> None:
    past = replace(history(), clock="wall")
    facts = dict(header_facts(summary(past, {0: figures(60.0)})))
    assert facts["Clock"].startswith("wall: seconds since") and "10 % apart" in facts["Clock"]
