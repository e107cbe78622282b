"""What settings of training scripts mean by their names, and within which bounds it makes sense to vary them.

    role_of("lr")  ->  "learning_rate"
    range_of("lr", 3e-4)  ->  {"min": 3e-05, "max": 0.003, "distribution": "log_uniform_values"}

Names are Hugging Face's, with what others call the same. A name that is not known is not varied unless somebody asks.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

SEED: Final = "seed"
_TOTALS: Final = re.compile(
    r"(total|global|effective)_(train_)?batch(_size|_tokens)?|(total|global)_tokens_per_(step|batch)"
)
"""Names of a step's whole batch, whose rows per device only say in how many passes it is taken."""
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "learning_rate": ("lr", "base_lr", "peak_lr", "max_lr", "learningrate", "adam_lr", "init_lr"),
    "muon_learning_rate": ("muon_lr", "matrix_lr", "hidden_lr"),
    "embedding_learning_rate": ("embedding_lr", "embed_lr", "unembedding_lr", "head_lr", "scalar_lr"),
    "min_learning_rate": ("min_lr", "lr_min", "final_lr", "end_lr"),
    "per_device_train_batch_size": (
        "batch_size",
        "train_batch_size",
        "device_batch_size",
        "micro_batch_size",
        "bs",
        "per_gpu_train_batch_size",
    ),
    "gradient_accumulation_steps": (
        "grad_accum_steps",
        "grad_accum",
        "accumulation_steps",
        "gradient_accumulation",
        "accumulate_grad_batches",
    ),
    "weight_decay": ("wd", "adam_weight_decay"),
    "warmup_steps": ("warmup_iters", "num_warmup_steps", "warmup", "lr_warmup_steps", "warmup_iterations"),
    "warmup_ratio": ("warmup_fraction", "warmup_frac", "warmup_proportion"),
    "cooldown_ratio": ("cooldown_frac", "cooldown_fraction", "warmdown_ratio", "decay_ratio"),
    "cooldown_steps": ("cooldown_iters", "warmdown_iters", "warmdown_steps"),
    "max_steps": (
        "max_iters",
        "num_iterations",
        "num_steps",
        "total_steps",
        "train_steps",
        "num_train_steps",
        "steps",
        "iterations",
        "n_steps",
        "max_train_steps",
        "lr_decay_iters",
    ),
    "num_train_epochs": ("epochs", "num_epochs", "n_epochs", "max_epochs"),
    "adam_beta1": ("beta1",),
    "adam_beta2": ("beta2",),
    "adam_epsilon": ("eps", "adam_eps", "epsilon"),
    "momentum": ("muon_momentum", "sgd_momentum"),
    "max_grad_norm": ("grad_clip", "clip_grad_norm", "gradient_clip_val", "clip", "grad_norm_clip", "max_norm"),
    "dropout": (
        "dropout_rate",
        "hidden_dropout",
        "attn_pdrop",
        "resid_pdrop",
        "embd_pdrop",
        "attention_dropout",
        "hidden_dropout_prob",
        "dropout_p",
        "p_dropout",
    ),
    "lr_scheduler_type": ("lr_scheduler", "lr_schedule"),
    "optim": ("optimizer", "optimizer_type", "opt"),
    "bf16": (),
    "tf32": (),
    "torch_compile": ("compile", "use_compile"),
    "gradient_checkpointing": (),
    "group_by_length": (),
    "padding_free": (),
    "dataloader_num_workers": ("num_workers", "workers", "n_workers"),
    "hidden_size": ("n_embd", "d_model", "dim", "model_dim", "embed_dim", "hidden_dim", "hidden", "width", "n_embed"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers", "layers", "depth"),
    "lora_r": ("lora_rank",),
    "lora_alpha": (),
    "tie_word_embeddings": ("tie_weights",),
}
_ROLES: Final = {alias: role for role, aliases in _ALIASES.items() for alias in (role, *aliases)}
LENGTH_NAMES: Final = (
    *("block_size", "max_length", "max_length_bytes", "max_seq_length", "max_seq_len", "seq_length", "seq_len", "seq"),
    *("sequence_length", "context_length"),
)
"""Of the length of the inputs; hotlap's own tasks have one of the first three."""
DEVICE_NAMES: Final = ("devices", "num_devices", "num_processes", "nproc_per_node", "num_gpus", "gpus", "world_size")
"""Of the number of devices, one process each."""
_WIDE: Final = ("learning_rate", "muon_learning_rate", "embedding_learning_rate", "min_learning_rate")
_SIZES: Final = ("per_device_train_batch_size", "hidden_size", "lora_r", "lora_alpha")
_COUNTS: Final = ("max_steps", "warmup_steps", "cooldown_steps")
_SHARES: Final[Mapping[str, tuple[float, float]]] = {
    "dropout": (0.0, 0.3),
    "warmup_ratio": (0.0, 0.2),
    "cooldown_ratio": (0.0, 1.0),
}
_LISTED: Final[Mapping[str, tuple[Any, ...]]] = {
    "adam_beta1": (0.8, 0.9, 0.95),
    "adam_beta2": (0.95, 0.98, 0.99, 0.999),
    "momentum": (0.8, 0.9, 0.95),
    "max_grad_norm": (0.5, 1.0, 2.0),
    "weight_decay": (0.0, 0.01, 0.1),
    "dataloader_num_workers": (0, 2, 4),
    "gradient_accumulation_steps": (1, 2, 4),
}
_SCHEDULES: Final = ("linear", "cosine", "constant_with_warmup")
_OPTIMIZERS: Final = ("adamw_torch_fused", "adamw_torch", "adafactor")
_LEFT_ALONE: Final = re.compile(
    r"eval|valid|\bval\b|val_|test|log|save|seed|path|dir|file|name|wandb|token|vocab|port|rank|device|world|num_proc|resume|checkpoint"
    r"|dataset|data|split|hub|version|max_len|max_length|seq_len|block_size|context|num_workers|num_samples|num_labels"
    r"|thread|cuda|nccl|debug|timeout|interval|every|nproc|nnodes|processes|smoothing|packing",
    re.IGNORECASE,
)
"""What belongs to the measurement, the data or the place of a run.

The Trainer evaluates with label smoothing, and TRL with packing, where it trains with it: another value of these is
another metric.
"""
CORE: Final = (
    *("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "weight_decay", "warmup_steps"),
    *("lr_scheduler_type", "optim", "max_grad_norm", "adam_beta2", "bf16", "torch_compile"),
)
"""Settings of Hugging Face's Trainer that a command is given a place for, even where it does not name them."""


def plain_name(name: str) -> str:
    """Return a setting's name without its section, as a script's option and its variable both have it."""
    return name.rpartition(".")[2].lower().lstrip("-").replace("-", "_")


def role_of(name: str) -> str | None:
    """Return Hugging Face's name for a setting; None for one that is not known, `seed` for a seed."""
    plain = plain_name(name)
    return SEED if plain in ("seed", "random_seed", "rng_seed") else _ROLES.get(plain)


def is_total_batch(name: str) -> bool:
    """Say whether a setting is the batch of a whole step, over all devices and passes."""
    return bool(_TOTALS.fullmatch(plain_name(name)))


def is_left_alone(name: str) -> bool:
    """Say whether a setting of unknown meaning looks like one that no search should touch."""
    return bool(_LEFT_ALONE.search(name))


def range_of(name: str, value: Any, choices: tuple[Any, ...] = ()) -> dict[str, Any] | None:
    """Return what a search may make of a setting, in the grammar of `search`; None where nothing sensible is known.

    `choices` are what the script itself takes. The present value always lies within.
    """
    role = role_of(name)
    if choices:
        return {"values": _with(list(choices), value)} if len(choices) > 1 else None
    if isinstance(value, bool):
        return {"values": [False, True]}
    if role == "lr_scheduler_type" and value in (*_SCHEDULES, "polynomial", "constant", "inverse_sqrt"):
        return {"values": _with(list(_SCHEDULES), value)}
    if role == "optim" and isinstance(value, str) and value.startswith(("adamw_", "adafactor")):
        return {"values": _with(list(_OPTIMIZERS), value)}
    if isinstance(value, str) or value is None or not math.isfinite(value):
        return None
    return _of_number(role, value)


def _of_number(role: str | None, value: float) -> dict[str, Any] | None:
    role = role or ""
    if role in _SHARES:
        low, high = _SHARES[role]
        return {"min": min(low, value), "max": max(high, value), "distribution": "uniform"}
    if role in _LISTED:
        return {"values": sorted(_with(list(_LISTED[role]), value))}
    if value <= 0:
        return None
    if role in _SIZES and isinstance(value, int):
        return {"values": sorted({max(1, value // 4), max(1, value // 2), value, value * 2})}
    if role == "num_hidden_layers" and isinstance(value, int):
        return {"values": sorted({max(1, value // 2), max(1, value - 1), value, value + 1})}
    if role in _COUNTS and isinstance(value, int):
        low, high = (max(1, value // 4), value) if role == "max_steps" else (0, max(2, value * 2))
        return {"min": low, "max": high, "distribution": "int_uniform"} if low < high else None
    factor = 10.0 if role in _WIDE else 4.0 if role == "num_train_epochs" else 3.0
    low, high = _round(value / factor), value if role == "num_train_epochs" else _round(value * factor)
    if isinstance(value, int):
        low, high = max(1, math.floor(low)), max(2, math.ceil(high))
        return {"min": min(low, value), "max": high, "distribution": "int_uniform"}
    return {"min": low, "max": high, "distribution": "log_uniform_values"}


def _with(values: list[Any], value: Any) -> list[Any]:
    """Return choices with the present value among them."""
    is_there = any(isinstance(one, bool) == isinstance(value, bool) and one == value for one in values)
    return values if is_there or value is None else [*values, value]


def _round(value: float) -> float:
    return float(f"{value:.2g}")
