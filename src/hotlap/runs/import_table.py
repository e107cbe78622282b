"""Turn a foreign table into runs: a row is a run, or a point of one where a column `step` says so.

| table | read as points when | a run is |
|---|---|---|
| with a column of ids | it has a step, and ids repeat | all rows of one id |
| without | it has a step | the whole file |
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import DataError
from hotlap.core.foreign import SECONDS, ForeignRun, ForeignSource, number_of
from hotlap.core.records import Outcome
from hotlap.core.trainer_names import rewritten_metric_name
from hotlap.runs.foreign_columns import STEPS, Chosen, Columns, assign_columns, first_of, is_wandb_export
from hotlap.runs.foreign_table import IDS, NAMES, Row, Table, load_table
from hotlap.runs.import_wandb import TRAINER_STEP

_OUTCOMES: Final[Mapping[Outcome, tuple[str, ...]]] = {
    "missed": ("", "complete", "completed", "done", "finished", "missed", "out_of_budget", "reached", "success"),
    "crashed": ("crashed", "error", "fail", "failed", "invalid", "lost"),
    "diverged": ("diverged",),
    "out_of_memory": ("oom", "out_of_memory"),
    "interrupted": ("cancelled", "interrupted", "killed", "preempted", "preempting", "stopped"),
    "raced": ("pruned", "raced"),
}
"""What a run ended as here, by what its program calls it; no target of hotlap's was looked at, so none was reached."""
_UNENDED: Final = ("pending", "queued", "running", "waiting")


def read_table(path: Path, chosen: Chosen) -> ForeignSource:
    """Read a table of runs or of points.

    Raises DataError, with file and line, for what cannot be read.
    """
    table = load_table(path)
    is_points = _is_of_points(table)
    columns = assign_columns(table, chosen, is_points=is_points)
    notices = [columns.told()]
    if is_points:
        runs = _runs_of_points(table, columns)
    else:
        runs = _runs_of_rows(table, columns)
        if without := len(table.rows) - len(runs):
            notices.append(
                f"{without} of {len(table.rows)} runs left out: they have not ended; import again when they have"
            )
    kind = "wandb export" if is_wandb_export(table.columns) else "table of points" if is_points else "table of runs"
    return ForeignSource(kind=kind, place=str(path), label=path.stem, runs=tuple(runs), notices=tuple(notices))


def outcome_of(state: str, place: str) -> Outcome | None:
    """Return what a state means here, None for a run that has not ended; raises DataError for an unknown one."""
    word = state.strip().lower().removeprefix("trialstate.").replace(" ", "_")
    if word in _UNENDED:
        return None
    for outcome, words in _OUTCOMES.items():
        if word in words:
            return outcome
    known = sorted(word for words in (*_OUTCOMES.values(), _UNENDED) for word in words if word)
    raise DataError(f"{place}: unknown state {state!r}; expected one of {', '.join(known)}, or an empty cell")


def _is_of_points(table: Table) -> bool:
    if first_of(STEPS, table.columns) is None or is_wandb_export(table.columns):
        return False
    column = first_of(IDS, table.columns)
    if column is None:  # names are no ids: several runs may share one
        return first_of(NAMES, table.columns) is None
    return max(Counter(str(row.cells.get(column)) for row in table.rows).values()) > 1


def _metrics(row: Row, columns: Columns, *, by_trainer: bool) -> dict[str, int | float]:
    """Return the numbers of a row under hotlap's names."""
    found = {name: number_of(row.cells.get(column)) for column, name in columns.metrics.items()}
    found[SECONDS] = number_of(row.cells.get(columns.seconds or ""))
    return {
        rewritten_metric_name(name) if by_trainer else name: number
        for name, number in found.items()
        if number is not None
    }


