"""How often racing is wrong: runs that were left alone are raced afterwards, with what was known when they started.

Two kinds are replayed. **Audits** are the screens that the plan leaves alone: an honest sample of all screens.
**Winners** are the fresh runs of kept candidates: no rule may stop these. A rule that would have stopped a run of
either kind that passed is doubtful, and stops nothing more in this study.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hotlap.core.records import History, Kill, RunRecord
from hotlap.core.targets import Target
from hotlap.search.curves import Recordings
from hotlap.search.drift import equivalent_factor, is_comparable
from hotlap.search.kill_rules import CERTAIN_RULES, Racer
from hotlap.search.opponents import gather_opponents

AUDIT_EVERY: Final = 12
"""One screen in so many (8 %) is not raced."""
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What racing would have done with a run that was left alone."""

    run_id: str
    is_audit: bool
    """Whether it is an audit; otherwise a winner."""
    kills: tuple[Kill, ...]
    """What each rule that fired said first, as if it were the only one; in the order of the clock."""
    passed: bool
    """Whether the run went on to a time that passes a screen."""

    @property
    def is_false_kill(self) -> bool:
        """Whether racing would have stopped a run that passed."""
        return self.passed and bool(self.kills)


def is_audited(candidate: int) -> bool:
    """Say whether the screen of a candidate is left alone to audit racing."""
    return candidate % AUDIT_EVERY == 0


def replay_races(history: History, recordings: Recordings, targets: Sequence[Target]) -> list[Replay]:
    """Return the replays of all audits and winners that can be compared, in the order of the runs; all rules are on."""
    recordings.scale(history, targets)  # first: a new scale makes all that is known of curves anew
    kept = history.kept()
    winners = {number for number in kept if history.proposal(number).role != "ablation"}
    found = []
    for run in history.runs:
        is_audit = run.role == "screen" and is_audited(run.candidate) and run.kill is None
        is_winner = run.candidate in winners and run.role in ("incumbent", "record")
        if run.candidate == 0 or not (is_audit or is_winner) or not _is_replayable(history, run):
            continue
        known = (run.run_id, tuple(number for number in kept if number < run.candidate))  # all that a replay turns on
        if known not in recordings.verdicts:
            recordings.verdicts[known] = _replay(history, run, recordings, targets)
        kills, passed = recordings.verdicts[known]
        found.append(Replay(run_id=run.run_id, is_audit=is_audit, kills=kills, passed=passed))
    return found


def doubtful_rules(replays: Sequence[Replay]) -> frozenset[str]:
    """Return the rules that would have stopped a run that passed, also after another rule would have."""
    fired = {kill.rule for replay in replays if replay.passed for kill in replay.kills}
    return frozenset(fired - set(CERTAIN_RULES))


def upper_share(hits: int, tries: int, confidence: float = CONFIDENCE) -> float:
    """Return the upper bound of a share of which `hits` in `tries` were seen (Clopper and Pearson 1934, one-sided)."""
    if hits >= tries:
        return 1.0
    low, high = hits / tries, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        at_most = sum(math.comb(tries, k) * middle**k * (1 - middle) ** (tries - k) for k in range(hits + 1))
        low, high = (middle, high) if at_most > 1 - confidence else (low, middle)
    return high


def _is_replayable(history: History, run: RunRecord) -> bool:
    """Say whether a run counts, and the machine was as fast then as when its candidate first ran."""
    first = history.runs[_first_index(history, run.candidate)]
    return is_comparable(history, run) and equivalent_factor(history, run) == equivalent_factor(history, first)


def _first_index(history: History, candidate: int) -> int:
    return next(index for index, run in enumerate(history.runs) if run.candidate == candidate)


def _replay(
    history: History, run: RunRecord, recordings: Recordings, targets: Sequence[Target]
) -> tuple[tuple[Kill, ...], bool]:
    """Race a finished run point by point, to its end, against what was known before its candidate's first run."""
    before = replace(history, runs=history.runs[: _first_index(history, run.candidate)])
    context = gather_opponents(before, history.proposal(run.candidate), recordings, targets)
    racer = Racer(context)
    kills = tuple(kill for point in recordings.points(run.run_id) for kill in racer.findings((point,)))
    seconds = run.clock_to_target(history.clock)
    passed = math.isfinite(seconds) and seconds <= context.pass_seconds
    return kills, passed
