"""What the study loop does about code: refuse what may not be changed, keep every patch, commit what is kept."""

from dataclasses import replace

from hotlap.core.records import Decision
from hotlap.core.run_folder import RunFolder
from hotlap.study.code import UNVERIFIED
from hotlap.study.study import Study

NO_EDITS = "refused: it changes code, and the config has no section edits that says which may be changed"


def take_up_code(study: Study) -> None:
    """Make up for what a killed driver left undone: worktrees, refusals and commits."""
    clear_worktrees(study)
    refuse_code(study)
    record_kept(study)


def clear_worktrees(study: Study) -> None:
    """Take away the worktrees of runs that have ended, and of an agent that nobody waits for."""
    if study.code is not None:
        runs_path = study.project.runs_path
        ended = (run.run_id for run in study.history.runs if not RunFolder(runs_path / run.run_id).is_running())
        study.code.clear(ended)


def refuse_code(study: Study) -> None:
    """Discard the proposals that have not run whose code may not be what it is; each patch is kept as a file."""
    history = study.history
    decided = {decision.proposal for decision in history.decisions}
    for proposal in history.proposals:
        if not proposal.code or proposal.number in decided or history.runs_of(proposal.number):
            continue
        if study.code is None:
            problem = NO_EDITS
        else:
            study.code.save_patch(proposal)
            found = study.code.problem_with(history, proposal)
            problem = f"refused: {found}" if found else ""
        if problem:
            study.append(Decision(proposal=proposal.number, verdict="discard", reason=problem))


def record_kept(study: Study) -> None:
    """Let the branch `hotlap/<study>` hold one commit for each kept change of code."""
    if study.code is not None:
        study.code.record(study.history)


def labelled(study: Study, decision: Decision) -> Decision:
    """Return a decision that says so where a kept change of code was judged by figures that nobody has checked."""
    command = study.config.command
    has_code = bool(study.history.code_of(decision.proposal))
    is_checked = command is None or command.evaluator is not None
    if decision.verdict != "keep" or not has_code or is_checked:
        return decision
    return replace(decision, reason=f"{decision.reason}; {UNVERIFIED}")
