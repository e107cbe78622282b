"""Which parameters mattered: shares of the variance of the scores, with intervals and with what chance alone gives.

    importance(table, seed=0).parameters[0]      # Importance(parameter="training.learning_rate", share=0.52, ...)

Three estimators read the same forest. `fanova`: the variance of a parameter's own effect over the space; `mdi`: what
its splits take away from the variance of the runs; `permutation`: the errors that come from shuffling it. The first
leaves interactions out, the other two give them to the parameters that take part in them. Which one is the nearest to
the truth, `benchmarks/importance.py` measures on functions whose shares are known.

Forests on resampled runs say how much a share moves with the runs. The interval of a share also holds what forests
are off with any number of runs. Neither says whether a parameter matters: a forest gives some share to every column.
So every parameter also stands beside a shuffled copy of itself (Kursa and Rudnicki 2010, DOI 10.18637/jss.v036.i11),
and an effect is visible where all that the share moves within lies above what the copy gets. A pair is held against
forests on scores in which every parameter acts for itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

import numpy as np

from hotlap.analysis.forest import Array, Encoding, Forest, encode
from hotlap.analysis.table import RunTable
from hotlap.core.errors import unknown_name

Evaluator = Literal["fanova", "mdi", "permutation"]
State = Literal["ok", "few", "not_enough"]

EVALUATORS: Final[Mapping[str, Callable[[Forest], Array]]] = {
    "fanova": Forest.variance_shares,
    "mdi": Forest.impurity_shares,
    "permutation": Forest.permutation_shares,
}
DEFAULT_EVALUATOR: Final[Evaluator] = "mdi"
"""The one that wins in `benchmarks/importance.py`; a test holds it against the committed results."""
LEAST_RUNS: Final = 20
"""Runs below which nothing is shown."""
FEW_RUNS: Final = 50
"""Runs below which the shares are a first hint."""
PAIR_RUNS: Final = 100
"""Runs from which on pairs are looked at."""
LEVEL: Final = 0.9
"""Share of the resamplings that an interval holds."""
BIAS: Final = 0.14
"""What the share of a forest is off from the true one, however many runs it saw: with it the intervals of
`benchmarks/importance.py` hold about as often as they say."""
FENCE: Final = 3.0
"""Distances of the quartiles beyond which a score lies too far out to count in full."""
_NUM_TREES: Final = 80
_RESAMPLINGS, _SHUFFLINGS, _ADDITIVE = 12, 4, 4
"""Forests for the intervals, for chance, and for the chance of pairs: 20 in all."""
_REFIT_TREES: Final = 10
_ADDITIVE_TREES: Final = 20
"""With fewer trees more noise is left in their mean, and all of it looks like interaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """One parameter's share of the variance of the scores; all numbers from 0 to 1."""

    parameter: str
    share: float
    low: float
    high: float
    spread: float
    """What the share stays within when the runs are resampled."""
    chance: float
    """What a shuffled copy of the parameter would get in its place, the largest of four."""

    @property
    def is_above_chance(self) -> bool:
        """Whether all that the share moves within lies above what chance gives."""
        return self.share - self.spread > self.chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """The share of the variance that two parameters have together, beyond what each of them does alone."""

    parameters: tuple[str, str]
    share: float
    low: float
    high: float
    chance: float
    """What the pair gets where every parameter acts for itself, the largest of four."""

    @property
    def is_above_chance(self) -> bool:
        """Whether the whole interval lies above what chance gives."""
        return self.low > self.chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Importances:
    """What the runs say of all parameters."""

    state: State
    text: str
    """Why nothing is shown, or how far it carries; empty where there are runs enough."""
    evaluator: str
    score_name: str
    num_runs: int
    parameters: tuple[Importance, ...] = ()
    """Largest share first; empty in the state `not_enough`."""
    interactions: tuple[Interaction, ...] = ()
    """All pairs, largest share first; empty below 100 runs."""
    held_out_r2: float = 0.0
    """Share of the variance of the scores that the forest predicts of runs that it was not grown on. Where it is not
    above 0, the forest has learned nothing, and its shares say nothing."""

    @property
    def has_learned(self) -> bool:
        """Whether the forest predicts runs that it has not seen better than their mean does."""
        return self.held_out_r2 > 0

    @property
    def visible(self) -> tuple[Importance, ...]:
        """The parameters with a visible effect, largest share first."""
        return tuple(one for one in self.parameters if one.is_above_chance and self.has_learned)

    @property
    def visible_pairs(self) -> tuple[Interaction, ...]:
        """The pairs that visibly act together, largest share first."""
        return tuple(pair for pair in self.interactions if pair.is_above_chance and self.has_learned)


