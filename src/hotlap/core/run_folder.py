"""The run folder: the only contract between the side that trains and the side that judges.

Anything that fills such a folder is a run. This module owns its file names; no other module spells them.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import StorageError
from hotlap.core.files import LineReader, append_json_line, read_json, read_json_lines, write_atomic, write_json
from hotlap.core.processes import is_alive
from hotlap.core.records import Outcome

RUN_ID = re.compile(r"r(\d{4,})")
_JSON_FILES: Final = ("command", "proposal", "environment", "worker", "stop", "result")


class RunFolder:
    """One run's folder; every method reads or writes one file of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.samples_path = path / "samples.jsonl"
        self.system_path = path / "system.jsonl"
        self.stdout_path = path / "stdout.log"
        self.config_path = path / "config.yaml"
        self.diff_path = path / "diff.patch"
        self.weights_path = path / "model.safetensors"

    @classmethod
    def create(cls, runs_directory: Path) -> "RunFolder":
        """Take the next free run id by making its folder, which only one process can do.

        Raises StorageError when the folder cannot be made.
        """
        try:
            runs_directory.mkdir(parents=True, exist_ok=True)
            number = max((int(m[1]) for p in runs_directory.iterdir() if (m := RUN_ID.fullmatch(p.name))), default=0)
            while True:
                number += 1
                path = runs_directory / f"r{number:04}"
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path)
        except OSError as error:
            raise StorageError(
                f"cannot make a run folder in {runs_directory}: {error.strerror or error}; "
                "choose another project folder with -p"
            ) from error

    @property
    def run_id(self) -> str:
        """The run's id, `r0042`."""
        return self.path.name

    def write_config(self, text: str) -> None:
        """Store the resolved config: enough to run again."""
        write_atomic(self.config_path, text)

    def write_diff(self, text: str) -> None:
        """Store the unified diff against the parent's config."""
        write_atomic(self.diff_path, text)

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Store one of the JSON files: command, proposal, environment, worker, stop, result."""
        assert name in _JSON_FILES, name
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
        """Return the last lines that the run printed."""
        try:
            text = self.stdout_path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def is_running(self) -> bool:
        """Say whether the process that fills this folder still lives."""
        worker = self.read("worker")
        return worker is not None and is_alive(worker)

    def ending(self) -> tuple[Outcome, str] | None:
        """Return outcome and reason, or None while the run goes on.

        What is believed, in this order: a result that says `reached`, then stop.json, then any result, else the
        run is lost.
        """
        is_running = self.is_running()  # asked first: whoever is gone by now has written all that it ever will
        result, stop = self.read("result"), self.read("stop")
        if result is not None and (result["outcome"] == "reached" or stop is None):
            return result["outcome"], result.get("reason", "")
        if is_running:
            return None
        if stop is not None:
            return stop["outcome"], stop.get("reason", "")
        return "lost", "the process is gone and left no result"
