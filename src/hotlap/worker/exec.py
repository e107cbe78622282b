"""Somebody else's training command as a run: started, followed line by line, stopped at its target or limit.

It is what `python -m hotlap.worker FOLDER` does for a config with a `command`; neither torch nor numpy is loaded.
"""

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from hotlap.core.errors import DivergedError, HotlapError, StorageError
from hotlap.core.files import is_disk_full
from hotlap.core.masking import Mask, secret_values
from hotlap.core.records import EXIT_CODES, Outcome
from hotlap.core.run_folder import RunFolder
from hotlap.worker.command_settings import command_settings
from hotlap.worker.follow_command import CommandRun
from hotlap.worker.record_command import ClockError
from hotlap.worker.session import Session


def main() -> int:
    """Return the exit code of the run in the folder named on the command line."""
    mask = Mask(secret_values(os.environ))
    try:
        session = Session(RunFolder(Path(sys.argv[1])))
    except StorageError as error:
        _say(mask.text(str(error)))
        return error.exit_code
    run: CommandRun | None = None
    session.listen(lambda: run.kill() if run is not None else None)
    try:
        run = CommandRun(session, command_settings(session.folder), mask)
        outcome, reason = run.follow()
    except Exception as error:  # noqa: BLE001  the run's entry point: whatever it was becomes a recorded outcome
        outcome, reason = _failure(error)
    return _end(session, run, outcome, mask.text(reason))


def _failure(error: Exception) -> tuple[Outcome, str]:
    """Return what an error makes of the run; one that is our own bug is printed with its traceback."""
    if isinstance(error, DivergedError):
        return "diverged", str(error)
    if isinstance(error, ClockError):
        return "invalid", str(error)
    if isinstance(error, StorageError) or is_disk_full(error):
        return "interrupted", str(error)  # says nothing of the config: the run is made again
    if isinstance(error, HotlapError):
        return "crashed", str(error)
    with suppress(OSError):
        traceback.print_exc()
    return "crashed", f"{type(error).__name__}: {error}"


def _end(session: Session, run: CommandRun | None, outcome: Outcome, reason: str) -> int:
    """End the command, write the result, and return the exit code."""
    try:
        if run is not None:
            run.stop()
        _say(f"{outcome}: {reason}")
        facts = run.facts() if run is not None else _facts_before_start(session)
        session.folder.write("result", {"schema": "hotlap/result/1", "outcome": outcome, "reason": reason, **facts})
    except (HotlapError, OSError) as error:  # a full disk: the lab side reads what is there
        _say(str(error))
        return StorageError.exit_code
    return EXIT_CODES[outcome]


def _facts_before_start(session: Session) -> dict[str, object]:
    return {
        "step": 0,
        "train_seconds": 0.0,
        "wall_seconds": session.wall_seconds,
        "tokens": 0,
        "time_to_target": None,
        "metrics": {},
        "seconds": {"setup": session.wall_seconds, "steps": 0.0},
    }


def _say(text: str) -> None:
    with suppress(OSError):  # on a full disk there is nowhere to say it
        print(f"hotlap: {text}", flush=True)
