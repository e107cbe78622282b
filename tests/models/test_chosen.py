"""Positions that something is predicted for: the same hidden states and gradients as computing all of them."""

from typing import Any

import pytest
import torch

from hotlap.config.schema import GPTConfig
from hotlap.models import gpt
from hotlap.models.chosen import choose, positions_from
from hotlap.models.gpt import GPT

SHAPE: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
MODERN: dict[str, Any] = {"positions": "rope", "norm": "rms_norm", "qk_norm": True, "smear": True}
IDS = torch.randint(0, 256, (3, 11), generator=torch.Generator().manual_seed(1))
CHOSEN = torch.tensor([4, 5, 9, 13, 21, 22, 30, 32])
LATE = torch.tensor([32, 4, 9, 17, 20, 16, 26])
"""From column 4 on, in no order."""
DOCUMENTS = torch.tensor([[0] * 5 + [1] * 6, [2] * 8 + [-1] * 3, [3] * 3 + [4] * 3 + [5] * 5])
PLACES = torch.tensor([[*range(5), *range(6)], [*range(8), 0, 0, 0], [*range(3), *range(3), *range(5)]])


def gradients(model: GPT, hidden: torch.Tensor) -> list[torch.Tensor]:
    weight = torch.linspace(-1, 1, hidden.numel()).view(hidden.shape)
    model.zero_grad()
    (hidden * weight).sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("changes", [{}, MODERN, {"num_hidden_layers": 1}, {"use_bias": False, "positions": "rope"}])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("places", [CHOSEN, LATE])
def test_chosen_positions_are_those_of_the_whole(
    changes: dict[str, Any], checkpointing: bool, packed: bool, places: torch.Tensor
) -> None:
    torch.manual_seed(3)
    model = GPT(GPTConfig(**{**SHAPE, **changes}), 256, gradient_checkpointing=checkpointing)
    rows: dict[str, torch.Tensor] = {"positions": PLACES, "document_ids": DOCUMENTS} if packed else {}
    chosen = places[DOCUMENTS.flatten()[places] >= 0]
    whole = model.hidden(IDS, **rows).flatten(0, 1)[chosen]
    expected = gradients(model, whole)
    part = model.hidden(IDS, chosen=chosen, **rows)
    assert part.shape == (len(chosen), 16)
    torch.testing.assert_close(part, whole, atol=1e-6, rtol=1e-6)
    for got, wanted in zip(gradients(model, part), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


def test_chosen_positions_in_low_precision_are_as_near_as_all_of_them() -> None:
    torch.manual_seed(3)
    model = GPT(GPTConfig(**{**SHAPE, **MODERN}), 256)
    exact = model.hidden(IDS).flatten(0, 1)[LATE]
    with torch.autocast("cpu", torch.bfloat16):
        part, whole = model.hidden(IDS, chosen=LATE), model.hidden(IDS).flatten(0, 1)[LATE]
    assert (part - exact).abs().max() <= 2 * (whole - exact).abs().max()
    torch.testing.assert_close(part, whole, atol=0.03, rtol=0.03)


def test_long_rows_are_not_cut_since_torchs_attention_saves_memory_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    attend = gpt.causal_attention
    monkeypatch.setattr(gpt, "causal_attention", lambda q, *rest: asked.append(q.shape[2]) or attend(q, *rest))
    model = GPT(GPTConfig(**SHAPE, max_position_embeddings=600), 256)
    with torch.no_grad():
        model.hidden(torch.zeros(1, 600, dtype=torch.int64), chosen=torch.tensor([500, 599]))
    assert asked == [600, 600]


def test_all_positions_keep_their_rows() -> None:
    model = GPT(GPTConfig(**SHAPE), 256)
    assert model.hidden(IDS, chosen=torch.arange(IDS.numel())).shape == (3, 11, 16)


def test_what_is_not_chosen_gets_no_gradient() -> None:
    x = torch.randn(2, 4, 3, requires_grad=True)
    choose(x, torch.tensor([6, 1])).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten(0, 1).any(-1).nonzero().flatten().tolist() == [1, 6]
    assert choose(x, None) is x


def test_positions_keep_their_places_in_rows_cut_off_before_the_first() -> None:
    first, cut = positions_from(CHOSEN, IDS.shape[1])
    assert first == (CHOSEN % 11).min() == 0
    later = CHOSEN[CHOSEN % 11 >= 4]
    first, cut = positions_from(later, IDS.shape[1])
    assert first == 4
    assert torch.equal(IDS[:, 4:].flatten()[cut], IDS.flatten()[later])
    assert positions_from(CHOSEN[:0], 11)[0] == 0


def test_only_the_columns_from_the_first_chosen_ask_in_the_last_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    attend = gpt.causal_attention
    monkeypatch.setattr(gpt, "causal_attention", lambda q, *rest: asked.append(q.shape[2]) or attend(q, *rest))
    model = GPT(GPTConfig(**SHAPE), 256)
    model.hidden(IDS, chosen=torch.tensor([6, 10, 20, 32]))
    assert asked == [11, 5]
