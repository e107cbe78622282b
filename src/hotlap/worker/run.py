"""One training of hotlap's own, in the process that `python -m hotlap.worker FOLDER` starts: from config to result."""

import gc
import shutil
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch

from hotlap.config.load import load_config
from hotlap.config.schema import RunConfig
from hotlap.core.errors import DivergedError, HotlapError, StorageError
from hotlap.core.files import is_disk_full
from hotlap.core.records import EXIT_CODES, Outcome
from hotlap.core.run_folder import RunFolder
from hotlap.train.batch_size import is_out_of_memory, smaller_batch
from hotlap.train.distributed import World, join_world, leave_world
from hotlap.train.memory import peak_memory_bytes
from hotlap.train.memory_advice import advice
from hotlap.worker.hf import HFTrainingRun
from hotlap.worker.session import Session
from hotlap.worker.train import TrainingRun


class Run(Protocol):
    """What both backends offer."""

    def train(self) -> tuple[Outcome, str]:
        """Train to the end; return outcome and reason."""
        ...

    def finish(self, outcome: Outcome, reason: str) -> None:
        """Write the result."""
        ...


def main() -> int:
    """Return the exit code of the run in the folder named on the command line."""
    if len(sys.argv) != 2:
        print("usage: python -m hotlap.worker RUN_FOLDER", file=sys.stderr)
        return 2
    try:
        session = Session(RunFolder(Path(sys.argv[1])))
    except StorageError as error:
        _say(str(error))
        return error.exit_code
    session.listen()
    world: World | None = None
    run: Run | None = None
    outcome: Outcome = "crashed"
    is_alone = False  # in its failure: the other processes do not know of it, and wait for this one
    try:
        config = load_config(session.folder.config_path)
        world = join_world(config.training)
        while True:
            try:
                run = None  # frees the memory of the attempt before
                run = _build(session, config, world)
                outcome, reason = run.train()
                break
            except Exception as error:  # noqa: BLE001  raised again, unless a smaller batch may help
                config = _with_smaller_batch(session, config, world, error)
    except DivergedError as error:
        outcome, reason = "diverged", str(error)
    except Exception as error:  # noqa: BLE001  the run's entry point: whatever it was becomes a recorded outcome
        is_alone = True
        if is_out_of_memory(error):
            outcome, reason = "out_of_memory", f"{type(error).__name__}: {error} ({_sizes(run, config)})"
        else:
            outcome, reason = _failure(error)
    return _end(session, world, run, (outcome, reason), is_alone=is_alone)


def _failure(error: Exception) -> tuple[Outcome, str]:
    """Return what an error makes of the run; one that is our own bug is printed with its traceback."""
    if isinstance(error, StorageError) or is_disk_full(error):
        return "interrupted", str(error)  # says nothing of the config: the run is made again
    if isinstance(error, HotlapError):
        return "crashed", str(error)
    with suppress(OSError):
        traceback.print_exc()
    return "crashed", f"{type(error).__name__}: {error}"


def _end(session: Session, world: World | None, run: Run | None, ending: tuple[Outcome, str], *, is_alone: bool) -> int:
    """Write the result, part from the other processes, and return the exit code.

    The process that failed first says why; the others then have nothing to add.
    """
    outcome, reason = ending
    is_main = world is None or world.is_main
    if is_main or is_alone:
        _say(f"{outcome}: {reason}")
    try:
        if session.folder.read("result") is None:
            if run is not None and (is_main or not is_alone):
                run.finish(outcome, reason)
            else:
                session.folder.write("result", _result_before_training(session, outcome, reason))
    except (HotlapError, OSError) as error:  # a full disk: the lab side reads what is there
        outcome, reason = _failure(error)
        _say(f"{outcome}: {reason}")
        with suppress(HotlapError):
            session.folder.write("result", _result_before_training(session, outcome, reason))
        return StorageError.exit_code if outcome == "interrupted" else EXIT_CODES[outcome]
    if world is None or world.size == 1 or is_alone:
        return EXIT_CODES[outcome]
    leave_world(world)
    return 0  # torchrun takes any other code for a crash; the result says how the run ended


def _say(text: str) -> None:
    with suppress(OSError):  # on a full disk there is nowhere to say it
        print(text, flush=True)


def _build(session: Session, config: RunConfig, world: World) -> Run:
    if config.backend == "hf":
        return HFTrainingRun(session, config, world)
    return TrainingRun(session, config, world)


def _with_smaller_batch(session: Session, config: RunConfig, world: World, error: Exception) -> RunConfig:
    """Return the config with half the batch and twice the accumulation, where the config allows that; else raise."""
    training = config.training
    is_wanted = training.auto_find_batch_size and training.per_device_train_batch_size != "auto"
    if not is_wanted or not is_out_of_memory(error) or world.size > 1 or session.resume is not None:
        raise error
    smaller = smaller_batch(int(training.per_device_train_batch_size), training.gradient_accumulation_steps)
    if smaller is None:
        raise error
    rows, steps = smaller
    print(f"out of memory: going on with per_device_train_batch_size {rows}, gradient_accumulation_steps {steps}")
    gc.unfreeze()
    gc.enable()
    session.folder.drop_points_after(-1)  # the next attempt begins at the first step
    for _, path in session.folder.checkpoints():
        shutil.rmtree(path)
    changed = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps}
    return config.model_copy(update={"training": training.model_copy(update=changed)})


def _sizes(run: Run | None, config: RunConfig) -> str:
    """Say what was to be held in memory, and what would fit."""
    if isinstance(run, TrainingRun):
        return advice(run.parts)
    rows = f"{config.training.per_device_train_batch_size} rows a batch"
    return f"{rows}, while the model was being built; make the model or the batch smaller"


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
        "evaluated_tokens": 0,
        "metrics": {},
        "seconds": {"setup": session.wall_seconds, "steps": 0.0, "evaluation": 0.0, "saving": 0.0},
        "peak_memory_bytes": peak_memory_bytes(torch.device("cuda" if torch.cuda.is_initialized() else "cpu")),
    }
