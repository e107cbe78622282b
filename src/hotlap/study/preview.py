"""What a study would do next, with the evidence behind it; nothing is run and nothing is written."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from hotlap.config.schema import RunConfig
from hotlap.core.records import Decision, History, Proposal
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.history import load_history
from hotlap.study.loop import Policy, default_policy
from hotlap.study.plan import Action, Claim, Decide, End, Propose, StartRun, next_action
from hotlap.study.settings import StudySettings
from hotlap.study.study import as_studied, checked_protocol, study_protocol
from hotlap.study.upcoming import Upcoming, agents_turn, upcoming

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
    """What the policy would propose, each if those before it were discarded; none where the study is about to end."""
    handed_in: tuple[Upcoming, ...] = ()
    """What is tried before these: the queue, and the patch files of a folder."""
    agent: str = ""
    """When the study's agent is asked; empty without one."""

    def document(self) -> dict[str, Any]:
        """Return the preview as one JSON document."""
        return {
            "schema": PREVIEW_SCHEMA,
            "study": self.name,
            "runs": len(self.history.runs),
            "incumbent": self.history.incumbent,
            "next": self.next_step,
            "pending": [asdict(proposal) for proposal in self.pending],
            "handed_in": [each.document() for each in self.handed_in],
            "agent": self.agent or None,
            "proposals": [asdict(proposal) for proposal in self.proposals],
        }


def preview_study(
    project: ProjectFolder, config: RunConfig, policy: Policy | None = None, patches: Path | None = None
) -> Preview:
    """Return what the study of a config, begun or not, would do next, with a folder of patch files or without.

    Raises StudyError when it was begun under another protocol, ConfigError when the config cannot be studied.
    """
    config, _ = as_studied(config)
    settings = StudySettings.from_config(config)
    folder = project.study(config.name)
    checked_protocol(folder, study_protocol(config, project.project))
    history = load_history(project, folder, config.model_dump(mode="json"), config.clock)
    decided = {decision.proposal for decision in history.decisions}
    pending = tuple(proposal for proposal in history.proposals if proposal.number not in decided)
    action = _next_action(history, settings)
    proposals = tuple(_proposals(history, settings, policy or default_policy(settings)))
    handed_in = tuple(upcoming(project, folder, config, history, patches))
    if isinstance(action, Propose) and not (proposals or handed_in or config.agent):
        action = _next_action(history, settings, ideas_left=False)
    return Preview(
        name=config.name,
        history=history,
        settings=settings,
        next_step=_sentence(action),
        pending=pending,
        proposals=proposals,
        handed_in=handed_in,
        agent=agents_turn(config.agent, history, bool(handed_in)),
    )


def _next_action(history: History, settings: StudySettings, *, ideas_left: bool = True) -> Action:
    """Return what a sitting that starts now would do."""
    return next_action(history, settings, ideas_left, sitting_start=len(history.runs))


def _sentence(action: Action) -> str:
    match action:
        case StartRun(why=why):
            return why
        case Decide(decision):
            return f"#{decision.proposal} is decided: {decision.verdict}, {decision.reason.splitlines()[0]}"
        case Claim(claim):
            return f"claims: {claim.reason}"
        case End(reason):
            return f"the study ends: {reason}"
        case Propose(is_ablation=True):
            return "leaves out what was kept, part by part: takes up the first of the proposals below"
    return "takes up the first of the proposals below"


def _proposals(history: History, settings: StudySettings, policy: Policy) -> Iterator[Proposal]:
    """Yield what a policy proposes one after the other, as if each proposal were discarded.

    Nothing before the incumbent has run, since policies read the evidence off its runs, and nothing once the study
    would look for a record or end.
    """
    if not history.unselected_runs(history.incumbent) or _winds_up(_next_action(history, settings)):
        return
    open_ones = {p.number for p in history.proposals} - {d.proposal for d in history.decisions}
    assumed = 0
    for number in sorted(open_ones):
        assumed += _is_untried(history, history.proposal(number))
        history = _discarded(history, number)
    for _ in range(NUM_PROPOSALS):
        action = _next_action(history, replace(settings, patience=settings.patience - assumed))
        is_ablation = isinstance(action, Propose) and action.is_ablation
        proposal = None if _winds_up(action) else policy.propose(history, is_ablation=is_ablation)
        if proposal is None:
            return
        yield proposal
        assumed += _is_untried(history, proposal)
        history = _discarded(replace(history, proposals=(*history.proposals, proposal)), proposal.number)


def _winds_up(action: Action) -> bool:
    """Say whether a study that does this asks for no more proposals first."""
    return isinstance(action, End | Claim) or (isinstance(action, StartRun) and action.role == "record")


def _is_untried(history: History, proposal: Proposal) -> bool:
    """Say whether a proposal would be a try if it had run."""
    return proposal.role != "ablation" and not history.runs_of(proposal.number)


def _discarded(history: History, number: int) -> History:
    decision = Decision(proposal=number, verdict="discard", reason="assumed, to see what would follow")
    return replace(history, decisions=(*history.decisions, decision))
