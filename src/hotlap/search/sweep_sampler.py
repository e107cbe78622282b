"""What a sweep tries next: TPE, random, grid, QMC or CMA-ES over one kind of space (`config/sweep.py`).

    suggest(space, told, pending, number=12, seed=0)  ->  {"training.learning_rate": 3e-4, ...}

A pure function of its arguments: nothing is kept between two calls, so a sweep goes on after a kill as if nothing had
been. Samplers see positions from 0 to 1 and numbers of choices, never values; that is how one and the same history
serves a space that was changed while the study ran:

- a number beyond new bounds counts as the bound;
- a choice that is no longer listed is told as one more choice, which is never proposed;
- a key that is new has the value of the config that the runs start from, with which the earlier runs ran; where the
  config has none, the middle of the range or the first choice.
"""

import json
import math
import random
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any, Final

from hotlap.config.sweep import PointJudge, SweepConfig, SweepParameter
from hotlap.config.sweep_matching import value_in
from hotlap.config.sweep_parameter import is_same
from hotlap.core.errors import StudyError, import_optional

STARTUP: Final = 10
"""Runs that are told before TPE says anything: it splits them into good and bad, and a few split badly."""
RANDOM_EVERY: Final = 6
"""Every so many proposals of TPE one is drawn at random: importances cannot be told where only good ones were tried."""
TRIES: Final = 1000
"""Points that the schema may refuse before a sweep gives up: asking it takes milliseconds."""
DRAWS: Final = 100_000
"""Points that are drawn before a sweep gives up on its constraints: looking at these takes microseconds."""
SAMPLER_TRIES: Final = 20
"""Of these, the ones that the sampler itself is asked for; the others are drawn at random."""
NEW_TRIES: Final = 1000
"""Points that are drawn for one that has not run yet, where only chance can tell whether there is one."""
GRID_TRIES: Final = 10_000
"""Combinations of a grid that the schema may refuse."""
GRID_DRAWS: Final = 1_000_000
"""Combinations of a grid that its constraints may refuse."""

Point = Mapping[str, Any]
Identity = frozenset[tuple[str, bool, Hashable]]


