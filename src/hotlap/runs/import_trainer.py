"""Read what Hugging Face's Trainer leaves of a run: `trainer_state.json`, whose log_history has every digit.

A Trainer writes one into its output folder (`trainer.save_state()`) and one into every checkpoint; all of a folder
are one run, told by the one that went furthest. Its settings are not in there but in a pickle, which is never opened:
`training_args.json` (`trainer.args.to_dict()`) or `training_args.yaml` beside it is read instead.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hotlap.config.document import Document
from hotlap.core.errors import DataError
from hotlap.core.foreign import ForeignRun, ForeignSource, numbers_in, read_json_object
from hotlap.core.records import Outcome
from hotlap.core.trainer_names import metric_name

STATE_NAME: Final = "trainer_state.json"
SETTINGS_NAMES: Final = ("training_args.json", "training_args.yaml")

_CHECKPOINT: Final = re.compile(r"checkpoint-\d+")
_SETTINGS_OF_STATE: Final = ("max_steps", "num_train_epochs", "train_batch_size")


def read_trainer_states(path: Path) -> ForeignSource:
    """Read a trainer_state.json, or all that lie in a folder and below.

    Raises DataError when there is none, or one cannot be read.
    """
    files = [path] if path.is_file() else _last_states(path)
    if not files:
        raise DataError(f"{path}: there is no {STATE_NAME} in it, and no run of wandb (run-*.wandb)")
    root = path.parent if path.is_file() else path
    found = [_run(file, root) for file in files]
    without = sum(not has_settings for _, has_settings in found)
    notices = []
    if without:
        notices.append(
            f"{without} of {len(files)} runs without their settings: {STATE_NAME} does not have them; write "
            f"trainer.args.to_dict() as {SETTINGS_NAMES[0]} beside it, then import again"
        )
    label = _output_folder(files[0].resolve()).name if path.is_file() else path.resolve().name
    return ForeignSource(
        kind="runs of the Trainer",
        place=str(path),
        label=label or "trainer",
        runs=tuple(run for run, _ in found),
        notices=tuple(notices),
    )


def _output_folder(file: Path) -> Path:
    """Return the output folder of the run that a state belongs to."""
    folder = file.parent
    return folder.parent if _CHECKPOINT.fullmatch(folder.name) else folder


def _last_states(root: Path) -> list[Path]:
    """Return the state that went furthest of each output folder below a root."""
    found: dict[Path, tuple[float, Path]] = {}
    for file in sorted(root.rglob(STATE_NAME)):
        step = float(_load(file).get("global_step") or 0)
        folder = _output_folder(file)
        if folder not in found or step >= found[folder][0]:
            found[folder] = (step, file)
    return [file for _, file in found.values()]


def _load(file: Path) -> dict[str, Any]:
    """Return a state; raises DataError with file and line for what is none."""
    values = read_json_object(file)
    if not isinstance(values.get("log_history"), list):
        raise DataError(f"{file}: no state of the Trainer: expected an object with a list log_history")
    for key in ("global_step", "max_steps"):
        if not isinstance(values.get(key) or 0, int):
            raise DataError(f"{file}: {key}: expected a whole number, got {values[key]!r}")
    return values


def _run(file: Path, root: Path) -> tuple[ForeignRun, bool]:
    """Return the run that a state tells of, and whether its settings were found."""
    state = _load(file)
    folder = _output_folder(file.resolve())
    settings = _settings(file.resolve())
    trial = state.get("trial_params")
    config = {key: state[key] for key in _SETTINGS_OF_STATE if state.get(key) is not None}
    config |= settings
    config |= trial if isinstance(trial, Mapping) else {}
    outcome, reason = _ending(state)
    own_id = str(folder.relative_to(root.resolve())) if folder.is_relative_to(root.resolve()) else folder.name
    run = ForeignRun(
        own_id=folder.name if own_id == "." else own_id,
        identity=f"trainer:{folder}",
        name=str(state.get("trial_name") or folder.name),
        outcome=outcome,
        reason=reason,
        config=config,
        points=tuple(_points(file, state["log_history"])),
        steps=int(state.get("global_step") or 0),
    )
    return run, bool(settings or trial)


def _settings(file: Path) -> dict[str, Any]:
    """Return what stands in a file of settings beside a state, or in the output folder of its checkpoint."""
    for folder in dict.fromkeys((file.parent, _output_folder(file))):
        for name in SETTINGS_NAMES:
            settings = folder / name
            if settings.is_file():
                return read_json_object(settings) if settings.suffix == ".json" else Document.read(settings).plain()
    return {}


def _ending(state: Mapping[str, Any]) -> tuple[Outcome, str]:
    step, most = int(state.get("global_step") or 0), int(state.get("max_steps") or 0)
    has_summary = any(isinstance(line, Mapping) and "train_runtime" in line for line in state["log_history"])
    if has_summary or 0 < most <= step:
        return "missed", f"imported: it ended at step {step:,}"
    return "interrupted", f"imported: this was written at step {step:,} of {most:,}"


def _points(file: Path, history: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log_history under hotlap's names."""
    for number, line in enumerate(history, start=1):
        step = line.get("step") if isinstance(line, Mapping) else None
        if not isinstance(step, int) or isinstance(step, bool):
            raise DataError(
                f"{file}: entry {number} of log_history: expected an object with a whole step, got {line!r}"
            )
        numbers = numbers_in({key: value for key, value in line.items() if key != "step"})
        yield {"step": step, **{metric_name(key): value for key, value in numbers.items()}}
