"""What a study has learned, as a sampler sees it: every recipe that ran as a point with a score."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any, Final

from hotlap.config.schema import RunConfig
from hotlap.core.records import History
from hotlap.policies.rules import candidate_config
from hotlap.search.coordinates import Coordinates, make_coordinates, rest_of
from hotlap.search.noise import Noise, estimate, estimate_noise, required_log_gain
from hotlap.search.pace import measure_pace, step_seconds
from hotlap.search.recipes import Frame
from hotlap.search.revisit import is_reopened
from hotlap.search.score import Score, score_candidates, yardstick_of
from hotlap.search.space import Point
from hotlap.search.surrogate import Observation, Surrogate, expected_improvement

SAME_POINT: Final = 0.01
"""Share of a dimension's range within which two points are the same recipe."""
HOPELESS: Final = 1.0
"""Log time above the incumbent's beyond which it does not matter how bad a recipe is."""
GUESS_SIGMA: Final = 0.2
"""How unsure the score of a run is that was stopped, or missed."""
MOST_MODELLED: Final = 60
"""Recipes around the incumbent that the model looks at; its work grows with their cube."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One recipe that ran."""

    candidate: int
    point: Point
    """Where it lies, by its own step time."""
    score: Score
    rest: str
    """Everything of its config that is no coordinate."""


@dataclass(frozen=True)
class Landscape:
    """The recipes that ran, around the incumbent."""

    parent: RunConfig
    coordinates: Coordinates
    tried: tuple[Tried, ...]
    """In the order of the candidates; those that never ended a run are left out."""
    closed: tuple[tuple[str, Point], ...]
    """Rest and point of every recipe that was proposed and that nothing has reopened, run or not; by the step times
    that the others let expect, so that no noise moves them."""
    incumbent_value: float
    """Score of the incumbent, log seconds of the judged clock."""
    noise: Noise

    @cached_property
    def parent_rest(self) -> str:
        """Everything of the incumbent's config that is no coordinate."""
        return rest_of(self.parent)

    @cached_property
    def parent_point(self) -> dict[str, Any]:
        """Where the incumbent's config lies."""
        frame = self.coordinates.frame
        return self.coordinates.point(self.parent, frame.pace.seconds_per_step_of(self.parent))

    @cached_property
    def best(self) -> tuple[Tried, ...]:
        """The recipes, best score first."""
        return tuple(sorted(self.tried, key=lambda tried: (tried.score.value, -tried.candidate)))

    def is_known(self, config: RunConfig) -> bool:
        """Say whether a recipe as good as equal was proposed already."""
        rest, point = _expected_place(self.coordinates, config)
        is_near = self.coordinates.space.is_near
        return any(rest == other and is_near(point, at, SAME_POINT) for other, at in self.closed)

    @cached_property
    def surrogate(self) -> Surrogate:
        """A model of the scores; what is hopeless is only told to be far above the incumbent."""
        worst = self.incumbent_value + HOPELESS
        near = sorted(self.tried, key=lambda tried: self.coordinates.space.distance(self.parent_point, tried.point))[
            :MOST_MODELLED
        ]
        return Surrogate(
            self.coordinates.space,
            [
                Observation(
                    tried.point,
                    tried.rest,
                    min(tried.score.value, worst),
                    self.noise.sigma if tried.score.is_reached else GUESS_SIGMA,
                )
                for tried in near
            ],
            self.parent_point,
        )

    def prediction(self, point: Point) -> tuple[float, float]:
        """Return mean and standard deviation of the score that a point will have on the incumbent's config."""
        return self.surrogate.predict(point, self.parent_rest)

    def promise(self, point: Point) -> float:
        """Return by how much a point may be expected to pass the margin of a keep, in logs."""
        bar = self.incumbent_value - required_log_gain(self.noise)
        return expected_improvement(*self.prediction(point), bar)


def landscape_of(history: History) -> Landscape | None:
    """Return the landscape of a study; None while nobody knows how long a step of the incumbent takes now.

    That is before its first step, and where a drift has left it no run that counts: a study runs it again before it
    asks.
    """
    return history.once("landscape", lambda: _landscape(history))


def _landscape(history: History) -> Landscape | None:
    incumbent, seconds = history.incumbent, step_seconds(history)
    if incumbent not in seconds:
        return None
    scores = score_candidates(history, yardstick_of(history))
    configs = {number: candidate_config(history, number) for number in (scores.keys() | seconds.keys() | {0})}
    parent = configs[incumbent]
    pace = measure_pace(history, incumbent, {number: configs[number] for number in seconds})
    frame = Frame(
        parent=parent,
        base=configs[0],
        pace=pace,
        reference_seconds=_reference_seconds(history, incumbent),
        micro_batch_limit=_micro_batch_limit(history, configs),
    )
    coordinates = make_coordinates(frame, [configs[number] for number in sorted(configs)])
    tried = tuple(
        Tried(
            candidate=number,
            point=coordinates.point(configs[number], seconds.get(number) or pace.seconds_per_step_of(configs[number])),
            score=score,
            rest=rest_of(configs[number]),
        )
        for number, score in scores.items()
    )
    closed = [number for number in range(len(history.proposals) + 1) if not number or not is_reopened(history, number)]
    value = scores[incumbent].value if incumbent in scores else math.log(frame.reference_seconds)
    return Landscape(
        parent=parent,
        coordinates=coordinates,
        tried=tried,
        closed=tuple(_expected_place(coordinates, candidate_config(history, number)) for number in closed),
        incumbent_value=value,
        noise=estimate_noise(history),
    )


def _expected_place(coordinates: Coordinates, config: RunConfig) -> tuple[str, Point]:
    return rest_of(config), coordinates.point(config, coordinates.frame.pace.seconds_per_step_of(config))


def _reference_seconds(history: History, incumbent: int) -> float:
    """Return the incumbent's time on the training clock; where it misses, how long its runs went on."""
    seconds = estimate(history, incumbent, "train").median_seconds
    if math.isfinite(seconds):
        return seconds
    return median(run.train_seconds for run in history.runs_of(incumbent) if run.steps)


def _micro_batch_limit(history: History, configs: Mapping[int, RunConfig]) -> float:
    """Return twice the most rows of a pass that fitted, but fewer than what ran out of memory where that was more."""
    fitted, too_many = 1.0, math.inf
    for run in history.runs:
        rows = configs[run.candidate].training.per_device_train_batch_size if run.candidate in configs else "auto"
        if rows == "auto" or run.is_infrastructure_failure:
            continue
        if run.outcome == "out_of_memory":
            too_many = min(too_many, rows)
        elif run.steps:
            fitted = max(fitted, rows)
    return max(fitted, min(2 * fitted, too_many - 1))  # what ran out may have been a larger model
