"""Dropout: the right share, the right scale, the same mask in the gradient, and repeatable."""

import pytest
import torch

from hotlap.models.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_p_is_dropped_and_the_rest_is_scaled(p: float) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(400, 501), p)
    share = (dropped == 0).float().mean().item()
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / dropped.numel()) ** 0.5)
    assert torch.equal(dropped.unique(), torch.tensor([0.0, 1 / (1 - p)]))


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = dropout(torch.ones(100_000), 0.5).bool()
    for distance in (1, 2, 3, 4):  # four elements share one draw
        assert (kept[distance:] == kept[:-distance]).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(0)
    x = torch.ones(7, 13, requires_grad=True)
    dropped = dropout(x, 0.3)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


def test_a_seed_gives_the_same_mask_and_another_one_a_different_mask() -> None:
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(dropout(torch.ones(50, 50), 0.1))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_nothing_is_dropped_at_zero_or_while_evaluating() -> None:
    x = torch.randn(5, 6)
    assert dropout(x, 0.0) is x
    assert Dropout(0.9).eval()(x) is x