def _runs_of_rows(table: Table, columns: Columns) -> list[ForeignRun]:
    """Return a run for every row whose run has ended."""
    by_wandb, by_trainer = is_wandb_export(table.columns), TRAINER_STEP in table.columns
    runs = []
    for row, own_id in zip(table.rows, _own_ids(table, columns), strict=True):
        state = str(row.cells.get(columns.state or "", ""))
        outcome = outcome_of(state, row.place)
        if outcome is None:
            continue
        run = ForeignRun(
            own_id=own_id,
            identity=f"wandb:{own_id}" if by_wandb else f"{table.path.resolve()}#{own_id}",
            name=str(row.cells.get(columns.name or "", "")),
            outcome=outcome,
            reason=f"imported: {state} there" if state else "imported",
            config={name: row.cells[column] for column, name in columns.config.items() if column in row.cells},
            metrics=_metrics(row, columns, by_trainer=by_trainer),
            steps=_step(row, columns) if columns.step in row.cells else 0,
            started_at=str(row.cells.get(columns.started or "", "")),
            facts={column: row.cells[column] for column in columns.facts if column in row.cells},
        )
        runs.append(run)
    return runs


def _own_ids(table: Table, columns: Columns) -> list[str]:
    """Return an id for every row: its column of ids, in an export of wandb its name and time, else its content."""
    if columns.own_id is not None:
        return _given_ids(table, columns.own_id)
    if columns.name and columns.started and is_wandb_export(table.columns):
        found = [f"{row.cells.get(columns.name, '')} {row.cells.get(columns.started, '')}" for row in table.rows]
        if len(set(found)) == len(found):
            return found
    seen: Counter[str] = Counter()
    ids = []
    for row in table.rows:
        text = json.dumps(row.cells, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        seen[digest] += 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids


def _given_ids(table: Table, column: str) -> list[str]:
    places: dict[str, str] = {}
    for row in table.rows:
        if column not in row.cells:
            raise DataError(f"{row.place}: column {column} is empty; every run needs its id")
        own_id = str(row.cells[column])
        if own_id in places:
            raise DataError(
                f"{row.place}: the {column} {own_id!r} stands at {places[own_id]}, too; a table of runs has one row "
                "a run (a table of points has a column step)"
            )
        places[own_id] = row.place
    return list(places)


def _runs_of_points(table: Table, columns: Columns) -> list[ForeignRun]:
    """Return the runs whose points a table lists, in the order of their first points."""
    column = columns.own_id
    rows_of: dict[str, list[Row]] = {}
    for row in table.rows:
        if column is not None and column not in row.cells:
            raise DataError(f"{row.place}: column {column} is empty; every point needs the id of its run")
        rows_of.setdefault(str(row.cells[column]) if column else table.path.stem, []).append(row)
    return [_run_of_points(table, columns, own_id, rows) for own_id, rows in rows_of.items()]


def _run_of_points(table: Table, columns: Columns, own_id: str, rows: Sequence[Row]) -> ForeignRun:
    by_trainer = TRAINER_STEP in table.columns
    points = [{"step": _step(row, columns), **_metrics(row, columns, by_trainer=by_trainer)} for row in rows]
    state = str(rows[-1].cells.get(columns.state or "", ""))
    return ForeignRun(
        own_id=own_id,
        identity=f"{table.path.resolve()}#{own_id}",
        name=str(rows[0].cells.get(columns.name or "", "")),
        outcome=outcome_of(state, rows[-1].place) or "interrupted",
        reason=f"imported: {state} there" if state else "imported",
        config=_constants(rows, columns.config),
        points=tuple(sorted((point for point in points if len(point) > 1), key=lambda point: point["step"])),
        steps=int(max(point["step"] for point in points)),
    )


def _constants(rows: Sequence[Row], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of a run, which are the same in all of its rows that have them."""
    found: dict[str, Any] = {}
    for row in rows:
        for column, name in names.items():
            if column not in row.cells:
                continue
            value = row.cells[column]
            if found.setdefault(name, value) != value:
                raise DataError(
                    f"{row.place}: column {column}: a setting stays the same over a run, got {value!r} after "
                    f"{found[name]!r}"
                )
    return found


def _step(row: Row, columns: Columns) -> int:
    """Return the step of a row; raises DataError when it is no whole number from 0 on."""
    cell = row.cells.get(columns.step or "")
    value = number_of(cell)
    if value is None or not 0 <= value <= 2**53 or value != int(value):
        raise DataError(f"{row.place}: column {columns.step}: expected a whole number of steps, got {cell!r}")
    return int(value)
