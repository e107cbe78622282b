"""A project whose run folders are filled by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.load import config_from_values, config_text
from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder

GONE = {**process_identity(), "start_seconds": 1.0}
"""A process that no longer runs."""


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    return ProjectFolder(tmp_path).create()


@pytest.fixture
def make_run(project: ProjectFolder) -> Callable[..., RunFolder]:
    """Fill a run folder as launcher and worker would; `seconds=None` leaves it without a result."""

    def make(
        seconds: float | None = 12.0,
        outcome: str = "reached",
        patch: dict[str, Any] | None = None,
        **command: Any,
    ) -> RunFolder:
        folder = RunFolder.create(project.runs_path)
        folder.write_config(config_text(config_from_values({"name": "s"}, patch)))
        facts = {"study": "s", "role": "screen", "candidate": 1, "seed": 7, "launched_at": "2026-11-21T06:12:00+00:00"}
        folder.write("command", {"driver": GONE, **facts, **command})
        folder.write("worker", GONE)
        folder.append_point({"step": 100, "train_seconds": 2.0, "wall_seconds": 4.0, "tokens": 50, "train_loss": 2.5})
        folder.append_point({"step": 200, "train_seconds": 4.0, "wall_seconds": 7.0, "tokens": 100, "eval_loss": 2.0})
        if seconds is not None:
            folder.write("result", result(outcome, seconds))
        return folder

    return make


def result(outcome: str, seconds: float) -> dict[str, Any]:
    target = {"train": seconds, "wall": seconds + 5, "step": 900} if outcome == "reached" else None
    return {
        "schema": "hotlap/result/1",
        "outcome": outcome,
        "reason": f"it {outcome}",
        "step": 900,
        "train_seconds": seconds,
        "wall_seconds": seconds + 8,
        "tokens": 1000,
        "time_to_target": target,
        "metrics": {"eval_loss": 0.75, "train_loss": 0.8},
        "seconds": {"setup": 3.0, "steps": seconds, "data": 1.0, "forward": 4.0, "evaluation": 2.0},
        "peak_memory_bytes": 1,
    }
