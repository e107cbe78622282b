"""Packed rows: each document is computed as if it were alone, by every way of doing so."""

import shutil
from typing import Any

import pytest
import torch
from test_gpt import COMBINATIONS, VOCAB, build
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

from hotlap.models import gpt
from hotlap.models.documents import DocumentRows, document_mask, flex_block_mask
from hotlap.models.gpt import GPT

LENGTHS = ((3, 5, 2), (9,), (1, 4, 4, 1))
WIDTH = 12
WAYS = ("rows", "mask")


def packed() -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Return tokens, document_ids and positions of three rows, each (3, 12), and the documents one by one."""
    tokens, ids = torch.zeros(3, WIDTH, dtype=torch.int64), torch.full((3, WIDTH), -1)
    positions = torch.zeros_like(tokens)
    draw = torch.Generator().manual_seed(7)
    documents = []
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for length in lengths:
            document = torch.randint(0, VOCAB, (length,), generator=draw)
            place = slice(start, start + length)
            tokens[row, place], positions[row, place] = document, torch.arange(length)
            ids[row, place] = len(documents)
            documents.append(document)
            start += length
    return tokens, ids, positions, documents


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(gpt, "splits_documents", lambda _: request.param == "rows")
    return str(request.param)


def logits_of_packed(model: GPT) -> list[Tensor]:
    """Return the logits of each document as it stands in its row."""
    tokens, ids, positions, documents = packed()
    logits = model.logits(model.hidden(tokens, positions=positions, document_ids=ids))
    return [logits[ids == number] for number in range(len(documents))]


@pytest.mark.parametrize("choices", COMBINATIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_a_document_in_a_row_is_computed_as_if_it_were_alone(way: str, choices: dict[str, Any]) -> None:
    model = build(**choices)
    found = logits_of_packed(model)
    for document, logits in zip(packed()[3], found, strict=True):
        alone = model.logits(model.hidden(document.unsqueeze(0)))[0]
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-4)


def test_gradients_are_those_of_the_documents_alone(way: str) -> None:
    choices: dict[str, Any] = {"smear": True, "positions": "rope", "qk_norm": True}
    model, other = build(**choices), build(**choices)
    torch.cat(logits_of_packed(model)).square().sum().backward()
    for document in packed()[3]:
        other.logits(other.hidden(document.unsqueeze(0))).square().sum().backward()
    for (name, found), expected in zip(model.named_parameters(), other.parameters(), strict=True):
        assert found.grad is not None and expected.grad is not None, name
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-4, rtol=1e-3)


def test_padding_changes_nothing(way: str) -> None:
    model = build(smear=True)
    tokens, ids, positions, _ = packed()
    gradients = []
    for filling in (0, 5):
        filled = torch.where(ids < 0, filling, tokens)
        model.zero_grad()
        hidden = model.hidden(filled, positions=positions, document_ids=ids)
        hidden[ids >= 0].square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("key", ["attn_pdrop", "resid_pdrop"])
def test_dropout_works_in_packed_rows(way: str, key: str) -> None:
    choices: dict[str, Any] = {key: 0.3}
    model = build(**choices).train()
    assert all(torch.isfinite(logits).all() for logits in logits_of_packed(model))
    assert not torch.equal(logits_of_packed(model)[1], logits_of_packed(model)[1])


def test_documents_are_split_and_joined_exactly() -> None:
    _, ids, _, documents = packed()
    x = torch.randn(3, WIDTH, 5, dtype=torch.float64, requires_grad=True)
    rows = DocumentRows(ids)
    split = rows.split(x)
    assert split.shape == (len(documents), 9, 5)
    for number, document in enumerate(documents):
        assert torch.equal(split[number, : len(document)], x[ids == number])
        assert not split[number, len(document) :].any()
    assert torch.equal(rows.join(split), x * (ids >= 0).unsqueeze(-1))
    assert torch.autograd.gradcheck(rows.split, (x,))
    assert torch.autograd.gradcheck(rows.join, (split.detach().requires_grad_(),))


def test_neighbouring_rows_are_apart_whatever_their_numbers() -> None:
    rows = DocumentRows(torch.tensor([[0, 0, 1], [1, 1, 0], [0, 0, 0]]))
    x = torch.arange(9.0).view(3, 3, 1) + 1
    assert rows.split(x).squeeze(-1).tolist() == [[1, 2, 0], [3, 0, 0], [4, 5, 0], [6, 0, 0], [7, 8, 9]]


def test_the_mask_looks_back_within_a_document() -> None:
    mask = document_mask(torch.tensor([[4, 4, 7, -1, -1]]))
    assert mask.squeeze().int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]


def test_flex_attention_gets_the_same_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ids, _, _ = packed()
    given = {}

    def note(mask_mod: Any, *sizes: Any, device: torch.device) -> None:
        given["mask"] = create_mask(mask_mod, *sizes, device=str(device))

    monkeypatch.setattr("hotlap.models.documents._flex", lambda: (None, note))
    flex_block_mask(ids)
    assert torch.equal(given["mask"], document_mask(ids))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs one for C++")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_compiled", [False, True])
def test_flex_attention_gives_what_the_mask_gives(is_compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, forward only, which is all that FlexAttention does there; as a part of compiled code and alone."""
    choices: dict[str, Any] = {"hidden_size": 32, "positions": "rope", "qk_norm": True}
    model = build(**choices, num_hidden_layers=1)  # each further layer takes C++ as long again
    tokens, ids, places, _ = packed()
    monkeypatch.setattr(gpt, "splits_documents", lambda _: False)

    def hidden(tokens: Tensor, places: Tensor, ids: Tensor) -> Tensor:
        return model.hidden(tokens, positions=places, document_ids=ids)

    with torch.no_grad():
        expected = hidden(tokens, places, ids)[ids >= 0]
        monkeypatch.setattr(gpt, "has_flex_attention", lambda *_: True)
        found = (torch.compile(hidden) if is_compiled else hidden)(tokens, places, ids)[ids >= 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_flex_attention_on_a_gpu_gives_what_the_mask_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(hidden_size=64, positions="rope").cuda()
    tokens, ids, positions, _ = (part.cuda() if isinstance(part, Tensor) else part for part in packed())
    found = []
    for has_flex in (True, False):
        monkeypatch.setattr(gpt, "has_flex_attention", lambda *_, answer=has_flex: answer)
        model.zero_grad()
        hidden = model.hidden(tokens, positions=positions, document_ids=ids)[ids >= 0]
        hidden.square().sum().backward()
        found.append([hidden, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-2)
