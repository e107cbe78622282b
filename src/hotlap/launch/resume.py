"""Plan how a run that has ended goes on: from which checkpoint, at which reading of the clocks, with which changes.

    plan = plan_resume(folder, changed_config)
    folder.begin_attempt(config_text(plan.config))
    folder.drop_points_after(plan.step)

Whatever would make the run another one than it was is refused, with the reason and what to do instead. No torch is
needed: a checkpoint's state.json says all that this asks for.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hotlap.config.base import is_part
from hotlap.config.load import load_config
from hotlap.config.parts import source_hashes, source_names
from hotlap.config.schedule import schedule_of
from hotlap.config.schema import RunConfig
from hotlap.core.durations import format_seconds
from hotlap.core.errors import ConfigError
from hotlap.core.files import read_json_lines
from hotlap.core.run_folder import OPTIMIZER_NAME, RUN_ID, RunFolder, checkpoint_state

MAY_CHANGE: Final = (
    "name",
    "samples.",
    "targets",
    "budget.",
    "calibrate.",
    "record.",
    "patience",
    "stop_when",
    "allow_trade",
    "training.max_steps",
    "training.max_tokens",
    "training.num_train_epochs",
    "training.eval_",
    "training.logging_",
    "training.report_to",
    "training.save_",
    "training.dataloader_num_workers",
    "training.dataloader_prefetch_factor",
    "training.dataloader_pin_memory",
    "training.dataloader_persistent_workers",
)
"""Beginnings of the keys that a resumed run may change: how long it goes, and what is looked at and kept meanwhile."""

Change = tuple[Any, Any]
"""A setting's old and new value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePlan:
    """How a run goes on."""

    checkpoint: str
    """Name of the checkpoint's folder."""
    step: int
    """Steps that the checkpoint has behind it."""
    num_lost_steps: int
    """Steps after it that are taken again."""
    differences: tuple[str, ...]
    """What changes, a sentence each."""
    wall_before_seconds: float
    config: RunConfig


def plan_resume(folder: RunFolder, new_config: RunConfig | None = None) -> ResumePlan:
    """Return how a run goes on, with its own config or with a changed one.

    Raises ConfigError when it is still running, has no checkpoint, has finished, or would become another run.
    """
    _refuse_unfit(folder)
    old = load_config(folder.config_path)
    if old.backend == "hf":
        raise ConfigError(f"{folder.run_id} cannot go on: backend hf saves no checkpoints; start it anew")
    path, state = _newest_checkpoint(folder)
    new = new_config or old
    changes = _changes(old, new)
    _refuse_other_run(folder, changes)
    _refuse_finished(folder, old, new, changes)
    wall_before = _wall_seconds(folder, state)
    step = int(state["step"])
    _refuse_spent(folder, new, state, wall_before)
    differences = [f"{key}: {_told(before)} → {_told(after)}" for key, (before, after) in changes.items()]
    more = [*_changed_sources(folder, new), *_jump(old, new, state, wall_before)]
    return ResumePlan(
        checkpoint=path.name,
        step=step,
        num_lost_steps=max(0, _last_step(folder) - step),
        differences=(*differences, *more),
        wall_before_seconds=wall_before,
        config=new,
    )


def last_resumable(runs: Path, *, is_changed: bool = False) -> RunFolder:
    """Return the newest run that can go on; one that has finished only where the config is changed.

    Raises ConfigError, with what is wrong with the newest run, when there is none.
    """
    numbered = [(int(match[1]), path) for path in _entries(runs) if (match := RUN_ID.fullmatch(path.name))]
    reasons = []
    for _, path in sorted(numbered, reverse=True):
        folder = RunFolder(path)
        try:
            _refuse_unfit(folder)
            _newest_checkpoint(folder)
            if not is_changed:
                plan_resume(folder)
        except ConfigError as error:
            reasons.append(str(error))
        else:
            return folder
    raise ConfigError(f"there is no run to go on with: {reasons[0] if reasons else 'this project has none yet'}")


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _refuse_unfit(folder: RunFolder) -> None:
    """Refuse a run that goes on by itself, belongs to a study, diverged, or is no run of ours."""
    name = folder.run_id
    if imported := folder.read("import"):
        raise ConfigError(f"{name} cannot go on here: it was imported from {imported.get('source')}")
    if not folder.config_path.exists():
        raise ConfigError(f"{name} cannot go on: {folder.config_path} is not there")
    if folder.is_running():
        worker = folder.read("worker") or {}
        raise ConfigError(f"{name} is still running (process {worker.get('pid')}); stop it first, or let it finish")
    if study := (folder.read("command") or {}).get("study"):
        raise ConfigError(
            f"{name} belongs to the study {study!r}, whose runs are timed from their start and never go on; "
            "`hotlap speedrun` goes on with the study"
        )
    ending = folder.ending()
    if ending is not None and ending[0] == "diverged":
        raise ConfigError(
            f"{name} diverged, and would again: {ending[1]}. Start a new run with a lower learning rate or a longer "
            "warm-up"
        )


