"""The verb `train`: one training from its config to its result, in this process."""

import gc
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hotlap.config.schema import RunConfig
from hotlap.core.clock import EvaluationGrid, TrainClock
from hotlap.core.errors import ConfigError, DataError, DivergedError
from hotlap.core.records import Outcome
from hotlap.core.run_folder import checkpoint_state
from hotlap.core.targets import GENERATION_METRICS, all_hold
from hotlap.data.streams import EndlessExamples
from hotlap.train.build import build_parts
from hotlap.train.checkpoint import load_checkpoint, restore_rng, save_weights
from hotlap.train.distributed import World, broadcast_floats
from hotlap.train.evaluate import Evaluator
from hotlap.train.horizon import Position
from hotlap.train.loop import Signs, Step, StepTimer, train_steps
from hotlap.train.memory import keep_freed_memory, peak_memory_bytes
from hotlap.train.memory_advice import memory_line
from hotlap.train.parts import Parts
from hotlap.worker.budget import Budget
from hotlap.worker.console import metrics_block
from hotlap.worker.environment import environment_facts
from hotlap.worker.logbook import Logbook
from hotlap.worker.samples import SampleWriter
from hotlap.worker.saving import KEEPS_WEIGHTS, Saver
from hotlap.worker.session import Session

_LONG_WAIT = 0.2  # share of the steps
_PRINT_RATIO = 1.25  # evaluations on the grid come often: print one each time the clock grew by this much


