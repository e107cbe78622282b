"""Where a study's proposals come from: the queue first, then patch files, then the agent and the study's own policy.

policy = Sources(study, default_policy(study.settings), say, patches=Path("patches"))
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from hotlap.core.errors import ConfigError
from hotlap.core.records import History, Proposal
from hotlap.search.ladder import ladder
from hotlap.study.agent import AgentSource
from hotlap.study.code import StudyCode, needed_code
from hotlap.study.loop import Policy
from hotlap.study.patch_folder import PatchFolder
from hotlap.study.proposing import CODE, make_proposal_of
from hotlap.study.queue import waiting
from hotlap.study.study import Study

WITHOUT: Final = "ablation"
"""Family and proposer of what is tried without a kept change."""


@final
class Sources:
    """Proposes from all sources of a study in turn."""

    def __init__(self, study: Study, own: Policy, say: Callable[[str], object], patches: Path | None = None) -> None:
        if patches is not None:
            needed_code(study.code)
        self._study = study
        self._own = own
        self._say = say
        self._patches = PatchFolder(study, patches, say) if patches is not None else None
        self._agent = AgentSource(study, say) if study.config.agent is not None else None
        self._taken: dict[Path, int] = {}
        """The files of the queue that were taken up, and the numbers of their proposals."""

    def propose(self, history: History, *, is_ablation: bool = False) -> Proposal | None:
        """Return the next proposal, or None when no source has any; with `is_ablation` leave-one-out ones only."""
        code = self._study.code
        if is_ablation:
            return self._own.propose(history, is_ablation=True) or (without_code(code, history) if code else None)
        proposal = self._queued(history) or (self._patches.propose(history) if self._patches is not None else None)
        if proposal is not None:
            return proposal
        if self._is_turn_of_agent(history):
            return self._asked(history) or self._own.propose(history)
        return self._own.propose(history) or self._asked(history) or (without_code(code, history) if code else None)

    def _queued(self, history: History) -> Proposal | None:
        """Return the oldest proposal that waits; what cannot be used is taken out of the queue and told."""
        for path, draft, proposer in waiting(self._study.folder):
            if self._taken.get(path, math.inf) <= len(history.proposals):
                path.unlink(missing_ok=True)  # it stands in the ledger by now
                del self._taken[path]  # the name is free for another one
                continue
            try:
                proposal = make_proposal_of(self._study.code, history, draft, proposer)
            except ConfigError as error:
                self._say(f"a queued proposal is left out: {error}")
                path.unlink(missing_ok=True)
                continue
            if not any(is_same(proposal, other) for other in history.proposals):
                self._taken[path] = proposal.number
                return proposal
            path.unlink(missing_ok=True)  # a driver that was killed since had taken it up
        return None

    def _asked(self, history: History) -> Proposal | None:
        return self._agent.propose(history) if self._agent is not None else None

    def _is_turn_of_agent(self, history: History) -> bool:
        agent = self._study.config.agent
        return agent is not None and (len(history.proposals) + 1) % agent.every == 0


def is_same(one: Proposal, other: Proposal) -> bool:
    """Say whether two proposals are the same one, taken up twice: the words, the settings and the code."""
    names = ("observation", "hypothesis", "proposer", "patch", "code")
    return all(getattr(one, name) == getattr(other, name) for name in names)


@final
class NoPolicy:
    """Proposes nothing: what waits in the ledger is all that is to be done."""

    def propose(self, history: History, *, is_ablation: bool = False) -> Proposal | None:
        """Return None."""
        return None


def without_code(code: StudyCode, history: History) -> Proposal | None:
    """Return the incumbent without a kept change of code that was not asked about yet, None where there is none.

    The last change needs no such run: it was measured against exactly this. One that later changes stand on cannot be
    taken out on its own.
    """
    asked = {proposal.title for proposal in history.proposals if proposal.role == "ablation"}
    tree = code.tree_of(history, history.incumbent)
    for number in list(ladder(history))[1:]:
        kept = history.proposal(number)
        title = f"without the code of #{number} ({kept.title})"
        if not kept.code or kept.simplifies or title in asked:
            continue
        after = code.store.without(tree, kept.code)
        examined = code.compare(tree, after) if after is not None and after != tree else None
        if examined is None or examined.problem:
            continue
        return Proposal(
            number=len(history.proposals) + 1,
            parent=history.incumbent,
            family=CODE,
            title=title,
            observation=f"#{number} was kept when the incumbent was #{kept.parent}.",
            hypothesis="Later changes may have made it superfluous: without it the run is as fast.",
            patch={},
            predicted_ratio=1.0,
            simplifies=True,
            proposer=WITHOUT,
            role="ablation",
            diff=examined.code,
            code=examined.code,
        )
    return None