def _newest_checkpoint(folder: RunFolder) -> tuple[Path, Mapping[str, Any]]:
    checkpoints = folder.checkpoints()
    if not checkpoints:
        raise ConfigError(
            f"{folder.run_id} has no complete checkpoint to go on from; checkpoints are written with "
            "training.save_steps or training.save_every: start a new run with, for example, -s training.save_every=10m"
        )
    path = checkpoints[-1][1]
    state = checkpoint_state(path)
    if state is None:
        raise ConfigError(f"{path} has just been deleted or damaged; try again")
    if OPTIMIZER_NAME not in state["files"]:
        raise ConfigError(
            f"{folder.run_id} cannot go on: {path.name} holds weights only; save without training.save_only_model"
        )
    return path, state


def _refuse_other_run(folder: RunFolder, changes: Mapping[str, Change]) -> None:
    refused = {key: change for key, change in changes.items() if not key.startswith(MAY_CHANGE)}
    if not refused:
        return
    rows = [f"  {key}: {_told(before)} in the run, {_told(after)} now" for key, (before, after) in refused.items()]
    raise ConfigError(
        "\n".join(
            [
                f"{folder.run_id} cannot go on with other settings than it began with:",
                *rows,
                "Leave the config out to go on with the run's own, or start a new run. What may change is how long it "
                "goes (max_steps, max_tokens, num_train_epochs, budget, targets) and eval_*, logging_* and save_*.",
            ]
        )
    )


def _refuse_finished(folder: RunFolder, old: RunConfig, new: RunConfig, changes: Mapping[str, Change]) -> None:
    """Refuse a run that has come to its end, unless that end is moved."""
    ending = folder.ending()
    if ending is None or ending[0] not in ("reached", "missed", "out_of_budget"):
        return
    outcome, reason = ending
    result = folder.read("result") or {}
    if outcome == "out_of_budget":
        if new.budget.run <= old.budget.run:
            raise ConfigError(
                f"{folder.run_id} has used up its budget ({reason}); give it more with, for example, -s budget.run=1h"
            )
    elif result.get("time_to_target"):
        if "targets" not in changes:
            raise ConfigError(
                f"{folder.run_id} has reached its targets ({reason}); to go on, set harder ones with -s targets=[...], "
                "or -s targets=[] to train to the end of the schedule"
            )
    elif not _is_longer(old, new):
        raise ConfigError(
            f"{folder.run_id} has finished ({reason}); to train longer, extend the schedule with, for example, "
            f"-s {_longer(new, int(result.get('step') or 1000))}"
        )


def _longer(config: RunConfig, steps: int) -> str:
    """Return a setting that makes the training longer."""
    training = config.training
    if training.schedule_by == "tokens":
        return f"training.max_tokens={2 * (training.max_tokens or 1)}"
    if training.schedule_by == "seconds":
        return f"budget.run={2 * config.budget.run:g}"
    return (
        f"training.num_train_epochs={2 * training.num_train_epochs:g}"
        if training.is_by_epochs
        else f"training.max_steps={2 * steps}"
    )


def _is_longer(old: RunConfig, new: RunConfig) -> bool:
    """Say whether the schedule ends later than it did; one in seconds ends with the budget."""
    before, after = old.training, new.training
    if after.schedule_by == "tokens":
        return (after.max_tokens or 0) > (before.max_tokens or 0)
    if after.schedule_by == "seconds":
        return new.budget.run > old.budget.run
    if after.is_by_epochs and before.is_by_epochs:
        return after.num_train_epochs > before.num_train_epochs
    return after.is_by_epochs or before.is_by_epochs or after.max_steps > before.max_steps


