"""Racing: stop a screen that can no longer be kept, with the rule, its numbers and the seconds saved.

    context = race_context(history, proposal, Recordings(points_of), targets)
    racer = Racer(context)
    while ...: kill = racer.look(new_points)

The rules are in kill_rules.py, what a screen is held against in opponents.py, how often the rules err in audits.py.
Only screens are raced.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hotlap.core.records import History, Kill, Proposal
from hotlap.core.targets import Target
from hotlap.search.audits import doubtful_rules, replay_races
from hotlap.search.curves import Point, Recordings
from hotlap.search.kill_rules import Racer
from hotlap.search.laps import RaceContext
from hotlap.search.opponents import gather_opponents

__all__ = ["Point", "RaceContext", "Racer", "Recordings", "race", "race_context"]


def race_context(
    history: History,
    proposal: Proposal,
    points: Recordings | Mapping[str, Sequence[Point]],
    targets: Sequence[Target],
    limit_seconds: float = math.inf,
) -> RaceContext:
    """Return what a screen is raced against; `points` are those of the earlier runs, by run id.

    `limit_seconds` is where the run ends anyway, on the judged clock. Rules that a replay of earlier runs has seen
    stopping one that passed are switched off.
    """
    recordings = points if isinstance(points, Recordings) else Recordings(lambda run_id: points.get(run_id, ()))
    doubtful = doubtful_rules(replay_races(history, recordings, targets))
    context = gather_opponents(history, proposal, recordings, targets, limit_seconds)
    return replace(context, doubtful=doubtful)


def race(points: Sequence[Point], context: RaceContext) -> Kill | None:
    """Return why a running screen should be stopped, or None; `points` are all of its points so far.

    A Racer gives the same answers while it reads each point once.
    """
    return Racer(context).look(points)
