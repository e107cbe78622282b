"""What a training writes down about itself: counters, points, log lines and the figures that rules read."""

from collections import deque
from typing import Any

from hotlap.train.loop import Step, is_logged
from hotlap.train.parts import Parts
from hotlap.worker.console import log_line
from hotlap.worker.session import Session

_RECENT_STEPS = 20


class Logbook:
    """Counts the steps and writes the points of one run; silent on every process but the first."""

    def __init__(self, session: Session, parts: Parts) -> None:
        self._folder = session.folder
        self._parts = parts
        self._training = parts.config.training
        self.step = self.tokens = self.slots = 0
        self.train_seconds = self.wall_seconds = 0.0
        self.figures: dict[str, float] = {}
        self._num_clipped = 0
        self._eval_losses: list[tuple[float, float]] = []
        self._recent_losses: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._interval_losses: list[float] = []
        self._interval_start = (0.0, 0, 0)
        self._last: Step | None = None
        self._grad_norm: float | None = None

    def book(self, step: Step) -> None:
        """Count the step, and write a point of training figures when it is time."""
        self.step = step.number
        self.tokens += step.num_tokens
        self.slots += step.num_slots
        self.train_seconds, self.wall_seconds = step.train_seconds, step.wall_seconds
        if self._training.logging_strategy != "no":
            self._interval_losses.append(step.loss)
        self._recent_losses.append(step.loss)
        limit = self._training.max_grad_norm
        self._num_clipped += bool(limit and step.grad_norm is not None and step.grad_norm > limit)
        self._last = step
        self._grad_norm = step.grad_norm if step.grad_norm is not None else self._grad_norm
        if is_logged(self._parts, step.number):
            self.log_interval()

    def log_interval(self) -> None:
        """Write a point of training figures over the steps since the last one."""
        step, (seconds, tokens, slots) = self._last, self._interval_start
        if step is None or not self._interval_losses:
            return
        self.figures = {
            "train_loss": sum(self._interval_losses) / len(self._interval_losses),
            **({"grad_norm": step.grad_norm} if step.grad_norm is not None else {}),
            "learning_rate": step.learning_rate,
            "tokens_per_second": (self.tokens - tokens) / max(self.train_seconds - seconds, 1e-9),
            "padding_ratio": 1 - (self.tokens - tokens) / (self.slots - slots),
            **step.figures,
        }
        self._interval_losses = []
        self._interval_start = (self.train_seconds, self.tokens, self.slots)
        self.append(self.figures)
        shown: dict[str, float] = {
            key: self.figures[key] for key in ("grad_norm", "learning_rate") if key in self.figures
        }
        self.print({"loss": self.figures["train_loss"], **shown, "epoch": self.epoch, **self._tokens_seen()})

    def book_evaluation(self, metrics: dict[str, float]) -> None:
        """Write a point of an evaluation."""
        self._eval_losses.append((self.train_seconds, metrics["eval_loss"]))
        self.append(metrics)

    def append(self, values: dict[str, float]) -> None:
        """Append one point with the present readings of the clocks."""
        position: dict[str, Any] = {
            "step": self.step,
            "train_seconds": self.train_seconds,
            "wall_seconds": self.wall_seconds,
            "tokens": self.tokens,
        }
        if self._parts.world.is_main:
            self._folder.append_point({**position, **values})

    def print(self, values: dict[str, float]) -> None:
        """Print one log line."""
        if self._parts.world.is_main:
            print(log_line(values), flush=True)

    def _tokens_seen(self) -> dict[str, float]:
        counts = {"all": self.slots, "non_padding": self.tokens}  # the Trainer's "all" counts padding, too
        counted = self._training.include_num_input_tokens_seen
        return {"num_input_tokens_seen": counts[counted]} if counted else {}

    @property
    def epoch(self) -> float:
        """Passes over the training examples."""
        return round(self.step / self._parts.steps_per_epoch, 4)

    def dynamics(self) -> dict[str, float]:
        """Return figures over the whole run that rules read; only those that the run was long enough for."""
        found: dict[str, float] = {}
        if self.step:
            found["recent_train_loss"] = sum(self._recent_losses) / len(self._recent_losses)
            found["clipped_ratio"] = self._num_clipped / self.step
            found["tokens_per_second"] = self.tokens / self.train_seconds
            found["padding_ratio"] = 1 - self.tokens / self.slots
        if self._grad_norm is not None:
            found["grad_norm"] = self._grad_norm
        earlier = [loss for seconds, loss in self._eval_losses if seconds <= 0.9 * self.train_seconds]
        if earlier:
            found["eval_loss_gain_last_tenth"] = earlier[-1] - self._eval_losses[-1][1]
        return found

    def state(self) -> dict[str, Any]:
        """Return what a resumed run goes on from."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "slots": self.slots,
            "train_seconds": self.train_seconds,
            "wall_seconds": self.wall_seconds,
            "num_clipped": self._num_clipped,
            "eval_losses": self._eval_losses,
            "recent_losses": list(self._recent_losses),
            "interval_losses": self._interval_losses,
            "interval_start": self._interval_start,
            "figures": self.figures,
            "grad_norm": self._grad_norm,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.step, self.tokens, self.slots = state["step"], state["tokens"], state["slots"]
        self.train_seconds, self.wall_seconds = state["train_seconds"], state["wall_seconds"]
        self._num_clipped = state["num_clipped"]
        self._eval_losses = [(seconds, loss) for seconds, loss in state["eval_losses"]]
        self._recent_losses.extend(state["recent_losses"])
        self._interval_losses = list(state["interval_losses"])
        seconds, tokens, slots = state["interval_start"]
        self._interval_start = (seconds, tokens, slots)
        self.figures = dict(state["figures"])
        self._grad_norm = state["grad_norm"]