@dataclass(frozen=True, slots=True)
class Told:
    """A point that was run, and what the run was worth."""

    point: Point
    score: float
    """The graded score, lower is better; every run has one, also those that failed or were stopped."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"a score is a finite number, got {self.score}")


def suggest(
    space: SweepConfig, told: Sequence[Told], pending: Sequence[Point], number: int, seed: int
) -> dict[str, Any] | None:
    """Return the point to run as proposal `number` (from 0), keys that do not exist in it left out.

    `pending` are the points that are being run. A point that ran is proposed again only where chance finds no other one
    in a space without end. None once all combinations of a space that has an end were run, whatever `number` is; the
    baseline, which has no point, is none of them. Raises StudyError where no point fits the constraints,
    MissingExtraError for cmaes without its package.
    """
    defaults, judge = _defaults(space), space.judge()
    points = [*(each.point for each in told), *pending]
    done = {_identity(_filled(space, point, defaults)) for point in points if point}
    if space.method == "grid":
        return _next_combination(space, judge, done)
    generator = random.Random(f"{seed}:{number}")
    draws: Iterator[dict[str, Any]] = iter(())
    if space.method == "tpe" and len(told) >= STARTUP and (number + 1) % RANDOM_EVERY:
        draws = _tpe_points(space, told, pending, generator)
    elif space.method == "qmc":
        draws = iter([_qmc_point(space, number, seed)])
    elif space.method == "cmaes":
        draws = _cma_points(space, told, generator)
    return _first_new(space, judge, done, chain(islice(draws, SAMPLER_TRIES), _random_points(space, generator)))


def _first_new(
    space: SweepConfig, judge: PointJudge, done: Collection[Identity], draws: Iterator[dict[str, Any]]
) -> dict[str, Any] | None:
    """Return the first of the points drawn that fits and was not run yet."""
    reason, refused, repeats = "", 0, 0
    again: dict[str, Any] | None = None
    for point in islice(draws, DRAWS):
        if broken := judge.broken(point):
            reason = broken
        elif _identity(point) in done:
            again, repeats = again or point, repeats + 1
        elif not (problem := judge.refused(point)):
            return point
        else:
            reason, refused = problem, refused + 1
        if refused == TRIES or repeats == NEW_TRIES:
            break
    if again is not None:
        has_end = all(parameter.is_countable for parameter in space.parameters)
        return _next_combination(space, judge, done) if has_end else again
    drawn = DRAWS if refused < TRIES else TRIES
    raise StudyError(f"none of {drawn} points drawn from the search space can be run; the last one: {reason}")


def _random_points(space: SweepConfig, generator: random.Random) -> Iterator[dict[str, Any]]:
    while True:
        yield _point_at(space, {parameter.key: generator.random() for parameter in space.parameters})


def _point_at(space: SweepConfig, positions: Mapping[str, float]) -> dict[str, Any]:
    """Return the point at positions from 0 to 1."""
    point: dict[str, Any] = {}
    for parameter in space.parameters:
        if parameter.exists_in(point):
            point[parameter.key] = parameter.value_at(positions[parameter.key])
    return point


def _tpe_points(
    space: SweepConfig, told: Sequence[Told], pending: Sequence[Point], generator: random.Random
) -> Iterator[dict[str, Any]]:
    """Yield what TPE expects most of; each point is drawn as if those before it were being run.

    Every told run is a complete trial (a pruned one would be ranked by its last step), every pending one a running
    trial, which TPE takes for a bad one (constant liar), so that two slots do not try the same.
    """
    import optuna  # 0.3 s that only a search needs
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    defaults = _defaults(space)
    known = [_filled(space, each.point, defaults) for each in told]
    running = [_filled(space, point, defaults) for point in pending]
    options = _options(space, [*known, *running])
    sampler = optuna.samplers.TPESampler(seed=generator.getrandbits(32), n_startup_trials=0)
    study = optuna.create_study(sampler=sampler, direction="minimize")
    for point, each in zip(known, told, strict=True):
        study.add_trial(create_trial(value=each.score, **_coded(space, point, options)))
    for point in running:
        study.add_trial(create_trial(state=TrialState.RUNNING, **_coded(space, point, options)))
    while True:
        trial = study.ask()
        suggested: dict[str, Any] = {}
        for parameter in space.parameters:
            if not parameter.exists_in(suggested):
                continue
            if not parameter.is_choice:
                suggested[parameter.key] = parameter.value_at(trial.suggest_float(parameter.key, 0.0, 1.0))
                continue
            listed = options[parameter.key]
            index = trial.suggest_categorical(parameter.key, range(len(listed)))
            is_known = index < len(parameter.values)
            suggested[parameter.key] = listed[index] if is_known else generator.choice(parameter.values)
        yield suggested


def _coded(space: SweepConfig, point: Point, options: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return a point in Optuna's terms: positions of numbers, indices of choices, and their distributions."""
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for parameter in space.parameters:
        key = parameter.key
        if key not in point:
            continue
        if parameter.is_choice:
            params[key] = next(index for index, value in enumerate(options[key]) if is_same(value, point[key]))
            distributions[key] = CategoricalDistribution(range(len(options[key])))
        else:
            params[key] = _position(parameter, point[key])
            distributions[key] = FloatDistribution(0.0, 1.0)
    return {"params": params, "distributions": distributions}


def _options(space: SweepConfig, points: Sequence[Point]) -> dict[str, list[Any]]:
    """Return the choices of each parameter that has some, behind them what it no longer lists and some point has."""
    options = {parameter.key: list(parameter.values) for parameter in space.parameters if parameter.is_choice}
    for point in points:
        for key, listed in options.items():
            if key in point and not any(is_same(value, point[key]) for value in listed):
                listed.append(point[key])
    return options


def _defaults(space: SweepConfig) -> dict[str, Any]:
    """Return what a run had where its point says nothing of a key."""
    values = {} if space.base is None else space.base.model_dump(mode="json")
    defaults: dict[str, Any] = {}
    for parameter in space.parameters:
        middle = 0.0 if parameter.is_choice else 0.5
        is_known = space.base is not None
        defaults[parameter.key] = value_in(values, parameter.key) if is_known else parameter.value_at(middle)
    return defaults


