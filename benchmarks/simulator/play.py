"""One whole study over a task, and how fast its best config truly was at each moment.

timeline, history = play_study(task)    # `python benchmarks/one_study.py decay 7` prints one
timeline.at(600.0)                      # true seconds to target of what was held after ten minutes
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hotlap.core.records import History
from hotlap.policies.rules import candidate_config
from hotlap.study.loop import Policy, run_study
from hotlap.study.study import Study, open_study
from simulator.runner import MemoryProject, Silence, SimulatedRunner, Trainable, VirtualClock


@dataclass(frozen=True, slots=True)
class Timeline:
    """True time to target of the config held best, against the seconds of search."""

    moments: tuple[tuple[float, float], ...]
    """(seconds of search, true seconds to target) at each change; a config that never gets there has infinite ones."""
    num_runs: int
    claimed_ratio: float = math.nan
    """Claimed over true speedup of the last record; not a number without one."""

    def at(self, seconds: float) -> float:
        """Return the true time of what was held best after so many seconds of search; infinite before anything was."""
        return next((true for moment, true in reversed(self.moments) if moment <= seconds), math.inf)


def play_study(task: Trainable, policy: Policy | None = None) -> tuple[Timeline, History]:
    """Play a study from its first baseline run to its end."""
    clock, moments = VirtualClock(), [(0.0, task.true_seconds(task.start))]

    def note(study: Study) -> None:
        history = study.history
        true = task.true_seconds(candidate_config(history, history.incumbent))
        if true != moments[-1][1]:
            moments.append((history.seconds_spent, true))

    study = open_study(MemoryProject(), task.start, clock)
    run_study(study, Silence(), note, SimulatedRunner(task, clock), policy)
    history = study.history
    return Timeline(tuple(moments), len(history.runs), _claimed_ratio(task, history)), history


def _claimed_ratio(task: Trainable, history: History) -> float:
    """Return the claimed speedup of the last record relative to the true one."""
    claim = next((claim for claim in reversed(history.claims) if claim.confirmed), None)
    if claim is None or claim.speedup is None:
        return math.nan
    true = task.true_seconds(task.start) / task.true_seconds(candidate_config(history, claim.candidate))
    return claim.speedup / true


def ladder_lines(task: Trainable, history: History) -> Sequence[str]:
    """Return every proposal with its verdict and what it truly did."""
    lines = []
    for proposal in history.proposals:
        before, after = (task.true_seconds(candidate_config(history, n)) for n in (proposal.parent, proposal.number))
        verdict = history.verdict(proposal.number)
        said = verdict.verdict if verdict else "open"
        times = f"{before:6.1f} → {after:6.1f} s"
        lines.append(f"#{proposal.number:<3} {said:<12} {times}  {proposal.proposer:<9} {proposal.title}")
    return lines