def _refuse_spent(folder: RunFolder, config: RunConfig, state: Mapping[str, Any], wall_before: float) -> None:
    """Refuse limits that the run has already passed."""
    step, training = int(state["step"]), config.training
    if not training.is_by_epochs and training.schedule_by == "steps" and step > training.max_steps:
        raise ConfigError(f"{folder.run_id} is already at step {step}; training.max_steps is {training.max_steps}")
    spent = wall_before if config.clock == "wall" else float(state.get("train_seconds") or 0.0)
    if spent >= config.budget.run:
        raise ConfigError(
            f"{folder.run_id} has spent {format_seconds(spent)} on the {config.clock} clock and budget.run is "
            f"{format_seconds(config.budget.run)}; give it more with, for example, "
            f"-s budget.run={2 * round(spent + 1)}s"
        )


def _wall_seconds(folder: RunFolder, state: Mapping[str, Any]) -> float:
    """Return the last known reading of the wall clock, that of lost steps included."""
    command, stop, result = folder.read("command") or {}, folder.read("stop") or {}, folder.read("result") or {}
    before = float(command.get("wall_before_seconds") or 0.0)
    points = [*folder.points(), *read_json_lines(folder.lost_metrics_path)]
    readings = [facts.get("wall_seconds") for facts in (state, result, *points)]
    return max(before + float(stop.get("at_seconds") or 0.0), *(float(reading or 0.0) for reading in readings))


def _last_step(folder: RunFolder) -> int:
    result = folder.read("result") or {}
    steps = [facts.get("step") for facts in (result, *folder.points())]
    return max(int(step or 0) for step in steps)


def _changes(old: RunConfig, new: RunConfig) -> dict[str, Change]:
    """Return the settings that differ, by dotted key."""
    before, after = dict(_flat(old.model_dump(mode="json"))), dict(_flat(new.model_dump(mode="json")))
    keys = [*before, *(key for key in after if key not in before)]
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _changed_sources(folder: RunFolder, config: RunConfig) -> list[str]:
    """Say which of the project's own parts are not what they were when the run last ran."""
    before = (folder.read("environment") or {}).get("sources") or {}
    directory = (folder.read("command") or {}).get("directory")
    if not before or directory is None:
        return []
    now = source_hashes(config, Path(directory))
    names = source_names(config)
    changed = [key for key in names if before.get(key) not in (None, now[key])]
    return [f"{key}: the source of {names[key]} is another than when the run last ran" for key in changed]


def _jump(old: RunConfig, new: RunConfig, state: Mapping[str, Any], wall_before: float) -> list[str]:
    """Say how a moved end of the schedule changes the learning rate of the next step."""
    if is_part(old.training.lr_scheduler_type):
        return []
    before, after = _learning_rate(old, old, state, wall_before), _learning_rate(old, new, state, wall_before)
    if before is None or after is None or before[0] == after[0]:
        return []
    name = new.training.lr_scheduler_type.replace("_", " ")
    change = f"from {before[0]:.4g} to {after[0]:.4g}"
    return [f"the learning rate at step {state['step']} jumps {change}, since the {name} schedule now ends {after[1]}"]


def _learning_rate(
    old: RunConfig, config: RunConfig, state: Mapping[str, Any], wall_before: float
) -> tuple[float, str] | None:
    """Return the next step's learning rate and where the schedule ends; None where only the worker knows."""
    training = config.training
    max_steps = None
    if training.schedule_by == "steps" and training.is_by_epochs:
        if not state.get("max_steps") or not old.training.is_by_epochs:
            return None
        max_steps = round(state["max_steps"] * training.num_train_epochs / old.training.num_train_epochs)
    schedule = schedule_of(config, max_steps=max_steps)
    seconds = wall_before if config.clock == "wall" else float(state.get("train_seconds") or 0.0)
    place = {"steps": state["step"], "tokens": state.get("tokens") or 0, "seconds": seconds}[schedule.unit]
    ends = {"steps": f"at step {schedule.horizon:.0f}", "tokens": f"after {schedule.horizon:,.0f} tokens"}
    end = ends.get(schedule.unit, f"after {format_seconds(schedule.horizon)}")
    return schedule.peak * schedule.factor(float(place)), end
