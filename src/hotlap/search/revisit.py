"""What would reopen a change that was not kept: a discard speaks of one incumbent, seen through one noise."""

from collections.abc import Mapping
from typing import Final

from hotlap.core.records import History, Proposal
from hotlap.search.drift import blind_runs
from hotlap.search.noise import estimate_noise

AFTER_KEEPS: Final = 3
"""Kept changes after which the incumbent is so much another recipe that an old result says little about it."""
LATER: Final[Mapping[str, float]] = {"keeps": AFTER_KEEPS}


def is_reopened(history: History, number: int) -> bool:
    """Say whether a decided proposal may be tried again; decisions older than `revisit_if` wait for three keeps.

    A change that ran while the machine changed its speed was held against a time of another machine, so it is open.
    """
    decision = history.verdict(number)
    if decision is None:
        return False
    conditions = decision.revisit_if or LATER
    keeps_since = sum(kept > number for kept in history.kept())
    if keeps_since >= conditions.get("keeps", float("inf")):
        return True
    if decision.verdict == "keep":
        return False
    is_blind = any(run.run_id in blind_runs(history) for run in history.runs_of(number))
    return is_blind or estimate_noise(history).sigma < conditions.get("sigma_below", 0.0)


def earlier_try(history: History, proposal: Proposal) -> Proposal | None:
    """Return the proposal that was the same change of the same parent, unless there is none or it is open again."""
    before = [other for other in history.proposals if other.number < proposal.number]
    same = next((other for other in reversed(before) if other.signature == proposal.signature), None)
    return None if same is None or is_reopened(history, same.number) else same
