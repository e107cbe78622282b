"""The landscape: one point and one score for each recipe that ran."""

import math
from dataclasses import replace

import pytest
from histories import decide, incumbent_config, propose_by_hand, run, study, tried

from hotlap.config.load import config_from_values
from hotlap.core.records import History
from hotlap.policies.landscape import HOPELESS, landscape_of


def screened(history: History, patch: dict[str, object], seconds: float, outcome: str = "reached") -> History:
    """Try a change that is not kept, in one run."""
    history = propose_by_hand(history, patch)
    record = run(len(history.proposals), seconds, role="screen", outcome=outcome, run_id=f"r1{len(history.runs):03}")
    return decide(history, "discard", record)


def test_every_recipe_that_ran_has_a_score() -> None:
    history = screened(study(), {"training.learning_rate": 1.2e-3}, 40.0)
    history = screened(history, {"training.learning_rate": 0.5}, 1.0, "diverged")
    history = propose_by_hand(history, {"training.learning_rate": 0.1})  # has not run
    landscape = landscape_of(history)
    assert landscape is not None
    assert [each.candidate for each in landscape.tried] == [0, 1, 2]
    assert landscape.tried[1].score.value == pytest.approx(math.log(40))
    assert [each.candidate for each in landscape.best] == [1, 0, 2]
    assert landscape.incumbent_value == pytest.approx(math.log(55))
    ratios = [each.point["learning_rate_ratio"] for each in landscape.tried]
    assert ratios == pytest.approx([0.6, 1.2, 30.0])  # the last one lies on the bound


def test_without_a_step_of_the_incumbent_there_is_none() -> None:
    assert landscape_of(History(clock="train", base_config=study().base_config)) is None
    assert landscape_of(study(runs=[run(steps=0, outcome="crashed")])) is None


def test_a_recipe_is_known_by_its_config_not_by_its_parent() -> None:
    history = screened(study(), {"training.learning_rate": 1.2e-3, "model.smear": True}, 40.0)
    history = tried(history, {"model.smear": True}, "keep")
    landscape = landscape_of(history)
    assert landscape is not None
    values = incumbent_config(history).model_dump(mode="json")
    assert landscape.is_known(config_from_values(values))
    assert landscape.is_known(config_from_values(values, {"training.learning_rate": 1.2e-3}))
    assert not landscape.is_known(config_from_values(values, {"training.learning_rate": 2.4e-3}))
    without = {"training.learning_rate": 1.2e-3, "model.smear": False}
    assert not landscape.is_known(config_from_values(values, without))


def test_the_prediction_is_that_of_the_recipes_around() -> None:
    history = screened(study(), {"training.learning_rate": 2e-5}, 200.0)
    history = screened(history, {"training.learning_rate": 6e-3}, 20.0)
    landscape = landscape_of(history)
    assert landscape is not None
    (slow, _), (fast, unsure) = (landscape.prediction(landscape.tried[n].point) for n in (1, 2))
    assert math.log(18) < fast < math.log(25) < slow
    assert unsure < 0.1
    assert landscape.promise(landscape.tried[2].point) > 0.5 > 0.01 > landscape.promise(landscape.tried[1].point)


def test_what_was_proposed_is_known_before_it_has_run() -> None:
    patch = {"training.learning_rate": 1.2e-3}
    landscape = landscape_of(propose_by_hand(study(), patch))
    assert landscape is not None
    assert landscape.is_known(config_from_values(incumbent_config(study()).model_dump(mode="json"), patch))


def test_a_discard_that_is_open_again_may_be_proposed_again() -> None:
    patch = {"training.learning_rate": 1.2e-3}
    history = screened(study(), patch, 50.0)
    landscape = landscape_of(history)
    assert landscape is not None
    child = config_from_values(incumbent_config(history).model_dump(mode="json"), patch)
    assert landscape.is_known(child)
    (decision,) = history.decisions
    landscape = landscape_of(replace(history, decisions=(replace(decision, revisit_if={"sigma_below": 9.0}),)))
    assert landscape is not None
    assert not landscape.is_known(child)


def test_what_cannot_work_is_only_far_above_the_incumbent_to_the_model() -> None:
    history = screened(study(), {"training.learning_rate": 0.05}, 1.0, "diverged")
    landscape = landscape_of(history)
    assert landscape is not None
    point = landscape.tried[1].point
    assert landscape.tried[1].score.value > math.log(1000)
    assert math.log(55) < landscape.prediction(point)[0] < math.log(55) + 2 * HOPELESS


def test_a_batch_that_did_not_fit_bounds_the_next() -> None:
    history = screened(study(), {"training.per_device_train_batch_size": 128}, 0.5, "out_of_memory")
    landscape = landscape_of(history)
    assert landscape is not None
    assert landscape.coordinates.frame.micro_batch_limit == 64
    history = screened(study(), {"training.per_device_train_batch_size": 48}, 0.5, "out_of_memory")
    landscape = landscape_of(history)
    assert landscape is not None
    assert landscape.coordinates.frame.micro_batch_limit == 47


def test_where_the_incumbent_misses_its_length_is_the_measure() -> None:
    landscape = landscape_of(study(runs=[run(seconds=300, outcome="missed")]))
    assert landscape is not None
    assert landscape.coordinates.frame.reference_seconds == 300


def test_on_the_wall_clock_schedules_are_still_in_training_seconds() -> None:
    landscape = landscape_of(replace(study(), clock="wall"))
    assert landscape is not None
    assert landscape.incumbent_value == pytest.approx(math.log(60))
    assert landscape.coordinates.frame.reference_seconds == 55
