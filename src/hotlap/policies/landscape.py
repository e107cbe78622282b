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
from hotlap.search.drift import blind_runs
from hotlap.search.noise import estimate
from hotlap.search.pace import measure_pace, step_seconds
from hotlap.search.recipes import Frame
from hotlap.search.score import Score, scale_of, score_candidates
from hotlap.search.space import Point

SAME_POINT: Final = 0.01
"""Share of a dimension's range within which two points are the same recipe."""
NEIGHBOURHOOD: Final = 0.3
"""Width of the window, in distance over all dimensions, through which scores are averaged into a prediction."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One recipe that ran."""

    candidate: int
    point: Point
    """Where it lies, by its own step time."""
    expected_point: Point
    """The same by the step time that the others let expect, in which no noise moves it."""
    score: Score
    rest: str
    """Everything of its config that is no coordinate."""
    is_open: bool = False
    """Whether it ran while the machine changed its speed, so that its score may not be its own."""


@dataclass(frozen=True)
class Landscape:
    """The recipes that ran, around the incumbent."""

    parent: RunConfig
    coordinates: Coordinates
    tried: tuple[Tried, ...]
    """In the order of the candidates; those that never ended a run are left out."""
    incumbent_value: float
    """Score of the incumbent, log seconds of the judged clock."""

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
        """Say whether a recipe as good as equal has run already."""
        rest, space = rest_of(config), self.coordinates.space
        point = self.coordinates.point(config, self.coordinates.frame.pace.seconds_per_step_of(config))
        closed = [tried for tried in self.tried if tried.rest == rest and not tried.is_open]
        return any(space.is_near(point, tried.expected_point, SAME_POINT) for tried in closed)

    def predicted_value(self, point: Point) -> float:
        """Return the mean score of the recipes around a point, the near ones weighing most."""
        distances = [self.coordinates.space.distance(point, tried.point) for tried in self.tried]
        nearest = min(distances)
        weights = [math.exp(-((d - nearest) * (d + nearest)) / (2 * NEIGHBOURHOOD**2)) for d in distances]
        weighted = math.fsum(w * tried.score.value for w, tried in zip(weights, self.tried, strict=True))
        return weighted / math.fsum(weights)


def landscape_of(history: History) -> Landscape | None:
    """Return the landscape of a study; None while the incumbent has no step to its name."""
    return history.once("landscape", lambda: _landscape(history))


def _landscape(history: History) -> Landscape | None:
    incumbent, seconds = history.incumbent, step_seconds(history)
    if incumbent not in seconds:
        return None
    scores = score_candidates(history, scale_of(history))
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
    blind = blind_runs(history)
    coordinates = make_coordinates(frame, [configs[number] for number in sorted(configs)])
    tried = tuple(
        Tried(
            candidate=number,
            point=coordinates.point(configs[number], seconds.get(number) or pace.seconds_per_step_of(configs[number])),
            expected_point=coordinates.point(configs[number], pace.seconds_per_step_of(configs[number])),
            score=score,
            rest=rest_of(configs[number]),
            is_open=any(run.run_id in blind for run in history.runs_of(number)),
        )
        for number, score in scores.items()
    )
    value = scores[incumbent].value if incumbent in scores else math.log(frame.reference_seconds)
    return Landscape(parent=parent, coordinates=coordinates, tried=tried, incumbent_value=value)


def _reference_seconds(history: History, incumbent: int) -> float:
    """Return the incumbent's time on the training clock; where it misses, how long its runs went on."""
    seconds = estimate(history, incumbent, "train").median_seconds
    if math.isfinite(seconds):
        return seconds
    return median(run.train_seconds for run in history.runs_of(incumbent) if run.steps)


def _micro_batch_limit(history: History, configs: Mapping[int, RunConfig]) -> float:
    """Return twice the most rows of a pass that fitted, but fewer than what ran out of memory."""
    fitted, too_many = 1.0, math.inf
    for run in history.runs:
        rows = configs[run.candidate].training.per_device_train_batch_size if run.candidate in configs else "auto"
        if rows == "auto" or run.is_infrastructure_failure:
            continue
        if run.outcome == "out_of_memory":
            too_many = min(too_many, rows)
        elif run.steps:
            fitted = max(fitted, rows)
    return min(2 * fitted, too_many - 1)
