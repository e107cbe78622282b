"""The simulated tasks behave as trainings do, and lie in the frame that they promise."""

import math
import random
from statistics import median, stdev
from typing import Any

import numpy as np
import pytest
from simulator.families import FAMILIES, RUN_SECONDS, SEED_SIGMA, START_SECONDS, SimulatedTask
from simulator.recipe import recipe_of
from simulator.space import patch_of
from simulator.trace import Played, play

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig

each_family = pytest.mark.parametrize("name", list(FAMILIES))


def changed(task: SimulatedTask, **patch: Any) -> RunConfig:
    """Return the start with some settings changed, written `training__learning_rate`."""
    return config_from_values(
        task.start.model_dump(mode="json"), {key.replace("__", "."): value for key, value in patch.items()}
    )


def played(task: SimulatedTask, config: RunConfig, seed: int = 1) -> Played:
    return play(task.train(config, seed), targets=config.parsed_targets(), limit_seconds=RUN_SECONDS)


@each_family
def test_the_start_needs_what_it_promises(name: str) -> None:
    for seed in range(10):
        task = FAMILIES[name].task(seed)
        assert task.true_seconds(task.start) == pytest.approx(START_SECONDS, rel=0.01)


@each_family
def test_runs_scatter_around_the_true_time(name: str) -> None:
    task = FAMILIES[name].task(3)
    runs = [played(task, task.start, seed) for seed in range(40)]
    logs = [math.log(run.train_seconds) for run in runs if run.outcome == "reached"]
    assert len(logs) >= 30
    assert math.exp(median(logs)) == pytest.approx(START_SECONDS, rel=0.08)
    assert 0.3 * SEED_SIGMA < stdev(logs) < 3 * SEED_SIGMA


@each_family
def test_seed_and_recipe_make_the_losses_and_the_attempt_makes_the_clock(name: str) -> None:
    task = FAMILIES[name].task(0)
    first, again = task.train(task.start, 7), FAMILIES[name].task(0).train(task.start, 7)
    assert np.array_equal(first.values["eval_loss"], again.values["eval_loss"])
    assert np.array_equal(first.train_seconds, again.train_seconds)
    other, later = task.train(task.start, 8), task.train(task.start, 7, attempt=1)
    assert not np.array_equal(first.values["eval_loss"][:50], other.values["eval_loss"][:50])
    pace = first.train_seconds[-1] / first.steps[-1], later.train_seconds[-1] / later.steps[-1]
    assert pace[0] != pace[1]
    assert pace[0] == pytest.approx(pace[1], rel=0.06)


def test_other_tasks_have_other_physics() -> None:
    best = {FAMILIES["decay"].task(seed).physics.best_rate for seed in range(20)}
    assert len(best) == 20
    assert max(best) > 2 * min(best)


@each_family
def test_a_setting_that_the_physics_does_not_know_changes_nothing(name: str) -> None:
    task = FAMILIES[name].task(1)
    same = changed(task, training__adam_epsilon=1e-6, model__initializer_range=0.05)
    assert task.true_seconds(same) == task.true_seconds(task.start)
    assert np.array_equal(task.train(same, 1).values["eval_loss"], task.train(task.start, 1).values["eval_loss"])


@each_family
def test_a_learning_rate_far_too_high_diverges_and_far_too_low_is_slow(name: str) -> None:
    task = FAMILIES[name].task(2)
    high = changed(task, training__learning_rate=30 * task.physics.best_rate)
    assert math.isinf(task.true_seconds(high))
    assert played(task, high).outcome == "diverged"
    low = changed(task, training__learning_rate=0.01 * task.physics.best_rate)
    assert played(task, low).outcome in ("out_of_budget", "missed")


@each_family
def test_the_best_learning_rate_moves_with_a_power_of_the_batch(name: str) -> None:
    physics = FAMILIES[name].task(4).physics

    def best(batch: int) -> float:
        rates = [physics.best_rate * 1.05**power for power in range(-60, 60)]
        task = FAMILIES[name].task(4)
        recipes = [
            recipe_of(changed(task, training__learning_rate=rate, training__per_device_train_batch_size=batch))
            for rate in rates
        ]
        return max(zip(recipes, rates, strict=True), key=lambda pair: physics.teaching(pair[0]))[1]

    assert best(128) / best(32) == pytest.approx(4**physics.batch_exponent, rel=0.06)


