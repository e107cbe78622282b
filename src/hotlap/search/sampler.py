"""Optuna's TPE as a sampler library: a study in memory, rebuilt from our own records for every question.

Our records are the truth. Every scored recipe goes in as a finished trial, also stopped and failed ones with their
graded score; nothing is ever told as pruned, since TPE ranks pruned trials by their last step and would take a run
that broke at step 2 for a good one (measured with Optuna 5.0.0).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hotlap.search.space import Choice, Point, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True, slots=True)
class Scored:
    """A point that was tried and what it was worth; lower is better."""

    point: Point
    value: float


def tpe_suggestions(space: Space, scored: Sequence[Scored], seed: int) -> Iterator[dict[str, Any]]:
    """Yield points to try next, best guess first; the same arguments give the same points.

    Each one is drawn as if those before it were being run, so they do not repeat each other. `scored` holds at least
    one point.
    """
    import optuna  # 0.3 s that only a search needs

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {dimension.name: _distribution(dimension) for dimension in space.dimensions}
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0)  # multivariate, with constant liar
    study = optuna.create_study(sampler=sampler, direction="minimize")
    study.add_trials(
        optuna.trial.create_trial(params=_parameters(space, each.point), distributions=distributions, value=each.value)
        for each in scored
    )
    while True:
        yield space.clip(study.ask(distributions).params)


def _parameters(space: Space, point: Point) -> dict[str, Any]:
    """Return a point within the bounds, with whole numbers as Optuna wants them."""
    clipped = space.clip(point)
    return {
        dimension.name: int(clipped[dimension.name])
        if not isinstance(dimension, Choice) and dimension.is_whole
        else clipped[dimension.name]
        for dimension in space.dimensions
    }


def _distribution(dimension: Any) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.is_whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)
