"""Write a run's weights as a folder for transformers, in a process of its own: only that loads torch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from hotlap.core.errors import ConfigError, DataError, HotlapError, NotSupportedError, RunFailedError, StorageError
from hotlap.core.run_folder import RunFolder
from hotlap.launch.environment import worker_environment
from hotlap.launch.evaluate import is_own, project_of
from hotlap.launch.prepare import require_training_side

_KINDS: Final[tuple[type[HotlapError], ...]] = (ConfigError, DataError, NotSupportedError, StorageError)


def export_run(folder: RunFolder, target: Path, step: int | None = None) -> str:
    """Write the weights that a run ended with, or those of its checkpoint after a step, to a new folder.

    Returns what was written, in one sentence. Raises ConfigError for a run without such weights and for a model that
    transformers has none like, StorageError when the folder cannot be written.
    """
    require_training_side()
    if step is not None and step not in dict(folder.checkpoints()):
        there = ", ".join(str(number) for number, _ in folder.checkpoints()) or "none"
        raise ConfigError(f"{folder.run_id} has no checkpoint of step {step}; there are: {there}")
    if not is_own(folder) or (step is None and not folder.weights_path.is_file()):
        raise ConfigError(
            f"{folder.run_id}: there is no {folder.weights_path.name} of hotlap's own trainer to export; a run saves "
            "its weights at its end unless training.save_model is false, and --step takes those of a checkpoint"
        )
    words = [str(folder.path.absolute()), str(target.absolute()), *([] if step is None else [str(step)])]
    command = [sys.executable, "-P", "-m", "hotlap.worker.export", *words]
    environment = {**worker_environment(os.environ), "CUDA_VISIBLE_DEVICES": ""}  # it computes nothing
    ended = subprocess.run(
        command, cwd=project_of(folder), env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode == 0:
        return ended.stdout.strip().rpartition("\n")[2]
    said = ended.stderr.strip() or f"exporting failed with exit code {ended.returncode}"
    for kind in _KINDS:
        if kind.exit_code == ended.returncode:
            raise kind(said)
    raise RunFailedError(said)
