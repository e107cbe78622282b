"""Read what a run folder tells into one record; the only reader of finished runs besides the store's index.

Folders may come from a worker that was killed at any moment, or from another program: nothing but the files that
are there is relied on.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import mean
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hotlap.core.evaluations import brief_evaluations
from hotlap.core.files import read_json_lines
from hotlap.core.processes import is_alive
from hotlap.core.records import Kill, Outcome, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.targets import parse_target
from hotlap.core.traces import brief_trace
from hotlap.runs.command_steps import has_told_steps, step_seconds_of

_CLOCK_KEYS: Final = ("step", "train_seconds", "wall_seconds", "tokens")
_LOG_OUTCOMES: Final = ("crashed", "lost", "out_of_memory")
_LOG_LINES: Final = 15
_AT_WORK: Final = 2.0
"""Per cent of the time from which on a GPU takes part in a run."""


def ingest(folder: RunFolder, contaminated: str = "") -> RunRecord | None:
    """Return what happened in a run, or None while it still goes on or has not been started.

    The driver saw whether the machine was quiet and passes it as `contaminated`.
    """
    ending = _ending(folder)
    return None if ending is None else _record(folder, *ending, contaminated)


def snapshot(folder: RunFolder) -> RunRecord:
    """Return what a run that still goes on has done so far; its outcome means nothing yet."""
    return _record(folder, "interrupted", "", "")


def last_metrics(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the last value of every metric, whichever line it stands on."""
    merged: dict[str, float] = {}
    for point in points:
        merged.update({key: value for key, value in point.items() if _is_number(value) and key not in _CLOCK_KEYS})
    return merged


def _ending(folder: RunFolder) -> tuple[Outcome, str] | None:
    command, worker = folder.read("command"), folder.read("worker")
    ending = folder.ending()
    if ending is None or ending[0] != "lost":
        return ending
    if worker is None and (command is None or is_alive(command.get("driver") or {})):
        return None  # being prepared, or in the moment between its launch and the worker's first act
    return folder.ending()  # it may have written its result between the two looks of the first reading


def _record(folder: RunFolder, outcome: Outcome, reason: str, contaminated: str) -> RunRecord:
    command, result = folder.read("command") or {}, folder.read("result")
    points = folder.points()
    facts = result if result is not None else _facts_of_points(points)
    config = _config(folder)
    return RunRecord(
        run_id=folder.run_id,
        role=command.get("role") or "manual",
        candidate=int(command.get("candidate") or 0),
        seed=int(command.get("seed", _seed(config)) or 0),
        outcome=outcome,
        reason=_with_log(folder, outcome, reason),
        steps=int(facts.get("step") or 0),
        train_seconds=float(facts.get("train_seconds") or 0.0),
        wall_seconds=float(facts.get("wall_seconds") or 0.0),
        tokens=int(facts.get("tokens") or 0),
        time_to_target=facts.get("time_to_target") if outcome == "reached" else None,
        metrics=facts.get("metrics") or {},
        evaluations=brief_evaluations(points, _own_metrics(config)),
        trace=brief_trace(points),
        seconds=facts.get("seconds") or {},
        config=config,
        environment={
            **(folder.read("environment") or {}),
            **_usage(folder, config),
            **_told_steps(points, result or {}, config),
        },
        contaminated=contaminated,
        guards={key: value for key, value in (folder.read("guards") or {}).items() if key not in ("schema", "given")},
        kill=_kill(folder.read("stop") or {}) if outcome == "raced" else None,
    )


def _usage(folder: RunFolder, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return how busy the machine was during a run of somebody else's command, which tells nothing of it itself.

    `cores` there are and `run_cores` were busy, means over the run; `gpu_percent` of the busiest GPU, where one was.
    """
    samples = read_json_lines(folder.system_path) if config.get("command") else []
    found: dict[str, float] = {}
    for name in ("cores", "run_cores"):
        if values := [float(sample[name]) for sample in samples if _is_number(sample.get(name))]:
            found[name] = round(mean(values), 2)
    gpus = [sample["gpu_percent"] for sample in samples if isinstance(sample.get("gpu_percent"), list)]
    shares = [mean(map(float, values)) for values in zip(*gpus, strict=False)]
    if shares and max(shares) >= _AT_WORK:
        found["gpu_percent"] = round(max(shares), 1)
    return {"usage": found} if found else {}


def _told_steps(
    points: Sequence[Mapping[str, Any]], result: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, float | bool]:
    """Return what a command told of its steps: the seconds of one, since its clock counts its start-up, too.

    `has_told_steps` says whether the steps that were counted are steps.
    """
    if not config.get("command"):
        return {}
    metrics = {**last_metrics(points), **(result.get("metrics") or {})}
    seconds = step_seconds_of(points, result.get("capture") or {}, metrics)
    found: dict[str, float | bool] = {"has_told_steps": has_told_steps(points)}
    return found if seconds is None else {**found, "told_step_seconds": seconds}


def _own_metrics(config: Mapping[str, Any]) -> list[str]:
    """Return the metrics that the targets of somebody else's command are about."""
    targets = (config.get("targets") or ()) if config.get("command") else ()
    return [parse_target(str(text), is_any_metric=True).metric for text in targets]


def _seed(config: Mapping[str, Any]) -> int:
    """Return the seed of a config: hotlap's has it in `training`, another program's at the top."""
    sections = (config.get(name) for name in ("training", "params"))
    seed = next((section for section in sections if isinstance(section, Mapping)), config).get("seed")
    return seed if isinstance(seed, int) else 0


def _kill(stop: Mapping[str, Any]) -> Kill | None:
    """Return what racing wrote down about its reason; None in folders older than that."""
    told = stop.get("kill")
    if not isinstance(told, Mapping):
        return None
    return Kill(
        rule=str(told.get("rule", "")),
        reason=str(told.get("reason", "")),
        at_seconds=float(told.get("at_seconds") or 0.0),
        saved_seconds=float(told.get("saved_seconds") or 0.0),
        evidence=dict(told.get("evidence") or {}),
    )


def _facts_of_points(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields of a result, as far as the points of a run without one tell them."""
    last: Mapping[str, Any] = points[-1] if points else {}
    clocks = {key: last[key] for key in _CLOCK_KEYS if _is_number(last.get(key))}
    return {**clocks, "metrics": last_metrics(points)}


def _with_log(folder: RunFolder, outcome: Outcome, reason: str) -> str:
    tail = folder.log_tail(_LOG_LINES).strip() if outcome in _LOG_OUTCOMES else ""
    return f"{reason}\n{tail}".strip() if tail and tail not in reason else reason


def _config(folder: RunFolder) -> Mapping[str, Any]:
    text = folder.config_text()
    if text is None:
        return {}
    values = folder.config_values(text)
    return _parse_config(text) if values is None else values


@lru_cache(maxsize=2048)  # YAML is slow to read, and a study reads its runs again and again
def _parse_config(text: str) -> Mapping[str, Any]:
    """Read a stored config as plain values: the schema may have moved on since it was written."""
    try:
        values = YAML(typ="safe").load(text)
    except YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
