"""What leaves a run folder for a tracker, under the names that the Trainer gives: pure functions of plain values.

tracked_point({"step": 5, "train_loss": 2.1, ...})  ->  (5, {"train/loss": 2.1, ...})
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hotlap.core.masking import MASK, Mask
from hotlap.core.secret_names import is_secret

SAMPLE_TEXTS: Final = ("prompt", "expected", "generated")
_POSITION: Final = {
    "train_seconds": "clock/train_seconds",
    "wall_seconds": "clock/wall_seconds",
    "tokens": "train/num_input_tokens_seen",
}
_SPLITS: Final = ("train", "eval", "test")


def tracked_point(point: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    """Return the step of a point and its figures under the Trainer's names."""
    is_evaluation = any(key.startswith("eval_") for key in point)
    found = {}
    for key, value in point.items():
        if key != "step" and _is_number(value):
            found[_POSITION.get(key) or tracked_name(key, "eval" if is_evaluation else "train")] = float(value)
    return int(point.get("step") or 0), found


def tracked_name(key: str, split: str) -> str:
    """Return the Trainer's name of a figure: `eval/loss` for eval_loss; one that names no split is of the given one."""
    prefix, _, rest = key.partition("_")
    return f"{prefix}/{rest}" if prefix in _SPLITS and rest else f"{split}/{key}"


def point_kind(point: Mapping[str, Any]) -> str:
    """Return what tells two points of one step apart."""
    return "eval" if any(key.startswith("eval_") for key in point) else "train"


def tracked_summary(ending: tuple[str, str] | None, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a tracker keeps of a whole run: how it ended, how long it took, and its last figures."""
    outcome, reason = ending or ("", "")
    times = result.get("time_to_target") or {}
    metrics = result.get("metrics") or {}
    summary: dict[str, Any] = {"outcome": outcome, "reason": reason.strip().partition("\n")[0]}
    for key in ("train_seconds", "wall_seconds", "step", "tokens", "peak_memory_bytes"):
        if _is_number(result.get(key)):
            summary[key] = result[key]
    summary |= {f"time_to_target/{key}": value for key, value in times.items() if _is_number(value)}
    return summary | {f"final/{key}": value for key, value in metrics.items() if _is_finite(value)}


def sample_texts(sample: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, str]:
    """Return the texts of a sample."""
    return {key: without_secrets(str(sample[key]), secrets) for key in SAMPLE_TEXTS if key in sample}


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text with the values of secrets hidden."""
    return Mask(secrets).text(text)


def masked(value: Any, secrets: Sequence[str], name: str = "") -> Any:
    """Return a plain value with everything hidden that stands under the name of a secret, or holds one."""
    if isinstance(value, Mapping):
        return {str(key): masked(inner, secrets, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner, secrets, name) for inner in value]
    if isinstance(value, str):
        return MASK if value and is_secret(name) else without_secrets(value, secrets)
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
