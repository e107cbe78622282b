"""Claims that must not be believed: each test says something false, or lets a clock run wrong."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.clock import EvaluationGrid
from hotlap.core.records import Decision, History, Proposal, RunRecord
from hotlap.core.targets import parse_target
from hotlap.search.trust import (
    LATENCY_SECONDS,
    ClockStamps,
    audit_gap,
    believed_sigma,
    claim_problems,
    clock_problems,
    data_problems,
    gap_problem,
    reproduction_problems,
    too_good,
    why_again,
)

TARGETS = (parse_target("eval_loss < 0.76"), parse_target("eval_byte_accuracy > 0.75"))
METRICS = {"eval_loss": 0.75, "perplexity": math.exp(0.75), "eval_byte_accuracy": 0.76, "eval_word_accuracy": 0.5}
DATA = {
    "data": {
        "hash": "0123456789abcdef",
        "num_train": 100,
        "num_eval": 64,
        "eval": {"hash": "fedcba9876543210", "num_examples": 64, "num_targets": 2000, "num_bytes": 1936},
    }
}


def evaluation(step: int, seconds: float, **metrics: float) -> dict[str, float]:
    position = {"step": step, "train_seconds": seconds, "wall_seconds": seconds + 3, "tokens": 100 * step}
    return {**position, **METRICS, **metrics}


POINTS = [evaluation(10, 1.0, eval_loss=2.0, perplexity=math.exp(2)), evaluation(20, 2.0)]
RESULT: dict[str, Any] = {
    "outcome": "reached",
    "metrics": METRICS,
    "evaluated_tokens": 2000,
    "time_to_target": {"train": 2.0, "wall": 5.2, "step": 20},
}


def problems(result: dict[str, Any] | None = None, points: list[dict[str, float]] | None = None) -> str:
    found = claim_problems({**RESULT, **(result or {})}, POINTS if points is None else points, TARGETS, "train")
    return "; ".join(found)


# ---- the claim itself


def test_an_honest_claim_has_no_problems() -> None:
    assert problems() == ""
    assert list(data_problems(DATA, RESULT, DATA)) == []


def test_a_run_without_targets_claims_no_time_and_need_not_keep_to_the_grid() -> None:
    points = [evaluation(step, 1.0 + step / 1000) for step in range(10)]
    result = {**RESULT, "time_to_target": None}
    assert list(claim_problems(result, points, (), "train")) == []
    assert list(claim_problems(result, points, TARGETS, "train"))
    broken = {**result, "metrics": {**METRICS, "eval_loss": math.nan}}
    assert "eval_loss is nan" in "; ".join(claim_problems(broken, points, (), "train"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["eval_loss", "eval_byte_accuracy", "eval_word_accuracy"])
def test_a_metric_that_is_not_a_number_is_not_believed(name: str, value: float) -> None:
    assert f"{name} is {value} in a result that says reached" in problems({"metrics": {**METRICS, name: value}})


@pytest.mark.parametrize("metrics", [{}, {"eval_loss": 0.75}, {**METRICS, "eval_loss": "0.1"}, None])
def test_a_metric_that_is_missing_or_no_number_is_not_believed(metrics: Any) -> None:
    assert problems({"metrics": metrics})


def test_reached_has_to_mean_that_the_targets_hold() -> None:
    found = problems({"metrics": {**METRICS, "eval_byte_accuracy": 0.7}})
    assert "the result says reached, but eval_byte_accuracy > 0.75 does not hold: 0.7 was measured" in found


def test_a_time_without_an_evaluation_behind_it_is_not_believed() -> None:
    assert "no evaluation at step 15" in problems({"time_to_target": {"train": 1.5, "wall": 4.0, "step": 15}})
    assert "no evaluation at step 10" in problems({"time_to_target": {"train": 1.0, "wall": 4.0, "step": 10}})
    assert "no evaluation at step 20" in problems(points=[])


def test_a_time_that_the_points_contradict_is_not_believed() -> None:
    found = problems({"time_to_target": {"train": 1.2, "wall": 4.4, "step": 20}})
    assert "is 1.200 s of training, the point at that step says 2.000 s" in found


def test_a_wall_time_that_the_points_contradict_is_not_believed() -> None:
    """The clock may go on while the model is evaluated, and never back."""
    times = {"train": 2.0, "wall": 2.5, "step": 20}
    found = list(claim_problems({**RESULT, "time_to_target": times}, POINTS, TARGETS, "wall"))
    assert found == ["the time to target is 2.500 s of wall time, the point at that step says 5.000 s"]
    assert not problems({"time_to_target": {**times, "wall": 5.0}})


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, None, "2.0"])
def test_a_time_that_is_no_positive_number_is_not_believed(seconds: Any) -> None:
    assert "no positive number" in problems({"time_to_target": {"train": seconds, "wall": 5.0, "step": 20}})


@pytest.mark.parametrize(("name", "value"), [("perplexity", 1.0), ("eval_word_accuracy", 1.2), ("eval_chrf", 140.0)])
def test_metrics_that_contradict_each_other_are_not_believed(name: str, value: float) -> None:
    found = problems({"metrics": {**METRICS, name: value}})
    assert found.startswith(name) if name != "eval_chrf" else found == "eval_chrf is 140, it lies between 0 and 100"


def test_evaluations_between_the_readings_of_the_grid_are_not_believed() -> None:
    """Looking more often finds the target earlier."""
    often = [evaluation(n, 10 + 0.05 * n, eval_loss=2.0, perplexity=math.exp(2)) for n in range(1, 20)]
    found = problems(points=[*often, *POINTS])
    assert re.search(r"an evaluation at 10\.\d s on the train clock was not due", found)


@given(st.lists(st.floats(0.01, 3.0), min_size=2, max_size=60))
def test_evaluations_on_the_grid_are_fine_whatever_the_steps_take(step_seconds: list[float]) -> None:
    grid, reading, points = EvaluationGrid("train"), 0.0, []
    for number, seconds in enumerate(step_seconds, start=1):
        reading += seconds
        if grid.is_due(reading) or number == len(step_seconds):
            points.append(evaluation(number, reading))
    last = points[-1]
    times = {"train": last["train_seconds"], "wall": last["wall_seconds"], "step": last["step"]}
    assert problems({"time_to_target": times}, points) == ""


def test_a_run_that_claims_nothing_has_nothing_to_prove() -> None:
    assert problems({"outcome": "missed", "metrics": {"eval_loss": math.nan}, "time_to_target": None}) == ""


# ---- the data


def changed(**eval_facts: Any) -> dict[str, Any]:
    return {"data": {**DATA["data"], "eval": {**DATA["data"]["eval"], **eval_facts}}}  # type: ignore[dict-item]


def test_a_shortened_evaluation_set_is_not_believed() -> None:
    (found,) = data_problems({"data": {**DATA["data"], "num_eval": 32}}, RESULT, DATA)
    assert found == "evaluation examples: 32, the study's first run had 64"
    (found,) = data_problems(changed(num_targets=1000), RESULT, DATA)
    assert found == "evaluation data, num_targets: 1000, the study's first run had 2000"
    (found,) = data_problems(DATA, {**RESULT, "evaluated_tokens": 1999}, DATA)
    assert found == "the last evaluation counted 1999 target tokens, the evaluation data have 2000"


def test_bits_per_byte_that_the_loss_does_not_mean_are_not_believed() -> None:
    """A token may stand for several bytes, and the end of a word for none."""
    honest = 0.75 * 2000 / math.log(2) / 1936
    assert not list(data_problems(DATA, {**RESULT, "metrics": {**METRICS, "bits_per_byte": honest}}, DATA))
    (found,) = data_problems(DATA, {**RESULT, "metrics": {**METRICS, "bits_per_byte": 0.75 / math.log(2)}}, DATA)
    assert found == "bits_per_byte is 1.08202, an eval_loss of 0.75 means 1.11779"


def test_other_evaluation_data_of_the_same_size_are_not_believed() -> None:
    (found,) = data_problems(changed(hash="0000000000000000"), RESULT, DATA)
    assert "hash: 0000000000000000, the study's first run had fedcba9876543210" in found


def test_a_run_that_keeps_silent_about_its_data_is_not_believed() -> None:
    assert len(list(data_problems({}, RESULT, DATA))) == 7
    assert list(data_problems({}, RESULT, {})) == [], "but nobody asks more than the first run told"


# ---- the clocks


def stamped(
    seconds: float, rate: float, pauses: Sequence[float] = (0.2,), lag: float = 0.05, last_lag: float = 0.05
) -> ClockStamps:
    """Return stamps of a run that writes ten points a second, each `lag` after its reading, and a result.

    Its clock counts `rate` seconds a second; the launcher pauses between its looks, by turns as long as `pauses` say.
    """
    stamps, now, seen, turn = ClockStamps(), 0.0, 0, 0
    while now < seconds + last_lag:
        now, turn = now + pauses[turn % len(pauses)], turn + 1
        written = int(max(0.0, min(now, seconds) - lag) * 10)
        point = {"wall_seconds": rate * written / 10} if written > seen else None
        stamps.look(now, point, {"wall_seconds": rate * seconds} if now >= seconds + last_lag else None)
        seen = written
    return stamps


@pytest.mark.parametrize(("seconds", "rate"), [(60, 0.95), (60, 0.5), (600, 0.975), (20, 0.9), (5, 0.85), (300, 0.0)])
def test_a_clock_that_runs_slower_than_the_launchers_is_found(seconds: float, rate: float) -> None:
    found = list(clock_problems(run(), stamped(seconds, rate), []))
    assert len(found) == 1 and "against the launcher's (2% are allowed)" in found[0]


@pytest.mark.parametrize("rate", [1.0, 0.99, 1.5, 100.0])
def test_a_clock_that_is_true_or_fast_is_fine(rate: float) -> None:
    """A fast clock makes a run look slower: nobody gains by it."""
    assert not list(clock_problems(run(), stamped(60, rate), []))


@given(st.floats(0.5, 60), st.lists(st.floats(0.05, 20), min_size=1, max_size=5), st.floats(0, LATENCY_SECONDS))
def test_a_busy_launcher_never_makes_a_true_clock_look_slow(seconds: float, pauses: list[float], lag: float) -> None:
    """Also for a run of a second, seen once in 20."""
    assert stamped(seconds, 1.0, pauses, lag).shortfall == 0
    assert ClockStamps().shortfall == 0, "nothing was seen of a run that had no points"


def test_one_slow_write_is_not_held_against_the_run() -> None:
    """The disk was busy for as long as the result took."""
    assert stamped(5, 1.0, last_lag=5.0).shortfall == 0
    assert stamped(20, 1.0, last_lag=60.0).shortfall == 0


def test_a_clock_is_not_helped_by_a_true_result_that_comes_after_the_result() -> None:
    stamps = stamped(60, 0.9)
    stamps.look(70.0, {"wall_seconds": 70.0}, {"wall_seconds": 70.0})
    stamps.look(70.2, {"wall_seconds": 70.2}, {"wall_seconds": 70.2})
    assert stamps.shortfall > 0.02


def run(**changes: Any) -> RunRecord:
    seconds = {"setup": 3.0, "steps": 100.0, "evaluation": 5.0, "saving": 0.5}
    plain = RunRecord(
        run_id="r0004",
        role="screen",
        candidate=1,
        seed=7,
        outcome="reached",
        steps=1000,
        train_seconds=100.0,
        wall_seconds=109.0,
        time_to_target={"train": 100.0, "wall": 108.0, "step": 1000},
        seconds=seconds,
        metrics=METRICS,
    )
    return replace(plain, **changes)


def test_a_training_clock_that_leaves_steps_out_is_found() -> None:
    """It counts 90 of 100 seconds, while the wall clock is true."""
    slow = {"setup": 3.0, "steps": 90.0, "evaluation": 5.0, "saving": 0.5}
    (found,) = clock_problems(run(train_seconds=90.0, seconds=slow), ClockStamps(), [run(), run()])
    assert "lie outside of all that was timed" in found
    assert not list(clock_problems(run(), ClockStamps(), [run(), run()]))


def test_a_run_has_to_tell_its_timed_parts_as_the_calibration_does() -> None:
    parts = run().seconds
    for name in parts:
        silent = run(seconds={key: value for key, value in parts.items() if key != name})
        (found,) = clock_problems(silent, ClockStamps(), [run(), run(seconds={})])
        assert found.startswith("it does not tell all of its timed parts")
    assert not list(clock_problems(run(seconds={}), ClockStamps(), [run(seconds={})])), (
        "a foreign command may not say where its time went"
    )
    for value in (math.nan, "much"):
        assert list(clock_problems(run(seconds={**parts, "evaluation": value}), ClockStamps(), [run()]))


def test_training_seconds_that_are_not_those_of_the_steps_are_found() -> None:
    half = run(train_seconds=50.0, time_to_target={"train": 50.0, "wall": 108.0, "step": 1000})
    assert list(clock_problems(half, ClockStamps(), [run()])) == ["50.000 s of training, but its steps took 100.000 s"]


def test_a_time_to_target_long_before_the_end_is_found() -> None:
    """Points that tell of half the time, while the end of the run does not hide what it took."""
    early = run(time_to_target={"train": 50.0, "wall": 108.0, "step": 1000})
    (found,) = clock_problems(early, ClockStamps(), [run()])
    assert found == "its time to target is 50.000 s of training, it ended at 100.000 s"
    early = run(time_to_target={"train": 100.0, "wall": 54.0, "step": 1000})
    (found,) = clock_problems(early, ClockStamps(), [run()])
    assert found == "its time to target is 54.000 s of wall time, it ended at 109.000 s"


def test_timed_parts_that_are_more_than_all_of_the_time_are_found() -> None:
    """Else a long saving could hide that the time to target lies long before the end."""
    told = run(seconds={**run().seconds, "saving": 55.5})
    (found,) = clock_problems(told, ClockStamps(), [run()])
    assert found == "its timed parts make up 2:44, its wall clock shows 1:49"


@given(
    st.fixed_dictionaries({name: st.floats(0.0, 1e4) for name in ("setup", "steps", "evaluation", "saving")}),
    st.floats(0.0, 1.0),
    st.integers(1, 10**6),
)
def test_a_run_whose_parts_make_up_its_time_is_never_found(parts: dict[str, float], idle: float, steps: int) -> None:
    """However short it is, and however much of it went into evaluations and saving."""
    wall, train = sum(parts.values()) + idle, parts["steps"]
    times = {"train": train, "wall": wall - idle - parts["saving"], "step": steps}
    honest = run(steps=steps, train_seconds=train, wall_seconds=wall, time_to_target=times, seconds=parts)
    assert not list(clock_problems(honest, ClockStamps(), []))
    stopped = replace(honest, outcome="out_of_budget", role="timing", time_to_target=None)
    assert not list(clock_problems(stopped, ClockStamps(), [run()]))


def test_more_training_than_time_is_found() -> None:
    found = list(clock_problems(run(train_seconds=120.0, wall_seconds=math.nan), ClockStamps(), []))
    assert found[0] == "120.000 s of training in nan s since its start"
    found = list(clock_problems(run(train_seconds=120.0), ClockStamps(), []))
    assert found[0] == "120.000 s of training in 109.000 s since its start"


# ---- what is looked at again


def history(*runs: RunRecord) -> History:
    proposal = Proposal(
        number=1,
        parent=0,
        family="x",
        title="x",
        observation="x",
        hypothesis="x",
        patch={"training.learning_rate": 1.0},
        predicted_ratio=0.8,
    )
    return History(clock="train", base_config={}, runs=runs, proposals=(proposal,))


def taking(seconds: float, **changes: Any) -> RunRecord:
    return run(train_seconds=seconds, time_to_target={"train": seconds, "wall": seconds, "step": 10}, **changes)


BASELINES = tuple(taking(seconds, role="baseline", candidate=0) for seconds in (98.0, 100.0, 102.0))


def test_a_result_too_good_to_be_true_is_looked_at_again() -> None:
    assert too_good(history(*BASELINES), taking(30.0)) == "69% less time than any run before it"
    assert too_good(history(*BASELINES), taking(97.0)) == ""
    assert too_good(history(), taking(97.0)) == "no run before it reached the targets"
    others = tuple(taking(10.0, candidate=2, role="screen") for _ in range(2))
    proposals = history(*BASELINES, *others)
    assert "was expected" in too_good(proposals, taking(40.0)), "beyond what its own proposal promised"
    assert too_good(proposals, taking(79.0)) == ""


def test_what_a_keep_or_a_record_rests_on_is_looked_at_again() -> None:
    before = history(*BASELINES)
    assert why_again(before, taking(95.0, role="confirm")) == "a keep rests on it"
    assert why_again(before, taking(95.0, role="incumbent")) == "a keep rests on it"
    assert why_again(before, taking(120.0, role="confirm")) == ""
    assert why_again(before, taking(95.0, role="screen")) == ""
    assert why_again(before, taking(95.0, role="screen", outcome="missed")) == ""
    for outcome in ("reached", "missed", "out_of_budget"):
        assert why_again(before, taking(95.0, role="baseline", candidate=0, outcome=outcome)) == "calibration"
    assert why_again(before, taking(95.0, role="baseline", candidate=0, outcome="diverged")) == ""


def test_a_keep_that_timing_runs_decided_is_looked_at_again_in_its_first_fresh_run() -> None:
    before = replace(history(*BASELINES), decisions=(Decision(proposal=1, verdict="keep", reason="a faster step"),))
    fresh = taking(97.0, role="incumbent")
    assert before.incumbent == 1
    assert why_again(before, fresh) == "a keep rests on it"
    looked_at = replace(fresh, guards={"evaluated_again": "a keep rests on it"})
    assert why_again(replace(before, runs=(*before.runs, looked_at)), fresh) == ""
    assert why_again(replace(before, runs=(*before.runs, fresh)), fresh) == "a keep rests on it"
    assert why_again(history(*BASELINES), taking(97.0, role="incumbent", candidate=0)) == "", "its calibration was"


def test_one_run_of_a_record_look_is_looked_at_again() -> None:
    before = history(*BASELINES)
    first = taking(99.0, role="record", candidate=0)
    assert why_again(before, first) == "a record rests on it"
    assert why_again(replace(before, runs=(*before.runs, first)), taking(99.0, role="record", candidate=0)) == ""


# ---- what the second look finds

AGAIN = {"metrics": METRICS, "num_examples": 64, "num_targets": 2000}


@pytest.mark.parametrize(
    ("name", "difference", "is_fine"),
    [
        ("eval_loss", 9e-5, True),
        ("eval_loss", 2e-4, False),
        ("eval_loss", -2e-4, False),
        ("eval_loss", math.nan, False),
        ("eval_byte_accuracy", 1 / 2000, True),  # one byte more
        ("eval_byte_accuracy", 3 / 2000, False),
        ("eval_word_accuracy", 0.01, False),
    ],
)
def test_metrics_have_to_come_out_again(name: str, difference: float, is_fine: bool) -> None:
    claimed = {**METRICS, "train_loss": 0.1, name: METRICS[name] + difference}
    assert [*reproduction_problems(claimed, AGAIN)] == [] if is_fine else [*reproduction_problems(claimed, AGAIN)] != []


def test_a_metric_that_does_not_come_out_again_at_all_is_a_problem() -> None:
    found = list(reproduction_problems({**METRICS, "eval_chrf": 60.0}, AGAIN))
    assert found == ["eval_chrf was 60, its saved weights give nan"]


def test_generated_text_may_differ_in_one_example() -> None:
    again = {**AGAIN, "metrics": {**METRICS, "eval_chrf": 61.0, "eval_exact_match": 0.5}}
    assert not list(reproduction_problems({**METRICS, "eval_chrf": 60.0, "eval_exact_match": 0.5 + 1 / 64}, again))
    assert len(list(reproduction_problems({**METRICS, "eval_chrf": 66.0, "eval_exact_match": 0.6}, again))) == 2


def losses(audit: float, evaluation: float) -> dict[str, Any]:
    return {"audit": {"metrics": {"eval_loss": audit}}, "eval": {"metrics": {"eval_loss": evaluation}}}


def test_the_gap_is_the_log_ratio_of_the_losses() -> None:
    assert audit_gap(losses(0.88, 0.8)) == pytest.approx(math.log(1.1))
    assert audit_gap({"audit": None, "eval": {"metrics": {"eval_loss": 0.8}}}) is None
    assert audit_gap(losses(math.nan, 0.8)) is None
    assert audit_gap(losses(0.8, 0.0)) is None


def test_a_model_that_has_learned_the_evaluation_data_is_found() -> None:
    calibration = [0.020, 0.024, 0.022]
    found = gap_problem(0.5, calibration, 0.01)
    assert found.startswith(
        "its loss is 64.9% higher on audit data that no run is judged by, where the calibration had"
    )
    assert gap_problem(0.04, calibration, 0.01) == ""
    assert gap_problem(-0.5, calibration, 0.01) == "", "to do better where nobody looks is no cheating"
    assert gap_problem(0.5, calibration[:1], 0.01) == "", "one run tells nothing of chance"


@given(st.lists(st.floats(-0.05, 0.05), min_size=2, max_size=12), st.integers(0, 11))
def test_no_run_of_the_calibration_itself_is_found(gaps: list[float], place: int) -> None:
    assert gap_problem(gaps[place % len(gaps)], gaps, 1e-9) == ""


def test_a_calibration_that_spreads_makes_the_guard_patient() -> None:
    assert gap_problem(0.2, [-0.1, 0.1], 0.01) == ""
    assert gap_problem(0.2, [0.01, 0.03], 0.01) != ""
    assert gap_problem(0.05, [0.02, 0.02], 0.01) == "", "two runs that agree by luck do not make it strict"


def test_small_sets_spread_more() -> None:
    parts = {"eval": {"num_examples": 32}, "audit": {"num_examples": 32}}
    assert believed_sigma(parts) == pytest.approx(0.15)
    assert believed_sigma({**parts, "audit": {"num_examples": 2}}) > 0.4
    assert believed_sigma({"eval": {"num_examples": 10**4}, "audit": {"num_examples": 10**4}}) < 0.01
    assert gap_problem(0.3, [0.02, 0.06], believed_sigma(parts)) == "", "seen between honest runs of one recipe"
    assert gap_problem(1.0, [0.02, 0.06], believed_sigma(parts)) != ""


@pytest.mark.parametrize(
    ("examples", "limits"), [(32, (2.47, 2.0)), (64, (1.9, 1.63)), (200, (1.44, 1.32)), (1000, (1.18, 1.13))]
)
def test_the_docs_tell_what_the_audit_guard_lets_pass(examples: int, limits: tuple[float, float]) -> None:
    believed = believed_sigma({part: {"num_examples": examples} for part in ("eval", "audit")})
    for runs, limit in zip((2, 3), limits, strict=True):
        assert not gap_problem(math.log(limit - 0.006), [0.0] * runs, believed)
        assert gap_problem(math.log(limit + 0.006), [0.0] * runs, believed)
    row = f"| {examples} + {examples} | {limits[0]:.2f}× | {limits[1]:.2f}× |"
    assert row in (Path(__file__).parents[2] / "docs" / "clock-and-statistics.md").read_text(encoding="utf-8")
