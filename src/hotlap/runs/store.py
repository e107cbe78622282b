"""The index of a project's runs: SQLite, rebuilt at any time from run folders, ledgers and notes alone.

    with RunStore(ProjectFolder(Path("."))) as store:
        store.refresh()
        store.runs(study="string-repetition", sort="time")

It writes only while it refreshes, under a lock; in a project that cannot be written the index lives in memory.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self

from filelock import FileLock, Timeout

from hotlap.core.errors import StorageError
from hotlap.core.run_folder import RunFolder, runs_in
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.aliases import resolve_alias, resolve_id
from hotlap.runs.migrations import is_from_the_future, migrate
from hotlap.runs.notes import Note, read_notes
from hotlap.runs.rows import MAY_CHANGE, StoredRun, row_of, stored_run

Sort = Literal["id", "time"]

_WRITER_PATIENCE_SECONDS: Final = 30.0
_SELECT: Final = """
    select runs.*, coalesce(ledger_runs.role, runs.role) as ledger_role, coalesce(contaminated, '') as contaminated
    from runs left join ledger_runs using (run_id)
"""


class RunStore:
    """Memory of a project: query it freely, delete its file at will."""

    def __init__(self, project: ProjectFolder) -> None:
        self.project = project
        path = project.index_path
        self._is_on_disk = os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))
        with self._only_writer():
            self._db = _open(path) if self._is_on_disk else _connect(":memory:")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def refresh(self) -> None:
        """Read what has changed since the last time: new folders, runs that went on, ledgers, notes."""
        with self._only_writer(), self._transaction():
            self._refresh_folders()
            self._refresh_ledgers()
            self._refresh_notes()

    def reindex(self) -> None:
        """Read everything again from the files."""
        with self._only_writer(), self._transaction():
            for table in ("runs", "notes", "ledger_runs", "sources"):
                self._db.execute(f"delete from {table}")
        self.refresh()

    def runs(self, study: str | None = None, sort: Sort = "id", limit: int | None = None) -> list[StoredRun]:
        """Return runs by id, or the fastest to target first; `limit` keeps the newest or the fastest."""
        notes = self._notes()
        rows = self._db.execute(f"{_SELECT} where :study is null or study = :study order by number", {"study": study})
        found = [stored_run(row, tuple(notes.get(row["run_id"], ()))) for row in rows]
        if sort == "time":
            return sorted(found, key=lambda run: run.time_to_target)[:limit]
        return found if limit is None else found[max(0, len(found) - limit) :]

    def get(self, name: str) -> StoredRun:
        """Return a run by id (`r0042`, `r42`, `42`) or alias (`@last`, `@baseline`, `@best`).

        Raises ConfigError when there is no such run.
        """
        if name.startswith("@"):
            return resolve_alias(name, self.runs())
        known = [row["run_id"] for row in self._db.execute("select run_id from runs order by number")]
        run_id = resolve_id(name, known)
        row = self._db.execute(f"{_SELECT} where run_id = ?", (run_id,)).fetchone()
        return stored_run(row, tuple(self._notes().get(run_id, ())))

    def points(self, run_id: str) -> list[dict[str, Any]]:
        """Return every point of a run, straight from its folder and never thinned out."""
        return self.folder(run_id).points()

    def folder(self, run_id: str) -> RunFolder:
        """Return a run's folder."""
        return RunFolder(self.project.runs_path / run_id)

    def _refresh_folders(self) -> None:
        known = {row["run_id"]: row for row in self._db.execute("select run_id, outcome, fingerprint from runs")}
        for folder in runs_in(self.project.runs_path):
            seen, fingerprint = known.pop(folder.run_id, None), _fingerprint_of_run(folder.path)
            if seen is None or seen["outcome"] in MAY_CHANGE or seen["fingerprint"] != fingerprint:
                row = {**row_of(folder), "fingerprint": fingerprint}
                marks = ", ".join(f":{name}" for name in row)
                self._db.execute(f"insert or replace into runs ({', '.join(row)}) values ({marks})", row)
        self._db.executemany("delete from runs where run_id = ?", [(run_id,) for run_id in known])  # removed folders

    def _refresh_ledgers(self) -> None:
        studies = [*self.project.studies(), *self.project.replays()]
        if not self._is_changed("ledgers", [study.ledger_path for study in studies]):
            return
        facts: dict[str, dict[str, Any]] = {}
        for study in studies:
            for event in study.ledger():
                if event.get("event") == "run" and "run" in event:
                    facts.setdefault(event["run"], {}).update(event)
        self._db.execute("delete from ledger_runs")
        self._db.executemany(
            "insert into ledger_runs values (?, ?, ?)",
            [(run_id, known.get("role"), known.get("contaminated") or "") for run_id, known in facts.items()],
        )

    def _refresh_notes(self) -> None:
        if self._is_changed("notes", [self.project.notes_path]):
            self._db.execute("delete from notes")
            notes = [(n.run_id, n.at, n.text, json.dumps(n.tags)) for n in read_notes(self.project)]
            self._db.executemany("insert into notes values (?, ?, ?, ?)", notes)

    def _is_changed(self, source: str, paths: list[Path]) -> bool:
        """Say whether files differ from what the index holds, and remember them as they are now."""
        now = " ".join(f"{path}:{_fingerprint(path)}" for path in paths)
        seen = self._db.execute("select fingerprint from sources where path = ?", (source,)).fetchone()
        self._db.execute("insert or replace into sources values (?, ?)", (source, now))
        return seen is None or seen["fingerprint"] != now

    def _notes(self) -> dict[str, list[Note]]:
        found: dict[str, list[Note]] = {}
        for row in self._db.execute("select * from notes order by rowid"):
            note = Note(run_id=row["run_id"], at=row["at"], text=row["text"], tags=tuple(json.loads(row["tags"])))
            found.setdefault(note.run_id, []).append(note)
        return found

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        if not self._is_on_disk:
            yield
            return
        path = self.project.index_path
        lock = FileLock(path.with_name(f"{path.name}.lock"))
        try:
            lock.acquire(timeout=_WRITER_PATIENCE_SECONDS)
        except Timeout:
            raise StorageError(f"another hotlap keeps writing {path}; stop it, or delete the file") from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._db:  # commits, or rolls back on an error
                self._db.execute("begin immediate")
                yield
        except sqlite3.DatabaseError as error:  # a full disk, a damaged file
            path = self.project.index_path
            raise StorageError(f"cannot write {path}: {error}; free space, or delete it: it is built again") from error


def _open(path: Path) -> sqlite3.Connection:
    """Open the index; one that is damaged or from a newer hotlap is thrown away, since it can be built again."""
    try:
        db = _connect(str(path))
        if not is_from_the_future(db):
            return db
        db.close()
    except sqlite3.OperationalError as error:
        raise StorageError(f"cannot open {path}: {error}; free space, or delete it: it is built again") from error
    except sqlite3.DatabaseError:
        pass
    path.unlink()
    return _connect(str(path))


def _connect(name: str) -> sqlite3.Connection:
    db = sqlite3.connect(name, timeout=_WRITER_PATIENCE_SECONDS, isolation_level=None)
    db.row_factory = sqlite3.Row
    try:
        migrate(db)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _fingerprint_of_run(path: Path) -> str:
    """Return what changes with any JSON file of a run folder and with the set of its files."""
    with os.scandir(path) as entries:
        stats = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(".json")]
    return f"{_fingerprint(path)} {sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)}"


def _fingerprint(path: Path) -> str:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return "absent"
    return f"{stat.st_mtime_ns}/{stat.st_size}"
