"""The verb `train`: one training from its config to its result, in this process."""

import gc
import resource
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model

from hotlap.config.load import load_config
from hotlap.core.clock import EvaluationGrid, TrainClock
from hotlap.core.errors import DivergedError
from hotlap.core.records import Outcome
from hotlap.core.targets import all_hold
from hotlap.train.evaluate import Evaluator
from hotlap.train.loop import Step, StepTimer, train_steps
from hotlap.train.parts import Parts, build_parts
from hotlap.worker.console import log_line, metrics_block
from hotlap.worker.environment import environment_facts
from hotlap.worker.session import Session

_RECENT_STEPS = 20
_PRINT_RATIO = 1.25  # evaluations on the grid come often: print one each time the clock grew by this much


class TrainingRun:
    """One run: takes the steps, looks at the grid, the targets and the limits, and writes down what it sees."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.folder = session.folder
        directory = Path(session.command.get("directory", "."))
        self.config = load_config(self.folder.config_path)
        self.targets = self.config.parsed_targets()
        self.parts: Parts = build_parts(self.config, directory, self.folder.path.parent.parent / "cache")
        self.evaluator = Evaluator(self.parts)
        self.folder.write("environment", environment_facts(self.parts, directory))
        self.clock = TrainClock()
        self.timer = StepTimer()
        self.grid = EvaluationGrid(self.config.clock)
        self.seconds = {"setup": session.wall_seconds, "evaluation": 0.0, "saving": 0.0}
        self.figures: dict[str, float] = {}
        self.metrics: dict[str, float] = {}
        self.step = self.tokens = self.slots = 0
        self.num_clipped = 0
        self._losses_seen: list[tuple[float, float]] = []
        self._last: Step | None = None
        self._interval_losses: list[float] = []
        self._recent_losses: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._interval_start = (0.0, 0, 0)
        self._printed_at = 0.0
        self._reached: dict[str, float] | None = None

    def train(self) -> tuple[Outcome, str]:
        """Take steps until a target, a limit, a signal or the end of the schedule; return outcome and reason."""
        gc.collect()
        gc.freeze()  # what is built lives until the end; collecting it again and again would stall steps
        for step in train_steps(self.parts, self.clock, self.timer):
            self._book(step)
            is_last = step.number == self.config.training.max_steps
            if self._evaluation_is_due(is_last) and self._evaluate(is_last):
                return "reached", f"all targets held at step {step.number}"
            if (signal := self.session.interrupted_by) is not None:
                return "interrupted", f"{signal} at step {step.number}"
            if (bound := self.session.out_of_budget(self.clock.seconds)) is not None and not is_last:
                self._evaluate(is_final=True)
                return "out_of_budget", bound
        if self.targets:
            return "missed", f"the schedule ended at step {self.step} and the targets did not hold"
        return "reached", f"finished {self.step} steps; there was no target"

    def finish(self, outcome: Outcome, reason: str) -> None:
        """Save the weights, print the closing block and write the result, last and atomically."""
        self._log_interval()
        if self.config.training.save_model and outcome in ("reached", "missed", "out_of_budget"):
            start = time.perf_counter()
            save_model(self.parts.model, str(self.folder.weights_path))
            self.seconds["saving"] += time.perf_counter() - start
        if self.metrics:
            shown = {**self.metrics, "eval_samples": len(self.parts.eval), "num_input_tokens_seen": self.tokens}
            print(metrics_block("eval", {**shown, "eval_runtime": self.seconds["evaluation"]}), flush=True)
        self.folder.write(
            "result",
            {
                "schema": "hotlap/result/1",
                "outcome": outcome,
                "reason": reason,
                "step": self.step,
                "train_seconds": self.clock.seconds,
                "wall_seconds": self.session.wall_seconds,
                "tokens": self.tokens,
                "time_to_target": self._reached if outcome == "reached" else None,
                "metrics": {**self.figures, **self.metrics, **self._dynamics()},
                "seconds": {**self.seconds, "steps": self.clock.seconds, **self.timer.seconds},
                "peak_memory_bytes": _peak_memory_bytes(self.parts.device),
            },
        )

    def _book(self, step: Step) -> None:
        """Count the step, and every `logging_steps` write a point of training figures."""
        self.step = step.number
        self.tokens += step.num_tokens
        self.slots += step.num_slots
        self._interval_losses.append(step.loss)
        self._recent_losses.append(step.loss)
        limit = self.config.training.max_grad_norm
        self.num_clipped += bool(limit and step.grad_norm is not None and step.grad_norm > limit)
        self._last = step
        if step.number % self.config.training.logging_steps == 0:
            self._log_interval()

    def _log_interval(self) -> None:
        """Write a point of training figures over the steps since the last one."""
        step, (seconds, tokens, slots) = self._last, self._interval_start
        if step is None or not self._interval_losses:
            return
        self.figures = {
            "train_loss": sum(self._interval_losses) / len(self._interval_losses),
            "grad_norm": step.grad_norm if step.grad_norm is not None else self.figures.get("grad_norm", 0.0),
            "learning_rate": step.learning_rate,
            "tokens_per_second": (self.tokens - tokens) / max(self.clock.seconds - seconds, 1e-9),
            "padding_ratio": 1 - (self.tokens - tokens) / (self.slots - slots),
        }
        self._interval_losses = []
        self._interval_start = (self.clock.seconds, self.tokens, self.slots)
        self._append(self.figures)
        shown = {"loss": self.figures["train_loss"], "grad_norm": self.figures["grad_norm"]}
        print(log_line({**shown, "learning_rate": step.learning_rate, "epoch": self._epoch()}), flush=True)

    def _evaluation_is_due(self, is_last: bool) -> bool:
        training = self.config.training
        if training.eval_steps is not None:
            return is_last or self.step % training.eval_steps == 0
        reading = self.clock.seconds if self.config.clock == "train" else self.session.wall_seconds
        return bool(self.targets and self.grid.is_due(reading)) or is_last

    def _evaluate(self, is_final: bool) -> bool:
        """Evaluate, generating only once the cheap targets hold; return whether all targets hold."""
        start = time.perf_counter()
        metrics = self.evaluator.cheap_metrics()
        cheap = [target for target in self.targets if target.is_cheap]
        if all(target.holds(metrics) for target in cheap) and (is_final or len(cheap) < len(self.targets)):
            metrics |= self._generate()
        elapsed = time.perf_counter() - start
        self.seconds["evaluation"] += elapsed
        self.metrics = metrics
        self._losses_seen.append((self.clock.seconds, metrics["eval_loss"]))
        self._append(metrics)
        reached = all_hold(self.targets, metrics)
        if reached:
            self._reached = {"train": self.clock.seconds, "wall": self.session.wall_seconds, "step": self.step}
        if reached or is_final or self.config.training.eval_steps or self.clock.seconds >= self._printed_at:
            self._printed_at = self.clock.seconds * _PRINT_RATIO
            print(log_line({**metrics, "eval_runtime": elapsed, "epoch": self._epoch()}), flush=True)
        if metrics["eval_loss"] != metrics["eval_loss"]:
            raise DivergedError(f"eval_loss is not a number at step {self.step}; lower the learning rate")
        return reached

    def _generate(self) -> dict[str, float]:
        metrics, samples = self.evaluator.generation_metrics()
        for sample in samples:
            self.folder.append_sample({"step": self.step, "train_seconds": self.clock.seconds, **asdict(sample)})
        return metrics

    def _dynamics(self) -> dict[str, float]:
        """Return figures over the whole run that rules read; only those that the run was long enough for."""
        found: dict[str, float] = {}
        if self.step:
            found["recent_train_loss"] = sum(self._recent_losses) / len(self._recent_losses)
            found["clipped_ratio"] = self.num_clipped / self.step
            found["tokens_per_second"] = self.tokens / self.clock.seconds
            found["padding_ratio"] = 1 - self.tokens / self.slots
        earlier = [loss for seconds, loss in self._losses_seen if seconds <= 0.9 * self.clock.seconds]
        if earlier:
            found["eval_loss_gain_last_tenth"] = earlier[-1] - self._losses_seen[-1][1]
        return found

    def _append(self, values: dict[str, float]) -> None:
        position: dict[str, Any] = {
            "step": self.step,
            "train_seconds": self.clock.seconds,
            "wall_seconds": self.session.wall_seconds,
            "tokens": self.tokens,
        }
        self.folder.append_point({**position, **values})

    def _epoch(self) -> float:
        training = self.config.training
        rows = self.step * training.per_device_train_batch_size * training.gradient_accumulation_steps
        return round(rows / len(self.parts.train), 4)


def _peak_memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kibibytes on Linux
