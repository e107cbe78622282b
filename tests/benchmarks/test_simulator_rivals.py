"""The rival searchers pay for what they run, and hold what looked best to them."""

import math
import random

import pytest
from simulator.families import FAMILIES, RUN_SECONDS, START_SECONDS, STUDY_SECONDS
from simulator.rivals import IDEAS, PRACTICES, Rungs, Searcher, expert_guess, search, space_of
from simulator.space import WITH_HORIZON, Parameter, patch_of, values_of
from simulator.trace import Played

each_practice = pytest.mark.parametrize("name", list(PRACTICES))


@each_practice
def test_a_search_lasts_an_hour_and_starts_with_the_users_config(name: str) -> None:
    task = FAMILIES["decay"].task(0)
    timeline = search(task, PRACTICES[name], seed=0)
    assert timeline.at(0.0) == pytest.approx(START_SECONDS, rel=0.01)
    assert timeline.moments[-1][0] <= STUDY_SECONDS
    most = STUDY_SECONDS / 2  # the start-up alone takes two seconds
    assert STUDY_SECONDS / (RUN_SECONDS + 20) <= timeline.num_runs <= most


@each_practice
def test_the_same_seed_gives_the_same_search(name: str) -> None:
    task = FAMILIES["power_law"].task(3)
    budget = task.start.budget.model_copy(update={"total": STUDY_SECONDS / 3})
    task.start = task.start.model_copy(update={"budget": budget})
    assert search(task, PRACTICES[name], 3) == search(task, PRACTICES[name], 3)


def test_racing_and_rungs_save_runs() -> None:
    task = FAMILIES["power_law"].task(1)
    runs = {name: search(task, PRACTICES[name], 1).num_runs for name in PRACTICES}
    assert runs["tpe_final_loss"] < runs["tpe_time"] < runs["tpe_asha"]


def test_rungs_stop_what_is_below_the_best_third() -> None:
    rungs, stopped = Rungs(160.0), []
    for loss in (3.0, 2.0, 1.0, 2.5, 0.5):
        rungs.begin()
        assert rungs.look({"train_seconds": 9.0, "eval_loss": loss}) is None, "the first rung is at 10 s"
        stopped.append(rungs.look({"train_seconds": 10.0, "eval_loss": loss}) is not None)
    assert stopped == [False, False, False, True, False]
    rungs.begin()
    assert rungs.look({"train_seconds": 10.0, "eval_loss": 0.6}) is None
    assert rungs.look({"train_seconds": 12.0, "eval_loss": 9.0}) is None, "a run is looked at once a rung"


def test_graded_scores_rank_misses_by_how_near_they_came() -> None:
    task = FAMILIES["decay"].task(0)
    searcher = Searcher(task, PRACTICES["tpe_asha"], 0)
    searcher._initial_loss = 5.5

    def score(outcome: str, loss: float, seconds: float) -> float:
        point = {"train_seconds": seconds, "eval_loss": loss}
        return searcher._score(Played(outcome, "", [point], seconds, seconds))  # type: ignore[arg-type]

    reached, near, far = score("reached", 1.4, 100.0), score("missed", 1.6, 250.0), score("missed", 3.0, 250.0)
    assert reached == math.log(100.0)
    assert reached < near < far < score("diverged", 5.0, 20.0)


def test_a_greedy_step_starts_from_the_best() -> None:
    task = FAMILIES["decay"].task(0)
    searcher = Searcher(task, PRACTICES["greedy"], 0)
    start = searcher.ask()
    searcher.tell(start, Played("reached", "", [{"train_seconds": 100.0, "eval_loss": 1.4}], 102.0, 100.0))
    changes = []
    for _ in range(20):
        values = searcher.ask()
        assert sum(values[name] != start[name] for name in values) <= 2
        changes.append(any(values[name] != start[name] for name in values))
        searcher.told.append((9.0, values))
    assert sum(changes) >= 15, "only a step over the edge of a range changes nothing"


