"""Optimizers by name: who decays, who is orthogonalised, and how the schedule reaches all of them."""

from typing import Any

import pytest
import torch
from torch import nn

from hotlap.config.schema import GPTConfig, TrainingConfig
from hotlap.models.gpt import GPT
from hotlap.optim.build import Optimizers, build_optimizers, is_hidden_matrix
from hotlap.optim.muon import Muon

OPTIMIZERS = ["adamw_torch", "adamw_torch_fused", "muon"]


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


@pytest.mark.parametrize("optim", OPTIMIZERS)
@pytest.mark.parametrize("choices", [{}, {"tie_word_embeddings": False, "smear": True}, {"use_bias": False}])
def test_every_parameter_has_exactly_one_optimizer(optim: str, choices: dict[str, Any]) -> None:
    net = model(**choices)
    held = [p for o in optimizers(net, optim=optim).members for group in o.param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(net.parameters()))


def test_muon_takes_the_matrices_inside_the_blocks_and_nothing_else() -> None:
    net = model(tie_word_embeddings=False, smear=True)
    muon, adamw = optimizers(net, optim="muon").members
    assert isinstance(muon, Muon)
    parts = ("attention.qkv", "attention.projection", "mlp.up", "mlp.projection")
    assert names(net, muon) == [f"blocks.{layer}.{part}.weight" for layer in (0, 1) for part in parts]
    assert {"embedding.weight", "positions.weight", "head.weight", "smear_gate"} <= set(names(net, adamw))
    assert [name for name, p in net.named_parameters() if is_hidden_matrix(name, p)] == names(net, muon)


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
    matrices = [p for name, p in other.named_parameters() if is_hidden_matrix(name, p)]
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
    before = {name: p.detach().clone().add_(1) for name, p in net.named_parameters()}
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1)  # so that no bias is zero
            p.grad = torch.zeros_like(p)
    optimizers(net, optim=optim, learning_rate=0.1, muon_learning_rate=0.3, weight_decay=0.5).step()
    for name, p in net.named_parameters():
        rate = 0.3 if optim == "muon" and is_hidden_matrix(name, p) else 0.1
        expected = before[name] * (1 - rate * 0.5) if p.ndim == 2 else before[name]
        torch.testing.assert_close(p.detach(), expected, msg=name)


def test_adamw_takes_its_settings_from_the_config() -> None:
    net, by_hand = model(), model()
    settings: dict[str, Any] = {"learning_rate": 0.01, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 0.1}
    built = optimizers(net, optim="adamw_torch", **settings)
    expected = torch.optim.AdamW(by_hand.parameters(), lr=0.01, betas=(0.8, 0.9), eps=0.1, weight_decay=0.0)
    for step in range(3):
        give_gradients(net, step)
        give_gradients(by_hand, step)
        built.step()
        expected.step()
    for a, b in zip(net.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_adamw_is_fused_unless_the_plain_one_is_asked_for(optim: str) -> None:
    assert optimizers(model(), optim=optim).members[-1].defaults["fused"] == (optim != "adamw_torch")


def test_fused_adamw_takes_nearly_the_same_steps() -> None:
    plain, fused = model(), model()
    start = [p.detach().clone() for p in plain.parameters()]
    nets = {plain: optimizers(plain, optim="adamw_torch"), fused: optimizers(fused, optim="adamw_torch_fused")}
    for net, built in nets.items():
        for step in range(5):
            give_gradients(net, step)
            built.set_learning_rate(step)
            built.step()
    for a, b, before in zip(plain.parameters(), fused.parameters(), start, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-5)
        assert not torch.equal(a, before)


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_the_schedule_reaches_every_group(optim: str) -> None:
    built = optimizers(model(), optim=optim, learning_rate=0.1, muon_learning_rate=0.4, max_steps=10, warmup_steps=2)
    for step, factor in [(0, 0.0), (1, 0.5), (2, 1.0), (6, 0.5), (10, 0.0), (2, 1.0)]:
        assert built.set_learning_rate(step) == pytest.approx(0.1 * factor)
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
