"""The study loop: look at the history, do the next thing, write it down, render the journal.

It reads like the table in the design: propose → launch → race → ingest → judge → journal.
"""

from collections.abc import Callable
from typing import Final, Protocol

from hotlap.config.load import refuse_protocol_keys
from hotlap.core.errors import StudyError
from hotlap.core.records import History, Proposal
from hotlap.policies.study_policy import StudyPolicy
from hotlap.study.code_steps import labelled, record_kept, refuse_code, take_up_code
from hotlap.study.guards import check_left_over
from hotlap.study.plan import Claim, Decide, End, Propose, StartRun, next_action
from hotlap.study.runner import LocalRunner, Runner, settle_runs, started_facts
from hotlap.study.settings import StudySettings
from hotlap.study.speed import with_predicted_pace
from hotlap.study.study import Study
from hotlap.study.watching import Interrupts, Watcher

DONE: Final = "done"
"""Why a study that was to do one thing stops, with that done."""


class Policy(Protocol):
    """What proposes next: a pure function of the history."""

    def propose(self, history: History, *, is_ablation: bool = False) -> Proposal | None:
        """Return the next proposal, None when there is no idea; with `is_ablation` leave-one-out changes only."""


def default_policy(settings: StudySettings) -> Policy:
    """Return the policy of a study whose caller names none; its random draws follow from the study's seed."""
    return StudyPolicy(settings.seed_base)


def run_study(
    study: Study,
    watcher: Watcher,
    write_journal: Callable[[Study], object],
    runner: Runner | None = None,
    policy: Policy | None = None,
    is_done: Callable[[History], bool] = lambda history: False,
) -> str:
    """Drive a study until it ends, is interrupted, or has done what it was to do; return why.

    It can be taken up again at any time.
    Raises StudyError, noted in ledger and journal, too, when a guard refuses to go on.
    """
    try:
        policy = policy or default_policy(study.settings)
        return _drive(study, watcher, write_journal, runner or LocalRunner(), policy, is_done)
    except StudyError as error:
        study.end(str(error))
        write_journal(study)
        raise


def _drive(
    study: Study,
    watcher: Watcher,
    write_journal: Callable[[Study], object],
    runner: Runner,
    policy: Policy,
    is_done: Callable[[History], bool],
) -> str:
    ideas_left = True
    settle_runs(study)
    check_left_over(study)
    take_up_code(study)
    with Interrupts(watcher).caught() as interrupts:
        while not interrupts.count:
            if is_done(study.history):
                write_journal(study)
                return DONE
            action = next_action(study.history, study.settings, ideas_left, study.first_run)
            watcher.acts(action, study)
            match action:
                case Propose():
                    ideas_left = _propose(study, policy, action, interrupts)
                case StartRun():
                    run_once(study, action, runner, watcher, interrupts)
                case Decide():
                    study.append(labelled(study, action.decision))
                    record_kept(study)
                    write_journal(study)
                case Claim():
                    study.append(action.claim)
                    write_journal(study)
                case End():
                    study.end(action.reason)
                    write_journal(study)
                    return action.reason
    write_journal(study)
    return "interrupted"


def _propose(study: Study, policy: Policy, action: Propose, interrupts: Interrupts) -> bool:
    """Append the next proposal; return False when nothing is left. An agent that is being asked is broken off."""
    proposal = None
    with interrupts.breaking_off():
        proposal = policy.propose(study.history, is_ablation=action.is_ablation)
    if proposal is None:
        return interrupts.count > 0
    refuse_protocol_keys(proposal.patch)
    study.append(with_predicted_pace(study.history, proposal))
    refuse_code(study)
    return True


def run_once(study: Study, action: StartRun, runner: Runner, watcher: Watcher, interrupts: Interrupts) -> None:
    """Make one run and add its record to the history."""
    record = runner.run(study, action, watcher, interrupts)
    if record is None:
        return
    facts = {**started_facts(record.run_id, action), "phase": "ended"}
    study.append_run({**facts, "outcome": record.outcome, "contaminated": record.contaminated}, record)
    watcher.ended(record)
