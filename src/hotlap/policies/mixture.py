"""The mixture: TPE, mutations of the best recipes, and draws from expert priors, after PriorBand (arXiv 2306.12370).

TPE alone wastes its first dozens of runs on a space that an expert would never enter; mutations and priors are better
early and keep the scores spread out later. Whoever has its turn draws many points, and the one that a model of all
scores expects most of is proposed.
"""

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, final

from hotlap.config.load import get_dotted
from hotlap.core.durations import format_seconds
from hotlap.core.records import History, Proposal
from hotlap.policies.ideas import Idea, make_proposal
from hotlap.policies.landscape import Landscape, Tried, landscape_of
from hotlap.search.patches import patched
from hotlap.search.sampler import Scored, tpe_suggestions
from hotlap.search.space import Point

SHARES: Final[Mapping[str, float]] = {"sampler": 0.65, "mutation": 0.25, "prior": 0.10}
"""How often each proposer has its turn."""
LEAST_SCORED: Final = 8
"""Scored recipes before TPE has its turn: it splits them into good and bad, and a few split badly."""
DRAWS: Final = 128
"""Points that a proposer draws; the one that promises most is proposed."""
TPE_POINTS: Final = 8
"""Points that TPE is asked for; draws take some of their coordinates, the others from the incumbent."""
TOP: Final = 3
"""Recipes that mutations start from."""
PRIOR_HALF_LIFE: Final = 40
"""Scored recipes after which the expert's guesses are trusted half as much: their spread is doubled."""
RACE_EXEMPTION: Final = 0.3
"""Share of the incumbent's time before which a slow start says nothing about another schedule or batch."""
LARGEST_GAIN: Final = 0.5
_SHOWN: Final = 3
_SLOW_STARTS: Final = ("batch_size", "accumulation", "lr_scheduler", "max_steps", "warmup")


@final
@dataclass(frozen=True, slots=True)
class MixturePolicy:
    """Proposes recipes near or far from the best ones; a pure function of history and seed."""

    seed: int = 0

    def propose(self, history: History) -> Proposal | None:
        """Return the next proposal; None while the incumbent has no run, or where nothing new was found."""
        landscape = landscape_of(history)
        if landscape is None or not landscape.tried:
            return None
        generator = random.Random(f"{self.seed}:{len(history.proposals)}")
        for proposer in _turns(landscape, generator):
            for draw in _ranked(landscape, _draws(landscape, proposer, generator)):
                if landscape.is_known(patched(landscape.parent, draw.patch)):
                    continue
                if proposal := make_proposal(history, landscape.parent, _idea(landscape, proposer, draw), proposer):
                    return proposal
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draw:
    """A point that was drawn, and what comes of going there."""

    source: Tried | None
    """The recipe that it came from."""
    patch: Mapping[str, Any]
    reached: Point
    """Where the patch leads: rounded, and with what moved by a few percent left alone."""
    promise: float


def _turns(landscape: Landscape, generator: random.Random) -> Sequence[str]:
    """Return the proposer whose turn it is, and who steps in where it has nothing new."""
    names = list(SHARES)
    (first,) = generator.choices(names, [SHARES[name] for name in names])
    if first == "sampler" and len(landscape.tried) < LEAST_SCORED:
        first = "mutation"
    return list(dict.fromkeys([first, "mutation", "prior"]))


def _draws(landscape: Landscape, proposer: str, generator: random.Random) -> Iterator[_Draw]:
    """Yield what a proposer draws, without what changes nothing."""
    draws = {"sampler": _sampled, "mutation": _mutated, "prior": _from_prior}
    coordinates = landscape.coordinates
    for source, point in islice(draws[proposer](landscape, generator), DRAWS):
        patch = coordinates.patch(_with_known_horizon(landscape, point, generator))
        if patch:
            child = patched(landscape.parent, patch)
            reached = coordinates.point(child, coordinates.frame.pace.seconds_per_step_of(child))
            yield _Draw(source=source, patch=patch, reached=reached, promise=landscape.promise(reached))


def _ranked(landscape: Landscape, draws: Iterable[_Draw]) -> list[_Draw]:
    """Return the draws that promise most first."""
    return sorted(draws, key=lambda draw: -draw.promise)


def _sampled(landscape: Landscape, generator: random.Random) -> Iterator[tuple[None, Point]]:
    """Yield the incumbent with some coordinates of TPE's points."""
    space = landscape.coordinates.space
    scored = [Scored(tried.point, tried.score.value) for tried in landscape.tried]
    points = list(islice(tpe_suggestions(space, scored, generator.getrandbits(32)), TPE_POINTS))
    while True:
        yield None, space.cross(landscape.parent_point, generator.choice(points), generator, generator.random())


def _mutated(landscape: Landscape, generator: random.Random) -> Iterator[tuple[Tried, Point]]:
    """Yield mutations, some timid and some bold."""
    while True:
        source = generator.choice(landscape.best[:TOP])
        share, width = generator.uniform(0.1, 0.5), generator.uniform(0.5, 2.0)
        yield source, landscape.coordinates.space.mutate(source.point, generator, share, width)


