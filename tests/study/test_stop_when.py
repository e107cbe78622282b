"""`stop_when`: a study ends once it is as fast as was asked, and says so."""

from dataclasses import replace

import pytest
from simulated_study import SimulatedStudy, noisy, proposal, run_record

from hotlap.config.load import config_from_values
from hotlap.core.errors import ConfigError
from hotlap.core.goals import parse_goal
from hotlap.core.records import History
from hotlap.core.study_folder import ProjectFolder
from hotlap.search.goal import least_seconds, reached_goal
from hotlap.study.settings import StudySettings
from hotlap.study.study import open_study, read_study

SETTINGS = StudySettings(total_seconds=360_000.0, run_seconds=900.0, patience=99)
TRUE = {0: 100.0, 1: 60.0, 2: 30.0, 3: 9.0, 4: 5.0, 5: 2.0}


def study(goal: str | None, true: dict[int, float] = TRUE) -> SimulatedStudy:
    settings = replace(SETTINGS, goal=parse_goal(goal) if goal else None)
    return SimulatedStudy(settings, noisy(true, 0.02, 1), [proposal(1) for _ in range(5)])


def test_without_a_goal_every_idea_is_tried() -> None:
    played = study(None)
    assert "no ideas left" in played.run()
    assert played.history.kept() == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("goal", ["10x", "0.1x", "10s"])
def test_a_study_ends_at_its_goal_with_a_record(goal: str) -> None:
    played = study(goal)
    reason = played.run()
    assert played.history.kept() == (1, 2, 3), "the fourth idea is not tried"
    assert reason.startswith(f"the goal of {parse_goal(goal)} is reached: ")
    assert "candidate 3 is a record" in reason
    assert played.history.claims[-1].confirmed


def test_a_goal_out_of_reach_changes_nothing() -> None:
    far, free = study("1000x"), study(None)
    assert far.run() == free.run()
    assert far.history == free.history


def test_a_baseline_that_is_fast_enough_ends_the_study() -> None:
    played = study("200s")
    reason = played.run()
    assert played.history.proposals == ()
    assert reason.startswith("the goal of 3:20 is reached: ")
    assert reason.endswith("nothing was kept over the baseline")


def test_a_baseline_that_misses_counts_with_its_last_reading() -> None:
    played = study("10x", {**TRUE, 0: 2000.0})
    reason = played.run()
    assert least_seconds(played.history, 0) == 900.0
    assert played.history.kept() == (1,)
    assert reason.startswith("the goal of 10x is reached: ") and "against the baseline's 15:00" in reason


def test_a_baseline_that_misses_counts_in_seconds_of_the_machine_as_it_is_now() -> None:
    runs = [run_record(n, "baseline", 0, 900.0, "missed") for n in (1, 2, 3)]
    blind = replace(run_record(4, "incumbent", 0, 10.0, "missed"), steps=0)  # without a step nobody knows the speed
    slower = [replace(r, train_seconds=1800.0, steps=90_000) for r in (runs[0], runs[1])]
    slower = [replace(r, run_id=f"r000{n}", role="incumbent") for n, r in enumerate(slower, start=5)]
    history = History(clock="train", base_config={}, runs=(*runs, blind, *slower))
    assert least_seconds(history, 0) == pytest.approx(1800.0)


def test_nothing_is_reached_before_anything_has_run() -> None:
    history = History(clock="train", base_config={})
    assert reached_goal(history, parse_goal("2x")) == reached_goal(history, parse_goal("1h")) == ""


def test_a_goal_comes_from_the_config_and_may_change_while_a_study_goes_on(project: ProjectFolder) -> None:
    values = {"name": "toy", "targets": ["eval_loss < 0.76"]}
    assert StudySettings.from_config(config_from_values(values)).goal is None
    opened = open_study(project, config_from_values(values, {"stop_when": "10x"}))
    assert opened.settings.goal == parse_goal("10x")
    opened = open_study(project, config_from_values(values, {"stop_when": "90s"}))
    assert opened.settings.goal == parse_goal("90s")
    assert read_study(project)[0].stop_when == "90s"


@pytest.mark.parametrize("value", [10, 2.5, True, "soon", "1x", ["10x"]])
def test_a_goal_that_cannot_be_read_is_one_problem_of_the_config(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_values({"stop_when": value})
    message = str(caught.value)
    assert "1 problem(s)" in message and "stop_when" in message and "write 10x" in message
