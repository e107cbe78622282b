"""Further arguments of an optimizer: Hugging Face's string `momentum=0.9,nesterov=true`, or a mapping."""

from collections.abc import Mapping
from typing import Any, Final

from hotlap.core.errors import ConfigError

OPTIMIZER_ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "adamw_torch": ("amsgrad",),
    "adamw_torch_fused": ("amsgrad",),
    "adafactor": ("beta2_decay", "eps", "d"),
    "sgd": ("momentum", "dampening", "nesterov"),
    "muon": (),
}
"""The names that `optim_args` may have, by optimizer."""

_WORDS: Final[Mapping[str, bool | None]] = {"true": True, "yes": True, "false": False, "no": False, "none": None}
_HINTS: Final[Mapping[str, str]] = {
    "adafactor": "; its learning rate is relative to the size of each weight, like scale_parameter, and never above "
    "1/sqrt(step), so rates of the Trainer's adafactor do not carry over",
    "muon": "; set training.muon_learning_rate and training.muon_momentum",
}


def parse_optim_args(optim_args: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return `training.optim_args` as a mapping, with the values of the string form read as YAML would read them.

    Raises ConfigError for a string that is not of the form name=value,name=value.
    """
    if not isinstance(optim_args, str):
        return {key: tuple(value) if isinstance(value, list) else value for key, value in (optim_args or {}).items()}
    pairs = [part.partition("=") for part in optim_args.replace(" ", "").split(",") if part]
    if any(not key or not sign for key, sign, _ in pairs):
        raise ConfigError(f"training.optim_args: write name=value,name=value or a mapping, got {optim_args!r}")
    return {key: _value(text) for key, _, text in pairs}


def optimizer_arguments(optim: str, optim_args: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments for one of hotlap's optimizers.

    Raises ConfigError for a name that the optimizer does not take.
    """
    arguments = parse_optim_args(optim_args)
    known = OPTIMIZER_ARGUMENTS[optim]
    for key in arguments:
        if key not in known:
            names = ", ".join(known) or "none"
            raise ConfigError(f"training.optim_args: {optim} takes {names}, not {key}{_HINTS.get(optim, '')}")
    return arguments


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
