"""The folder of a bench, `.hotlap/benches/b0001`: its plan, one line for every measured repeat, and its answers.

This module owns the file names; no other module spells them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hotlap.core.bench_records import CellOutcome, CellRepeat
from hotlap.core.errors import StudyError
from hotlap.core.files import append_json_line, move_lines, read_json, read_json_lines, write_atomic, write_json
from hotlap.core.numbered_folders import id_pattern, numbered_folders, take_folder

BENCH_ID: Final = id_pattern("b")


class BenchFolder:
    """One bench's folder; every method reads or writes one file of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan_path = path / "bench.json"
        self.cells_path = path / "cells.jsonl"
        self.retried_path = path / "retried.jsonl"
        """Lines of repeats that are measured once more."""
        self.config_path = path / "config.yaml"
        self.lock_path = path / "lock"
        self.scratch_path = path / "scratch"
        """What the process of the cell at hand reads and writes; of no worth once its line is written."""
        self.compiled_path = self.scratch_path / "compiled"
        """The code that compilers make for that process; removed at its end."""
        self.logs_path = path / "logs"
        self.runs_path = path / "runs"
        """The run folders of a command's cells."""
        self.summary_path = path / "summary.json"
        self.markdown_path = path / "bench.md"
        self.csv_path = path / "bench.csv"
        self.svg_path = path / "bench.svg"

    @classmethod
    def create(cls, benches_directory: Path) -> "BenchFolder":
        """Take the next free id by making the folder; raises StorageError when the folder cannot be made."""
        return cls(take_folder(benches_directory, "b", "a bench folder"))

    @property
    def bench_id(self) -> str:
        """The bench's id, `b0001`."""
        return self.path.name

    def log_path(self, cell: int, repeat: int) -> Path:
        """Return where the process of a repeat prints to."""
        return self.logs_path / f"{cell:04}-{repeat}.log"

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Store what is to be measured: axes, cells, order, device, when it was begun."""
        write_json(self.plan_path, plan)

    def plan(self) -> dict[str, Any]:
        """Return the stored plan; raises StudyError where there is none."""
        plan = read_json(self.plan_path)
        if plan is None:
            raise StudyError(f"{self.path} holds no bench: it has no {self.plan_path.name}")
        return plan

    def write_config(self, text: str) -> None:
        """Store the config that the cells start from."""
        write_atomic(self.config_path, text)

    def append(self, repeat: CellRepeat) -> None:
        """Append a measured repeat and wait until it is on the disk."""
        append_json_line(self.cells_path, repeat.to_json(), durable=True)

    def retry(self, outcome: CellOutcome) -> int:
        """Put the lines with an outcome aside, so that their repeats are measured once more; return how many."""
        return move_lines(self.cells_path, self.retried_path, lambda line: line.get("outcome") == outcome)

    def repeats(self) -> tuple[CellRepeat, ...]:
        """Return what was measured, in the order in which it was; a line that a kill cut off is not there."""
        return tuple(map(CellRepeat.from_json, read_json_lines(self.cells_path)))


def bench_folders(benches_directory: Path) -> list[BenchFolder]:
    """Return the benches of a project, oldest first."""
    return [BenchFolder(path) for _, path in numbered_folders(benches_directory, "b")]