def test_a_larger_batch_teaches_more_and_costs_more_with_falling_returns() -> None:
    task = FAMILIES["decay"].task(5)
    recipes = []
    for batch in (8, 32, 128):
        rate = task.physics.best_rate * (batch / 32) ** task.physics.batch_exponent
        patch = {"training__learning_rate": rate, "training__per_device_train_batch_size": batch}
        recipes.append(recipe_of(changed(task, **patch)))
    taught = [task.physics.teaching(recipe) for recipe in recipes]
    cost = [task.physics.seconds_per_step(recipe) for recipe in recipes]
    assert taught[0] < taught[1] < taught[2] < 4 * taught[1]
    assert cost[0] < cost[1] < cost[2]


def test_accumulation_is_the_same_training() -> None:
    task = FAMILIES["decay"].task(6)
    pieces = changed(task, training__per_device_train_batch_size=16, training__gradient_accumulation_steps=2)
    same, other = (task.train(config, 3) for config in (task.start, pieces))
    common = np.intersect1d(same.steps[:40], other.steps[:40])
    assert len(common) > 5
    assert task.true_seconds(pieces) == task.true_seconds(task.start)


def test_what_is_too_large_runs_out_of_memory_before_its_first_step() -> None:
    task = FAMILIES["cliff"].task(0)
    large = changed(task, training__per_device_train_batch_size=256, model__hidden_size=384, model__num_hidden_layers=6)
    end = played(task, large)
    assert (end.outcome, end.train_seconds, list(end.points)) == ("out_of_memory", 0.0, [])
    assert math.isinf(task.true_seconds(large))


def test_where_the_loss_falls_with_the_rate_a_shorter_horizon_is_faster_until_it_misses() -> None:
    task = FAMILIES["decay"].task(7)

    def seconds(share: float) -> float:
        steps = round(share * task.start.training.max_steps)
        rate = task.physics.best_rate
        return task.true_seconds(
            changed(task, training__max_steps=steps, training__warmup_steps=10, training__learning_rate=rate)
        )

    times = [seconds(share) for share in (2.0, 1.5, 1.0, 0.8, 0.6)]
    assert times == sorted(times, reverse=True)
    assert times[-1] < 0.6 * times[0]
    assert math.isinf(seconds(0.3))


def test_a_constant_rate_makes_the_horizon_irrelevant() -> None:
    task = FAMILIES["power_law"].task(7)
    assert task.true_seconds(changed(task, training__max_steps=90_000)) == pytest.approx(START_SECONDS, rel=0.01)


def test_the_cliff_has_a_plateau() -> None:
    task = FAMILIES["cliff"].task(0)
    trace = task.train(task.start, 1)
    loss = dict(zip(trace.train_seconds.round(), trace.values["eval_loss"], strict=True))
    half, near, end = (min(loss, key=lambda seconds: abs(seconds - at)) for at in (40, 70, 176))
    assert loss[half] - loss[near] < 0.4
    assert loss[near] - loss[end] > 1.2


def share_within(name: str, tasks: int = 20, draws: int = 30) -> float:
    """Return the share of random configs that reach within the longest run."""
    generator, within = random.Random(0), 0
    for seed in range(tasks):
        task = FAMILIES[name].task(seed)
        base = task.start.model_dump(mode="json")
        for _ in range(draws):
            values = {key: parameter.draw(generator) for key, parameter in task.space.items()}
            config = config_from_values(base, patch_of(task.space, values))
            within += task.true_seconds(config) <= RUN_SECONDS
    return within / (tasks * draws)


@pytest.mark.parametrize(("name", "low", "high"), [("power_law", 0.15, 0.3), ("decay", 0.03, 0.1)])
def test_as_many_random_configs_reach_as_in_the_reference(name: str, low: float, high: float) -> None:
    assert low <= share_within(name) <= high


@pytest.mark.parametrize(
    ("patch", "rarest"),
    [
        ({"training__optim": "muon"}, 0.1),
        ({"training__learning_rate": 1.8e-3}, 0.1),
        ({"model__embd_pdrop": 0.0, "model__attn_pdrop": 0.0, "model__resid_pdrop": 0.0}, 0.02),
        ({"training__per_device_train_batch_size": 16}, 0.15),
        ({"training__per_device_train_batch_size": 64}, 0.04),
        ({"model__hidden_size": 64}, 0.1),
        ({"model__num_hidden_layers": 3}, 0.04),
    ],
)
def test_what_experts_try_helps_in_some_tasks_and_harms_in_others(patch: dict[str, Any], rarest: float) -> None:
    times = []
    for name in FAMILIES:
        times += [task.true_seconds(changed(task, **patch)) for task in map(FAMILIES[name].task, range(16))]
    assert sum(seconds < 0.95 * START_SECONDS for seconds in times) >= rarest * len(times)
    assert sum(seconds > 1.05 * START_SECONDS for seconds in times) >= rarest * len(times)
