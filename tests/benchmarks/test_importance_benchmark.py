"""The functions have the shares that they are said to have, and the default estimator is the one that won."""

import json

import importance
import numpy as np
import pytest
from importance import PROBLEMS, SIZES, Axis, cells_of, draw, judge, mean_places, report, true_shares, winner_of
from measuring import RESULTS

from hotlap.analysis.importance import DEFAULT_EVALUATOR, EVALUATORS

each_problem = pytest.mark.parametrize("name", list(PROBLEMS))


def test_shares_of_the_functions_are_those_on_paper() -> None:
    variances = np.array([36 / 180, 1 / 12, 0.05, 0.34 / 3 - (0.8 / 3) ** 2, 0.09 / 12, 0.0])
    assert true_shares(PROBLEMS["additive"]).own == pytest.approx(variances / variances.sum(), abs=0.02)
    assert true_shares(PROBLEMS["additive"]).whole == pytest.approx(variances / variances.sum(), abs=0.02)
    alone, together = np.array([1 / 12, 0.64 / 12, 0.0225, 0.04 / 12, 0.0, 0.0]), 16 / 144
    found = true_shares(PROBLEMS["interaction"])
    assert found.own == pytest.approx(alone / (alone.sum() + together), abs=0.02)
    half = np.array([together / 2, together / 2, 0, 0, 0, 0])
    assert found.whole == pytest.approx((alone + half) / (alone.sum() + together), abs=0.02)


@each_problem
def test_something_matters_and_something_does_nothing(name: str) -> None:
    found = true_shares(PROBLEMS[name], samples=1 << 15)
    assert found.own.max() > importance.MATTERS
    assert found.own.sum() < 1.1
    assert found.whole.sum() == pytest.approx(1.0)
    assert (found.whole == 0).any()


@each_problem
@pytest.mark.parametrize("sampler", importance.SAMPLERS)
def test_the_same_seed_draws_the_same_runs(name: str, sampler: str) -> None:
    spots, scores = draw(PROBLEMS[name], sampler, 3, 15)
    again, same = draw(PROBLEMS[name], sampler, 3, 15)
    assert np.array_equal(spots, again) and np.array_equal(scores, same)
    assert spots.shape == (15, len(PROBLEMS[name].axes))
    assert ((spots >= 0) & (spots <= 1)).all()


def test_values_stand_at_their_spots() -> None:
    assert Axis("rate", low=1e-5, high=1e-3, is_log=True).column(np.array([0.0, 0.5, 1.0])).values == pytest.approx(
        (1e-5, 1e-4, 1e-3)
    )
    steps = Axis("steps", (50.0, 200.0, 500.0)).column(np.array([0.0, 0.34, 1.0]))
    assert (steps.kind, steps.values) == ("number", (50.0, 200.0, 500.0))
    assert Axis("optim", ("a", "b")).column(np.array([0.1, 0.9])).values == ("a", "b")


def made_cells(errors: dict[str, float]) -> list[dict[str, object]]:
    found = [
        {"problem": "additive", "sampler": sampler, "runs": size, "evaluator": name, **figures(error + seed)}
        for name, error in errors.items()
        for sampler in importance.SAMPLERS
        for size in SIZES
        for seed in (0.0, 0.1)
    ]
    return cells_of(found)


def figures(error: float) -> dict[str, float]:
    names = ("own_error", "whole_error", "rank_error", "own_coverage", "own_misses", "whole_coverage")
    names = (*names, "width", "found", "false")
    return {**dict.fromkeys(names, error), "pair_found": 0.0, "pair_false": 0.0, "seconds": error}


def test_the_smallest_errors_win() -> None:
    cells = made_cells({"fanova": 0.3, "mdi": 0.1, "permutation": 0.3})
    assert mean_places(cells, "own_error") == {"fanova": 2.0, "mdi": 1.0, "permutation": 2.0}
    assert winner_of(cells) == "mdi"
    first = cells[0]
    assert (first["own_error"], first["repetitions"], first["longest"]) == (pytest.approx(0.35), 2, 0.4)
    text = "\n".join(report(cells, {"additive": true_shares(PROBLEMS["additive"], samples=1 << 10)}))
    assert "The winner is **mdi**" in text
    assert "Pairs, tpe, 100 runs: one that does not act together visible in 0%." in text


def test_an_estimator_is_judged_on_real_runs() -> None:
    problem = PROBLEMS["interaction"]
    spots, scores = draw(problem, "random", 0, 100)
    runs = importance.run_table(problem, spots, scores)
    found = judge(problem, true_shares(problem, samples=1 << 12), runs, "fanova", 0)
    assert found.keys() == figures(0.0).keys()
    assert found["own_error"] < 1
    assert found["found"] > 0


def test_the_default_is_the_estimator_that_won() -> None:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("importance-*.json")]
    assert results, "run: python benchmarks/importance.py"
    assert {result["winner"] for result in results} == {DEFAULT_EVALUATOR}
    for result in results:
        assert {(cell["runs"], cell["evaluator"]) for cell in result["cells"]} == {
            (n, e) for n in SIZES for e in EVALUATORS
        }
        assert min(cell["repetitions"] for cell in result["cells"]) >= importance.REPETITIONS
