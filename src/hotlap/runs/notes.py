"""Notes on runs: `.hotlap/notes.jsonl`, append only, under a file lock because several people may write."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock

from hotlap.core.errors import StorageError
from hotlap.core.files import append_json_line, read_json_lines
from hotlap.core.study_folder import ProjectFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What somebody wrote about a run."""

    run_id: str
    at: str
    """When, in ISO format with time zone."""
    text: str
    tags: tuple[str, ...] = ()


def append_note(project: ProjectFolder, run_id: str, text: str, tags: tuple[str, ...] = ()) -> Note:
    """Write a note down and return it; raises StorageError when it cannot be written."""
    note = Note(run_id=run_id, at=datetime.now(UTC).isoformat(timespec="seconds"), text=text, tags=tags)
    facts = {"run": note.run_id, "at": note.at, "text": note.text, "tags": list(note.tags)}
    try:
        with FileLock(project.notes_path.with_name(f"{project.notes_path.name}.lock")):
            append_json_line(project.notes_path, facts, durable=True)
    except OSError as error:
        raise StorageError(f"cannot write {project.notes_path}: {error.strerror or error}") from error
    return note


def read_notes(project: ProjectFolder) -> list[Note]:
    """Return all notes, oldest first."""
    return [_note(line) for line in read_json_lines(project.notes_path) if "run" in line]


def _note(line: dict[str, Any]) -> Note:
    return Note(
        run_id=str(line["run"]),
        at=str(line.get("at", "")),
        text=str(line.get("text", "")),
        tags=tuple(line.get("tags") or ()),
    )
