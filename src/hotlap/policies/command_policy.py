"""The policy of a study of somebody else's command: rules by the names of its knobs, then draws near the best points.

    CommandPolicy(seed=42).propose(history)

A draw moves one to three knobs within the bounds of `search`, or those that their names suggest where there is no such
section. With enough scores TPE draws, too.
"""

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, final

from hotlap.config.bounds import KnobSearch, ends, knob_search, nearest
from hotlap.config.load import get_dotted
from hotlap.config.schema import RunConfig
from hotlap.config.sweep_parameter import SweepParameter
from hotlap.core.records import History, Proposal
from hotlap.policies.command_rules import command_ideas, text_of
from hotlap.policies.evidence import Evidence, gather_evidence
from hotlap.policies.ideas import Idea, make_proposal
from hotlap.policies.measured_speed import is_slower
from hotlap.policies.rules import AblationPolicy, candidate_config, gain_per_second
from hotlap.policies.together import TogetherPolicy
from hotlap.search.sampler import Scored, tpe_suggestions
from hotlap.search.score import score_candidates, yardstick_of
from hotlap.search.space import Choice, Dimension, Number, Space

STRONG_GAIN: Final = 0.1
"""Expected gain in log time from which a rule goes before everything else."""
RULE_EVERY: Final = 3
"""Of the later proposals, one in so many is a rule's while the rules have any."""
LEAST_SCORED: Final = 8
_TOP: Final = 3
_DRAWS: Final = 64
_MOST_MOVED: Final = 3


@final
@dataclass(frozen=True, slots=True)
class CommandPolicy:
    """Proposes values for the knobs of a command; a pure function of history and seed."""

    seed: int = 0

    def propose(self, history: History, *, is_ablation: bool = False) -> Proposal | None:
        """Return the next proposal, or None when there is no idea left; with `is_ablation` only leave-one-out ones."""
        if is_ablation:
            return AblationPolicy().propose(history)
        evidence = gather_evidence(history, candidate_config(history, history.incumbent))
        search = knob_search(evidence.config)
        ideas = [
            idea
            for idea in command_ideas(evidence)
            if not evidence.was_tried(idea.patch) and search.allows(evidence.config, idea.patch)
        ]
        ideas.sort(key=lambda idea: gain_per_second(idea, evidence), reverse=True)
        strong = [idea for idea in ideas if idea.expected_gain >= STRONG_GAIN]
        if proposal := _first(history, evidence, strong):
            return proposal
        together = TogetherPolicy().propose(history)
        if together is not None and search.allows(evidence.config, together.patch):
            return together
        if len(history.proposals) % RULE_EVERY == 0 and (proposal := _first(history, evidence, ideas)):
            return proposal
        drawn = _drawn(history, evidence, self.seed)
        return drawn or _first(history, evidence, ideas) or AblationPolicy().propose(history)


def _first(history: History, evidence: Evidence, ideas: list[Idea]) -> Proposal | None:
    return next(filter(None, (make_proposal(history, evidence.config, idea) for idea in ideas)), None)


def _drawn(history: History, evidence: Evidence, seed: int) -> Proposal | None:
    """Return a draw that nothing like was tried; None where no knob may be varied or nothing new was found."""
    base = candidate_config(history, 0)
    search = knob_search(base)
    space = Space(tuple(_dimensions(base, search)))
    if not space.dimensions:
        return None
    generator = random.Random(f"{seed}:{len(history.proposals)}")
    now = _point(space, evidence.config)
    scored = _scored(history, space)
    for proposer, point in islice(_points(space, now, scored, generator), _DRAWS):
        patch = _without_slower(evidence, _patch(space, now, point, generator, search))
        if not patch or evidence.was_tried(patch) or not search.allows(evidence.config, patch):
            continue
        if proposal := make_proposal(history, evidence.config, _idea(evidence, patch, proposer, scored), proposer):
            return proposal
    return None


