"""Small gains together: changes that each looked faster, but by too little to be told from luck.

With a noise of 8 % a change that gains 8 % is seldom kept: one run cannot show it. Three such changes gain a fifth, and
that shows. Some of them were lucky and do nothing; leave-one-out finds those in the end.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

from hotlap.core.records import History, Proposal
from hotlap.policies.ideas import Idea, make_proposal
from hotlap.policies.rules import BUNDLE, candidate_config

LEAST_PARTS: Final = 2
LARGEST_RATIO: Final = 0.97
"""Time relative to the incumbent's above which a change did not look faster."""
BELIEVED: Final = 0.5
"""Share of a small gain, in log time, that is no luck."""
_CONFIDENCE: Final = 0.4


@final
@dataclass(frozen=True, slots=True)
class TogetherPolicy:
    """Proposes what looked a little faster all at once; a pure function of the history."""

    def propose(self, history: History) -> Proposal | None:
        """Return the bundle, or None while there are fewer than two parts more than were in the last one."""
        parts = list(_parts(history))
        if len(parts) < LEAST_PARTS + _parts_tried(history):
            return None
        patch: dict[str, Any] = {}
        for part, _ in parts:
            patch |= part.patch
        seen = ", ".join(f"#{part.number} by {1 - ratio:.0%}" for part, ratio in parts)
        idea = Idea(
            family=BUNDLE,
            title=f"together: {'; '.join(part.title for part, _ in parts)}",
            observation=f"Each looked faster, but within the noise: {seen}.",
            hypothesis="Gains that are too small to be seen one by one add up to one that is seen.",
            patch=patch,
            predicted_ratio=math.exp(BELIEVED * sum(math.log(ratio) for _, ratio in parts)),
            confidence=_CONFIDENCE,
            exempt_from_race_until=max(part.exempt_from_race_until for part, _ in parts),
        )
        return make_proposal(history, candidate_config(history, history.incumbent), idea)


def _parts(history: History, before: int | None = None) -> Iterator[tuple[Proposal, float]]:
    """Yield the changes that looked faster, within the noise, and their ratios, best first; no setting twice.

    All of them change the incumbent; with `before` only those count that were proposed before this one.
    """
    proposals = history.proposals if before is None else history.proposals[: before - 1]
    looked = [(proposal, _ratio(history, proposal)) for proposal in proposals if _is_open(history, proposal)]
    taken: set[str] = set()
    for proposal, ratio in sorted(looked, key=lambda one: one[1]):
        if ratio <= LARGEST_RATIO and not taken & proposal.patch.keys():
            taken.update(proposal.patch)
            yield proposal, ratio


def _is_open(history: History, proposal: Proposal) -> bool:
    decision = history.verdict(proposal.number)
    is_single = proposal.role == "screen" and not proposal.code and not _is_together(proposal)
    return is_single and proposal.parent == history.incumbent and bool(decision and decision.verdict == "inconclusive")


def _ratio(history: History, proposal: Proposal) -> float:
    decision = history.verdict(proposal.number)
    return decision.statistics.get("ratio", math.inf) if decision else math.inf


def _parts_tried(history: History) -> int:
    """Return how many parts the largest bundle of this kind on the incumbent had, of those that are still parts."""
    tried = [p for p in history.proposals if p.parent == history.incumbent and _is_together(p)]
    return max((len(list(_parts(history, before=proposal.number))) for proposal in tried), default=0)


def _is_together(proposal: Proposal) -> bool:
    return proposal.family == BUNDLE and proposal.title.startswith("together: ")
