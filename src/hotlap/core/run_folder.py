"""The run folder: the only contract between the side that trains and the side that judges.

Anything that fills such a folder is a run. This module owns its file names; no other module spells them.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hotlap.core.capped_log import log_end
from hotlap.core.errors import StorageError
from hotlap.core.files import (
    LineReader,
    append_json_line,
    move_lines,
    read_json,
    read_json_lines,
    sync,
    write_atomic,
    write_json,
)
from hotlap.core.numbered_folders import id_pattern, numbered_folders, take_folder
from hotlap.core.processes import is_alive
from hotlap.core.records import Outcome

RUN_ID = id_pattern("r")
RUN_VARIABLE: Final = "HOTLAP_RUN_FOLDER"
"""Names the run that a process belongs to; a driver sets it for the worker."""
WEIGHTS_NAME: Final = "model.safetensors"
OPTIMIZER_NAME: Final = "optimizer.pt"
RNG_NAME: Final = "rng.pt"
STATE_NAME: Final = "state.json"

_TAIL_BYTES: Final = 65536
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_HAS_COMMAND: Final = re.compile(r"^[\"']?command[\"']?:", re.MULTILINE)
"""A config is stored with its sections at the start of a line."""
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_JSON_FILES: Final = (
    "config",
    "command",
    "proposal",
    "environment",
    "worker",
    "stop",
    "result",
    "evaluation",
    "guards",
    "trackers",
    "import",
)
_FILES_OF_AN_ATTEMPT: Final = ("result", "stop", "worker")


class RunFolder:
    """One run's folder; every method reads or writes one file of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.lost_metrics_path = path / "metrics.lost.jsonl"
        self.samples_path = path / "samples.jsonl"
        self.lost_samples_path = path / "samples.lost.jsonl"
        self.system_path = path / "system.jsonl"
        self.stdout_path = path / "stdout.log"
        self.trackers_log_path = path / "trackers.log"
        self.config_path = path / "config.yaml"
        self.diff_path = path / "diff.patch"
        self.weights_path = path / WEIGHTS_NAME
        self.shared_path = path / "shared"
        """What somebody else's command may write into, also from inside a container."""
        self.logged_path = self.shared_path / "metrics.jsonl"
        """Metrics that it reports by `hotlap.log`."""
        self.scratch_path = path / "scratch"
        """Edited copies of its files."""
        self.containers_path = path / "containers"
        """The ids of the containers that it runs in, a file each."""

    @classmethod
    def create(cls, runs_directory: Path) -> "RunFolder":
        """Take the next free run id by making its folder; raises StorageError when the folder cannot be made."""
        return cls(take_folder(runs_directory, "r", "a run folder"))

    @property
    def run_id(self) -> str:
        """The run's id, `r0042`."""
        return self.path.name

    def write_config(self, text: str, values: Mapping[str, Any] | None = None) -> None:
        """Store the resolved config: enough to run again.

        `values` are what the YAML of the text says: it takes long to read, and a study reads its runs again and again.
        """
        if values is not None:
            self.write("config", {"sha256": _sha256(text), "values": values})
        write_atomic(self.config_path, text)

    def config_text(self) -> str | None:
        """Return the resolved config as it is stored, None where there is none yet."""
        try:
            return self.config_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    @property
    def has_command(self) -> bool:
        """Whether the run is of somebody else's command."""
        return _HAS_COMMAND.search(self.config_text() or "") is not None

    def config_values(self, text: str) -> Mapping[str, Any] | None:
        """Return what the YAML of the stored config says, None where that was written by others or changed since."""
        stored = self.read("config") or {}
        return stored.get("values") if stored.get("sha256") == _sha256(text) else None

    def write_diff(self, text: str) -> None:
        """Store the unified diff against the parent's config."""
        write_atomic(self.diff_path, text)

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Store one of the JSON files: command, proposal, environment, worker, stop, result, guards and the others."""
        assert name in _JSON_FILES, name
        if name == "result":  # where it is, everything before it is on the disk, too
            self._sync_lines()
        write_json(self.path / f"{name}.json", value)

    def read(self, name: str) -> dict[str, Any] | None:
        """Return one of the JSON files, or None when it is not there."""
        assert name in _JSON_FILES, name
        return read_json(self.path / f"{name}.json")

    def append_point(self, point: Mapping[str, float | int]) -> None:
        """Append one point: `step`, clock readings and metrics, flat."""
        append_json_line(self.metrics_path, point)

    def append_sample(self, sample: Mapping[str, Any]) -> None:
        """Append one generated sample."""
        append_json_line(self.samples_path, sample)

    def points(self) -> list[dict[str, Any]]:
        """Return every point written so far."""
        return read_json_lines(self.metrics_path)

    def point_reader(self) -> LineReader:
        """Return a reader that follows the points while the run goes on."""
        return LineReader(self.metrics_path)

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that the run printed, as a terminal would show them at its end, without colours."""
        text = _ESCAPES.sub("", log_end(self.stdout_path, _TAIL_BYTES).decode("utf-8", errors="replace"))
        if not text:
            return ""
        shown = (line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip("\n").split("\n"))
        return "\n".join([*shown][-lines:])

    def checkpoint_path(self, step: int) -> Path:
        """Return where the checkpoint after a step is, or would be."""
        return self.path / f"checkpoint-{step}"

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Return steps and folders of the complete checkpoints, oldest first."""
        return checkpoints_in(self.path)

    def begin_attempt(self, config: str | None = None) -> int:
        """Put aside what ended the run so far, so that it counts as going on; return the number of that attempt.

        `result.json`, `stop.json` and `worker.json` become `result.1.json` and so on, with the next free number; a
        changed config takes the place of `config.yaml`, which becomes `config.1.yaml`. Call it only for a run that
        is not running. Raises StorageError when the folder cannot be written.
        """
        number = 1
        while any(self.path.glob(f"*.{number}.[jy]*")):  # .json and .yaml
            number += 1
        if config is not None and config != (before := self.config_path.read_text(encoding="utf-8")):
            write_atomic(self.path / f"config.{number}.yaml", before)
            write_atomic(self.config_path, config)
        try:
            for name in _FILES_OF_AN_ATTEMPT:
                path = self.path / f"{name}.json"
                if path.exists():
                    path.rename(self.path / f"{name}.{number}.json")
        except OSError as error:
            raise StorageError(f"cannot write in {self.path}: {error.strerror or error}") from error
        return number

    def drop_points_after(self, step: int) -> int:
        """Take the points and samples after a step away, since the run goes on from there; return how many points.

        They are kept in `metrics.lost.jsonl` and `samples.lost.jsonl`. Raises StorageError when these cannot be
        written.
        """
        move_lines(self.samples_path, self.lost_samples_path, lambda sample: sample.get("step", 0) > step)
        return move_lines(self.metrics_path, self.lost_metrics_path, lambda point: point.get("step", 0) > step)

    def _sync_lines(self) -> None:
        try:
            for path in (self.metrics_path, self.samples_path):
                if path.exists():
                    sync(path)
        except OSError as error:
            raise StorageError(f"cannot write in {self.path}: {error.strerror or error}") from error

    def is_running(self) -> bool:
        """Say whether the process that fills this folder still lives."""
        worker = self.read("worker")
        return worker is not None and is_alive(worker)

    def ending(self) -> tuple[Outcome, str] | None:
        """Return outcome and reason, or None while the run goes on.

        What is believed, in this order: a failed guard, a result that says `reached`, then stop.json, then any
        result, else the run is lost.
        """
        is_running = self.is_running()  # asked first: whoever is gone by now has written all that it ever will
        result, stop, guards = self.read("result"), self.read("stop"), self.read("guards")
        if guards is not None and guards.get("state") == "failed":
            return "invalid", "; ".join(guards.get("problems") or ("a guard failed",))
        if result is not None and (result["outcome"] == "reached" or stop is None):
            return result["outcome"], result.get("reason", "")
        if is_running:
            return None
        if stop is not None:
            return stop["outcome"], stop.get("reason", "")
        return "lost", "the process is gone and left no result"


def runs_in(runs_directory: Path) -> list[RunFolder]:
    """Return the runs of a project by their numbers: r10000 comes after r9999."""
    return [RunFolder(path) for _, path in numbered_folders(runs_directory, "r")]


def checkpoints_in(parent: Path) -> list[tuple[int, Path]]:
    """Return steps and folders of the complete checkpoints in a folder, oldest first."""
    if not parent.is_dir():
        return []
    named = sorted((int(match[1]), path) for path in parent.iterdir() if (match := _CHECKPOINT.fullmatch(path.name)))
    return [(step, path) for step, path in named if checkpoint_state(path) is not None]


def checkpoint_state(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint's state.json, or None unless every file that it lists is there in its full size."""
    try:
        state = read_json(path / STATE_NAME)
        sizes = state.get("files") if isinstance(state, dict) else None
        if not isinstance(sizes, dict) or WEIGHTS_NAME not in sizes:
            return None
        is_complete = all((path / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return None
    return state if is_complete else None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
