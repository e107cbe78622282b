"""Plan how a run is repeated exactly: the same config, seed, devices and limits, in a new run folder.

    plan = plan_rerun(folder, directory)

Whatever cannot be the same is told beforehand; what the machine made of it is told by comparing the two runs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hotlap.config.load import load_config
from hotlap.config.parts import source_hashes, source_names
from hotlap.config.schema import RunConfig
from hotlap.core.durations import format_seconds
from hotlap.core.errors import ConfigError
from hotlap.core.run_folder import RunFolder
from hotlap.launch.local import LaunchFacts

_STOPPED: Final = ("raced", "out_of_budget", "interrupted", "invalid")
"""Outcomes by which somebody else ends a run; a crash stands in stop.json, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunPlan:
    """How a run is repeated."""

    config: RunConfig
    facts: LaunchFacts
    notices: tuple[str, ...]
    """What differs all the same, or was done otherwise the first time; a sentence each."""


def plan_rerun(folder: RunFolder, directory: Path) -> RerunPlan:
    """Return how a run is repeated in a project's directory.

    Raises ConfigError when the run left no config, was no training, or had code of its own.
    """
    command = folder.read("command") or {}
    if imported := folder.read("import"):
        source = imported.get("source")
        raise ConfigError(f"{folder.run_id} was imported from {source}: only the program that made it runs it again")
    if not folder.config_path.exists():
        raise ConfigError(f"{folder.run_id} cannot be run again: {folder.config_path} is not there")
    if (verb := command.get("verb") or "train") not in ("train", "exec"):
        raise ConfigError(f"{folder.run_id} was no training (hotlap {verb}); only trainings can be run again")
    if command.get("project"):
        raise ConfigError(
            f"{folder.run_id} ran in a worktree with the code of its candidate; hotlap replay runs what was kept again"
        )
    config = load_config(folder.config_path)
    environment = folder.read("environment") or {}
    pinned = _with_found_batch_size(config, environment)
    facts = LaunchFacts(
        directory=directory,
        seed=int(command.get("seed", config.seed)),
        limits=command.get("limits") or {f"{config.clock}_seconds": config.budget.run},
        devices=config.devices,
    )
    notices = (
        *_found_batch_size(config, pinned),
        *_attempts(folder),
        *_end(folder, config, facts.limits),
        *_sources(config, environment, directory),
    )
    return RerunPlan(config=pinned, facts=facts, notices=notices)


def _with_found_batch_size(config: RunConfig, environment: Mapping[str, Any]) -> RunConfig:
    """Return the config with the batch size that probing found: it might find another one today."""
    rows = environment.get("batch_size")
    if config.training.per_device_train_batch_size != "auto" or not rows:
        return config
    update = {
        "per_device_train_batch_size": int(rows),
        "gradient_accumulation_steps": int(environment.get("accumulation_steps") or 1),
        "total_batch_size": None,
        "total_batch_tokens": None,
    }
    return config.model_copy(update={"training": config.training.model_copy(update=update)})


def _found_batch_size(config: RunConfig, pinned: RunConfig) -> Iterator[str]:
    if pinned is not config:
        rows = pinned.training.per_device_train_batch_size
        yield f"per_device_train_batch_size: auto found {rows}, which is taken over without probing"


def _attempts(folder: RunFolder) -> Iterator[str]:
    stops = len(list(folder.path.glob("worker.*.json")))
    if stops:
        times = "once" if stops == 1 else f"{stops} times"
        yield f"{folder.run_id} was stopped and resumed {times}; the rerun goes straight through"


def _end(folder: RunFolder, config: RunConfig, limits: Mapping[str, float | None]) -> Iterator[str]:
    """Say how far the run went, where that followed from its study and not from its config."""
    outcome, reason = folder.ending() or ("", "")
    limit = limits.get(f"{config.clock}_seconds")
    if outcome in _STOPPED and (folder.read("stop") or {}).get("outcome") == outcome:
        how = outcome.replace("_", " ")
        yield f"{folder.run_id} was stopped from outside ({how}: {reason}); the rerun is not, and may go on for longer"
    elif outcome == "out_of_budget" and limit is not None and limit < config.budget.run:
        yield (
            f"{folder.run_id} was given {format_seconds(limit)} on the {config.clock} clock (budget.run is "
            f"{format_seconds(config.budget.run)}), and used them up; the rerun ends there, too"
        )


def _sources(config: RunConfig, environment: Mapping[str, Any], directory: Path) -> Iterator[str]:
    """Say which of the project's own parts are not what they were."""
    before, names = environment.get("sources") or {}, source_names(config)
    now = source_hashes(config, directory)
    for key, name in names.items():
        if before.get(key) not in (None, now[key]):
            yield f"{key}: the source of {name} is another than when the run was made"
