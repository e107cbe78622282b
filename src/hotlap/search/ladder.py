"""Where a study stands: counts that are read off the history."""

import math
from collections.abc import Iterator
from itertools import takewhile

from hotlap.core.records import History
from hotlap.search.noise import counted_runs


def ladder(history: History) -> Iterator[int]:
    """Yield the changes that the incumbent is made of, newest first; ablations are no rungs."""
    candidate = history.incumbent
    while candidate:
        proposal = history.proposal(candidate)
        if proposal.role != "ablation":
            yield candidate
        candidate = proposal.parent


def candidates_up_to(history: History, candidate: int) -> list[int]:
    """Return the baseline and every candidate on the way to one, oldest first; ablations are among them."""
    found = [candidate]
    while candidate:
        candidate = history.proposal(candidate).parent
        found.append(candidate)
    return found[::-1]


def tries_without_keep(history: History) -> int:
    """Count the decided proposals since the last kept one; neither ablations nor what never ran are tries."""
    decided, last = {decision.proposal for decision in history.decisions}, _last_rung(history)
    since = (p for p in history.proposals if p.number > last and p.number in decided)
    return sum(p.role != "ablation" and bool(history.runs_of(p.number)) for p in since)


def repetitions_in_a_row(history: History) -> int:
    """Count the newest proposals that were decided without a run, most of them since they had been tried already."""
    idle = takewhile(lambda p: history.verdict(p.number) and not history.runs_of(p.number), reversed(history.proposals))
    return sum(1 for _ in idle)


def seconds_without_keep(history: History) -> float:
    """Return the wall seconds of all runs of the proposals after the last kept one; those of its own do not count."""
    last = _last_rung(history)
    return math.fsum(run.wall_seconds for run in history.runs if run.candidate > last)


def _last_rung(history: History) -> int:
    return max((number for number in history.kept() if history.proposal(number).role != "ablation"), default=0)


def proposals_since_incumbent_ran(history: History) -> int:
    """Count the proposals that ran since the last run of the incumbent that enters its estimate."""
    incumbent = history.incumbent
    own = {run.run_id for run in counted_runs(history, incumbent)}
    tried: set[int] = set()
    for run in reversed(history.runs):
        if run.run_id in own:
            break
        if run.role in ("screen", "confirm", "ablation") and run.candidate != incumbent:
            tried.add(run.candidate)
    return len(tried)
