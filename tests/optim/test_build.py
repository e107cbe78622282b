"""Optimizers by name: which rate and decay each role gets, who is orthogonalised, and how states are restored."""

import copy
import io
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from hotlap.config.schema import GPTConfig, TrainingConfig
from hotlap.core.errors import ConfigError
from hotlap.models.gpt import GPT
from hotlap.optim.build import Optimizers, build_optimizers
from hotlap.optim.muon import Muon
from hotlap.optim.roles import Role, roles_of

OPTIMIZERS = ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "muon"]


def model(**choices: Any) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(hidden_size=16, num_attention_heads=2, max_position_embeddings=8, **choices), 32)


def optimizers(net: nn.Module, *, bf16_is_fast: bool = False, **settings: Any) -> Optimizers:
    return build_optimizers(net, TrainingConfig(**settings), bf16_is_fast=bf16_is_fast)


def names(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return [name for name, p in net.named_parameters() if id(p) in held]


def give_gradients(net: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def train(net: nn.Module, built: Optimizers, steps: range) -> None:
    for step in steps:
        give_gradients(net, step)
        built.set_learning_rate(1 / (1 + step))
        built.step()


def settings_of(net: nn.Module, built: Optimizers) -> dict[str, tuple[float, float]]:
    """Return (learning rate, weight decay) of each parameter."""
    by_id = {
        id(p): (group["lr"], group["weight_decay"])
        for member in built.members
        for group in member.param_groups
        for p in group["params"]
    }
    return {name: by_id[id(p)] for name, p in net.named_parameters()}


@pytest.mark.parametrize("optim", OPTIMIZERS)
@pytest.mark.parametrize("choices", [{}, {"tie_word_embeddings": False, "smear": True}, {"use_bias": False}])
def test_every_parameter_has_exactly_one_optimizer(optim: str, choices: dict[str, Any]) -> None:
    net = model(**choices)
    built = optimizers(net, optim=optim)
    held = [p for o in built.members for group in o.param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(net.parameters()))
    by_role = [p for found in built.parameters.values() for p in found]
    assert {id(p) for p in by_role} == {id(p) for p in held}


def test_frozen_parameters_are_left_out() -> None:
    net = model()
    net.embedding.weight.requires_grad_(False)
    built = optimizers(net)
    assert "embedding.weight" not in {name for member in built.members for name in names(net, member)}
    matrices = {name for name, role in roles_of(net).items() if role == "matrix"}
    for name, p in net.named_parameters():
        p.requires_grad_(name in matrices)
    assert len(optimizers(net, optim="muon").members) == 1, "nothing is left for AdamW"


def test_muon_takes_the_matrices_inside_the_blocks_and_nothing_else() -> None:
    net = model(tie_word_embeddings=False, smear=True)
    muon, adamw = optimizers(net, optim="muon").members
    assert isinstance(muon, Muon) and isinstance(adamw, torch.optim.AdamW)
    parts = ("attention.qkv", "attention.projection", "mlp.up", "mlp.projection")
    assert names(net, muon) == [f"blocks.{layer}.{part}.weight" for layer in (0, 1) for part in parts]
    assert {"embedding.weight", "positions.weight", "head.weight", "smear_gate"} <= set(names(net, adamw))


def test_muon_leaves_weights_of_more_dimensions_to_adamw() -> None:
    net = nn.Sequential(nn.Conv1d(4, 4, 3), nn.Linear(4, 4))
    muon, adamw = optimizers(net, optim="muon").members
    assert (names(net, muon), names(net, adamw)) == (["1.weight"], ["0.weight", "0.bias", "1.bias"])


def test_muon_treats_queries_keys_and_values_apart() -> None:
    net = model()
    optimizers(net, optim="muon")
    assert {name for name, p in net.named_parameters() if getattr(p, "muon_blocks", 1) == 3} == {
        "blocks.0.attention.qkv.weight",
        "blocks.1.attention.qkv.weight",
    }


@pytest.mark.parametrize(("is_fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_muon_iterates_in_bfloat16_only_where_that_is_fast(is_fast: bool, dtype: torch.dtype) -> None:
    net, other = model(), model()
    settings: dict[str, Any] = {"optim": "muon", "muon_learning_rate": 0.1, "muon_momentum": 0.8, "weight_decay": 0.1}
    built = optimizers(net, bf16_is_fast=is_fast, **settings).members[0]
    for name, p in other.named_parameters():
        if name.endswith("qkv.weight"):
            p.muon_blocks = 3  # type: ignore[attr-defined]
    matrices = [p for name, p in other.named_parameters() if roles_of(other)[name] == "matrix"]
    expected = Muon(matrices, lr=0.1, momentum=0.8, weight_decay=0.1, dtype=dtype)
    for step in range(2):
        give_gradients(net, step)
        give_gradients(other, step)
        built.step()
        expected.step()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_matrices_and_embeddings_decay_and_the_rest_does_not(optim: str) -> None:
    net = model()
    roles = roles_of(net)
    before = {name: p.detach().clone().add_(1) for name, p in net.named_parameters()}
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1)  # so that no bias is zero
            p.grad = torch.zeros_like(p)
    optimizers(net, optim=optim, learning_rate=0.1, muon_learning_rate=0.3, weight_decay=0.5).step()
    for name, p in net.named_parameters():
        rate = 0.3 if optim == "muon" and roles[name] == "matrix" else 0.1
        expected = before[name] * (1 - rate * 0.5) if p.ndim == 2 else before[name]
        torch.testing.assert_close(p.detach(), expected, msg=name)


ROLE_RATES = {"embedding": 0.2, "head": 0.3, "vector": 0.4, "matrix": 0.1}
ROLE_DECAYS = {"embedding": 0.02, "head": 0.03, "vector": 0.04, "matrix": 0.01}


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_each_role_can_have_its_own_rate_and_decay(optim: str) -> None:
    net = model(tie_word_embeddings=False)
    own = {f"{role}_learning_rate": ROLE_RATES[role] for role in ("embedding", "head", "vector")}
    own |= {f"{role}_weight_decay": ROLE_DECAYS[role] for role in ("embedding", "head", "vector")}
    built = optimizers(net, optim=optim, learning_rate=0.1, weight_decay=0.01, muon_learning_rate=0.5, **own)
    rates = {**ROLE_RATES, **({"matrix": 0.5} if optim == "muon" else {})}
    assert settings_of(net, built) == {name: (rates[role], ROLE_DECAYS[role]) for name, role in roles_of(net).items()}
    assert built.learning_rates() == rates
    assert built.set_learning_rate(0.5) == pytest.approx(0.05)
    assert built.learning_rates() == pytest.approx({role: rate / 2 for role, rate in rates.items()})


def test_roles_with_the_same_settings_share_a_group() -> None:
    net = model(tie_word_embeddings=False)
    assert len(optimizers(net).members[0].param_groups) == 1
    assert len(optimizers(net, weight_decay=0.1).members[0].param_groups) == 2
    assert len(optimizers(net, weight_decay=0.1, head_learning_rate=1.0).members[0].param_groups) == 3
    assert optimizers(net, embedding_weight_decay=0.0).learning_rates().keys() == set(ROLE_RATES)


def test_adamw_takes_its_settings_from_the_config() -> None:
    net, by_hand = model(), model()
    settings: dict[str, Any] = {"learning_rate": 0.01, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 0.1}
    built = optimizers(net, optim="adamw_torch", optim_args="amsgrad=true", **settings)
    expected = torch.optim.AdamW(
        by_hand.parameters(), lr=0.01, betas=(0.8, 0.9), eps=0.1, weight_decay=0.0, amsgrad=True
    )
    for step in range(3):
        give_gradients(net, step)
        give_gradients(by_hand, step)
        built.step()
        expected.step()
    for a, b in zip(net.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a, b)


ADAFACTOR = {"beta2_decay": -0.5, "eps": (None, 0.01)}


@pytest.mark.parametrize(
    ("optim", "optim_args", "theirs", "kwargs"),
    [
        ("sgd", "momentum=0.9,nesterov=true", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ("sgd", None, torch.optim.SGD, {}),
        ("adafactor", {**ADAFACTOR, "eps": [None, 0.01]}, torch.optim.Adafactor, ADAFACTOR),
        ("adamw_torch_fused", None, torch.optim.AdamW, {"fused": True, "weight_decay": 0.0}),
    ],
)
def test_torchs_optimizers_take_their_own_steps(
    optim: str, optim_args: Any, theirs: type[torch.optim.Optimizer], kwargs: dict[str, Any]
) -> None:
    net, by_hand = model(), model()
    built = optimizers(net, optim=optim, optim_args=optim_args, learning_rate=0.01)
    expected = theirs(by_hand.parameters(), lr=0.01, **kwargs)  # type: ignore[call-arg]
    for step in range(3):
        give_gradients(net, step)
        give_gradients(by_hand, step)
        built.step()
        expected.step()
    for a, b in zip(net.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("optim", "is_fused"), [("adamw_torch", False), ("adamw_torch_fused", True), ("muon", True)])
def test_adamw_is_fused_unless_the_plain_one_is_asked_for(optim: str, is_fused: bool) -> None:
    assert optimizers(model(), optim=optim).members[-1].defaults["fused"] == is_fused


def test_fused_adamw_takes_nearly_the_same_steps() -> None:
    plain, fused = model(), model()
    start = [p.detach().clone() for p in plain.parameters()]
    train(plain, optimizers(plain, optim="adamw_torch"), range(5))
    train(fused, optimizers(fused, optim="adamw_torch_fused"), range(5))
    for a, b, before in zip(plain.parameters(), fused.parameters(), start, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-5)
        assert not torch.equal(a, before)


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_a_factor_reaches_every_group(optim: str) -> None:
    built = optimizers(model(), optim=optim, learning_rate=0.1, muon_learning_rate=0.4)
    for factor in (0.0, 0.5, 1.0, 0.25, 1.0):
        assert built.set_learning_rate(factor) == pytest.approx(0.1 * factor)
        for member in built.members:
            peak = 0.4 if isinstance(member, Muon) else 0.1
            assert [group["lr"] for group in member.param_groups] == pytest.approx(
                [peak * factor] * len(member.param_groups)
            )


def test_gradients_are_forgotten_by_all_members() -> None:
    net = model()
    give_gradients(net, 0)
    optimizers(net, optim="muon").zero_grad()
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("optim", [*OPTIMIZERS, "sgd with momentum"])
def test_a_restored_state_goes_on_bit_by_bit(optim: str) -> None:
    name, _, momentum = optim.partition(" with ")
    settings: dict[str, Any] = {"optim": name, "weight_decay": 0.1, "learning_rate": 0.01}
    if momentum:
        settings["optim_args"] = {"momentum": 0.9}
    net = model()
    built = optimizers(net, **settings)
    train(net, built, range(3))
    file = io.BytesIO()
    torch.save(built.state_dict(), file)
    file.seek(0)
    resumed = copy.deepcopy(net)
    other = optimizers(resumed, **settings)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.learning_rates() == built.learning_rates()
    train(net, built, range(3, 6))
    train(resumed, other, range(3, 6))
    for a, b in zip(net.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_resumed_training_takes_its_settings_from_the_config() -> None:
    net = model()
    built = optimizers(net, learning_rate=0.01, weight_decay=0.1)
    train(net, built, range(2))
    other = optimizers(copy.deepcopy(net), learning_rate=0.02, weight_decay=0.3, adam_beta2=0.9)
    other.load_state_dict(built.state_dict())
    other.set_learning_rate(0.5)
    group = other.members[0].param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.01, 0.3, (0.9, 0.9))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"optim": "muon"}, "AdamW, but training.optim builds Muon, AdamW"), ({"head_learning_rate": 1.0}, "otherwise")],
)
def test_a_state_of_another_optimizer_is_refused(settings: dict[str, Any], message: str) -> None:
    built = optimizers(model(tie_word_embeddings=False))
    with pytest.raises(ConfigError, match=message):
        optimizers(model(tie_word_embeddings=False), **settings).load_state_dict(built.state_dict())


