"""What has to be there before a run starts: the training side, and the corpus in the project's cache."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import Final

from hotlap.config.load import config_text
from hotlap.config.schema import RunConfig
from hotlap.core.errors import DataError, MissingExtraError, StorageError
from hotlap.core.progress import PREFIX
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.trackers import require_trackers

_PLAIN_SECONDS: Final = 15.0
"""Elsewhere than on a terminal, a line so often."""


def require_training_side() -> None:
    """Raise MissingExtraError, in one line, when the training side's packages are not installed."""
    missing = [name for name in ("torch", "safetensors", "sacrebleu") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"{', '.join(missing)} not installed; run: pip install 'hotlap[train]'")


def prepare_data(project: ProjectFolder, config: RunConfig) -> str:
    """Prepare the task's corpus in a process of its own; return one sentence about it.

    How far it is goes to standard error. Raises DataError with the process's message when the corpus cannot be used,
    StorageError when the cache cannot, MissingExtraError when a package is missing that reads it or a tracker.
    A command of the user's own has no corpus here.
    """
    if config.command is not None:
        return config.command.run
    require_training_side()
    require_trackers(config)
    try:
        project.cache_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {project.cache_path}: {error.strerror or error}") from error
    paths = [str(project.project), str(project.cache_path)]
    command = [sys.executable, "-P", "-m", "hotlap.worker.prepare", *paths, str(os.getpid())]
    code, printed, told = _follow(command, config_text(config))
    for known in (StorageError, MissingExtraError):
        if code == known.exit_code:
            raise known(told)
    if code:
        raise DataError(told or f"preparing the corpus failed with exit code {code}")
    return printed


def _follow(command: Sequence[str], text: str) -> tuple[int, str, str]:
    """Run a command with a text for its input and show how far it is; return its exit code and what else it printed."""
    line = _ProgressLine()
    told: list[str] = []
    with TemporaryFile("w+", encoding="utf-8") as given, TemporaryFile("w+", encoding="utf-8") as printed:
        given.write(text)
        given.seek(0)
        with subprocess.Popen(command, stdin=given, stdout=printed, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                for row in process.stderr:
                    if row.startswith(PREFIX):
                        line.show(row.rstrip())
                    else:
                        told.append(row)
                code = process.wait()
            except BaseException:
                process.kill()
                raise
            finally:
                line.clear()
        printed.seek(0)
        return code, printed.read().strip(), "".join(told).strip()


class _ProgressLine:
    """How far the preparation is, on standard error: one line that changes on a terminal, a line now and then else."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._is_shown = False
        self._last_plain = time.monotonic()

    def show(self, text: str) -> None:
        """Show the newest state."""
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{text[:width]}")
            sys.stderr.flush()
            self._is_shown = True
        elif time.monotonic() - self._last_plain >= _PLAIN_SECONDS:
            self._last_plain = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the changing line away."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_shown = False