def _filled(space: SweepConfig, point: Point, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a point for the keys that exist in it now, in the order of the parameters."""
    values: dict[str, Any] = {}
    for parameter in space.parameters:
        if parameter.exists_in(values):
            values[parameter.key] = point.get(parameter.key, defaults[parameter.key])
    return values


def _position(parameter: SweepParameter, value: Any) -> float:
    """Return the position of a number; the middle for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.5
    return min(max(parameter.position_of(value), 0.0), 1.0)


def _next_combination(space: SweepConfig, judge: PointJudge, done: Collection[Identity]) -> dict[str, Any] | None:
    """Return the first combination that was not run yet; the last parameter goes through its values first."""
    reason, refused, broken = "", 0, 0
    for point in _combinations(space.parameters, {}):
        if problem := judge.broken(point):
            reason, broken = problem, broken + 1
        elif _identity(point) in done:
            continue
        elif not (problem := judge.refused(point)):
            return point
        else:
            reason, refused = problem, refused + 1
        if refused == GRID_TRIES or broken == GRID_DRAWS:
            raise StudyError(f"{refused + broken} combinations cannot be run; the last one: {reason}")
    if reason and not done:
        raise StudyError(f"none of the {refused + broken} combinations of the grid can be run; the last one: {reason}")
    return None


def _combinations(parameters: Sequence[SweepParameter], point: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not parameters:
        yield point
        return
    first, *rest = parameters
    if not first.exists_in(point):
        yield from _combinations(rest, point)
        return
    for value in first.likely_values():
        yield from _combinations(rest, {**point, first.key: value})


def _identity(point: Point) -> Identity:
    """Return what two points have in common that a config cannot tell apart: 1 and 1.0 are the same, 1 and true not."""
    return frozenset((key, isinstance(value, bool), _hashable(value)) for key, value in point.items())


def _hashable(value: Any) -> Hashable:
    return value if isinstance(value, Hashable) else json.dumps(value, sort_keys=True, default=str)


def _qmc_point(space: SweepConfig, number: int, seed: int) -> dict[str, Any]:
    """Return a point of a scrambled Halton sequence: points that lie more evenly than random ones.

    Owen, A randomized Halton algorithm in R (arXiv 1706.02808). Optuna's own QMC keeps its place in its storage and
    needs SciPy; here the number of the proposal is the place, and each key has its own permutations.
    """
    positions = {
        parameter.key: _radical_inverse(number, prime, random.Random(f"{seed}:{parameter.key}"))
        for parameter, prime in zip(space.parameters, _primes(), strict=False)
    }
    return _point_at(space, positions)


def _radical_inverse(number: int, base: int, generator: random.Random) -> float:
    """Return a number's digits, each one permuted at random, mirrored at the point: a share from 0 to below 1."""
    share, place = 0.0, 1.0
    while place > 1e-10:
        digits = list(range(base))
        generator.shuffle(digits)
        place /= base
        share += digits[number % base] * place
        number //= base
    return min(share, 1.0 - 1e-12)


def _primes() -> Iterator[int]:
    found: list[int] = []
    for number in count(2):
        if all(number % prime for prime in found):
            found.append(number)
            yield number


def _cma_points(space: SweepConfig, told: Sequence[Told], generator: random.Random) -> Iterator[dict[str, Any]]:
    """Yield points of CMA-ES (Hansen, arXiv 1604.00772), which is told whole generations in the order of the runs.

    It moves the numbers that are always there; choices, and what exists only with some of them, are drawn at random.
    """
    cmaes = import_optional("cmaes", "cma")
    import numpy as np

    axes = [parameter for parameter in space.parameters if not parameter.is_choice and not parameter.when]
    bounds = np.array([[0.0, 1.0]] * len(axes))
    optimizer = cmaes.CMA(mean=np.full(len(axes), 0.5), sigma=1 / 6, bounds=bounds, seed=generator.getrandbits(31))
    size, defaults = int(optimizer.population_size), _defaults(space)
    for start in range(0, len(told) - size + 1, size):
        generation = [(_filled(space, each.point, defaults), each.score) for each in told[start : start + size]]
        optimizer.tell(
            [(np.array([_position(axis, point[axis.key]) for axis in axes]), score) for point, score in generation]
        )
    while True:
        positions = {parameter.key: generator.random() for parameter in space.parameters}
        asked = zip(axes, optimizer.ask(), strict=True)
        yield _point_at(space, positions | {axis.key: float(position) for axis, position in asked})