def test_the_projects_own_optimizer_takes_part() -> None:
    seen: list[str] = []

    def mine(named: list[tuple[str, nn.Parameter]], training: TrainingConfig) -> list[torch.optim.Optimizer]:
        seen.extend(name for name, _ in named)
        first, *rest = (parameter for _, parameter in named)
        return [torch.optim.SGD([first], lr=training.learning_rate), torch.optim.SGD(rest, lr=0.3, momentum=0.9)]

    def build(net: nn.Module) -> Optimizers:
        training = TrainingConfig(optim="mine:mine", learning_rate=0.1)
        return build_optimizers(net, training, bf16_is_fast=False, custom=mine)

    net = model()
    built = build(net)
    assert seen == [name for name, _ in net.named_parameters()]
    assert built.set_learning_rate(0.5) == pytest.approx(0.05)
    rates: dict[Role, float] = built.learning_rates()
    assert rates == pytest.approx({"embedding": 0.05, "matrix": 0.15, "vector": 0.15})
    train(net, built, range(2))
    resumed = copy.deepcopy(net)
    other = build(resumed)
    other.load_state_dict(copy.deepcopy(built.state_dict()))
    train(net, built, range(2, 4))
    train(resumed, other, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), resumed.parameters(), strict=True))


def test_what_is_no_optimizer_is_refused() -> None:
    training = TrainingConfig(optim="mine:mine")
    with pytest.raises(ConfigError, match=r"mine:mine has to return a torch\.optim\.Optimizer .* got str"):
        build_optimizers(model(), training, bf16_is_fast=False, custom=lambda *_: "SGD")  # type: ignore[arg-type]


def test_values_that_torch_refuses_are_the_configs_fault() -> None:
    with pytest.raises(ConfigError, match=r"sgd cannot be built: Invalid momentum value: -1"):
        optimizers(model(), optim="sgd", optim_args={"momentum": -1})


def test_building_and_stepping_do_not_load_torchs_compiler() -> None:
    program = (
        "import sys, torch\n"
        "from hotlap.config.schema import TrainingConfig\n"
        "from hotlap.optim.build import build_optimizers\n"
        "for optim in ('adamw_torch_fused', 'muon', 'sgd', 'adafactor'):\n"
        "    net = torch.nn.Linear(4, 4)\n"
        "    built = build_optimizers(net, TrainingConfig(optim=optim), bf16_is_fast=False)\n"
        "    net(torch.ones(2, 4)).sum().backward()\n"
        "    built.step(), built.zero_grad(), built.load_state_dict(built.state_dict())\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"
