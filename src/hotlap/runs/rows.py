"""One run as the index holds it: from a folder to a row of the database, and from a row to a value."""

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hotlap.core.clock import ClockName
from hotlap.core.records import RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.runs.ingest import ingest, snapshot
from hotlap.runs.notes import Note

MAY_CHANGE: Final = ("running", "lost", "invalid")
"""Outcomes that are read again at every refresh: the first goes on, the others may have been read at a bad moment."""
_TOLD_OF_IMPORTS: Final = ("kind", "source", "id", "name", "facts")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """One run, ended or still running, with what people noted on it."""

    run_id: str
    study: str
    role: str
    candidate: int
    seed: int
    outcome: str
    """One of the outcomes of a record, or `running`."""
    reason: str
    clock: ClockName
    """The clock that its config is judged by."""
    steps: int
    tokens: int
    train_seconds: float
    wall_seconds: float
    target_train_seconds: float | None
    target_wall_seconds: float | None
    target_step: int | None
    started_at: str
    contaminated: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    seconds: Mapping[str, float]
    environment: Mapping[str, Any]
    imported: Mapping[str, Any] = field(default_factory=dict)
    """Where a run comes from that another program made: kind, source, id, name, facts. Empty for hotlap's own."""
    notes: tuple[Note, ...] = ()

    @property
    def time_to_target(self) -> float:
        """Seconds to target on the judged clock; infinite for a run that did not reach it."""
        seconds = self.target_train_seconds if self.clock == "train" else self.target_wall_seconds
        return math.inf if seconds is None else seconds

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags of its notes, each once."""
        return tuple(sorted({tag for note in self.notes for tag in note.tags}))


def row_of(folder: RunFolder) -> dict[str, Any]:
    """Return the database row of a run folder; one that cannot be read becomes an `invalid` run, with the reason."""
    try:
        return _row(folder)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        broken = RunRecord(
            run_id=folder.run_id,
            role="manual",
            candidate=0,
            seed=0,
            outcome="invalid",
            reason=f"its folder cannot be read: {type(error).__name__}: {error}",
        )
        return _columns(broken, "invalid", {}, {})


def stored_run(row: sqlite3.Row, notes: tuple[Note, ...]) -> StoredRun:
    """Return a row of the database as a value."""
    values = {key: row[key] for key in row.keys() if key in StoredRun.__dataclass_fields__}  # noqa: SIM118
    values["role"] = row["ledger_role"]  # a study may give a run another role than it was started with
    for key in ("config", "metrics", "seconds", "environment", "imported"):
        values[key] = json.loads(values[key])
    return StoredRun(**values, notes=notes)


def _row(folder: RunFolder) -> dict[str, Any]:
    command, imported = folder.read("command") or {}, folder.read("import") or {}
    record = ingest(folder)
    if record is not None:
        return _columns(record, record.outcome, command, imported)
    is_started = bool(command) or folder.is_running()
    return _columns(snapshot(folder), "running" if is_started else "lost", command, imported)


def _columns(
    record: RunRecord, outcome: str, command: Mapping[str, Any], imported: Mapping[str, Any]
) -> dict[str, Any]:
    target = record.time_to_target or {}
    return {
        "run_id": record.run_id,
        "number": int(record.run_id[1:]),
        "study": command.get("study") or imported.get("group") or "",
        "role": record.role,
        "candidate": record.candidate,
        "seed": record.seed,
        "outcome": outcome,
        "reason": record.reason,
        "clock": "wall" if record.config.get("clock") == "wall" else "train",
        "steps": record.steps,
        "tokens": record.tokens,
        "train_seconds": record.train_seconds,
        "wall_seconds": record.wall_seconds,
        "target_train_seconds": target.get("train"),
        "target_wall_seconds": target.get("wall"),
        "target_step": target.get("step"),
        "started_at": command.get("launched_at") or imported.get("started_at") or "",
        "config": json.dumps(record.config),
        "metrics": json.dumps(record.metrics),
        "seconds": json.dumps(record.seconds),
        "environment": json.dumps(record.environment),
        "imported": json.dumps({key: imported[key] for key in _TOLD_OF_IMPORTS if imported.get(key)}),
    }
