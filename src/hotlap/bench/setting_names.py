"""What the settings that a bench varies are called, here and in other scripts, and what each has to do with speed.

short_name("params.micro-batch-size")  ->  "batch"
role_of("task.block_size")  ->  "length"

What `config.knob_ranges` knows as another name for one of Hugging Face's need not be listed here.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from hotlap.config.knob_ranges import DEVICE_NAMES, LENGTH_NAMES, plain_name
from hotlap.config.knob_ranges import role_of as hugging_face_name

Role = Literal["batch", "length", "devices", "how", "what"]
"""batch: rows per device; length: tokens in a row; devices; how: the same steps done in another way; what: other steps.
"""
SHORT_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "batch": ("per_device_train_batch_size", "batch"),
    "seq": LENGTH_NAMES,
    "devices": DEVICE_NAMES,
    "precision": ("bf16",),
    "compile": ("torch_compile",),
    "optim": ("optim",),
    "workers": ("dataloader_num_workers",),
    "attention": ("attn_implementation", "attention"),
}
"""The options for common axes, and what the settings are called that they stand for."""
_ROLES: Final[Mapping[str, Role]] = {
    "batch": "batch",
    "seq": "length",
    "devices": "devices",
    "precision": "how",
    "compile": "how",
    "optim": "what",
    "workers": "how",
    "attention": "how",
}
_LABELS: Final[Mapping[str, str]] = {
    "torch_compile": "compile",
    "dataloader_num_workers": "workers",
    "attn_implementation": "attention",
}
_OTHER_WAYS: Final = (
    *("fp16", "tf32", "precision", "mixed_precision", "dtype", "torch_dtype", "torch_compile_mode"),
    *("torch_compile_backend", "gradient_checkpointing", "dataloader_prefetch_factor", "dataloader_pin_memory"),
    *("dataloader_persistent_workers", "padding", "group_by_length", "threads", "ddp_bucket_cap_mb", "backend"),
)
"""Settings without a short name that change how the same steps are done."""
_FILLING: Final = ("padding", "group_by_length")
"""Those of them that change how much of a batch is padding."""
NEEDS_WORKERS: Final[Mapping[str, Any]] = {
    "training.dataloader_persistent_workers": False,
    "training.dataloader_prefetch_factor": None,
}
"""Settings that a config without data workers must not have, with the values that it may."""


def short_name(key: str) -> str | None:
    """Return the option that a setting goes by, by the last part of its key; None where it has none."""
    name = _known_name(key)
    return next((short for short, names in SHORT_NAMES.items() if name in names), None)


def role_of(key: str) -> Role:
    """Return the role of a setting by the last part of its key, or what that is called elsewhere."""
    short = short_name(key)
    if short is not None:
        return _ROLES[short]
    return "how" if _known_name(key) in _OTHER_WAYS else "what"


def changes_filling(key: str) -> bool:
    """Say whether a setting changes how many tokens, or examples, the rows of a step hold."""
    return _known_name(key) in _FILLING


def label_of(key: str) -> str:
    """Return what tables, pictures and progress call a setting."""
    role, name = role_of(key), key.rpartition(".")[2]
    return role if role in ("batch", "length", "devices") else _LABELS.get(name, name)


def _known_name(key: str) -> str:
    return hugging_face_name(key) or plain_name(key)
