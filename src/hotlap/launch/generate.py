"""Generate text with a run's weights in a process of its own, and pass on what it says as it comes.

weights = choose_weights(folder, "best")
with closing(generated(folder, weights.path, request, project)) as events:
    for event in events: ...
"""

import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hotlap.config.load import load_config
from hotlap.core.errors import ConfigError
from hotlap.core.records import Outcome
from hotlap.core.run_folder import WEIGHTS_NAME, RunFolder, checkpoint_state
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.devices import run_devices
from hotlap.launch.evaluate import is_own
from hotlap.launch.locks import device_lock
from hotlap.launch.verbs import answers

GENERATOR: Final = (sys.executable, "-P", "-m", "hotlap.worker.generate")
_KEEP_WEIGHTS: Final = ("reached", "missed", "out_of_budget")
"""Outcomes with which a run leaves its last weights behind."""


@dataclass(frozen=True, slots=True)
class ChosenWeights:
    """Weights of a run: those of its end, or of a checkpoint."""

    path: Path
    name: str
    """What they are called, for people: model.safetensors or checkpoint-20."""
    step: int | None
    """Steps that they have behind them, None where nothing says so."""


def choose_weights(folder: RunFolder, checkpoint: str | None = None) -> ChosenWeights:
    """Return the weights to use: those of the run's end, or the checkpoint that is named by its step, `best` or `last`.

    A run that was broken off has its newest checkpoint. Raises ConfigError, with what to do, when there are none.
    """
    name = folder.run_id
    if not folder.config_path.is_file():
        raise ConfigError(f"{folder.path} is no run: there is no {folder.config_path.name} in it")
    if imported := folder.read("import"):
        raise ConfigError(f"{name} has no weights here: it was imported from {imported.get('source')}")
    if folder.read("command") is not None and not is_own(folder):
        raise ConfigError(f"{name} was a command of your own, whose weights hotlap does not know how to read")
    if checkpoint is not None:
        return _checkpoint(folder, checkpoint)
    ending = folder.ending()
    if ending is None:
        raise ConfigError(
            f"{name} is still running and saves its weights at its end; wait for that, or name one of its "
            f"checkpoints with --checkpoint ({_told(folder)})"
        )
    result, checkpoints = folder.read("result") or {}, folder.checkpoints()
    is_final = not result or result.get("outcome") in _KEEP_WEIGHTS
    if folder.weights_path.is_file() and (is_final or not checkpoints):
        return ChosenWeights(folder.weights_path, WEIGHTS_NAME, result.get("step") if is_final else None)
    if checkpoints:
        return _of_step(*checkpoints[-1])
    raise ConfigError(f"{name} has no weights: {_why_not(folder, ending[0])}")


def _checkpoint(folder: RunFolder, wanted: str) -> ChosenWeights:
    """Return the checkpoint that is named; raises ConfigError when it is not there."""
    name, checkpoints = folder.run_id, dict(folder.checkpoints())
    if not checkpoints:
        raise ConfigError(f"{name} has no complete checkpoint; leave --checkpoint out for the weights of its end")
    if wanted == "last":
        return _of_step(*max(checkpoints.items()))
    step: int | None
    if wanted == "best":
        state = checkpoint_state(checkpoints[max(checkpoints)]) or {}
        step = int(state.get("best_step") or 0)
        if not step:
            raise ConfigError(
                f"{name} does not know its best checkpoint: it was trained without training.metric_for_best_model; "
                f"name a step ({_told(folder)})"
            )
    else:
        number = wanted.removeprefix("checkpoint-")
        if not number.isdecimal():
            raise ConfigError(f"--checkpoint {wanted}: expected a step, best or last")
        step = int(number)
    if step not in checkpoints:
        raise ConfigError(f"{name} has no checkpoint of step {step}; there are: {_told(folder)}")
    return _of_step(step, checkpoints[step])


def _of_step(step: int, path: Path) -> ChosenWeights:
    return ChosenWeights(path / WEIGHTS_NAME, path.name, step)


def _told(folder: RunFolder) -> str:
    return ", ".join(str(step) for step, _ in folder.checkpoints()) or "it has none yet"


def _why_not(folder: RunFolder, outcome: Outcome) -> str:
    """Say why a run that has ended left no weights, and how the next one would."""
    if not load_config(folder.config_path).training.save_model:
        return "it was trained with training.save_model: false; train again without that"
    return (
        f"its outcome is {outcome.replace('_', ' ')}; weights are saved when the targets hold, the schedule ends or "
        "the budget is spent, and in checkpoints with training.save_every or save_steps"
    )


def hold_device(folder: RunFolder, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Hold what text is generated on: that must not disturb a run that is being timed.

    Raises ConfigError for a config that cannot be read.
    """
    config = load_config(folder.config_path)
    return device_lock(run_devices(use_cpu=config.training.use_cpu), say)


def generated(
    folder: RunFolder, weights: Path, request: Mapping[str, Any], project: ProjectFolder
) -> Generator[dict[str, Any], None, None]:
    """Yield what the process that generates says; `hotlap.worker.generate` describes request and events.

    `project` is where a run that is not its own project's any more finds what it needs. Closing the iterator ends the
    process. Raises ConfigError, DataError, NotSupportedError or StorageError as the process does, RunFailedError when
    it breaks.
    """
    directory, cache = _places(folder, project)
    words = [str(folder.path.absolute()), str(weights.absolute()), str(cache.absolute()), str(os.getpid())]
    yield from answers([*GENERATOR, *words], request, directory, "generating")


def _places(folder: RunFolder, project: ProjectFolder) -> tuple[Path, Path]:
    """Return the folder that a run's own code and relative paths start from, and the cache with its tokenizer."""
    stored = Path((folder.read("command") or {}).get("directory") or project.project)
    home = folder.path.absolute().parent.parent
    cache = home / "cache"
    return (
        stored if stored.is_dir() else home.parent if home.name == project.path.name else project.project.absolute(),
        cache if cache.is_dir() else project.cache_path,
    )
