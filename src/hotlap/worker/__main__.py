"""Run one run folder to its end: `python -m hotlap.worker FOLDER`. Started by the launcher, or by hand."""

import sys
import traceback
from pathlib import Path

import torch

from hotlap.core.errors import DivergedError, HotlapError
from hotlap.core.records import EXIT_CODES, Outcome
from hotlap.core.run_folder import RunFolder
from hotlap.worker.session import Session
from hotlap.worker.train import TrainingRun


def main() -> int:
    """Return the exit code of the run in the folder named on the command line."""
    if len(sys.argv) != 2:
        print("usage: python -m hotlap.worker RUN_FOLDER", file=sys.stderr)
        return 2
    session = Session(RunFolder(Path(sys.argv[1])))
    session.listen()
    run: TrainingRun | None = None
    outcome: Outcome = "crashed"
    try:
        run = TrainingRun(session)
        outcome, reason = run.train()
    except DivergedError as error:
        outcome, reason = "diverged", str(error)
    except HotlapError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001  the run's entry point: whatever it was becomes a recorded outcome
        if _is_out_of_memory(error):
            outcome = "out_of_memory"
        else:
            traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
    print(f"{outcome}: {reason}", flush=True)
    if run is None:
        session.folder.write("result", _result_before_training(session, outcome, reason))
    else:
        run.finish(outcome, reason)
    return EXIT_CODES[outcome]


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _result_before_training(session: Session, outcome: Outcome, reason: str) -> dict[str, object]:
    return {
        "schema": "hotlap/result/1",
        "outcome": outcome,
        "reason": reason,
        "step": 0,
        "train_seconds": 0.0,
        "wall_seconds": session.wall_seconds,
        "tokens": 0,
        "time_to_target": None,
        "metrics": {},
        "seconds": {"setup": session.wall_seconds, "steps": 0.0, "evaluation": 0.0, "saving": 0.0},
    }


if __name__ == "__main__":
    sys.exit(main())
