"""What a study would do next, with the evidence behind it; nothing is run and nothing is written."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from hotlap.config.schema import RunConfig
from hotlap.core.records import Decision, History, Proposal
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.history import load_history
from hotlap.study.loop import Policy, default_policy
from hotlap.study.plan import BROKEN_OUTCOMES, Claim, Decide, End, StartRun, next_action
from hotlap.study.settings import StudySettings
from hotlap.study.study import as_studied, checked_protocol, study_protocol

PREVIEW_SCHEMA: Final = "hotlap/preview/1"
NUM_PROPOSALS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The next steps of a study."""

    name: str
    history: History
    settings: StudySettings
    next_step: str
    """What the study does first of all, in one sentence."""
    pending: tuple[Proposal, ...]
    """Proposals that are written down and not decided yet."""
    proposals: tuple[Proposal, ...]
    """What the policy would propose, each if those before it were discarded."""

    def document(self) -> dict[str, Any]:
        """Return the preview as one JSON document."""
        return {
            "schema": PREVIEW_SCHEMA,
            "study": self.name,
            "runs": len(self.history.runs),
            "incumbent": self.history.incumbent,
            "next": self.next_step,
            "pending": [asdict(proposal) for proposal in self.pending],
            "proposals": [asdict(proposal) for proposal in self.proposals],
        }


def preview_study(project: ProjectFolder, config: RunConfig, policy: Policy | None = None) -> Preview:
    """Return what the study of a config, begun or not, would do next.

    Raises StudyError when it was begun under another protocol, ConfigError when the config cannot be studied.
    """
    config, _ = as_studied(config)
    settings = StudySettings.from_config(config)
    folder = project.study(config.name)
    checked_protocol(folder, study_protocol(config, project.project))
    history = load_history(project, folder, config.model_dump(mode="json"), config.clock)
    decided = {decision.proposal for decision in history.decisions}
    pending = tuple(proposal for proposal in history.proposals if proposal.number not in decided)
    return Preview(
        name=config.name,
        history=history,
        settings=settings,
        next_step=_next_step(history, settings),
        pending=pending,
        proposals=tuple(_proposals(history, policy or default_policy(settings))),
    )


def _next_step(history: History, settings: StudySettings) -> str:
    match next_action(history, settings, sitting_start=len(history.runs)):
        case StartRun(why=why):
            return why
        case Decide(decision):
            return f"#{decision.proposal} is decided: {decision.verdict}, {decision.reason.splitlines()[0]}"
        case Claim(claim):
            return f"claims: {claim.reason}"
        case End(reason):
            return f"the study ends: {reason}"
    return "takes up the first of the proposals below"


def _proposals(history: History, policy: Policy) -> Iterator[Proposal]:
    """Yield what a policy proposes one after the other, as if each proposal were discarded.

    Nothing before the incumbent has run: policies read the evidence off its runs.
    """
    is_broken = any(run.outcome in BROKEN_OUTCOMES for run in history.runs_of(0, "baseline"))
    if is_broken or not history.unselected_runs(history.incumbent):
        return
    open_ones = {p.number for p in history.proposals} - {d.proposal for d in history.decisions}
    for number in sorted(open_ones):
        history = _discarded(history, number)
    for _ in range(NUM_PROPOSALS):
        proposal = policy.propose(history)
        if proposal is None:
            return
        yield proposal
        history = _discarded(replace(history, proposals=(*history.proposals, proposal)), proposal.number)


def _discarded(history: History, number: int) -> History:
    decision = Decision(proposal=number, verdict="discard", reason="assumed, to see what would follow")
    return replace(history, decisions=(*history.decisions, decision))
