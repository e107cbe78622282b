"""Fold a study's ledger and its run folders into the history that policies and judges read.

Every event that a driver appends carries `stamp(sitting)`: when, and in which sitting (one start of `hotlap
speedrun` until its end, however it ended). A study's age is the sum over its sittings of the time from the first
sign of life to the last, so a driver killed with -9 loses at most what came after its last event or last point.

    sitting = new_sitting()
    study.append("sitting", stamp(sitting))
    study.append("run", {"run": "r0042", "role": "screen", ..., "phase": "started", **stamp(sitting)})
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from hotlap.core.clock import ClockName
from hotlap.core.errors import StudyError
from hotlap.core.records import AgentCall, Decision, History, Proposal, RecordClaim, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.speed import MeasuredSpeed
from hotlap.core.study_folder import ProjectFolder, StudyFolder
from hotlap.runs.ingest import ingest

Event = Mapping[str, Any]
Record = TypeVar("Record", Proposal, Decision, RecordClaim)


def new_sitting() -> str:
    """Return an id for a sitting that starts now."""
    return f"{time.time_ns() // 1_000_000:x}-{os.getpid()}"


def steady_clock() -> Callable[[], float]:
    """Return a clock that starts with the time of day and then counts seconds, however the system's clock is set."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


def stamp(sitting: str, now: Callable[[], float] = time.time) -> dict[str, Any]:
    """Return what every event of a sitting carries; `now` reads the clock (a simulation has its own)."""
    return {"at": round(now(), 3), "sitting": sitting}


def load_history(
    project: ProjectFolder, study: StudyFolder, base_config: Mapping[str, Any], clock: ClockName
) -> History:
    """Return everything that a study has learned so far; runs that still go on are left out.

    Raises StudyError when the ledger is damaged.
    """
    events = study.ledger()
    runs = _runs(project, events)
    return History(
        clock=clock,
        base_config=base_config,
        runs=tuple(runs.values()),
        proposals=_proposals(study, events),
        decisions=tuple(_records(Decision, "decision", study, events)),
        claims=tuple(_records(RecordClaim, "claim", study, events)),
        calls=tuple({call.number: call for call in map(AgentCall.from_event, _of("agent", events))}.values()),
        speed=next(map(MeasuredSpeed.from_event, _of("speed", events)), None),
        seconds_spent=_seconds_spent(events, runs),
        ended=_ended(events),
    )


def _runs(project: ProjectFolder, events: Sequence[Event]) -> dict[str, RunRecord]:
    """Return the records of the ended runs, in the order in which they were started."""
    facts: dict[str, dict[str, Any]] = {}
    for event in _of("run", events):
        facts.setdefault(str(event.get("run")), {}).update(event)
    records = {run_id: _run(RunFolder(project.runs_path / run_id), known) for run_id, known in facts.items()}
    return {run_id: record for run_id, record in records.items() if record is not None}


def _run(folder: RunFolder, facts: Event) -> RunRecord | None:
    """Return a run's record with what the ledger says of it, None while it goes on."""
    record = ingest(folder, facts.get("contaminated") or "")
    if record is None:
        if folder.is_running():
            return None
        record = RunRecord(
            run_id=folder.run_id, role="manual", candidate=0, seed=0, outcome="lost", reason="it was never started"
        )
    said = {key: facts[key] for key in ("role", "candidate", "seed") if key in facts}
    return dataclasses.replace(record, **said)


def _proposals(study: StudyFolder, events: Sequence[Event]) -> tuple[Proposal, ...]:
    by_number = {proposal.number: proposal for proposal in _records(Proposal, "proposal", study, events)}
    proposals = tuple(by_number[number] for number in sorted(by_number))
    if [proposal.number for proposal in proposals] != list(range(1, len(proposals) + 1)):
        raise StudyError(
            f"{study.ledger_path}: proposals are missing, got the numbers {sorted(by_number)}; "
            "restore the file, or start a study under another name"
        )
    return proposals


def _records(kind: type[Record], event_name: str, study: StudyFolder, events: Sequence[Event]) -> list[Record]:
    names = {field.name for field in dataclasses.fields(kind)}
    records = []
    for event in _of(event_name, events):
        try:
            records.append(kind(**{name: event[name] for name in names if name in event}))
        except (TypeError, ValueError) as error:
            raise StudyError(f"{study.ledger_path}: cannot read the {event_name} {dict(event)!r}: {error}") from error
    return records


def _seconds_spent(events: Sequence[Event], runs: Mapping[str, RunRecord]) -> float:
    """Return the sum over sittings of the time between the first and the last sign of life."""
    spans: dict[str, tuple[float, float]] = {}
    for event in events:
        if "sitting" not in event or "at" not in event:
            continue
        first = last = float(event["at"])
        if event.get("event") == "run" and event.get("phase") == "started" and event.get("run") in runs:
            last += runs[event["run"]].wall_seconds  # a driver that was killed during it wrote no later event
        known = spans.get(event["sitting"], (first, last))
        spans[event["sitting"]] = min(known[0], first), max(known[1], last)
    return sum(last - first for first, last in spans.values())


def _ended(events: Sequence[Event]) -> str:
    """Return why the study ended; a later sitting opens it again."""
    ended = ""
    for event in events:
        if event.get("event") == "ended":
            ended = str(event.get("reason") or "ended")
        elif event.get("event") == "sitting":
            ended = ""
    return ended


def _of(name: str, events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.get("event") == name]
