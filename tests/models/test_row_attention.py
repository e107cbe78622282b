"""Attention inside short rows against torch's own, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from hotlap.models.row_attention import row_attention

ROWS, HEADS, LENGTH, SIZE = 3, 2, 7, 8


def masks() -> dict[str, torch.Tensor | None]:
    draw = torch.Generator().manual_seed(1)
    everywhere = torch.rand(ROWS, 1, LENGTH, LENGTH, generator=draw) > 0.5
    keys = torch.rand(ROWS, 1, 1, LENGTH, generator=draw) > 0.5
    return {
        "none": None,
        "of each query": everywhere | torch.eye(LENGTH, dtype=torch.bool),
        "of keys": keys | (torch.arange(LENGTH) == 0),
        "of all rows": torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool).tril(),
    }


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_are_those_of_torch(kind: str, is_causal: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mask = masks()[kind]
    parts = [torch.randn(ROWS, HEADS, LENGTH, SIZE, dtype=dtype, requires_grad=True) for _ in range(3)]
    gradient = torch.randn(ROWS, HEADS, LENGTH, SIZE, dtype=dtype)
    expected = F.scaled_dot_product_attention(
        *(part.float() for part in parts), mask, is_causal=is_causal and mask is None
    )
    wanted = torch.autograd.grad(expected, parts, gradient.float())
    found = row_attention(*parts, mask, is_causal=is_causal)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)
    for one, other in zip(torch.autograd.grad(found, parts, gradient), wanted, strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=tolerance, rtol=tolerance)


def test_one_query_meets_many_keys() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 2, 1, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    found = row_attention(query, key, value, None, is_causal=False)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(query, key, value), atol=1e-5, rtol=1e-5)
