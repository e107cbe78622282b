"""Muon: orthogonal updates, the same steps as torch's own Muon, and queries, keys and values apart."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hotlap.optim.muon import Muon, orthogonalise

SHAPES = [(16, 16), (24, 8), (8, 24)]


def matrix(rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return a matrix with singular values between 0.1 and 1, and its singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    rank = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, rank, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(columns, rank, generator=generator))[0]
    return left @ torch.diag(torch.linspace(1, 0.1, rank)) @ right.T, left, right


def parameter(*shape: int, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def gradients(shape: torch.Size, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(99)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def train(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: list[list[Tensor]]) -> None:
    for grads in steps:
        for p, grad in zip(parameters, grads, strict=True):
            p.grad = grad.clone()
        optimizer.step()


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_come_near_1_and_their_vectors_stay(rows: int, columns: int, dtype: torch.dtype) -> None:
    x, left, right = matrix(rows, columns)
    found = orthogonalise(x.unsqueeze(0), dtype)[0]
    assert found.dtype == torch.float32
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.65
    assert values.max() < 1.25
    inner = left.T @ found @ right
    slack = 1e-4 if dtype == torch.float32 else 0.05
    assert (inner - torch.diag(inner.diag())).abs().max() < slack
    assert inner.diag().min() > 0.65


def test_the_scale_of_a_gradient_does_not_matter_and_none_is_no_update() -> None:
    x = matrix(12, 8)[0].unsqueeze(0)
    torch.testing.assert_close(orthogonalise(x * 1e3, torch.float32), orthogonalise(x, torch.float32))
    assert not orthogonalise(torch.zeros(1, 12, 8), torch.float32).any()


def test_a_stack_is_orthogonalised_matrix_by_matrix() -> None:
    stack = torch.stack([matrix(12, 8, seed)[0] * 10**seed for seed in range(3)])
    found = orthogonalise(stack, torch.float32)
    for x, y in zip(stack, found, strict=True):
        torch.testing.assert_close(y, orthogonalise(x.unsqueeze(0), torch.float32)[0])


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_torchs_muon(rows: int, columns: int, weight_decay: float) -> None:
    settings: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": weight_decay}
    ours, exact, theirs = parameter(rows, columns), parameter(rows, columns), parameter(rows, columns)
    start = ours.detach().clone()
    steps = [[grad] for grad in gradients(ours.shape)]
    train(Muon([ours], dtype=torch.bfloat16, **settings), [ours], steps)
    train(Muon([exact], **settings), [exact], steps)
    train(torch.optim.Muon([theirs], nesterov=True, adjust_lr_fn="original", **settings), [theirs], steps)
    moved = (theirs - start).flatten()
    assert moved.norm() > 0.2
    assert torch.cosine_similarity(moved, (ours - start).flatten(), dim=0) > 0.999
    assert (ours - start).norm().item() == pytest.approx(moved.norm().item(), rel=0.01)
    assert torch.cosine_similarity(moved, (exact - start).flatten(), dim=0) > 0.99  # torch iterates in bfloat16


def test_parameters_of_one_shape_take_the_steps_that_torch_takes_one_by_one() -> None:
    """Torch's default scale is "original": sqrt(max(1, rows / columns)); "match_rms_adamw" is 0.2 sqrt(max(...))."""
    shapes = [(12, 8), (8, 12), (12, 8), (8, 8)]
    ours = [parameter(*shape, seed=number) for number, shape in enumerate(shapes)]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    start = [p.detach().clone() for p in ours]
    steps = [[gradients(p.shape, 2)[number] for p in ours] for number in range(2)]
    train(Muon(ours, lr=0.05, dtype=torch.bfloat16), ours, steps)
    train(torch.optim.Muon(theirs, lr=0.05, weight_decay=0.0), theirs, steps)
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.1 * (b - before).norm()
        assert not torch.equal(a, before)


def test_parts_of_one_parameter_are_orthogonalised_apart() -> None:
    whole, blocks = parameter(24, 8), parameter(24, 8)
    blocks.muon_blocks = 3  # type: ignore[attr-defined]
    apart = [nn.Parameter(part.detach().clone()) for part in whole.chunk(3)]
    grads = gradients(whole.shape)
    train(Muon([blocks], lr=0.05), [blocks], [[grad] for grad in grads])
    train(Muon(apart, lr=0.05), apart, [list(grad.chunk(3)) for grad in grads])
    train(Muon([whole], lr=0.05), [whole], [[grad] for grad in grads])
    torch.testing.assert_close(blocks.detach(), torch.cat([part.detach() for part in apart]))
    assert (blocks - whole).abs().max() > 0.01


def test_parameters_of_one_shape_do_not_disturb_each_other() -> None:
    together = [parameter(8, 8, seed=0), parameter(8, 12, seed=1), parameter(8, 8, seed=2)]
    alone = [nn.Parameter(p.detach().clone()) for p in together]
    grads = [gradients(p.shape, 6)[number : number + 3] for number, p in enumerate(together)]
    train(Muon(together, lr=0.05), together, list(map(list, zip(*grads, strict=True))))
    for p, steps in zip(alone, grads, strict=True):
        train(Muon([p], lr=0.05), [p], [[grad] for grad in steps])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.detach(), b.detach())


def test_weight_decay_shrinks_towards_zero_before_the_step() -> None:
    plain, decayed = parameter(8, 8), parameter(8, 8)
    start, grads = plain.detach().clone(), [gradients(plain.shape, 1)]
    train(Muon([plain], lr=0.1), [plain], grads)
    train(Muon([decayed], lr=0.1, weight_decay=0.5), [decayed], grads)
    torch.testing.assert_close(decayed.detach(), plain.detach() - 0.1 * 0.5 * start)


def test_a_parameter_without_a_gradient_stays() -> None:
    moving, resting = parameter(8, 8), parameter(8, 8)
    before = resting.detach().clone()
    moving.grad = torch.ones(8, 8)
    Muon([moving, resting], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(resting.detach(), before)
    assert not torch.equal(moving.detach(), before)
