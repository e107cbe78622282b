"""Read run folders of wandb, offline ones above all: the log `run-ID.wandb`, and what lies in `files/`.

Offline, most versions of wandb write the log alone, so settings, points and how it ended come from there;
`files/config.yaml` and `files/wandb-summary.json` are believed first where they exist.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hotlap.config.document import Document
from hotlap.core.foreign import SECONDS, ForeignRun, ForeignSource, number_of, numbers_in, read_json_object
from hotlap.core.records import Outcome
from hotlap.core.trainer_names import rewritten_metric_name
from hotlap.runs.views import flatten
from hotlap.runs.wandb_log import WandbLog, read_log

LOGS: Final = "run-*.wandb"
TRAINER_STEP: Final = "train/global_step"
"""Logged by the Trainer's own integration only: its names are then the Trainer's."""

_SUMMARY: Final = Path("files", "wandb-summary.json")
_CONFIG: Final = Path("files", "config.yaml")
_FOLDER: Final = re.compile(r"(offline-)?run-\w+-(\w+)")


def run_folders(path: Path) -> list[Path]:
    """Return the run folders of wandb that a folder is, or holds, or holds in its `wandb/`; links are no folders."""
    if _is_run(path):
        return [path]
    inner = [child for place in (path, path / "wandb") if place.is_dir() for child in sorted(place.iterdir())]
    return [child for child in inner if child.is_dir() and not child.is_symlink() and _is_run(child)]


def read_wandb_folders(path: Path) -> ForeignSource:
    """Read the run folders in a folder; raises DataError for a file that cannot be read."""
    notices: list[str] = []
    found: dict[str, tuple[ForeignRun, str]] = {}
    for folder in run_folders(path):
        run, project = _run(folder, notices)
        if run.own_id in found:
            notices.append(f"{run.own_id} was resumed and has several folders: only {folder.name} was taken")
        found[run.own_id] = run, project
    projects = {project for _, project in found.values() if project}
    return ForeignSource(
        kind="run folders of wandb",
        place=str(path),
        label=projects.pop() if len(projects) == 1 else path.resolve().name,
        runs=tuple(run for run, _ in found.values()),
        notices=tuple(notices),
    )


def logged_metrics(values: Mapping[str, Any], *, by_trainer: bool) -> dict[str, int | float]:
    """Return the numbers of a summary or of a line of history under hotlap's names; wandb's own keys begin with _."""
    flat = flatten(values)
    metrics = {
        rewritten_metric_name(key) if by_trainer else key: value
        for key, value in numbers_in(flat).items()
        if not key.startswith("_") and key != TRAINER_STEP
    }
    seconds = number_of(flat.get("_runtime"))
    return metrics if seconds is None else {**metrics, SECONDS: seconds}


def _is_run(folder: Path) -> bool:
    return any(folder.glob(LOGS)) or (folder / _SUMMARY).is_file()


def _run(folder: Path, notices: list[str]) -> tuple[ForeignRun, str]:
    """Return the run in a folder and its project; what could not be read is added to the notices."""
    logs = sorted(folder.glob(LOGS))
    log = read_log(logs[0]) if logs else WandbLog()
    if not logs:
        notices.append(f"{folder}: its points are in {LOGS}, which is not there; copy the whole folder to have them")
    elif log.damage:
        notices.append(f"{logs[0]}: {log.damage}; nothing behind that could be read")
    match = _FOLDER.fullmatch(folder.resolve().name)
    own_id = log.run_id or (match[2] if match else folder.resolve().name)
    config, summary = _config(folder / _CONFIG) or log.config, _summary(folder / _SUMMARY) or log.summary
    outcome, reason = _ending(log, is_told=bool(logs))
    facts = {"project": log.project, "sweep": log.sweep, "tags": log.tags}
    run = ForeignRun(
        own_id=own_id,
        identity=f"wandb:{own_id}",
        name=log.name,
        outcome=outcome,
        reason=reason,
        config={key: value for key, value in config.items() if key not in ("_wandb", "wandb_version")},
        metrics=logged_metrics(summary, by_trainer=TRAINER_STEP in summary),
        points=_points(log.history),
        started_at=log.started_at,
        facts={key: value for key, value in facts.items() if value},
    )
    return run, log.project


def _config(path: Path) -> dict[str, Any]:
    """Return the settings in a config.yaml of wandb, whose values stand one level below their names."""
    if not path.is_file():
        return {}
    values = Document.read(path).plain()
    return {str(key): entry["value"] for key, entry in values.items() if isinstance(entry, dict) and "value" in entry}


def _summary(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _ending(log: WandbLog, *, is_told: bool) -> tuple[Outcome, str]:
    if not is_told:
        return "missed", "imported: how it ended is not told"
    if log.exit_code is None:
        return "interrupted", "imported: its log has no end; it was killed, or goes on"
    if log.exit_code:
        return "crashed", f"imported: it ended with exit code {log.exit_code}"
    return "missed", "imported: it finished"


def _points(history: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return the lines of a history that hold a number, by step: the Trainer's own where it has logged it."""
    by_trainer = any(TRAINER_STEP in line for line in history)
    points = []
    for line in history:
        numbers = logged_metrics(line, by_trainer=by_trainer)
        step = number_of(line.get(TRAINER_STEP, line.get("_step")))
        if numbers and isinstance(step, int):
            points.append({"step": step, **numbers})
    return tuple(sorted(points, key=lambda point: point["step"]))