def _dimensions(config: RunConfig, search: KnobSearch) -> Iterator[Dimension]:
    """Yield what is drawn: each knob that may have more than one value, with the present one for a guess."""
    for key, parameter in search.parameters.items():
        value: Any = config.params[key.partition(".")[2]]
        if parameter.is_choice:
            values = parameter.values if parameter.index_of(value) is not None else (*parameter.values, value)
            if len(values) > 1:
                yield Choice(name=key, values=values, prior=value)
            continue
        low, high = ends(parameter)
        if not low < high:
            continue
        is_log = parameter.family.startswith("log") or (low > 0 and high > 4 * low)
        is_whole = parameter.distribution == "int_uniform"
        prior = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        yield Number(name=key, low=low, high=high, is_log=is_log, is_whole=is_whole, prior=prior)


def _point(space: Space, config: RunConfig) -> dict[str, Any]:
    return {name: config.params[name.partition(".")[2]] for name in space.names}


def _scored(history: History, space: Space) -> list[Scored]:
    """Return every point that has a score, the best first."""
    scores = score_candidates(history, yardstick_of(history))
    found = [Scored(_point(space, candidate_config(history, number)), score.value) for number, score in scores.items()]
    return sorted((one for one in found if math.isfinite(one.value)), key=lambda one: one.value)


def _points(
    space: Space, now: Mapping[str, Any], scored: list[Scored], generator: random.Random
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield points to go to: TPE's where there are enough scores, else mutations of the best and of the incumbent."""
    if len(scored) >= LEAST_SCORED and generator.random() < 0.6:
        suggestions = tpe_suggestions(space, scored, generator.getrandbits(32))
        yield from (("sampler", space.cross(now, point, generator, 0.5)) for point in islice(suggestions, _DRAWS // 4))
    sources = [now, *(one.point for one in scored[:_TOP])]
    while True:
        yield "mutation", space.mutate(generator.choice(sources), generator, 0.3, generator.uniform(0.7, 2.0))


def _patch(
    space: Space, now: Mapping[str, Any], point: Mapping[str, Any], generator: random.Random, search: KnobSearch
) -> dict[str, Any]:
    """Return what leads to a point: at most three knobs, rounded as a person would write them."""
    before = space.clip(now)
    moved = [one for one in space.dimensions if one.difference(before[one.name], point[one.name]) > 0.01]
    if len(moved) > _MOST_MOVED:
        moved = generator.sample(moved, _MOST_MOVED)
    patch = {one.name: point[one.name] for one in moved if _may_be(search.parameters[one.name], point[one.name])}
    written = {key: _rounded(search.parameters[key], value) for key, value in patch.items()}
    return {key: value for key, value in written.items() if value != now[key]}


def _without_slower(evidence: Evidence, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a patch without settings of which the bench knows that they make the same steps slower."""
    return {key: value for key, value in patch.items() if not is_slower(evidence, key, value)}


def _may_be(parameter: SweepParameter, value: Any) -> bool:
    """Say whether a drawn value is one of those that may be; the study's first one may not be listed."""
    return not parameter.is_choice or parameter.index_of(value) is not None


def _rounded(parameter: SweepParameter, value: Any) -> Any:
    return value if parameter.is_choice else nearest(parameter, float(f"{value:.3g}"))


def _idea(evidence: Evidence, patch: Mapping[str, Any], proposer: str, scored: list[Scored]) -> Idea:
    before = evidence.config.model_dump(mode="json")
    changes = [
        f"{key.partition('.')[2]} {text_of(get_dotted(before, key))} → {text_of(value)}" for key, value in patch.items()
    ]
    return Idea(
        family="search",
        title=", ".join(changes),
        observation=f"{len(scored)} settings of the knobs have a score; this is near the best of them.",
        hypothesis=(
            "Good points lie close together here (TPE), so this one is likely to be good."
            if proposer == "sampler"
            else "A point close to one of the best is better than it more often than one from far away."
        ),
        patch=patch,
        predicted_ratio=0.85,
        confidence=0.2,
    )
