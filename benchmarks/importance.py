"""Which estimator of parameter importance is the nearest to the truth, on functions whose variance shares are known.

    python benchmarks/importance.py                     # 60 repetitions: about a quarter of an hour on two cores
    python benchmarks/importance.py --quick             # 3 repetitions in about a minute; prints only

No training: three functions of made-up settings stand for it. *additive*: every setting acts for itself. *interaction*:
two settings act together. *capped*: log seconds to a target with noise, mostly categories, and runs that are cut off at
a limit. A setting or two of each do nothing. Runs are drawn at random or by Optuna's TPE, and the first 25, 50 and 100
of them are analysed. The estimator with the best mean place, by share error, rank error and coverage of its intervals
over all cells, is the default.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from measuring import hardware, table, write_results
from numpy.typing import NDArray

from hotlap.analysis.correlation import spearman
from hotlap.analysis.importance import EVALUATORS, PAIR_RUNS, importance
from hotlap.analysis.table import Column, RunTable
from hotlap.core.processes import processor_name, usable_cores

Array = NDArray[np.float64]

SIZES: Final = (25, 50, 100)
SAMPLERS: Final = ("random", "tpe")
REPETITIONS: Final = 60
QUICK_REPETITIONS: Final = 3
TRUTH_SAMPLES: Final = 1 << 17
"""Points of the Monte Carlo shares; their error is below 0.01."""
MATTERS: Final = 0.1
"""Share from which on a parameter should be found."""
CAP_SECONDS: Final = 300.0
NOISE: Final = 0.1
"""Standard deviation of log seconds to target between seeds."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting; its spot from 0 to 1 stands for a number between the bounds or for one of the values."""

    name: str
    values: tuple[float | str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    is_log: bool = False

    def column(self, spots: Array) -> Column:
        """Return the setting's values at spots, as a run table has them."""
        if not self.values:
            return Column(self.name, "number", tuple(self._number(spot) for spot in spots.tolist()), self.is_log)
        kind = "category" if isinstance(self.values[0], str) else "number"
        return Column(self.name, kind, tuple(self.values[place] for place in places(spots, len(self.values))))

    def _number(self, spot: float) -> float:
        if self.is_log:
            return self.low * (self.high / self.low) ** spot
        return self.low + spot * (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Problem:
    """A function of settings whose shares of variance are known."""

    name: str
    axes: tuple[Axis, ...]
    value: Callable[[Array, Array], Array]
    """Scores at spots (runs, axes) with noise (runs,); lower is better."""
    noise: float = 0.0
    pairs: tuple[tuple[str, str], ...] | None = ()
    """The pairs that act together; None where nearly all of them do."""


def places(spots: Array, count: int) -> NDArray[np.int64]:
    """Return which of so many values each spot stands for."""
    return np.minimum((spots * count).astype(np.int64), count - 1)


def chosen(spots: Array, values: Sequence[float]) -> Array:
    """Return the value that each spot stands for."""
    return np.array(values, dtype=np.float64)[places(spots, len(values))]


def additive(spots: Array, noise: Array) -> Array:
    """Return what every setting adds for itself: variances 1/5, 1/12, 1/20, 0.0422, 0.0075 and 0."""
    rate, decay, warmup, optim, dropout, _ = spots.T
    steps = chosen(warmup, (0.0, 0.2, 0.4, 0.6))
    return 6 * (rate - 0.5) ** 2 + decay + steps + chosen(optim, (0.0, 0.3, 0.5)) + 0.3 * dropout + noise


def interaction(spots: Array, noise: Array) -> Array:
    """Return scores in which two settings act together: variances 1/12, 0.0533, 0.0225, 0.0033, 0, 0; together 1/9."""
    rate, decay, optim, dropout, _, _ = spots.T
    together = 4 * (rate - 0.5) * (decay - 0.5)
    return rate + 0.8 * decay + together + chosen(optim, (0.0, 0.3)) + 0.2 * dropout + noise


def capped(spots: Array, noise: Array) -> Array:
    """Return log seconds to target; the best learning rate hangs on the optimizer and on the batch."""
    rate, optim, batch, accumulation, _, schedule, compiled, bf16 = spots.T
    doublings = chosen(batch, (0.0, 1.0, 2.0)) + chosen(accumulation, (0.0, 1.0, 2.0))
    best = 0.4 + chosen(optim, (0.0, 0.15, -0.1)) + 0.06 * doublings
    seconds = math.log(60) + 6 * (rate - best) ** 2 + chosen(optim, (0.0, -0.35, 0.25))
    seconds = seconds + 0.08 * (doublings - 2) ** 2 + chosen(schedule, (0.0, 0.15, 0.05, 0.05))
    seconds = seconds + chosen(compiled, (-0.15, 0.0)) + chosen(bf16, (-0.3, 0.0))
    return np.minimum(seconds + noise, math.log(CAP_SECONDS))


_RATE: Final = Axis("learning_rate", low=1e-5, high=1e-3, is_log=True)
_DECAY: Final = Axis("weight_decay", high=0.2)
_WARMUP: Final = Axis("warmup_steps", (50.0, 200.0, 500.0, 1000.0))
_OPTIM: Final = Axis("optim", ("adamw_torch", "muon", "adafactor"))
_DROPOUT: Final = Axis("dropout", high=0.3)
_COMPILE: Final = Axis("torch_compile", ("true", "false"))
PROBLEMS: Final[Mapping[str, Problem]] = {
    problem.name: problem
    for problem in (
        Problem("additive", (_RATE, _DECAY, _WARMUP, _OPTIM, _DROPOUT, _COMPILE), additive),
        Problem(
            "interaction",
            (_RATE, _DECAY, Axis("optim", ("adamw_torch", "muon")), _DROPOUT, _COMPILE, _WARMUP),
            interaction,
            pairs=(("learning_rate", "weight_decay"),),
        ),
        Problem(
            "capped",
            (
                _RATE,
                _OPTIM,
                Axis("per_device_train_batch_size", (4.0, 8.0, 16.0)),
                Axis("gradient_accumulation_steps", (1.0, 2.0, 4.0)),
                _WARMUP,
                Axis("lr_scheduler_type", ("linear", "constant_with_warmup", "cosine", "cosine_with_restarts")),
                _COMPILE,
                Axis("bf16", ("true", "false")),
            ),
            capped,
            noise=NOISE,
            pairs=None,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Truth:
    """The shares of a function without its noise, one a setting."""

    own: Array
    """What a setting does for itself (first-order Sobol' index); they add up to at most 1."""
    whole: Array
    """With its part of the interactions: the mean of its first-order and its total index, scaled to add up to 1. That
    is the Shapley effect where no more than two settings act together (Owen 2014, DOI 10.1137/130936233)."""


def true_shares(problem: Problem, samples: int = TRUTH_SAMPLES) -> Truth:
    """Return the shares by Monte Carlo (Saltelli et al. 2010, DOI 10.1016/j.cpc.2009.09.018, table 2, b and f)."""
    generator = np.random.default_rng(0)
    one, other = (generator.random((samples, len(problem.axes))) for _ in range(2))
    silent = np.zeros(samples)
    at_one, at_other = problem.value(one, silent), problem.value(other, silent)
    mean, variance = float(at_one.mean()), float(np.var(np.concatenate([at_one, at_other])))
    own, total = [], []
    for index in range(len(problem.axes)):
        mixed = one.copy()
        mixed[:, index] = other[:, index]
        moved = problem.value(mixed, silent) - at_one
        own.append(max(0.0, float(((at_other - mean) * moved).mean())) / variance)
        total.append(float((moved**2).mean()) / 2 / variance)
    both = np.array(own) + np.array(total)
    return Truth(np.array(own), both / both.sum())


def draw(problem: Problem, sampler: str, seed: int, num_runs: int) -> tuple[Array, Array]:
    """Return spots (runs, axes) and scores of runs that a sampler asked for."""
    generator = np.random.default_rng(seed)
    noise = problem.noise * generator.standard_normal(num_runs)
    if sampler == "random":
        spots = generator.random((num_runs, len(problem.axes)))
        return spots, problem.value(spots, noise)
    return _draw_by_tpe(problem, seed, noise)


def _draw_by_tpe(problem: Problem, seed: int, noise: Array) -> tuple[Array, Array]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), direction="minimize")
    distributions: dict[str, Any] = {
        axis.name: optuna.distributions.CategoricalDistribution(tuple(range(len(axis.values))))
        if axis.values
        else optuna.distributions.FloatDistribution(0.0, 1.0)
        for axis in problem.axes
    }
    spots, scores = [], []
    for each in noise:
        trial = study.ask(distributions)
        asked = [(axis, trial.params[axis.name]) for axis in problem.axes]
        spot = [(value + 0.5) / len(axis.values) if axis.values else value for axis, value in asked]
        score = float(problem.value(np.array([spot]), np.array([each]))[0])
        study.tell(trial, score)
        spots.append(spot)
        scores.append(score)
    return np.array(spots), np.array(scores)


def run_table(problem: Problem, spots: Array, scores: Array) -> RunTable:
    """Return runs as the analysis gets them."""
    return RunTable(
        run_ids=tuple(f"r{number:04}" for number in range(1, len(scores) + 1)),
        parameters=tuple(axis.column(spots[:, index]) for index, axis in enumerate(problem.axes)),
        measures=(),
        scores=tuple(scores.tolist()),
        score_name="score",
    )


def analyse(job: tuple[str, str, int, Truth]) -> list[dict[str, Any]]:
    """Draw the runs of one repetition; return how far every estimator is from the truth, for every number of runs."""
    import sklearn.ensemble  # noqa: F401  # its second is no part of an analysis
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    name, sampler, seed, truth = job
    problem = PROBLEMS[name]
    found = []
    with threadpool_limits(1):  # repetitions run side by side
        spots, scores = draw(problem, sampler, seed, max(SIZES))
        for size in SIZES:
            runs = run_table(problem, spots[:size], scores[:size])
            for evaluator in EVALUATORS:
                figures = judge(problem, truth, runs, evaluator, seed)
                found.append({"problem": name, "sampler": sampler, "runs": size, "evaluator": evaluator, **figures})
    return found


def judge(problem: Problem, truth: Truth, runs: RunTable, evaluator: str, seed: int) -> dict[str, Any]:
    """Return how far one estimator is from the truth on some runs."""
    began = time.process_time()
    told = importance(runs, seed, evaluator)
    seconds = time.process_time() - began
    by_name = {one.parameter: one for one in told.parameters}
    ones = [by_name[axis.name] for axis in problem.axes]
    shares, low, high = (np.array([getattr(one, end) for one in ones]) for end in ("share", "low", "high"))
    names = {one.parameter for one in told.visible}
    visible = np.array([axis.name in names for axis in problem.axes])
    ranked = spearman(shares.tolist(), truth.own.tolist())
    pairs = [set(pair.parameters) for pair in told.visible_pairs]
    real = [set(pair) for pair in problem.pairs or ()]
    return {
        "own_error": float(np.abs(shares - truth.own).sum()),
        "whole_error": float(np.abs(shares - truth.whole).sum()),
        "rank_error": 1 - ranked[0] if ranked else 1.0,
        "own_coverage": float(((low <= truth.own) & (truth.own <= high)).mean()),
        "own_misses": float(((truth.own < low) | (truth.own > high)).mean()),
        "whole_coverage": float(((low <= truth.whole) & (truth.whole <= high)).mean()),
        "width": float((high - low).mean()),
        "found": float(visible[truth.own >= MATTERS].mean()),
        "false": float(visible[truth.whole == 0].mean()),
        "pair_found": float(any(pair in real for pair in pairs)),
        "pair_false": float(any(pair not in real for pair in pairs)),
        "seconds": seconds,
    }


def cells_of(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean figures of each problem, sampler, number of runs and estimator."""
    keys = ("problem", "sampler", "runs", "evaluator")
    grouped: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for one in found:
        grouped.setdefault(tuple(one[key] for key in keys), []).append(one)
    cells = []
    for group, ones in grouped.items():
        figures = {key: statistics.fmean(one[key] for one in ones) for key in ones[0] if key not in keys}
        longest = max(one["seconds"] for one in ones)
        cells.append({**dict(zip(keys, group, strict=True)), **figures, "repetitions": len(ones), "longest": longest})
    return cells


def mean_places(cells: Sequence[Mapping[str, Any]], figure: str) -> dict[str, float]:
    """Return each estimator's mean place by a figure that should be small, over all problems, samplers and sizes."""
    grouped: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for cell in cells:
        grouped.setdefault((cell["problem"], cell["sampler"], cell["runs"]), []).append(cell)
    found: dict[str, list[int]] = {name: [] for name in EVALUATORS}
    for rivals in grouped.values():
        for cell in rivals:
            found[cell["evaluator"]].append(1 + sum(rival[figure] < cell[figure] for rival in rivals))
    return {name: statistics.fmean(got) for name, got in found.items()}


def winner_of(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return the estimator with the best mean place by share error, by rank error and by coverage."""
    places = [mean_places(cells, figure) for figure in ("own_error", "rank_error", "own_misses")]
    return min(EVALUATORS, key=lambda name: sum(place[name] for place in places))


def report(cells: Sequence[Mapping[str, Any]], truths: Mapping[str, Truth]) -> list[str]:
    """Return the text: who wins, then a table for each function."""
    by_share, by_rank = mean_places(cells, "own_error"), mean_places(cells, "rank_error")
    by_coverage = mean_places(cells, "own_misses")
    rows = []
    for name in EVALUATORS:
        mine = [cell for cell in cells if cell["evaluator"] == name]
        means = {
            key: statistics.fmean(cell[key] for cell in mine) for key in ("own_error", "rank_error", "own_coverage")
        }
        longest = max(cell["longest"] for cell in mine if cell["runs"] == max(SIZES))
        figures = (by_share[name], by_rank[name], by_coverage[name], *means.values(), longest)
        rows.append([name, *(f"{figure:.2f}" for figure in figures)])
    header = ["estimator", "place by share", "by rank", "by coverage", "share error", "rank error", "coverage"]
    lines = [f"The winner is **{winner_of(cells)}**: the best mean place by share error, rank error and coverage.", ""]
    lines += [*table([*header, f"longest of {max(SIZES)} runs, s"], rows), "", *_LEGEND.splitlines()]
    for name, truth in truths.items():
        lines += ["", f"## {name}", "", *_problem_text(PROBLEMS[name], truth, cells)]
    return lines


_LEGEND: Final = f"""
Share error: the sum over the parameters of what a share is off from the parameter's own true share (a first-order
index); in brackets from the share with the parameter's part of the interactions, which is what mdi and permutation
aim at. Rank error: 1 less the rank correlation with the own true shares. Coverage: how often the 90 % interval holds
the own true share; in brackets the one with interactions. Found: how often a parameter with a share of at least
{MATTERS} is called visible; false: how often one that does nothing is. Pairs are looked at from {PAIR_RUNS} runs on:
how often a pair that acts together is called visible, and how often one that does not is."""


def _problem_text(problem: Problem, truth: Truth, cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    own = ", ".join(f"{axis.name} {share:.3f}" for axis, share in zip(problem.axes, truth.own.tolist(), strict=True))
    yield f"True own shares: {own}; the rest is interaction."
    yield ""
    header = ["sampler", "runs", "estimator", "share error", "rank error", "coverage", "width", "found", "false", "s"]
    mine = [cell for cell in cells if cell["problem"] == problem.name]
    rows = [
        [
            cell["sampler"],
            str(cell["runs"]),
            cell["evaluator"],
            f"{cell['own_error']:.2f} ({cell['whole_error']:.2f})",
            f"{cell['rank_error']:.2f}",
            f"{cell['own_coverage']:.2f} ({cell['whole_coverage']:.2f})",
            *(f"{cell[key]:.2f}" for key in ("width", "found", "false", "seconds")),
        ]
        for cell in sorted(mine, key=lambda cell: (cell["sampler"], cell["runs"]))
    ]
    yield from table(header, rows)
    large = [cell for cell in mine if cell["runs"] >= PAIR_RUNS]
    for sampler in dict.fromkeys(cell["sampler"] for cell in large if problem.pairs is not None):
        of_sampler = [cell for cell in large if cell["sampler"] == sampler]
        hits, others = (statistics.fmean(cell[key] for cell in of_sampler) for key in ("pair_found", "pair_false"))
        yield ""
        real = f"{_pairs_text(problem)} visible in {hits:.0%}, " if problem.pairs else ""
        yield f"Pairs, {sampler}, {PAIR_RUNS} runs: {real}one that does not act together visible in {others:.0%}."


def _pairs_text(problem: Problem) -> str:
    return ", ".join(" and ".join(pair) for pair in problem.pairs or ())


def main() -> None:
    """Analyse every repetition and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REPETITIONS} repetitions, and write nothing")
    parser.add_argument("--processes", type=int, default=usable_cores())
    arguments = parser.parse_args()
    repetitions = QUICK_REPETITIONS if arguments.quick else arguments.repetitions
    truths = {name: true_shares(problem) for name, problem in PROBLEMS.items()}
    jobs = [(n, sampler, seed, truths[n]) for n in PROBLEMS for sampler in SAMPLERS for seed in range(repetitions)]
    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for number, ones in enumerate(pool.map(analyse, jobs), start=1):
            found += ones
            print(f"[{number}/{len(jobs)}] {ones[0]['problem']}, {ones[0]['sampler']}", flush=True)
    cells = cells_of(found)
    text = report(cells, truths)
    if arguments.quick:
        print("\n".join(text))
        return
    facts = hardware({"processor": processor_name(), "device": "cpu", "threads": 1})
    software = {name: version(name) for name in ("scikit-learn", "optuna", "numpy")}
    shares = {name: truth.own.tolist() for name, truth in truths.items()}
    values = {"software": software, "winner": winner_of(cells), "true_shares": shares, "cells": cells}
    versions = ", ".join(f"{name} {number}" for name, number in software.items())
    write_results("importance", facts, values, [f"{repetitions} repetitions; {versions}.", "", *text])


if __name__ == "__main__":
    main()