class TrainingRun:
    """One run: takes the steps, looks at the grid, the targets and the limits, and writes down what it sees.

    With several devices each process has one; all decide alike, since they decide by shared readings.
    """

    def __init__(self, session: Session, config: RunConfig, world: World) -> None:
        keep_freed_memory(is_tight=config.training.gradient_checkpointing)
        self.session = session
        self.folder = session.folder
        self.config = config
        self.targets = self.config.parsed_targets()
        directory = Path(session.command.get("directory", "."))
        cache = self.folder.path.parent.parent / "cache"
        self.parts: Parts = build_parts(config, directory, cache, world, self._batch_before(world))
        self.evaluator = Evaluator(self.parts)
        unmeasured = [target.metric for target in self.targets if not target.is_cheap]
        if unmeasured and not self.evaluator.can_generate:
            raise ConfigError(
                f"targets: {', '.join(unmeasured)} needs generated text, which this model or task cannot give; use "
                "eval_loss"
            )
        self.logbook = Logbook(session, self.parts)
        self.samples = SampleWriter(self.folder, self.parts)
        self.saver = Saver(session, self.parts)
        self.budget = Budget(session, self.parts, saves_checkpoints=self.saver.is_wanted)
        self.grid = EvaluationGrid(self.config.clock, is_sparse=not self.config.targets)
        self.clock = TrainClock()
        self.timer = StepTimer()
        self.metrics: dict[str, float] = {}
        self._printed_at = 0.0
        self._evaluated_step = -1
        self._reached: dict[str, float] | None = None
        self.seconds = {"setup": 0.0, "evaluation": 0.0, "saving": 0.0}
        self._refuse_other_data()
        self._start = self._resume() if session.resume is not None else Position()
        if world.is_main:
            self._write_environment(directory)
            self._show_batch_size_trials()
            print(memory_line(self.parts))
        self.seconds["setup"] += session.process_seconds

    def _write_environment(self, directory: Path) -> None:
        facts = environment_facts(self.parts, directory)
        if self.session.resume is not None:  # the batch size was found before
            facts["batch_size_trials"] = (self.folder.read("environment") or {}).get("batch_size_trials", [])
        self.folder.write("environment", facts)

    def _show_batch_size_trials(self) -> None:
        parts = self.parts
        if parts.batch_size_trials:
            tried = ", ".join(f"{t.batch_size}: {t.tokens_per_second:,.0f}" for t in parts.batch_size_trials)
            print(
                f"per_device_train_batch_size {parts.batch_size}, gradient_accumulation_steps "
                f"{parts.accumulation_steps} (tokens/s by batch size: {tried})"
            )

    def train(self) -> tuple[Outcome, str]:
        """Take steps until a target, a limit, a signal or the end of the schedule; return outcome and reason."""
        gc.collect()
        gc.freeze()  # what is built lives until the end; looking through it again and again would stall steps
        gc.disable()
        self.parts.source.start(self._start.steps * self.parts.accumulation_steps)
        ending = self.begin()
        if ending is not None:
            return ending
        signs = Signs(lambda: self.session.wall_seconds, lambda: self.session.interrupted_by is not None, self._start)
        for step in train_steps(self.parts, self.clock, self.timer, signs):
            ending = self.take(step)
            if ending is not None:
                return ending
        return self.conclude()

    def begin(self) -> tuple[Outcome, str] | None:
        """Look at the untrained model where the config wants that; return how the run ends, if it does here."""
        self.budget.start(self.evaluator, self.clock.seconds, self.samples.texts)
        if not self._start.steps:
            self._write_samples(is_evaluated=True)
        if self.config.training.eval_on_start and not self._start.steps and self._evaluate(is_final=False):
            return "reached", "all targets held before the first step"
        return None

    def take(self, step: Step) -> tuple[Outcome, str] | None:
        """Book a step and look around; return how the run ends, if it does here."""
        self.logbook.book(step)
        return self._look_around(step)

    def conclude(self) -> tuple[Outcome, str]:
        """Return how a run ends whose schedule is over."""
        if not self._is_evaluated:
            self._evaluate(is_final=True)  # a resumed run that had nothing left to do
        if self.targets:
            if self._reached is not None:
                return "reached", f"all targets held at step {self.logbook.step}"
            return "missed", f"the schedule ended at step {self.logbook.step} and the targets did not hold"
        return "reached", f"finished {self.logbook.step} steps; there was no target"

    def _look_around(self, step: Step) -> tuple[Outcome, str] | None:
        """Evaluate and save when it is time; return how the run ends, if it does here."""
        judged = step.train_seconds if self.config.clock == "train" else step.wall_seconds
        position = Position(step.number, self.logbook.tokens, judged)
        is_last = self.parts.horizon.is_over(position)
        is_due = self._evaluation_is_due(judged, is_last=is_last)
        bound = self.budget.passed(step, is_evaluated=is_due) if not is_last else None
        if bound is not None and self._ends_with_budget():
            is_last, is_due, bound = True, True, None  # a schedule in seconds has come to its end, as it was meant to
        is_best = reached = False
        is_final = is_last or bound is not None
        if is_due or is_final:
            all_held = self._evaluate(is_final=is_final)
            reached = all_held and is_due  # an evaluation that only the limit brought about is off the grid
            is_best = self.saver.note_metrics(step.number, self.metrics)
        self._write_samples(is_evaluated=is_due or is_final, is_last=is_final or reached)
        is_saved = self.saver.is_due(step.number, step.wall_seconds, is_last=is_final or reached)
        if is_saved or is_best or (step.is_interrupted and self.saver.is_wanted):
            self._save(step.wall_seconds)
        if reached:
            return "reached", f"all targets held at step {step.number}"
        if is_last:
            return None if self.parts.horizon.is_over(position) else self.conclude()
        if step.is_interrupted:
            signal = self.session.interrupted_by or "a signal to another process"
            return "interrupted", f"{signal} at step {step.number}"
        return ("out_of_budget", bound) if bound is not None else None

    def _ends_with_budget(self) -> bool:
        """Say whether the limit of the judged clock is where the schedule ends; a study may set a tighter one."""
        schedule, limit = self.parts.horizon.schedule, self.session.limit(self.config.clock)
        return schedule.unit == "seconds" and limit is not None and limit >= schedule.horizon

    def finish(self, outcome: Outcome, reason: str) -> None:
        """Save the weights, print the closing block and write the result, last and atomically."""
        self.logbook.log_interval()
        self.parts.source.close()
        start = time.perf_counter()
        if self.config.training.load_best_model_at_end and outcome in KEEPS_WEIGHTS:
            done, self.metrics = self.saver.load_best(self.metrics)
            reason = f"{reason}; {done}"
        waiting = self._waiting()
        if not self.parts.world.is_main:
            return
        if self.config.training.save_model and outcome in KEEPS_WEIGHTS:
            save_weights(self.parts.model, self.folder.weights_path)
        self.seconds["saving"] += time.perf_counter() - start
        tokens = self.logbook.tokens
        if self.metrics:
            shown = {**self.metrics, "eval_samples": len(self.parts.eval), "num_input_tokens_seen": tokens}
            print(metrics_block("eval", {**shown, "eval_runtime": self.seconds["evaluation"]}), flush=True)
        self.folder.write(
            "result",
            {
                "schema": "hotlap/result/1",
                "outcome": outcome,
                "reason": reason,
                "step": self.logbook.step,
                "train_seconds": self.clock.seconds,
                "wall_seconds": self.session.wall_seconds,
                "tokens": tokens,
                "time_to_target": self._reached if outcome == "reached" else None,
                "evaluated_tokens": self.evaluator.counted_targets,
                "metrics": {**self.logbook.figures, **self.metrics, **self.logbook.dynamics(), **waiting},
                "seconds": {**self.seconds, "steps": self.clock.seconds, **self.timer.seconds},
                "peak_memory_bytes": peak_memory_bytes(self.parts.device),
                "base_memory_bytes": self.parts.base_memory_bytes,
            },
        )

    def _waiting(self) -> dict[str, float]:
        """Return, of endless data, the share of the steps spent waiting for them and the samples left out.

        Where the share is large, a line says so.
        """
        source, training = self.parts.source, self.config.training
        if not isinstance(self.parts.train, EndlessExamples) or not self.clock.seconds:
            return {}
        ratio = self.timer.seconds["data"] / self.clock.seconds
        if ratio > _LONG_WAIT and self.parts.world.is_main:
            print(
                f"{ratio:.0%} of the training was spent waiting for samples: make the generator faster, or raise "
                f"training.dataloader_num_workers (now {training.dataloader_num_workers})"
            )
        return {"data_wait_ratio": ratio, "num_refused_samples": float(source.num_refused)}

    def _evaluation_is_due(self, reading_seconds: float, *, is_last: bool) -> bool:
        training, step = self.config.training, self.logbook.step
        delay = training.eval_delay * (self.parts.steps_per_epoch if training.eval_strategy == "epoch" else 1)
        if is_last or step < delay:
            return is_last
        if training.eval_strategy == "no":
            return False
        if training.eval_strategy == "clock":
            return self.grid.is_due(reading_seconds)
        if training.eval_strategy == "epoch":
            return step % self.parts.steps_per_epoch == 0
        if training.eval_strategy == "steps" or training.eval_steps is not None:
            every = training.eval_steps if training.eval_steps is not None else training.logging_steps
            return step % training.interval(every, self.parts.horizon.max_steps) == 0
        return bool(self.targets) and self.grid.is_due(reading_seconds)

    @property
    def _is_evaluated(self) -> bool:
        return self._evaluated_step == self.logbook.step

    def _evaluate(self, *, is_final: bool) -> bool:
        """Evaluate, generating only once the cheap targets hold; return whether all targets hold."""
        gc.collect(0)
        start = time.perf_counter()
        metrics = self.evaluator.cheap_metrics()
        cheap = [target for target in self.targets if target.is_cheap]
        is_generated = is_final or len(cheap) < len(self.targets)
        is_chosen_by = self.config.training.metric_for_best_model in GENERATION_METRICS
        is_open = is_generated and all(target.holds(metrics) for target in cheap)
        if self.evaluator.can_generate and (is_open or is_chosen_by):
            metrics |= self._generate()
        elapsed = time.perf_counter() - start
        self.seconds["evaluation"] += elapsed
        self.metrics, self._evaluated_step = metrics, self.logbook.step
        self.logbook.book_evaluation(metrics)
        reached = all_hold(self.targets, metrics)
        book = self.logbook
        if reached:
            self._reached = {"train": book.train_seconds, "wall": self.session.wall_seconds, "step": book.step}
        strategy = self.config.training.eval_strategy
        is_by_steps = strategy in ("steps", "epoch") or (strategy is None and self.config.training.eval_steps)
        if reached or is_final or is_by_steps or book.train_seconds >= self._printed_at:
            self._printed_at = book.train_seconds * _PRINT_RATIO
            book.print({**metrics, "eval_runtime": elapsed, "epoch": book.epoch})
        if not math.isfinite(metrics["eval_loss"]):
            raise DivergedError(f"eval_loss is {metrics['eval_loss']} at step {book.step}; lower the learning rate")
        return reached

    def _generate(self) -> dict[str, float]:
        metrics, samples = self.evaluator.generation_metrics()
        if self.parts.world.is_main:
            for sample in samples:
                position = {"step": self.logbook.step, "train_seconds": self.logbook.train_seconds}
                self.folder.append_sample({**position, **asdict(sample)})
        return metrics

    def _write_samples(self, *, is_evaluated: bool, is_last: bool = False) -> None:
        book = self.logbook
        if self.samples.is_due(book.step, is_evaluated=is_evaluated, is_last=is_last):
            start = time.perf_counter()
            self.samples.write(book.step, book.train_seconds, self.session.wall_seconds)
            self.seconds["evaluation"] += time.perf_counter() - start

    def _save(self, wall_seconds: float) -> None:
        start = time.perf_counter()
        if not all(bool(parameter.isfinite().all()) for parameter in self.parts.model.parameters()):
            raise DivergedError(f"weights are not finite at step {self.logbook.step}; lower the learning rate")
        state: dict[str, Any] = {
            **self.logbook.state(),
            "metrics": self.metrics,
            "evaluated_step": self._evaluated_step,
            "next_evaluation": self.grid.next_reading,
            "seconds": self.seconds,
            "timer": self.timer.seconds,
            "num_refused": self.parts.source.num_refused,
            "noise": self.parts.noise.state_dict() if self.parts.noise is not None else None,
        }
        self.saver.save(state, wall_seconds)
        self.seconds["saving"] += time.perf_counter() - start

    def _batch_before(self, world: World) -> tuple[int, int] | None:
        """Return the batch that a run resumed here was using."""
        state = checkpoint_state(self.session.resume) if self.session.resume is not None else None
        if state is not None and state["world_size"] != world.size:
            raise ConfigError(
                f"the checkpoint was saved by {state['world_size']} process(es), these are {world.size}: the batches "
                "would be others; start as many"
            )
        return (state["batch_size"], state["accumulation_steps"]) if state is not None else None

    def _refuse_other_data(self) -> None:
        """Raise DataError when a run is to go on with another corpus than it began with."""
        before = self.folder.read("environment") if self.session.resume is not None else None
        if before is not None and before["data"]["hash"] != self.parts.task.hash:
            raise DataError(
                f"the training data changed since the run began ({before['data']['hash']} is now "
                f"{self.parts.task.hash}); put the old text back, or start a new run"
            )

    def _resume(self) -> Position:
        """Take up the checkpoint that the session names; return where the training goes on."""
        assert self.session.resume is not None
        device, world = self.parts.device, self.parts.world
        state, rng_states = load_checkpoint(self.session.resume, self.parts.model, self.parts.optimizers, device)
        if world.is_main:
            self.folder.drop_points_after(int(state["step"]))
        self.logbook.restore(state)
        self.saver.restore(state)
        self.metrics, self._evaluated_step = dict(state["metrics"]), int(state["evaluated_step"])
        self.grid = EvaluationGrid(self.config.clock, state["next_evaluation"], is_sparse=not self.config.targets)
        self.clock = TrainClock(start_seconds=state["train_seconds"])
        if self.parts.noise is not None and state.get("noise"):
            self.parts.noise.load_state_dict(state["noise"])
        self.seconds, self.timer.seconds = dict(state["seconds"]), self.timer.seconds | state["timer"]
        self.parts.source.num_refused = int(state.get("num_refused", 0))
        if len(rng_states) == world.size:  # on another number of devices dropout goes on with fresh numbers
            restore_rng(rng_states[world.rank], device)
        judged = self.logbook.train_seconds if self.config.clock == "train" else self.session.wall_seconds
        (judged,) = broadcast_floats(world, [judged])  # all processes go on with one learning rate
        return Position(self.logbook.step, self.logbook.tokens, judged)
