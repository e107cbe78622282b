"""The shape of the index, grown by small named steps; a step that was applied is never edited."""

import sqlite3
from collections.abc import Callable
from typing import Final


def create_runs(db: sqlite3.Connection) -> None:
    """One row per run: facts to select by as columns, the rest as JSON."""
    db.execute(
        """
        create table runs (
            run_id text primary key,
            number integer not null,
            study text not null,
            role text not null,
            candidate integer not null,
            seed integer not null,
            outcome text not null,
            reason text not null,
            clock text not null,
            steps integer not null,
            tokens integer not null,
            train_seconds real not null,
            wall_seconds real not null,
            target_train_seconds real,
            target_wall_seconds real,
            target_step integer,
            started_at text not null,
            config text not null,
            metrics text not null,
            seconds text not null,
            environment text not null,
            fingerprint text not null
        )
        """
    )


def create_notes(db: sqlite3.Connection) -> None:
    """Notes and tags, copied from notes.jsonl."""
    db.execute("create table notes (run_id text not null, at text not null, text text not null, tags text not null)")
    db.execute("create index notes_by_run on notes (run_id)")


def create_ledger_runs(db: sqlite3.Connection) -> None:
    """What the ledgers know of runs and their folders do not."""
    db.execute("create table ledger_runs (run_id text primary key, role text, contaminated text not null)")


def create_sources(db: sqlite3.Connection) -> None:
    """Which state of the ledgers and of the notes the index holds."""
    db.execute("create table sources (path text primary key, fingerprint text not null)")


def add_imported(db: sqlite3.Connection) -> None:
    """Where a run comes from that another program made; an empty object for hotlap's own."""
    db.execute("alter table runs add column imported text not null default '{}'")


MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (
    create_runs,
    create_notes,
    create_ledger_runs,
    create_sources,
    add_imported,
)


def migrate(db: sqlite3.Connection) -> None:
    """Apply the steps that a database lacks, each in a transaction of its own."""
    with db:
        db.execute("create table if not exists migrations (name text primary key)")
    done = {name for (name,) in db.execute("select name from migrations")}
    for step in MIGRATIONS:
        if step.__name__ not in done:
            with db:
                db.execute("begin immediate")
                step(db)
                db.execute("insert into migrations values (?)", (step.__name__,))


def is_from_the_future(db: sqlite3.Connection) -> bool:
    """Say whether a newer hotlap has changed the database in a way that this one does not know."""
    try:
        done = {name for (name,) in db.execute("select name from migrations")}
    except sqlite3.OperationalError:
        return False
    return not done <= {step.__name__ for step in MIGRATIONS}
