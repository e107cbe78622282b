"""How racing did in a study, from its history and the points of its runs."""

import math
from collections import Counter
from collections.abc import Sequence

from hotlap.core.records import History, RunRecord
from hotlap.core.targets import Target
from hotlap.report.racing import RacingFigures, RuleFigures
from hotlap.search.audits import doubtful_rules, is_audited, replay_races, upper_share
from hotlap.search.curves import Recordings
from hotlap.search.kill_rules import RULE_NAMES

UNKNOWN_RULE = "not recorded"
"""What stands for the rule of a run that was stopped before rules were written down."""


def racing_figures(history: History, recordings: Recordings, targets: Sequence[Target]) -> RacingFigures:
    """Return what racing stopped and saved, and how the runs that were left alone would have fared."""
    screens = [run for run in history.runs if run.role == "screen" and not run.is_infrastructure_failure]
    raced = [run for run in screens if not is_audited(run.candidate)]
    stopped = [run for run in raced if run.outcome == "raced"]
    replays = replay_races(history, recordings, targets)
    audits = [replay for replay in replays if replay.is_audit]
    winners = [replay for replay in replays if not replay.is_audit]
    would = Counter(kill.rule for replay in replays for kill in replay.kills)
    wrongly = Counter(kill.rule for replay in replays if replay.passed for kill in replay.kills)
    did = Counter(_rule(run) for run in stopped)
    caught = sum(bool(replay.kills) for replay in audits)
    wrong = sum(replay.is_false_kill for replay in audits)
    return RacingFigures(
        clock=history.clock,
        raced=len(raced),
        rules=tuple(
            RuleFigures(
                rule=rule,
                stopped=did[rule],
                saved_seconds=math.fsum(run.kill.saved_seconds for run in stopped if run.kill and _rule(run) == rule),
                would_have_stopped=would[rule],
                wrongly=wrongly[rule],
            )
            for rule in (*RULE_NAMES, UNKNOWN_RULE)
            if did[rule] or would[rule]
        ),
        audits=len(audits),
        audits_stopped=caught,
        audits_wrong=wrong,
        wrong_share_bound=upper_share(wrong, caught),
        winners=len(winners),
        winners_wrong=sum(replay.is_false_kill for replay in winners),
        doubtful=tuple(sorted(doubtful_rules(replays))),
    )


def _rule(run: RunRecord) -> str:
    return run.kill.rule if run.kill and run.kill.rule in RULE_NAMES else UNKNOWN_RULE
