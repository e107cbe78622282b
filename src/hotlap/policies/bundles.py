"""The bundle: everything that an expert would change at sight, in one proposal.

Each kept change costs two to four runs at its own time. Where a recipe has several faults that experts agree on,
mending them together costs them once, and all later runs are short. If the bundle is not faster, its surer half is
tried, then one that keeps the optimizer, then each change alone; if it is, leave-one-out shows in the end which of its
parts can go.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from hotlap.core.records import History, Proposal
from hotlap.policies.ideas import Idea, make_proposal
from hotlap.policies.rules import BUNDLE, untried_ideas

BUNDLES: Final = ((0.5, "optimizer"), (0.6, "optimizer"), (0.55, "learning_rate"))
"""Chance that an idea must have to be taken into the first bundle, the second and the third, and which of the two
families goes in that exclude each other: each optimizer has a learning rate of its own."""
_APART: Final = ("batch_size", "horizon", "shape")
"""Families that depend on what else is in the recipe, so they wait until it stands."""
_EXCLUSIVE: Final = ("optimizer", "learning_rate")
_LEAST_RATIO: Final = 0.1


@final
@dataclass(frozen=True, slots=True)
class BundlePolicy:
    """Proposes the ideas that are likely to hold all at once; a pure function of the history."""

    def propose(self, history: History) -> Proposal | None:
        """Return a bundle of two ideas or more, or None."""
        evidence, ideas = untried_ideas(history)
        for least, family in BUNDLES:
            parts = list(_together([idea for idea in ideas if idea.confidence >= least], family))
            if len(parts) < 2:
                continue
            bundle = _bundled(parts)
            if evidence.was_tried(bundle.patch):
                continue
            if proposal := make_proposal(history, evidence.config, bundle):
                return proposal
        return None


def _together(ideas: Sequence[Idea], chosen: str) -> Iterator[Idea]:
    """Yield ideas that can be in one proposal, best first: one of a family, and no setting twice."""
    families, keys = {*_APART, *_EXCLUSIVE} - {chosen}, set[str]()
    for idea in ideas:
        if idea.family in families or keys & idea.patch.keys():
            continue
        families.add(idea.family)
        keys.update(idea.patch)
        yield idea


def _bundled(parts: Sequence[Idea]) -> Idea:
    patch: dict[str, Any] = {}
    for part in parts:
        patch |= part.patch
    return Idea(
        family=BUNDLE,
        title="; ".join(part.title for part in parts),
        observation=" ".join(f"({number}) {part.observation}" for number, part in enumerate(parts, start=1)),
        hypothesis=" ".join(f"({number}) {part.hypothesis}" for number, part in enumerate(parts, start=1)),
        patch=patch,
        predicted_ratio=max(_LEAST_RATIO, math.exp(-sum(part.expected_gain for part in parts))),
        confidence=min(part.confidence for part in parts),
        simplifies=all(part.simplifies for part in parts),
        exempt_from_race_until=max(part.exempt_from_race_until for part in parts),
    )
