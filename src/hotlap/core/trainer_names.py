"""hotlap's names for the metrics of Hugging Face's Trainer, in its log and as it hands them to trackers."""

from typing import Final

_OWN_NAMES: Final = {"loss": "train_loss", "train_loss": "train_loss_mean"}
"""The Trainer's `loss` is the mean since the last line, its `train_loss` that over the run."""


def metric_name(name: str) -> str:
    """Return hotlap's name for a metric of the Trainer's log."""
    return _OWN_NAMES.get(name, name)


def rewritten_metric_name(name: str) -> str:
    """Return hotlap's name for a metric as the Trainer hands it to wandb: `train/loss`, `eval/loss`."""
    part, slash, rest = name.partition("/")
    if slash and part in ("eval", "test"):
        return f"{part}_{rest}"
    return metric_name(rest) if slash and part == "train" else name