def _from_prior(landscape: Landscape, generator: random.Random) -> Iterator[tuple[None, Point]]:
    """Yield the incumbent with some coordinates of an expert's guesses, ever wider ones."""
    width = 1 + len(landscape.tried) / PRIOR_HALF_LIFE
    space = landscape.coordinates.space
    while True:
        yield None, space.cross(landscape.parent_point, space.sample_prior(generator, width), generator, 0.5)


def _with_known_horizon(landscape: Landscape, point: Point, generator: random.Random) -> dict[str, Any]:
    """Return the point with a schedule no longer than the incumbent's time, in half of the cases that ask for one.

    Recipes mostly begin with schedules that end far behind the target, and TPE imitates them. In the other half the
    point keeps the parent's schedule.
    """
    moved, reference = dict(point), landscape.coordinates.frame.reference_seconds
    if moved.get("horizon_seconds", 0.0) > reference and generator.random() < 0.5:
        moved["horizon_seconds"] = reference * math.exp(generator.uniform(math.log(0.5), 0.0))
    return moved


def _idea(landscape: Landscape, proposer: str, draw: _Draw) -> Idea:
    """Return the idea of going to a point."""
    predicted, deviation = landscape.prediction(draw.reached)
    ratio = min(max(math.exp(predicted - landscape.incumbent_value), LARGEST_GAIN), 0.98)
    is_slow_start = any(name in key for key in draw.patch for name in _SLOW_STARTS)
    low, high = (format_seconds(math.exp(predicted + sign * deviation)) for sign in (-1, 1))
    return Idea(
        family="search",
        title=_listed(_changes(landscape, draw.patch)),
        observation=_observation(landscape, proposer, draw.source, draw.reached),
        hypothesis=f"{_GROUNDS[proposer]} A model of all scores expects {low} to {high} here.",
        patch=draw.patch,
        predicted_ratio=ratio,
        confidence=0.2,
        exempt_from_race_until=RACE_EXEMPTION if is_slow_start else 0.0,
    )


_GROUNDS: Final[Mapping[str, str]] = {
    "sampler": "Good recipes lie close together here and bad ones elsewhere (TPE), so this one is likely to be good.",
    "mutation": "A recipe close to one of the best is better than it more often than one from far away.",
    "prior": "Experts' usual settings, in this batch's scale, may beat what the study has moved to step by step.",
}


def _observation(landscape: Landscape, proposer: str, source: Tried | None, point: Point) -> str:
    """Say what was seen: how many recipes have a score, which are the best, and where the new one lies among them."""
    best = landscape.best[: max(TOP, len(landscape.tried) // 10)]
    reached = sum(tried.score.is_reached for tried in landscape.tried)
    parts = [
        f"{len(landscape.tried)} recipes have a score, {reached} of them reached the targets; the best are "
        f"{', '.join(_shown(tried) for tried in best[:TOP])}."
    ]
    if source is not None:
        parts.append(f"This is {_shown(source)} with some settings moved.")
    ranges = []
    for name in _moved_coordinates(landscape, point)[:_SHOWN]:
        values = [tried.point[name] for tried in best]
        seen = _range_text(values)
        ranges.append(f"{name} {_value_text(point[name])} (best {len(best)}: {seen})")
    if ranges:
        parts.append(f"It lies at {', '.join(ranges)}.")
    return " ".join(parts)


def _moved_coordinates(landscape: Landscape, point: Point) -> list[str]:
    """Return the coordinates that differ from the parent's, the farthest first."""
    parent, space = landscape.parent_point, landscape.coordinates.space
    moves = {d.name: d.difference(parent[d.name], point[d.name]) for d in space.dimensions}
    return sorted((name for name, move in moves.items() if move > 0.01), key=lambda name: -moves[name])


def _shown(tried: Tried) -> str:
    name = f"#{tried.candidate}" if tried.candidate else "the baseline"
    seconds = format_seconds(math.exp(tried.score.value))
    return f"{name} ({seconds})" if tried.score.is_reached else f"{name} (missed, scored as {seconds})"


def _changes(landscape: Landscape, patch: Mapping[str, Any]) -> list[str]:
    """Return each change as `name before → after`."""
    before = landscape.parent.model_dump(mode="json")
    return [
        f"{key.partition('.')[2]} {_value_text(get_dotted(before, key))} → {_value_text(value)}"
        for key, value in patch.items()
    ]


def _listed(changes: list[str]) -> str:
    more = len(changes) - _SHOWN
    return ", ".join(changes) if more <= 1 else f"{', '.join(changes[:_SHOWN])} and {more} more"


def _range_text(values: list[Any]) -> str:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        low, high = _value_text(min(values)), _value_text(max(values))
        return low if low == high else f"{low}–{high}"
    return "/".join(sorted({_value_text(value) for value in values}))


def _value_text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
