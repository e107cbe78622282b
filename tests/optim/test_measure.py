"""Measurements: norms and clipping as in torch, sizes of updates by role, the noise of synthetic gradients."""

import math

import pytest
import torch
from torch import Tensor, nn

from hotlap.config.schema import GPTConfig, TrainingConfig
from hotlap.models.gpt import GPT
from hotlap.optim.build import build_optimizers
from hotlap.optim.measure import NoiseScale, UpdateNorm, clip_gradients, gradient_norm


def parameters(scale: float = 1.0) -> list[nn.Parameter]:
    """Return parameters with gradients, and one without."""
    generator = torch.Generator().manual_seed(0)
    found = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 5), (7,), (2, 2))]
    for parameter in found[:2]:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return found


def gradients(found: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in found if parameter.grad is not None]


def test_the_norm_is_over_all_gradients_together() -> None:
    found = parameters()
    whole = torch.cat([grad.flatten() for grad in gradients(found)])
    torch.testing.assert_close(gradient_norm(found), whole.norm())
    assert gradient_norm([nn.Parameter(torch.ones(3))]) == 0


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("limit", [0.5, 3.0])
def test_clipping_is_torchs_to_the_last_bit(scale: float, limit: float) -> None:
    ours, theirs = parameters(scale), parameters(scale)
    norm = gradient_norm(ours)
    clip_gradients(ours, norm, limit)
    assert torch.equal(norm, torch.nn.utils.clip_grad_norm_(theirs, limit))
    assert all(torch.equal(a, b) for a, b in zip(gradients(ours), gradients(theirs), strict=True))


def test_update_norms_are_told_by_role() -> None:
    config = GPTConfig(hidden_size=8, num_attention_heads=2, max_position_embeddings=4, tie_word_embeddings=False)
    model = GPT(config, 16)
    optimizers = build_optimizers(model, TrainingConfig(optim="sgd", learning_rate=0.1), bf16_is_fast=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    measured = UpdateNorm(optimizers)
    for role, found in optimizers.parameters.items():
        for parameter in found:
            parameter.grad = torch.full_like(parameter, 10.0 if role == "matrix" else 5.0)
    optimizers.step()
    expected = {"embedding": 0.5 / 1.5, "head": 0.5 / 1.5, "vector": 0.5 / 1.5, "matrix": 1.0 / 1.0}
    assert measured.result() == pytest.approx({f"update_norm_{role}": value for role, value in expected.items()})


def test_weights_that_are_all_zero_have_no_update_norm() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.bias.zero_()
    optimizers = build_optimizers(model, TrainingConfig(optim="sgd"), bf16_is_fast=False)
    found = UpdateNorm(optimizers).result()
    assert found["update_norm_matrix"] == 0
    assert math.isnan(found["update_norm_vector"])


SIZE, TRUE_NORM, SPREAD = 2000, 10.0, 1.0
"""Dimensions, |G| and the standard deviation of one example's gradient: a noise scale of 2000 / 100 = 20 examples."""


def noisy_steps(noise: NoiseScale, rows: int, count: int, ranks: int, *, in_examples: bool = True) -> None:
    """Feed 300 steps of `count` micro-batches of `rows` examples on each of `ranks` devices, seen from the first."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.full((SIZE,), TRUE_NORM / math.sqrt(SIZE))
    parameter = nn.Parameter(torch.zeros(SIZE))
    parts = count * ranks
    for _ in range(300):
        means = truth + SPREAD / math.sqrt(rows) * torch.randn(parts, SIZE, generator=generator)
        for seen in range(1, count + 1):
            # Until the gradients are shared, a device has its own micro-batches' parts of its own mean.
            parameter.grad = means.mean(dim=0) if seen == count else means[:seen].sum(dim=0) / count
            noise.add_micro_batch([parameter], count, float(parts * rows) if in_examples else None)


@pytest.mark.parametrize(("rows", "count", "ranks"), [(4, 4, 1), (2, 2, 1), (4, 2, 3)])
def test_the_noise_scale_of_synthetic_gradients_is_found(rows: int, count: int, ranks: int) -> None:
    noise = NoiseScale(world_size=ranks)
    noisy_steps(noise, rows, count, ranks)
    assert noise.result()["gradient_noise_scale"] == pytest.approx(20, rel=0.15)


def test_without_a_size_the_noise_scale_counts_micro_batches() -> None:
    noise = NoiseScale()
    noisy_steps(noise, rows=4, count=4, ranks=1, in_examples=False)
    assert noise.result()["gradient_noise_scale"] == pytest.approx(20 / 4, rel=0.15)


def test_the_noise_scale_goes_on_from_its_state() -> None:
    straight, before, after = NoiseScale(), NoiseScale(), NoiseScale()
    for noise in (straight, before):
        noisy_steps(noise, rows=4, count=4, ranks=1)
    after.load_state_dict(before.state_dict())
    for noise in (straight, after):
        noisy_steps(noise, rows=2, count=2, ranks=1)
    assert after.result() == straight.result() != before.result()


def test_a_single_micro_batch_tells_nothing() -> None:
    noise = NoiseScale()
    noisy_steps(noise, rows=4, count=1, ranks=1)
    assert noise.result() == {}
