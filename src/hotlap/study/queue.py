"""Proposals that wait for a study: `hotlap propose` puts them there, and the study takes them before all others.

number = enqueue(folder, draft, "agent")
waiting(folder) -> [(path, draft, proposer), ...]

A file is removed once its proposal stands in the ledger. A driver that is killed in between takes it up twice; the
judge discards the second one as a repetition.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import StorageError
from hotlap.core.files import write_json
from hotlap.core.study_folder import StudyFolder
from hotlap.study.proposing import Draft

SCHEMA: Final = "hotlap/queued/1"
_FIELDS: Final = ("title", "observation", "hypothesis", "settings", "patch", "predicted_ratio", "simplifies")


def enqueue(folder: StudyFolder, draft: Draft, proposer: str) -> Path:
    """Put a draft at the end of a study's queue and return its file; raises StorageError when it cannot be written."""
    try:
        folder.queue_path.mkdir(parents=True, exist_ok=True)
        while True:
            number = max((int(path.stem) for path in _files(folder)), default=0) + 1
            path = folder.queue_path / f"{number:06}.json"
            try:
                path.touch(exist_ok=False)  # which only one process can do
            except FileExistsError:
                continue
            write_json(path, {"schema": SCHEMA, "proposer": proposer, **asdict(draft)})
            return path
    except OSError as error:
        raise StorageError(f"cannot write in {folder.queue_path}: {error.strerror or error}") from error


def waiting(folder: StudyFolder) -> list[tuple[Path, Draft, str]]:
    """Return what waits, oldest first; a file that is just being written waits for the next look."""
    found = []
    for path in _files(folder):
        with suppress(OSError, ValueError, KeyError, TypeError):
            values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            draft = Draft(**{name: values[name] for name in _FIELDS})
            found.append((path, draft, str(values["proposer"])))
    return found


def _files(folder: StudyFolder) -> list[Path]:
    if not folder.queue_path.is_dir():
        return []
    return sorted(path for path in folder.queue_path.glob("*.json") if path.stem.isdigit())