def test_values_and_patches_belong_together() -> None:
    generator = random.Random(0)
    task = FAMILIES["decay"].task(0)
    values = {name: parameter.draw(generator) for name, parameter in WITH_HORIZON.items()}
    patch = patch_of(WITH_HORIZON, values)
    assert patch["model.attn_pdrop"] == patch["model.embd_pdrop"] == values["dropout"]
    base = task.start.model_dump(mode="json")
    for key, value in patch.items():
        section, name = key.split(".")
        base[section][name] = value
    assert values_of(WITH_HORIZON, base) == values


@pytest.mark.parametrize("kind", ["log", "linear", "integer", "log_integer"])
def test_shares_and_values_are_inverse(kind: str) -> None:
    parameter = Parameter(kind=kind, keys=("training.x",), low=2, high=500)  # type: ignore[arg-type]
    for share in (0.0, 0.3, 0.71, 1.0):
        value = parameter.at(share)
        assert 2 <= value <= 500
        assert parameter.share(value) == pytest.approx(share, abs=0.12 if kind == "log_integer" else 0.01)


def test_the_experts_ideas_build_on_the_best_so_far() -> None:
    task = FAMILIES["decay"].task(0)
    searcher = Searcher(task, PRACTICES["tpe_asha"], 0)
    start = searcher.ask()
    times, asked = [100.0, 60.0, 90.0, 50.0], [start]
    for seconds in times:
        searcher.tell(asked[-1], Played("reached", "", [{"train_seconds": seconds, "eval_loss": 1.4}], 2.0, seconds))
        asked.append(searcher.ask())
    calm = {**start, "dropout": 0.0}
    assert asked[1:3] == [calm, {**calm, "optim": "muon"}]
    assert asked[3] == {**calm, "learning_rate": 3 * start["learning_rate"]}, "muon was slower"
    assert asked[4] == {**asked[3], "batch": start["batch"] // 2}


def test_an_idea_that_changes_nothing_is_left_out() -> None:
    ideas = [idea({"optim": "muon", "learning_rate": 1e-3, "batch": 32}) for idea in IDEAS]
    assert [sorted(idea) for idea in ideas if idea] == [["optim"], ["learning_rate"], ["batch"]]


def test_the_experts_prior_is_at_the_usual_rates_for_batch_and_width() -> None:
    best = {"optim": "muon", "batch": 128, "width": 128, "learning_rate": 9.0, "muon_learning_rate": 9.0, "layers": 2}
    guess = expert_guess(best)
    assert guess["learning_rate"] == pytest.approx(6e-3)
    assert guess["muon_learning_rate"] == pytest.approx(0.04)
    assert guess["layers"] == 2


def test_only_experts_know_what_is_worth_trying_and_only_sweeps_have_one_length() -> None:
    spaces = {name: space_of(practice, WITH_HORIZON) for name, practice in PRACTICES.items()}
    assert spaces["random"] == WITH_HORIZON
    assert "sgd" not in spaces["tpe_asha"]["optim"].choices
    assert set(WITH_HORIZON) - set(spaces["tpe_final_loss"]) == {"max_steps"}


def test_a_sweep_of_the_final_loss_goes_to_the_end_and_holds_the_quickest() -> None:
    searcher = Searcher(FAMILIES["decay"].task(0), PRACTICES["tpe_final_loss"], 0)
    values = searcher.ask()
    points = [{"train_seconds": at, "eval_loss": loss} for at, loss in ((10.0, 3.0), (20.0, 1.4), (30.0, 1.2))]
    assert searcher.tell(values, Played("missed", "", points, 32.0, 30.0)) == 20.0
    assert searcher.told == [(1.2, values)]
    assert searcher.tell(values, Played("missed", "", points[:1], 12.0, 10.0)) == math.inf


def test_what_the_rungs_stopped_scores_below_the_best() -> None:
    """An optimistic extrapolation would send TPE where nothing is."""
    searcher = Searcher(FAMILIES["power_law"].task(0), PRACTICES["tpe_asha"], 0)
    searcher._initial_loss, searcher.cap_seconds = 5.5, 100.0
    points = [
        {"train_seconds": seconds, "eval_loss": 3.0 - 0.1 * seconds} for seconds in (10.0, 11.0, 12.0, 13.0, 14.0)
    ]
    stopped = Played("raced", "", points, 16.0, 14.0, "below the best third")
    assert searcher._score(stopped) >= math.log(105.0)
