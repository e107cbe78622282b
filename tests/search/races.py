"""Runs for the tests of racing: the incumbent takes 100 s and its loss falls late and steeply."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hotlap.core.records import Decision, History, Kill, Proposal, RunRecord
from hotlap.core.targets import parse_target
from hotlap.search.race import RaceContext, Racer

TARGETS = (parse_target("eval_loss < 0.76"),)
BASE_CONFIG: Mapping[str, Any] = {
    "training": {"lr_scheduler_type": "linear", "schedule_by": "steps", "max_steps": 1200}
}
CONSTANT_CONFIG: Mapping[str, Any] = {"training": {"lr_scheduler_type": "constant", "max_steps": 100_000}}
Points = list[dict[str, Any]]


def cliff(seconds: float, total: float = 100.0) -> float:
    """A flat stretch, then a steep fall at 70 % of the time; it crosses 0.76 at 98.9 % of it."""
    share = seconds / total
    return 4.0 - 1.7 * min(1.0, share / 0.2) if share < 0.7 else 2.3 - 1.6 * (share - 0.7) / 0.3


def power(seconds: float, total: float = 100.0) -> float:
    """A power law with a floor that crosses 0.76 at the total."""
    return 0.4 + 0.36 * (seconds / total) ** -0.5


def points_of(
    loss: Callable[[float, float], float], total: float = 100.0, until: float = 100.0, lift: float = 0.0
) -> Points:
    """Return the evaluations of a run on the clock grid."""
    grid = [seconds for n in range(260) if (seconds := 1.03**n) <= until]
    return [
        {
            "step": round(10 * seconds),
            "train_seconds": seconds,
            "wall_seconds": seconds + 5,
            "tokens": round(1000 * seconds),
            "eval_loss": loss(seconds, total) + lift,
        }
        for seconds in grid
    ]


def curve(total: float = 100.0, until: float = 100.0, lift: float = 0.0) -> Points:
    """Return the points of a run with a cliff."""
    return points_of(cliff, total, until, lift)


def run_of(number: int, points: Sequence[Mapping[str, Any]], role: str, candidate: int, **more: Any) -> RunRecord:
    """Return the record of a run with these points; it reached if its last evaluation says so."""
    last = points[-1]
    reached = last["eval_loss"] < 0.76
    facts: dict[str, Any] = {
        "run_id": f"r{number:04}",
        "role": role,
        "candidate": candidate,
        "seed": number,
        "outcome": "reached" if reached else "missed",
        "steps": last["step"],
        "train_seconds": last["train_seconds"],
        "wall_seconds": last["wall_seconds"],
        "tokens": last["tokens"],
        "time_to_target": {"train": last["train_seconds"], "wall": last["wall_seconds"], "step": last["step"]}
        if reached
        else None,
    }
    return RunRecord(**{**facts, **more})


def proposal(number: int = 1, **changes: Any) -> Proposal:
    """Return a proposal whose text does not matter."""
    plain = Proposal(
        number=number, parent=0, family="toy", title="t", observation="o", hypothesis="h", patch={}, predicted_ratio=0.9
    )
    return replace(plain, **changes)


def history_of(
    runs: Sequence[tuple[str, int, Points]], proposals: int = 0, kept: Sequence[int] = (), **more: Any
) -> tuple[History, dict[str, Points]]:
    """Return a history of (role, candidate, points) and the points by run id; screened ones are decided."""
    records = [run_of(n, points, role, candidate) for n, (role, candidate, points) in enumerate(runs, start=1)]
    last = max([proposals, *(candidate for _, candidate, _ in runs)])
    parents = {number: max((k for k in kept if k < number), default=0) for number in range(1, last + 1)}
    ideas = tuple(proposal(number, parent=parent) for number, parent in parents.items())
    decided = {candidate for role, candidate, _ in runs if role == "screen"}
    decisions = tuple(
        Decision(proposal=number, verdict="keep" if number in kept else "discard", reason="so it is")
        for number in sorted(decided)
    )
    facts: dict[str, Any] = {"clock": "train", "base_config": BASE_CONFIG}
    past = History(**{**facts, "runs": tuple(records), "proposals": ideas, "decisions": decisions, **more})
    return past, {record.run_id: points for record, (_, _, points) in zip(records, runs, strict=True)}


def first_stop(points: Sequence[Mapping[str, Any]], context: RaceContext) -> Kill | None:
    """Return the first verdict against a run, looked at point by point."""
    racer = Racer(context)
    return next((kill for point in points if (kill := racer.look((point,)))), None)


def ending(total: float, loss: Callable[[float, float], float] = cliff) -> Points:
    """Return the points of a run up to the first evaluation that reaches."""
    points = points_of(loss, total, until=2 * total)
    end = next(number for number, point in enumerate(points) if point["eval_loss"] < 0.76)
    return points[: end + 1]
