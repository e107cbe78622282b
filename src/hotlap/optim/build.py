"""Optimizers by name, with parameters grouped by their role in the model.

optimizers = build_optimizers(model, training, bf16_is_fast=...)
optimizers.set_learning_rate(factor), then optimizers.step(), then optimizers.zero_grad()

adamw_torch, adamw_torch_fused and sgd are torch's, with Hugging Face's meaning. adafactor is torch's, too: it takes
beta2_decay, eps and d (not the Trainer's relative_step, scale_parameter and clip_threshold), and its learning rate is
relative to the size of each weight. muon is hotlap's for the matrices and fused AdamW for the rest.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import torch
from torch import nn
from torch.optim import SGD, Adafactor, AdamW, Optimizer

from hotlap.config.schema import TrainingConfig
from hotlap.core.errors import ConfigError, unknown_name
from hotlap.optim.arguments import OPTIMIZER_ARGUMENTS, optimizer_arguments
from hotlap.optim.muon import Muon
from hotlap.optim.roles import Role, names_without_decay, roles_of

Kind = TypeVar("Kind", bound=Optimizer)
Group = dict[str, Any]
CustomOptimizer = Callable[[list[tuple[str, nn.Parameter]], TrainingConfig], Optimizer | Sequence[Optimizer]]
"""`module:function` of a project: (named parameters, training) to one or several optimizers."""


@dataclass(slots=True)
class Optimizers:
    """One or several optimizers that step together under one schedule."""

    members: list[Optimizer]
    peak: float
    """`training.learning_rate`."""
    parameters: Mapping[Role, Sequence[nn.Parameter]]
    """What is trained, by role; no role without a parameter."""
    is_custom: bool = False
    _places: dict[Role, tuple[int, int]] = field(default_factory=dict)
    """Member and group that hold a role's first parameter."""

    def __post_init__(self) -> None:
        held: dict[int, tuple[int, int]] = {}
        for number, member in enumerate(self.members):
            for place, group in enumerate(member.param_groups):
                group["peak_lr"] = group["lr"]
                held |= {id(parameter): (number, place) for parameter in group["params"]}
        self._places = {role: held[id(found[0])] for role, found in self.parameters.items() if id(found[0]) in held}

    def set_learning_rate(self, factor: float) -> float:
        """Set every learning rate to its peak times the schedule's factor; return that of `learning_rate`."""
        for member in self.members:
            for group in member.param_groups:
                group["lr"] = group["peak_lr"] * factor
        return self.peak * factor

    def learning_rates(self) -> dict[Role, float]:
        """Return the learning rate in use for each role."""
        return {
            role: float(self.members[number].param_groups[place]["lr"])
            for role, (number, place) in self._places.items()
        }

    def step(self) -> None:
        """Update the weights."""
        for member in self.members:
            member.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for member in self.members:
            member.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` restores bit by bit: moments, step counts, learning rates in use."""
        return {
            "kinds": [type(member).__name__ for member in self.members],
            "members": [member.state_dict() for member in self.members],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; peaks, weight decay and betas stay those of the config.

        Raises ConfigError when it was saved by other optimizers or with other groups of parameters.
        """
        kinds = [type(member).__name__ for member in self.members]
        if list(state["kinds"]) != kinds:
            raise ConfigError(
                f"the checkpoint holds the state of {', '.join(state['kinds'])}, but training.optim builds "
                f"{', '.join(kinds)}; resume with the optimizer that it was saved with"
            )
        for member, saved in zip(self.members, state["members"], strict=True):
            if _names(member.param_groups) != _names(saved["param_groups"]):
                raise ConfigError(
                    "the checkpoint's optimizer groups its parameters otherwise than this config; resume with the "
                    "roles' learning rates and weight decays that it was saved with, or begin a new run"
                )
            own = [dict(group) for group in member.param_groups]
            member.load_state_dict(saved)
            for group, settings in zip(member.param_groups, own, strict=True):
                fixed: set[str] = {"peak_lr"} if self.is_custom else settings.keys() - {"lr"}
                group.update({key: settings[key] for key in fixed})


def build_optimizers(
    model: nn.Module, training: TrainingConfig, *, bf16_is_fast: bool, custom: CustomOptimizer | None = None
) -> Optimizers:
    """Build the optimizer that `training.optim` names; `custom` is the function of a name `module:function`.

    Raises ConfigError for arguments that the optimizer does not take.
    """
    roles = roles_of(model)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    by_role: dict[Role, list[nn.Parameter]] = {}
    for name, parameter in named:
        by_role.setdefault(roles[name], []).append(parameter)
    if custom is not None:
        return Optimizers(_custom_members(custom, named, training), training.learning_rate, by_role, is_custom=True)
    if training.optim not in OPTIMIZER_ARGUMENTS:
        raise unknown_name("optimizer", training.optim, OPTIMIZER_ARGUMENTS)
    undecayed = names_without_decay(model)
    matrices, others = _Groups(training), _Groups(training)
    for name, parameter in named:
        is_for_muon = training.optim == "muon" and roles[name] == "matrix" and parameter.ndim == 2
        groups = matrices if is_for_muon else others
        groups.add(name, parameter, roles[name], is_decayed=name not in undecayed)
    members: list[Optimizer] = []
    if matrices.found:
        members.append(_muon(matrices.found, training, torch.bfloat16 if bf16_is_fast else torch.float32))
    arguments = optimizer_arguments(training.optim, training.optim_args)
    if others.found:
        try:
            members.append(_BUILDERS[training.optim](others.found, training, arguments))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"training.optim_args: {training.optim} cannot be built: {error}") from error
    return Optimizers(members, training.learning_rate, by_role)


class _Groups:
    """Parameter groups, as few as there are pairs of a learning rate and a weight decay: each costs a launch."""

    def __init__(self, training: TrainingConfig) -> None:
        self._training = training
        self._by_settings: dict[tuple[float, float], Group] = {}

    @property
    def found(self) -> list[Group]:
        """The groups so far, in the order of their first parameters."""
        return list(self._by_settings.values())

    def add(self, name: str, parameter: nn.Parameter, role: Role, *, is_decayed: bool) -> None:
        """Put a parameter into the group of its settings."""
        training = self._training
        rate, decay = {
            "embedding": (training.embedding_learning_rate, training.embedding_weight_decay),
            "head": (training.head_learning_rate, training.head_weight_decay),
            "vector": (training.vector_learning_rate, training.vector_weight_decay),
            "matrix": (None, None),
        }[role]
        rate = training.learning_rate if rate is None else rate
        if decay is None:
            decay = training.weight_decay if is_decayed else 0.0
        group = self._by_settings.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay})
        group["params"].append((name, parameter))


def light(kind: type[Kind]) -> type[Kind]:
    """Return an optimizer class without the decorators that import torch's compiler when they are called.

    They keep these methods out of compiled code, where hotlap never calls them, and cost 1.3 s at the first call.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return cast("type[Kind]", type(kind.__name__, (kind,), {**methods, "step": step}))


_LightAdamW, _LightAdafactor, _LightSGD, _LightMuon = light(AdamW), light(Adafactor), light(SGD), light(Muon)


def _adamw(groups: list[Group], training: TrainingConfig, arguments: Mapping[str, Any]) -> Optimizer:
    betas = (training.adam_beta1, training.adam_beta2)
    fused = training.optim != "adamw_torch"
    return _LightAdamW(
        groups, lr=training.learning_rate, betas=betas, eps=training.adam_epsilon, fused=fused, **arguments
    )


def _adafactor(groups: list[Group], training: TrainingConfig, arguments: Mapping[str, Any]) -> Optimizer:
    return _LightAdafactor(groups, lr=training.learning_rate, **arguments)


def _sgd(groups: list[Group], training: TrainingConfig, arguments: Mapping[str, Any]) -> Optimizer:
    return _LightSGD(groups, lr=training.learning_rate, **arguments)


def _muon(groups: list[Group], training: TrainingConfig, dtype: torch.dtype) -> Optimizer:
    for group in groups:
        group["lr"] = training.muon_learning_rate
        for name, parameter in group["params"]:
            if name.endswith("qkv.weight"):
                parameter.muon_blocks = 3
    return _LightMuon(groups, training.muon_learning_rate, training.muon_momentum, dtype=dtype)


_BUILDERS: Final[Mapping[str, Callable[[list[Group], TrainingConfig, Mapping[str, Any]], Optimizer]]] = {
    "adamw_torch": _adamw,
    "adamw_torch_fused": _adamw,
    "adafactor": _adafactor,
    "sgd": _sgd,
    "muon": _adamw,
}


def _custom_members(
    custom: CustomOptimizer, named: list[tuple[str, nn.Parameter]], training: TrainingConfig
) -> list[Optimizer]:
    """Call the project's function and check what it returns."""
    built: Any = custom(named, training)
    members = list(built) if isinstance(built, list | tuple) else [built]
    for member in members:
        is_usable = isinstance(member, Optimizer) and all("lr" in group for group in member.param_groups)
        if not is_usable:
            raise ConfigError(
                f"training.optim: {training.optim} has to return a torch.optim.Optimizer (or a list of them) with a "
                f"learning rate lr in each parameter group, got {type(member).__name__}"
            )
    return members


def _names(groups: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return what tells the groups apart: the parameters' names, or how many there are where nobody named them."""
    return [group.get("param_names", len(group["params"])) for group in groups]
