"""Attention in blocks of queries gives what torch's gives: values, gradients, any lengths, with and without dropout."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hotlap.core.errors import ConfigError
from hotlap.models import attention
from hotlap.models.attention import _CausalAttention, _cuts, causal_attention


def parts(queries: int, keys: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value of 2 rows and 3 heads as views of one tensor, the way the model has them."""
    combined = torch.randn(2, keys, 3, 3, 8, dtype=dtype, requires_grad=True)
    query, key, value = (x.transpose(1, 2) for x in combined.unbind(2))
    return query[:, :, keys - queries :], key, value


def reference(query: Tensor, key: Tensor, value: Tensor, factors: Tensor | float = 1.0) -> Tensor:
    hidden = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).triu(key.shape[2] - query.shape[2] + 1)
    scores = (query @ key.mT / key.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf)
    return (scores.softmax(-1) * factors) @ value


def gradients(mixed: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weight = torch.linspace(-1, 1, mixed.numel(), dtype=mixed.dtype).view(mixed.shape)
    return torch.autograd.grad(mixed, inputs, weight)


@given(keys=st.integers(1, 530), share=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_values_and_gradients_at_any_lengths(keys: int, share: float) -> None:
    torch.manual_seed(keys)
    inputs = parts(max(1, round(share * keys)), keys)
    mixed, expected = _CausalAttention.apply(*inputs, 0.0), reference(*inputs)
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-5)
    for got, wanted in zip(gradients(mixed, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5)


@given(st.integers(1, 2000))
def test_blocks_cover_the_queries_in_even_pieces(queries: int) -> None:
    cuts = _cuts(queries)
    sizes = [last - first for first, last in pairwise(cuts)]
    assert cuts[0] == 0
    assert sum(sizes) == queries
    assert 0 < min(sizes) <= max(sizes) <= 200
    assert all(cut % 16 == 0 for cut in cuts[1:-1])


def test_gradients_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_cuts", lambda queries: [0, 2, queries])
    query, key, value = (x.detach().requires_grad_() for x in parts(4, 6, torch.float64))
    assert torch.autograd.gradcheck(lambda *x: _CausalAttention.apply(*x, 0.0), (query, key, value))


@pytest.mark.parametrize(("dtype", "length", "is_own"), [(torch.float32, 40, True), (torch.float32, 600, False)])
def test_long_rows_are_left_to_torch(
    dtype: torch.dtype, length: int, is_own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *parts, **_: asked.append(1) or parts[0])
    causal_attention(*parts(length, length, dtype))
    assert bool(asked) is not is_own


@pytest.mark.parametrize("length", [40, 300])
def test_low_precision_is_as_near_as_torchs(length: int) -> None:
    torch.manual_seed(0)
    exact = parts(length, length)
    rounded = tuple(x.detach().bfloat16().requires_grad_() for x in exact)
    wide = tuple(x.detach().float().requires_grad_() for x in rounded)
    expected = reference(*wide)
    own, torchs = causal_attention(*rounded), F.scaled_dot_product_attention(*rounded, is_causal=True)
    pairs = [(expected, own, torchs)]
    pairs += zip(gradients(expected, wide), gradients(own, rounded), gradients(torchs, rounded), strict=True)
    for truth, ours, theirs in pairs:
        size = truth.abs().max()
        assert (ours - truth).abs().max() <= 3 * (theirs - truth).abs().max() + 0.01 * size


@pytest.mark.parametrize("cuts", [[0, 7], [0, 2, 5, 7]])
def test_dropout_multiplies_the_weights_and_their_gradients(cuts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    inputs = parts(7, 7)
    factors = (torch.rand(6, 7, 7) > 0.3).float() / 0.7
    blocks = [factors[:, first:last, :last] for first, last in pairwise(cuts)]
    monkeypatch.setattr(attention, "dropout_factors", lambda weights, p: blocks.pop(0))
    monkeypatch.setattr(attention, "_cuts", lambda queries: cuts)
    mixed = causal_attention(*inputs, 0.3)
    expected = reference(*inputs, factors.view(2, 3, 7, 7))
    torch.testing.assert_close(mixed, expected)
    for got, wanted in zip(gradients(mixed, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 5, 4).unbind(0)
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    mean = torch.stack([causal_attention(query, key, value, 0.2) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, expected, atol=0.06, rtol=0)


def test_no_rows_are_no_error() -> None:
    query, key, value = (x[:0] for x in parts(9, 9))
    assert causal_attention(query, key, value).shape == (0, 3, 9, 8)


@pytest.mark.parametrize("name", ["eager", "sdpa", "flash"])
def test_a_named_implementation_gives_the_same(name: str) -> None:
    torch.manual_seed(1)
    inputs = parts(9, 9)
    mixed, expected = causal_attention(*inputs, 0.0, name), reference(*inputs)
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-5)
    for got, wanted in zip(gradients(mixed, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["efficient", "cudnn"])
@pytest.mark.filterwarnings("ignore")  # torch lists why each of its kernels does not fit
def test_a_kernel_that_the_device_has_not_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"attn_implementation: {name} is not there on cpu .*use sdpa"):
        causal_attention(*parts(9, 9), 0.0, name)
