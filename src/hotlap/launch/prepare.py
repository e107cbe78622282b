"""What has to be there before a run starts: the training side, and the corpus in the project's cache."""

import importlib.util
import os
import subprocess
import sys

from hotlap.config.load import config_text
from hotlap.config.schema import RunConfig
from hotlap.core.errors import DataError, MissingExtraError, StorageError
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.trackers import require_trackers


def require_training_side() -> None:
    """Raise MissingExtraError, in one line, when the training side's packages are not installed."""
    missing = [name for name in ("torch", "safetensors", "sacrebleu") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"{', '.join(missing)} not installed; run: pip install 'hotlap[train]'")


def prepare_data(project: ProjectFolder, config: RunConfig) -> str:
    """Prepare the task's corpus in a process of its own; return one sentence about it.

    Raises DataError with the process's message when the corpus cannot be used, StorageError when the cache cannot, and
    MissingExtraError for a tracker that is not installed.
    """
    require_training_side()
    require_trackers(config)
    try:
        project.cache_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {project.cache_path}: {error.strerror or error}") from error
    paths = [str(project.project), str(project.cache_path)]
    command = [sys.executable, "-P", "-m", "hotlap.worker.prepare", *paths, str(os.getpid())]
    ended = subprocess.run(command, input=config_text(config), capture_output=True, text=True, check=False)
    if ended.returncode == StorageError.exit_code:
        raise StorageError(ended.stderr.strip())
    if ended.returncode:
        raise DataError(ended.stderr.strip() or f"preparing the corpus failed with exit code {ended.returncode}")
    return ended.stdout.strip()