def importance(table: RunTable, seed: int, evaluator: str = DEFAULT_EVALUATOR) -> Importances:
    """Return each parameter's share of the variance; the same arguments give the same shares.

    Spreads are those of symmetric bootstrap intervals (Hall 1988, Journal of the Royal Statistical Society B 50,
    35-45): what 90 % of the resamplings stay within. Intervals add BIAS in quadrature, and are cut at 0 and 1. Raises
    ConfigError for an unknown evaluator and MissingExtraError when scikit-learn is not installed.
    """
    if evaluator not in EVALUATORS:
        raise unknown_name("importance evaluator", evaluator, EVALUATORS)
    state, text = _state(table)
    num_runs, names = len(table.run_ids), [column.name for column in table.parameters]
    if state == "not_enough":
        return Importances(state=state, text=text, evaluator=evaluator, score_name=table.score_name, num_runs=num_runs)
    evaluate, generator = EVALUATORS[evaluator], np.random.default_rng(seed)
    encoding, scores = encode(table.parameters), _standardised(table.scores)
    full = Forest(encoding, scores, _NUM_TREES, generator, is_held_out=True)
    refits = _resampled(encoding, scores, generator)
    shares, spreads = _shares(evaluate, full, refits)
    chance = _chance(evaluate, encoding, scores, shares.tolist(), generator)
    columns = zip(names, shares.tolist(), spreads.tolist(), chance, strict=True)
    found = [_importance(*column) for column in columns]
    has_pairs = num_runs >= PAIR_RUNS and len(names) > 1
    return Importances(
        state=state,
        text=text,
        evaluator=evaluator,
        score_name=table.score_name,
        num_runs=num_runs,
        parameters=tuple(sorted(found, key=lambda one: (-one.share, one.parameter))),
        interactions=_interactions(names, encoding, full, refits, generator) if has_pairs else (),
        held_out_r2=full.held_out_r2,
    )


def _importance(parameter: str, share: float, spread: float, chance: float) -> Importance:
    reach = math.hypot(spread, BIAS)
    low, high = max(0.0, share - reach), min(1.0, share + reach)
    return Importance(parameter=parameter, share=share, low=low, high=high, spread=spread, chance=chance)


def _state(table: RunTable) -> tuple[State, str]:
    """Return whether there are runs enough, and what to say about it."""
    num_runs = len(table.run_ids)
    if num_runs < LEAST_RUNS:
        return "not_enough", (
            f"{_runs(num_runs)} {'is' if num_runs == 1 else 'are'} not enough to say which parameters matter: "
            f"{LEAST_RUNS} are needed, {LEAST_RUNS - num_runs} more."
        )
    if not table.parameters:
        return "not_enough", "No parameter was varied, so none can be said to matter."
    if min(table.scores) == max(table.scores):
        return "not_enough", "All runs have the same score, so no parameter can be said to matter."
    if num_runs < FEW_RUNS:
        return "few", f"With {_runs(num_runs)} the shares are a first hint; from {FEW_RUNS} runs on they become steady."
    return "ok", ""


def _chance(
    evaluate: Callable[[Forest], Array],
    encoding: Encoding,
    scores: Array,
    shares: Sequence[float],
    generator: np.random.Generator,
) -> list[float]:
    """Return what a shuffled copy of each parameter would get in its place.

    The copies stand beside the originals and take from their shares, too. So what a copy gets counts relative to what
    its original gets beside it; where that is nothing, chance may give everything.
    """
    copies = [encoding.with_shuffled_copies(generator) for _ in range(_SHUFFLINGS)]
    told = np.stack([evaluate(Forest(copy, scores, _REFIT_TREES, generator)) for copy in copies])
    originals = told[:, : len(shares)].mean(axis=0).tolist()
    shuffled = told[:, len(shares) :].max(axis=0).tolist()
    return [
        min(share * copy / original, 1.0) if original > 0 else 1.0
        for share, original, copy in zip(shares, originals, shuffled, strict=True)
    ]


def _interactions(
    names: Sequence[str], encoding: Encoding, full: Forest, refits: Sequence[Forest], generator: np.random.Generator
) -> tuple[Interaction, ...]:
    """Return the shares of all pairs, largest first."""
    shares, spreads = _shares(Forest.pair_shares, full, refits)
    low, high = np.maximum(shares - spreads, 0.0), np.minimum(shares + spreads, 1.0)
    additive = [full.without_interactions() for _ in range(_ADDITIVE)]
    told = np.stack([Forest(encoding, each, _ADDITIVE_TREES, generator).pair_shares() for each in additive])
    chance = np.minimum(told.max(axis=0), 1.0).tolist()
    columns = zip(combinations(names, 2), shares.tolist(), low.tolist(), high.tolist(), chance, strict=True)
    found = [Interaction(parameters=pair, share=s, low=a, high=b, chance=c) for pair, s, a, b, c in columns]
    return tuple(sorted(found, key=lambda one: (-one.share, one.parameters)))


def _resampled(encoding: Encoding, scores: Array, generator: np.random.Generator) -> list[Forest]:
    """Return forests on runs drawn with replacement."""
    draws = [generator.integers(len(scores), size=len(scores)) for _ in range(_RESAMPLINGS)]
    return [Forest(encoding.rows(rows), scores[rows], _REFIT_TREES, generator) for rows in draws]


def _shares(evaluate: Callable[[Forest], Array], full: Forest, refits: Sequence[Forest]) -> tuple[Array, Array]:
    """Return what the forest on all runs says, and what 90 % of the refits stay within of it."""
    shares = np.minimum(evaluate(full), 1.0)
    moved = np.abs(np.stack([evaluate(refit) for refit in refits]) - shares)
    return shares, np.asarray(np.quantile(moved, LEVEL, axis=0), dtype=np.float64)


def _standardised(scores: Sequence[float]) -> Array:
    """Return scores with mean 0 and variance 1: shares do not depend on the unit.

    What lies beyond three times the distance of the quartiles counts as lying there (the outer fences of Tukey,
    Exploratory Data Analysis, 1977): one run that blew up would be all of the variance.
    """
    values = np.array(scores, dtype=np.float64)
    low, high = np.quantile(values, (0.25, 0.75))
    if high > low:
        values = np.clip(values, low - FENCE * (high - low), high + FENCE * (high - low))
    found: Array = (values - values.mean()) / values.std()
    return found


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"
