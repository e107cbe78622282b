"""The verb `train` with `backend: hf`: the same run folder, filled by a training of transformers' Trainer."""

import time

from hotlap.config.schema import RunConfig, TrainingConfig
from hotlap.core.errors import ConfigError
from hotlap.core.records import Outcome
from hotlap.train.distributed import World
from hotlap.train.hf import TrainerTraining, trainer_versions
from hotlap.train.hf_model import refuse_unsupported
from hotlap.train.loop import Signs, Step
from hotlap.worker.session import Session
from hotlap.worker.train import TrainingRun


class HFTrainingRun:
    """A run whose steps the Trainer takes; evaluating, ending and writing down are those of every run.

    It saves no checkpoints. Beside `eval_loss` stands `eval_loss_rows`, the Trainer's own.
    """

    def __init__(self, session: Session, config: RunConfig, world: World) -> None:
        refuse_unsupported(config)
        if world.size > 1:
            raise ConfigError(f"backend hf trains on one device here, these are {world.size} processes")
        if session.resume is not None:
            raise ConfigError("backend hf cannot resume a run: it saves no checkpoints; start it anew")
        if _wants_checkpoints(config.training):
            print("backend hf saves no checkpoints: save_strategy, save_steps and save_every have no effect")
        self._session = session
        self._run = TrainingRun(session, _without_checkpoints(config), world)
        self._training = TrainerTraining(self._run.parts, session.folder.path)
        facts = session.folder.read("environment") or {}
        session.folder.write("environment", {**facts, **trainer_versions()})
        self._run.seconds["setup"] = session.process_seconds  # building the Trainer is setting up, too
        self._ending: tuple[Outcome, str] | None = None

    def train(self) -> tuple[Outcome, str]:
        """Let the Trainer take steps until a target, a limit, a signal or the end of the schedule."""
        ending = self._run.begin()
        if ending is not None:
            return ending
        signs = Signs(lambda: self._session.wall_seconds, lambda: self._session.interrupted_by is not None)
        self._training.run(self._run.clock, self._run.timer, signs, self._take)
        return self._ending or self._run.conclude()

    def finish(self, outcome: Outcome, reason: str) -> None:
        """Save the weights, print the closing block and write the result."""
        self._training.release()
        self._run.finish(outcome, reason)

    def _take(self, step: Step) -> bool:
        """Book a step, evaluate where that is due; say whether the run ends here."""
        before = self._run.metrics
        self._ending = self._run.take(step)
        if self._run.metrics is not before:
            self._add_the_trainers_loss()
        return self._ending is not None

    def _add_the_trainers_loss(self) -> None:
        start = time.perf_counter()
        rows = {"eval_loss_rows": self._training.row_weighted_loss()}
        self._run.seconds["evaluation"] += time.perf_counter() - start
        self._run.metrics |= rows
        self._run.logbook.append(rows)


def _wants_checkpoints(training: TrainingConfig) -> bool:
    by_steps = training.save_strategy == "steps" and training.save_steps is not None
    return by_steps or training.save_strategy in ("epoch", "best") or training.save_every is not None


def _without_checkpoints(config: RunConfig) -> RunConfig:
    changed = {"save_strategy": "no", "save_every": None}
    return config.model_copy(update={"training": config.training.model_copy(update=changed)})
