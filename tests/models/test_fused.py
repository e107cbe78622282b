"""The functions with few passes give what torch's many small steps give, value and gradient."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hotlap.models import fused
from hotlap.models.fused import gelu_tanh, relu_squared, rms_norm, rotate

Function = Callable[[Tensor], Tensor]


def rotation(length: int, pairs: int, rows: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    angles = torch.rand(rows, 1, length, pairs, generator=torch.Generator().manual_seed(1)).to(dtype) * 7
    return angles.cos(), angles.sin()


FUNCTIONS: dict[str, Function] = {
    "rms_norm": rms_norm,
    "rotate": lambda x: rotate(x, rotation(x.shape[-2], x.shape[-1] // 2)),
    "rotate each row": lambda x: rotate(x, rotation(x.shape[-2], x.shape[-1] // 2, x.shape[0])),
    "relu_squared": relu_squared,
    "gelu_tanh": gelu_tanh,
}


@pytest.fixture(params=FUNCTIONS)
def function(request: pytest.FixtureRequest) -> Function:
    return FUNCTIONS[request.param]


def both_ways(function: Function, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Return value and gradient in few passes, then in torch's steps."""
    results = []
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(x.dtype)
    for is_fused in (True, False):
        monkeypatch.setattr(fused, "_is_fused", lambda _, answer=is_fused: answer)
        x = x.detach().requires_grad_()
        y = function(x)
        assert y.dtype == x.dtype
        results.append((y.detach(), *torch.autograd.grad(y, x, gradient)))
    return results


@pytest.mark.parametrize("is_strided", [False, True])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
def test_values_and_gradients_are_those_of_torchs_steps(
    function: Function, is_strided: bool, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 7, 32) * size
    if is_strided:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    (value, gradient), (expected_value, expected_gradient) = both_ways(function, x, monkeypatch)
    torch.testing.assert_close(value, expected_value, rtol=1e-6, atol=1e-6 * float(expected_value.abs().max()))
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=2e-6 * float(expected_gradient.abs().max()))


@pytest.mark.parametrize("function", [function for name, function in FUNCTIONS.items() if name != "gelu_tanh"])
def test_low_precision_is_rounded_as_torch_rounds_it(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 3, 50, 32) * 3).bfloat16()
    (value, gradient), (expected_value, expected_gradient) = both_ways(function, x, monkeypatch)
    is_off = value != expected_value
    assert is_off.float().mean() < 0.001  # sums in another order, on the edge of rounding
    torch.testing.assert_close(value, expected_value, rtol=2**-7, atol=1e-6)
    largest = float(expected_gradient.abs().max())
    assert (gradient - expected_gradient).abs().max() <= largest * 2**-7


def test_the_squared_relu_has_torchs_gradient_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        found, expected = both_ways(relu_squared, torch.randn(40, 50).to(dtype), monkeypatch)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("function", [rms_norm, relu_squared, gelu_tanh])
def test_gradients_are_exact(function: Function) -> None:
    assert torch.autograd.gradcheck(function, (torch.randn(3, 6, dtype=torch.float64, requires_grad=True),))


def test_the_gradient_of_a_rotation_is_exact() -> None:
    turn = rotation(4, 3, dtype=torch.float64)
    x = torch.randn(2, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rotate(x, turn), (x,))


def test_gelu_in_low_precision_is_as_near_as_torchs() -> None:
    torch.manual_seed(0)
    x = (torch.randn(400, 500) * 3).bfloat16().requires_grad_()
    exact = F.gelu(x.detach().double(), approximate="tanh").bfloat16()
    own, torchs = gelu_tanh(x), F.gelu(x, approximate="tanh")
    assert (own == exact).float().mean() > (torchs == exact).float().mean()
    torch.testing.assert_close(own, exact, rtol=2**-7, atol=1e-6)
    slopes = [torch.autograd.grad(y.sum(), x)[0] for y in (own, torchs)]
    torch.testing.assert_close(*slopes, rtol=2**-6, atol=2**-7)


def test_gelu_in_pieces_is_gelu_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    whole = gelu_tanh(x)
    (slope,) = torch.autograd.grad(whole.sum(), x)
    monkeypatch.setattr(fused, "_PIECE", 8)
    torch.testing.assert_close(gelu_tanh(x), whole)
    torch.testing.assert_close(torch.autograd.grad(gelu_tanh(x).sum(), x)[0], slope)
    assert gelu_tanh(x[:0]).shape == (0, 7)


def test_nothing_stays_nothing() -> None:
    x = torch.zeros(2, 8, requires_grad=True)
    y = rms_norm(x)
    y.sum().backward()
    assert not y.any()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_torchs_steps_are_taken_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    x = torch.randn(3, 8)
    assert torch.equal(rms_norm(x), F.rms_norm(x, (8,)))
    assert not fused._is_fused(x)
