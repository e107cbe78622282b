"""Run a command for a short while and see which metrics it tells: a real run, whose folder is thrown away.

seen = probe(config, project, limit_seconds=30, echo=print)
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hotlap.config.schema import RunConfig
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.inspect_script.compose import Metric
from hotlap.launch.measure import measure_once

PROBE_SECONDS: Final = 30.0
_PLACES: Final = ("step", "train_seconds", "wall_seconds", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a short run has shown."""

    metrics: tuple[Metric, ...]
    outcome: str
    reason: str
    wall_seconds: float
    exit_code: int | None
    """The command's own, None where it was stopped."""
    has_own_clock: bool
    is_buffered: bool
    last_lines: tuple[str, ...]
    """The end of its output."""

    @property
    def is_well(self) -> bool:
        """Whether the command did not fail in the time that it had."""
        return self.exit_code in (0, None) and self.outcome != "crashed"

    @property
    def is_whole(self) -> bool:
        """Whether the command ended by itself, and well."""
        return self.exit_code == 0


def probe(
    config: RunConfig, project: Path, limit_seconds: float = PROBE_SECONDS, echo: Callable[[bytes], object] = bytes
) -> Probe:
    """Run the command of a config in its project until it ends or the time is over; `echo` gets what it prints.

    Ctrl-C ends it, and what it has told so far counts. Raises LaunchError where it cannot be started.
    """
    folder = measure_once(config, ProjectFolder(project).create(), echo, limit_seconds=limit_seconds)
    try:
        return _seen(folder)
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)


def _seen(folder: RunFolder) -> Probe:
    result = folder.read("result") or {}
    capture: dict[str, Any] = result.get("capture") or {}
    code = result.get("exit_code")
    lines = folder.stdout_path.read_bytes().decode("utf-8", "replace").splitlines()
    return Probe(
        metrics=tuple(_metrics(folder, capture)),
        outcome=str(result.get("outcome", "crashed")),
        reason=str(result.get("reason", "")),
        wall_seconds=float(result.get("wall_seconds", 0.0)),
        exit_code=code if isinstance(code, int) else None,
        has_own_clock=capture.get("clock") == "own",
        is_buffered=bool(capture.get("is_buffered")),
        last_lines=tuple(line for line in lines if line.strip() and not line.startswith("hotlap: "))[-5:],
    )


def _metrics(folder: RunFolder, capture: dict[str, Any]) -> list[Metric]:
    found: dict[str, list[float]] = {}
    for point in folder.points():
        for name, value in point.items():
            if name not in _PLACES and isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, []).append(float(value))
    source = ", ".join(capture.get("sources") or {}) or "output"
    return [
        Metric(name=name, first=values[0], last=values[-1], count=len(values), source=source)
        for name, values in found.items()
    ]
