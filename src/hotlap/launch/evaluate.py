"""Evaluate the weights that a run saved once more, in a process of its own.

    evaluation = evaluate_again(folder)

The process reads the weights and the data from their files. Nothing that the training left in memory, or printed, can
reach its numbers.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Final

from hotlap.config.load import load_config
from hotlap.core.errors import ConfigError, HotlapError, RunFailedError
from hotlap.core.processes import is_alive, process_identity
from hotlap.core.run_folder import RUN_VARIABLE, RunFolder
from hotlap.launch.devices import run_devices
from hotlap.launch.environment import worker_environment
from hotlap.launch.locks import device_lock
from hotlap.launch.sessions import kill_session, run_mark

EVALUATOR: Final = (sys.executable, "-P", "-m", "hotlap.worker.evaluate")
LIMIT_SECONDS: Final = 600.0
"""Longest evaluation; a run of a study evaluates many times as often in its own time."""

_EVALUATED_BY: Final = " evaluated by "
_NO_ROOM: Final = 75
"""Exit code of an evaluation that the machine had no room for, in memory or on the disk."""
_POLL_SECONDS: Final = 0.05
_SHOWN_LINES: Final = 3


class NotEvaluatedError(HotlapError):
    """An evaluation that the machine or the user broke off: it says nothing about the run."""


def is_own(folder: RunFolder) -> bool:
    """Say whether hotlap's own worker filled a run folder: only its weights can be evaluated here."""
    argv = (folder.read("command") or {}).get("argv") or []
    return "hotlap.worker" in argv and not folder.has_command


def wait_for_device(folder: RunFolder, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Hold what a run is evaluated on: it must not disturb a run that is being timed.

    Raises ConfigError for a run whose weights cannot be evaluated here, and for a config that cannot be read.
    """
    if not is_own(folder) or not folder.weights_path.is_file():
        raise ConfigError(
            f"{folder.run_id}: there is no {folder.weights_path.name} of hotlap's own trainer to evaluate; a run saves "
            "its weights at its end unless training.save_model is false"
        )
    config = load_config(folder.config_path)
    return device_lock(run_devices(config.devices, use_cpu=config.training.use_cpu), say)


def evaluation_mark(folder: RunFolder) -> str:
    """Return the mark of an evaluation that this process starts: the run's own, and who waits for it.

    A run's mark alone would make it one of the run's processes, whose driver may have ended long ago.
    """
    return f"{run_mark(folder)}{_EVALUATED_BY}{json.dumps(process_identity(), sort_keys=True)}"


def is_forsaken(mark: str, runs: Path) -> bool:
    """Say whether a mark is that of an evaluation of a run in a folder of runs whose driver here is gone."""
    run, is_evaluation, identity = mark.rpartition(_EVALUATED_BY)
    if not is_evaluation or Path(run).parent != runs.resolve():
        return False
    try:
        driver = json.loads(identity)
    except ValueError:
        return False
    return isinstance(driver, dict) and driver.get("host") == socket.gethostname() and not is_alive(driver)


def evaluate_again(
    folder: RunFolder,
    is_stopped: Callable[[], bool] = lambda: False,
    *,
    program: Sequence[str] = EVALUATOR,
    limit_seconds: float = LIMIT_SECONDS,
) -> dict[str, Any]:
    """Return evaluation.json of a run that has ended, made just now.

    Raises RunFailedError when its weights cannot be evaluated and NotEvaluatedError when the evaluation was broken off.
    """
    mark = evaluation_mark(folder)
    ticket = secrets.token_hex(8)  # an evaluation.json that was there before does not know it
    argv = [*program, str(folder.path.absolute()), ticket]
    environment = {**worker_environment(os.environ), RUN_VARIABLE: mark}
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=project_of(folder),
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise NotEvaluatedError(f"cannot start {argv[0]}: {error.strerror or error}") from error
        problem = _wait(process, is_stopped, time.monotonic() + limit_seconds, mark)
        said = what_it_said(output)
    if problem or process.returncode in (-signal.SIGKILL, -signal.SIGTERM):
        raise NotEvaluatedError(problem or "the evaluation was killed from outside")
    if process.returncode == _NO_ROOM:
        raise NotEvaluatedError(said)
    evaluation = folder.read("evaluation")
    if process.returncode or evaluation is None or evaluation.get("ticket") != ticket:
        raise RunFailedError(said or f"the evaluation ended with exit code {process.returncode}")
    return evaluation


def project_of(folder: RunFolder) -> Path:
    """Return the project that a run was made in, or that holds the run now where that one is gone: it was moved."""
    stored = Path((folder.read("command") or {}).get("directory") or ".")
    return stored if stored.is_dir() else folder.path.absolute().parents[2]


def _wait(process: "subprocess.Popen[bytes]", is_stopped: Callable[[], bool], deadline: float, mark: str) -> str:
    """Wait for the end of the process, or bring it about and return why; nothing of it stays behind."""
    problem = ""
    while process.poll() is None and not problem:
        if is_stopped():
            problem = "stopped by the user"
        elif time.monotonic() > deadline:
            problem = "the evaluation took too long"
        time.sleep(_POLL_SECONDS)
    if process.returncode is None:
        kill_session(process.pid, mark)
        process.wait()
    return problem


def what_it_said(output: IO[bytes]) -> str:
    """Return the beginning of a message that was meant for people, or the end of a traceback."""
    output.seek(0)
    lines = output.read().decode(errors="replace").strip().splitlines()
    is_traceback = any(line.startswith("Traceback ") for line in lines)
    return "\n".join(lines[-_SHOWN_LINES:] if is_traceback else lines[:_SHOWN_LINES])
