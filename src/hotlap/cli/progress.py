"""What a running training shows: one live line on a terminal, a plain line every ten seconds elsewhere."""

import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hotlap.cli.screen import is_terminal
from hotlap.config.schema import RunConfig
from hotlap.core.durations import format_seconds

PLAIN_SECONDS = 10.0
_SLOPE_WINDOW = 0.7
"""The slope of the loss is taken from this share of the clock onwards."""


class LiveLine:
    """One line that is written over again on a terminal; lines above it scroll."""

    def __init__(self, *, on_terminal: bool | None = None) -> None:
        self._is_terminal = is_terminal() if on_terminal is None else on_terminal
        self._shown = False
        self._last_plain = time.monotonic()

    def show(self, text: str) -> None:
        """Show the newest state; elsewhere than on a terminal at most every ten seconds."""
        if self._is_terminal:
            sys.stdout.write(f"\r\x1b[K{_fit(text)}")
            sys.stdout.flush()
            self._shown = True
        elif time.monotonic() - self._last_plain >= PLAIN_SECONDS:
            self._last_plain = time.monotonic()
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def say(self, text: str) -> None:
        """Print a lasting line above the live one."""
        self.clear()
        print(text, flush=True)

    def clear(self) -> None:
        """Take the live line away."""
        if self._shown:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
            self._shown = False


class TextFollower:
    """Reads what was appended to a text file since the last look, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read_new(self) -> list[str]:
        """Return the complete new lines."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        return data[:complete].decode("utf-8", errors="replace").splitlines()


def progress_text(run_id: str, config: RunConfig, points: Sequence[Mapping[str, Any]]) -> str:
    """Return step, losses, tokens per second, time to the schedule's end and the estimated time to target."""
    if not points:
        return f"run {run_id} starting"
    last = points[-1]
    step, seconds = int(last["step"]), float(last["train_seconds"])
    done = _share_done(config, last)
    steps = f"{step}/{config.training.max_steps}" if _counts_steps(config) else f"{step}"
    parts = [f"run {run_id} step {steps}{'' if done is None else f' {done:.0%}'}", f"{seconds:.0f}s"]
    for name in ("train_loss", config.main_metric):
        values = [point[name] for point in points if name in point]
        if values:
            parts.append(f"{name} {values[-1]:.3f}")
    speed = _interval_speed(points)
    if speed:
        parts.append(f"{speed:,.0f} tok/s")
    if done:
        parts.append(f"end in {format_seconds((1 / done - 1) * seconds)}")
    to_target = seconds_to_target(config, points)
    if to_target is not None:
        parts.append(f"target in ~{format_seconds(to_target)}")
    return "  ".join(parts)


def _counts_steps(config: RunConfig) -> bool:
    return config.command is None and config.training.schedule_by == "steps" and not config.training.is_by_epochs


def _share_done(config: RunConfig, point: Mapping[str, Any]) -> float | None:
    """Return how far a run is towards its end; None where only the worker knows (a number of epochs)."""
    training = config.training
    if config.command is not None:
        return None
    if training.schedule_by == "tokens":
        return min(1.0, float(point["tokens"]) / (training.max_tokens or 1))
    if training.schedule_by == "seconds":
        return min(1.0, float(point[f"{config.clock}_seconds"]) / config.budget.run)
    return int(point["step"]) / training.max_steps if _counts_steps(config) else None


def seconds_to_target(config: RunConfig, points: Sequence[Mapping[str, Any]]) -> float | None:
    """Estimate the training seconds to the target of a loss from the recent slope; None where it does not fall."""
    metric = config.main_metric
    wanted = [t.value for t in config.parsed_targets() if t.metric == metric and t.comparison in ("<", "<=")]
    curve = [(float(p["train_seconds"]), float(p[metric])) for p in points if metric in p]
    if not wanted or len(curve) < 3:
        return None
    recent = [point for point in curve if point[0] >= _SLOPE_WINDOW * curve[-1][0]]
    (first_seconds, first_loss), (last_seconds, last_loss) = recent[0], recent[-1]
    fall = (first_loss - last_loss) / (last_seconds - first_seconds) if last_seconds > first_seconds else 0.0
    if not fall > 0 or math.isinf(last_loss):
        return None
    return max(0.0, (last_loss - min(wanted)) / fall)


def _interval_speed(points: Sequence[Mapping[str, Any]]) -> float:
    """Tokens per second over the last tenth of the points, at least two."""
    start = points[max(0, len(points) - max(2, len(points) // 10))]
    seconds = float(points[-1]["train_seconds"]) - float(start["train_seconds"])
    return (points[-1]["tokens"] - start["tokens"]) / seconds if seconds > 0 else 0.0


def _fit(text: str) -> str:
    width = shutil.get_terminal_size().columns - 1
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
