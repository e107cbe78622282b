"""The folders of a project and of a study: `.hotlap/`, its protocol and its append-only ledger."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import StorageError
from hotlap.core.files import append_json_line, read_json, read_json_lines, write_atomic, write_json

LEDGER_EVENTS: Final = (
    *("sitting", "proposal", "run", "decision", "claim", "note", "protected", "agent", "speed_begun", "speed"),
    "ended",
)
REPLAY_SIGN: Final = "@"
"""Stands between the study and the number in a replay's name, `demo@1`; no study can be called so."""


class ProjectFolder:
    """`.hotlap/` beside the user's config: everything that a project produces."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.path = project / ".hotlap"
        self.runs_path = self.path / "runs"
        self.benches_path = self.path / "benches"
        self.profiles_path = self.path / "profiles"
        self.cache_path = self.path / "cache"
        self.index_path = self.path / "index.sqlite"
        self.notes_path = self.path / "notes.jsonl"
        self.code_path = self.path / "code.git"
        self.worktrees_path = self.path / "worktrees"

    def create(self) -> "ProjectFolder":
        """Make the folder with its own .gitignore.

        Raises StorageError when it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                write_atomic(ignore, "*\n")
        except OSError as error:
            raise StorageError(
                f"cannot write in {self.project}: {error.strerror or error}; choose another folder with -p"
            ) from error
        return self

    def study(self, name: str) -> "StudyFolder":
        """Return the folder of a study."""
        return StudyFolder(self.path / "studies" / name)

    def studies(self) -> list["StudyFolder"]:
        """Return the folders of all studies, by name."""
        return _folders_in(self.path / "studies")

    def replay(self, study: str, number: int) -> "StudyFolder":
        """Return the folder of a study's replay, `demo@1`: a ledger of runs of the study's rungs."""
        return StudyFolder(self.path / "replays" / f"{study}{REPLAY_SIGN}{number}")

    def replays(self) -> list["StudyFolder"]:
        """Return the folders of all replays, by name."""
        return _folders_in(self.path / "replays")


class StudyFolder:
    """One study: what makes its runs comparable, and the facts in the order they happened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.ledger_path = path / "ledger.jsonl"
        self.lock_path = path / "lock"
        self.patches_path = path / "patches"
        self.queue_path = path / "queue"
        self.agent_path = path / "agent"
        self._protocol_path = path / "protocol.json"
        self._code_path = path / "code.json"

    def create(self) -> "StudyFolder":
        """Make the folder; raises StorageError when it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {self.path}: {error.strerror or error}") from error
        return self

    def write_protocol(self, protocol: Mapping[str, Any]) -> None:
        """Store what must be equal for two runs to be compared."""
        write_json(self._protocol_path, protocol)

    def protocol(self) -> dict[str, Any] | None:
        """Return the stored protocol, or None for a new study."""
        return read_json(self._protocol_path)

    def write_code(self, facts: Mapping[str, Any]) -> None:
        """Store which snapshot of the project's code the study began with."""
        write_json(self._code_path, facts)

    def code(self) -> dict[str, Any] | None:
        """Return the stored snapshot, None for a study that changes no code."""
        return read_json(self._code_path)

    def append(self, event: str, facts: Mapping[str, Any]) -> None:
        """Append one fact and wait until it is on disk."""
        assert event in LEDGER_EVENTS, event
        append_json_line(self.ledger_path, {"event": event, **facts}, durable=True)

    def ledger(self) -> list[dict[str, Any]]:
        """Return all facts, oldest first."""
        return read_json_lines(self.ledger_path)


def _folders_in(root: Path) -> list[StudyFolder]:
    return [StudyFolder(path) for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []
