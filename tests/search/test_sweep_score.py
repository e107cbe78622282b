"""Scores of the runs of a sweep: finite for all of them, failures last."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.records import History, Outcome, Proposal, RunRecord
from hotlap.core.scores import TIME_TO_TARGET, Goal
from hotlap.search.sweep_score import candidate_value, final_value, holds, sweep_scores


def point(number: int) -> Proposal:
    return Proposal(
        number=number,
        parent=0,
        family="sweep",
        title=f"point {number}",
        observation="",
        hypothesis="",
        patch={"training.learning_rate": number / 1000},
        predicted_ratio=1.0,
    )


def run(candidate: int, loss: float | None, outcome: Outcome = "out_of_budget", seed: int = 42) -> RunRecord:
    return RunRecord(
        run_id=f"r{100 * candidate + seed:04}",
        role="screen",
        candidate=candidate,
        seed=seed,
        outcome=outcome,
        steps=10,
        train_seconds=60.0,
        wall_seconds=65.0,
        metrics={} if loss is None else {"eval_loss": loss},
    )


def history(*runs: RunRecord) -> History:
    most = max(run.candidate for run in runs)
    return History(
        clock="train", base_config={}, runs=runs, proposals=tuple(point(number) for number in range(1, most + 1))
    )


def test_the_score_is_the_metric_at_the_end() -> None:
    past = history(run(0, 3.0), run(1, 2.0), run(2, 2.5, "raced"))
    assert sweep_scores(past, "eval_loss", "minimize") == {0: 3.0, 1: 2.0, 2: 2.5}
    assert sweep_scores(past, "eval_loss", "maximize") == {0: -3.0, 1: -2.0, 2: -2.5}


def test_failures_are_worse_than_the_worst() -> None:
    past = history(run(0, 3.0), run(1, 1.0), run(2, 0.1, "diverged"), run(3, None, "out_of_memory"))
    assert sweep_scores(past, "eval_loss", "minimize") == {0: 3.0, 1: 1.0, 2: 4.0, 3: 4.0}
    assert sweep_scores(past, "eval_loss", "maximize")[2] == pytest.approx(0.0), "-1 is the worst, -3 the best"
    assert sweep_scores(history(run(1, None, "crashed")), "eval_loss", "minimize") == {1: 0.0}


def test_several_seeds_count_with_their_median() -> None:
    past = history(run(1, 2.0), run(1, 4.0, seed=43), run(1, 2.5, seed=44))
    assert sweep_scores(past, "eval_loss", "minimize") == {1: 2.5}


def test_what_the_machine_spoiled_teaches_nothing() -> None:
    past = history(run(0, 3.0), run(1, 2.0, "interrupted"), replace(run(2, 2.0), contaminated="a build"))
    assert sweep_scores(past, "eval_loss", "minimize") == {0: 3.0}


def test_time_to_target_is_graded_as_in_a_speedrun() -> None:
    hit = replace(run(1, 0.7, "reached"), time_to_target={"train": 50.0, "wall": 55.0, "step": 9})
    past = replace(history(run(0, 1.5), hit), base_config={"targets": ["eval_loss < 0.76"], "budget": {"run": 60.0}})
    scores = sweep_scores(past, TIME_TO_TARGET, "minimize")
    assert scores[1] == pytest.approx(math.log(50.0)) and scores[0] > scores[1]
    assert candidate_value(past, 1, TIME_TO_TARGET, "minimize") == 50.0
    assert candidate_value(past, 0, TIME_TO_TARGET, "minimize") == math.inf


def test_a_value_is_held_against_what_was_asked_for() -> None:
    assert holds(1.0, 1.1, "minimize") and not holds(1.0, 1.1, "maximize")
    assert math.isnan(candidate_value(history(run(1, 2.0, "diverged")), 1, "eval_loss", "minimize"))
    assert candidate_value(history(run(1, None), run(1, 2.0, seed=43)), 1, "eval_loss", "minimize") == 2.0


def test_failures_are_worse_than_values_that_hardly_differ() -> None:
    past = history(run(0, 5e-324), run(1, 0.0), run(2, None, "crashed"))
    assert sweep_scores(past, "eval_loss", "minimize")[2] > 5e-324


@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6) | st.none() | st.just(math.nan), st.sampled_from(["reached", "raced", "diverged"])
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_run_has_a_finite_score(told: list[tuple[float | None, Outcome]]) -> None:
    runs = [run(number, loss, outcome) for number, (loss, outcome) in enumerate(told)]
    scores = sweep_scores(history(*runs), "eval_loss", "minimize")
    assert scores.keys() == set(range(len(told))) and all(map(math.isfinite, scores.values()))
    values = [final_value(each, "eval_loss") for each in runs]
    good = [score for number, score in scores.items() if math.isfinite(values[number])]
    bad = [score for number, score in scores.items() if not math.isfinite(values[number])]
    assert not good or not bad or max(good) < min(bad)


@pytest.mark.parametrize(("goal", "worst"), [("minimize", 3.0), ("maximize", 2.0)])
def test_a_seed_that_fails_is_worse_than_any_value(goal: Goal, worst: float) -> None:
    past = history(run(1, 2.0), run(1, 3.0, seed=43), run(1, None, "crashed", seed=44))
    assert candidate_value(past, 1, "eval_loss", goal) == worst
    past = history(run(1, 2.0), run(1, None, "crashed", seed=43), run(1, None, "diverged", seed=44))
    assert math.isnan(candidate_value(past, 1, "eval_loss", goal))
