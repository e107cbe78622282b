"""Shares of variance on functions whose shares are known, and what is said with too few runs."""

from dataclasses import replace

import numpy as np
import pytest
from run_tables import additive, made, table, together

from hotlap.analysis.importance import EVALUATORS, Importances, importance
from hotlap.analysis.table import Column, RunTable
from hotlap.core.errors import ConfigError

TRUE_SHARES = {"rate": 0.638, "width": 0.160, "optim": 0.202, "compile": 0.0}
each_evaluator = pytest.mark.parametrize("evaluator", list(EVALUATORS))


def shares(found: Importances) -> dict[str, float]:
    return {one.parameter: one.share for one in found.parameters}


@each_evaluator
@pytest.mark.parametrize("seed", [0, 1])
def test_shares_are_near_the_true_ones(evaluator: str, seed: int) -> None:
    found = importance(made(100, additive, seed), seed, evaluator)
    for name, share in shares(found).items():
        assert share == pytest.approx(TRUE_SHARES[name], abs=0.2), name
    assert found.parameters[0].parameter == "rate"
    assert found.held_out_r2 > 0.5


@each_evaluator
def test_what_matters_is_visible_and_what_does_nothing_is_not(evaluator: str) -> None:
    visible = [one.parameter for one in importance(made(100), 0, evaluator).visible]
    assert "rate" in visible
    assert "compile" not in visible


@each_evaluator
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_visible_in_noise(evaluator: str, seed: int) -> None:
    assert importance(made(60, lambda _: 0.0, seed, noise=1.0), seed, evaluator).visible == ()


def test_a_parameter_that_stands_alone_is_visible_and_alone_in_noise_it_is_not() -> None:
    numbers = [float(n) for n in range(40)]
    alone = importance(table(numbers, rate=numbers), 0)
    assert [one.parameter for one in alone.visible] == ["rate"]
    assert importance(table([float(17 * n % 41) for n in range(40)], rate=numbers), 0).visible == ()


@each_evaluator
@pytest.mark.parametrize("num_runs", [20, 49, 100])
def test_shares_and_intervals_are_shares(evaluator: str, num_runs: int) -> None:
    found = importance(made(num_runs, together, seed=num_runs, noise=0.3), 0, evaluator)
    assert sum(shares(found).values()) <= 1 + 1e-9
    for one in (*found.parameters, *found.interactions):
        assert 0 <= one.low <= one.share <= one.high <= 1
        assert 0 <= one.chance <= 1
    assert [one.share for one in found.parameters] == sorted(shares(found).values(), reverse=True)


def test_the_same_seed_gives_the_same_shares_and_units_do_not_matter() -> None:
    runs = made(40)
    assert importance(runs, 1) == importance(runs, 1)
    assert importance(runs, 1) != importance(runs, 2)
    four_times = replace(runs, scores=tuple(4 * score for score in runs.scores))
    assert importance(four_times, 1) == importance(runs, 1)


def test_with_few_runs_nothing_is_shown() -> None:
    found = importance(made(19), 0)
    assert found.state == "not_enough"
    assert found.parameters == () == found.interactions
    assert "20 are needed, 1 more" in found.text
    assert importance(RunTable((), (), (), (), "score"), 0).state == "not_enough"


@pytest.mark.parametrize(("num_runs", "state"), [(20, "few"), (49, "few"), (50, "ok")])
def test_below_fifty_runs_there_is_a_warning(num_runs: int, state: str) -> None:
    found = importance(made(num_runs), 0)
    assert found.state == state
    assert ("first hint" in found.text) is (state == "few")
    assert len(found.parameters) == 4


def test_without_anything_to_tell_apart_nothing_is_shown() -> None:
    runs = made(30)
    assert "No parameter was varied" in importance(replace(runs, parameters=()), 0).text
    equal = importance(replace(runs, scores=(1.0,) * 30), 0)
    assert equal.state == "not_enough"
    assert "the same score" in equal.text


def test_an_unknown_evaluator_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'fanova'"):
        importance(made(30), 0, "fanov")


def test_a_parameter_that_some_runs_do_not_have_has_a_share() -> None:
    runs = made(80)
    is_muon = [value == "muon" for value in runs.parameters[2].values]
    momentum = Column("momentum", "number", tuple(0.9 + 0.001 * n if muon else None for n, muon in enumerate(is_muon)))
    scores = tuple(3.0 * muon for muon in is_muon)
    found = importance(replace(runs, parameters=(momentum, *runs.parameters[:2]), scores=scores), 0)
    assert found.parameters[0].parameter == "momentum", "being absent is a value"
    assert found.parameters[0].share > 0.8


def test_one_parameter_has_everything() -> None:
    found = importance(table([float(n) for n in range(120)], rate=[float(n) for n in range(120)]), 0)
    assert found.parameters[0].share == pytest.approx(1.0, abs=0.1)
    assert found.interactions == ()


def test_a_pair_that_acts_together_is_found() -> None:
    found = importance(made(150, together), 0)
    first = found.interactions[0]
    assert first.parameters == ("rate", "width")
    assert found.visible_pairs[0] == first
    assert first.share == pytest.approx(0.6, abs=0.3)
    assert not [pair for pair in found.visible_pairs if "compile" in pair.parameters]


def test_no_pair_is_found_where_every_parameter_acts_for_itself() -> None:
    found = importance(made(150, additive, noise=0.3), 0)
    assert len(found.interactions) == 6
    assert found.visible_pairs == ()


def test_pairs_wait_for_a_hundred_runs() -> None:
    assert importance(made(99), 0).interactions == ()
    assert len(importance(made(100), 0).interactions) == 6


@pytest.mark.parametrize("loss", [10.0, 1000.0, 1e200])
def test_one_run_that_blew_up_is_not_all_of_the_variance(loss: float) -> None:
    generator = np.random.default_rng(3)
    rate, other = generator.random(60), generator.random(60)
    scores = [float(3 + r + 0.1 * o) for r, o in zip(rate, other, strict=True)]
    scores[7] = loss
    found = importance(table(scores, {}, rate=rate.tolist(), other=other.tolist()), seed=0)
    assert [one.parameter for one in found.visible] == ["rate"]
    assert found.held_out_r2 > 0.1
