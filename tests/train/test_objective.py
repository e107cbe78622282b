"""The loss: one definition, whatever the size of the vocabulary and however the rows are laid out."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hotlap.config.schema import GPTConfig
from hotlap.data.batches import Batch, collate
from hotlap.data.encoding import EncodedExample, encode
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.models.gpt import GPT
from hotlap.tasks.examples import Example
from hotlap.train import objective as objective_module
from hotlap.train.objective import Objective, linear_cross_entropy

TEXTS = [("<a>", "first"), ("<longer>", "the second one"), ("<b>", ""), ("<c>", "four")]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def examples() -> list[EncodedExample]:
    return [encode(Example(prefix, completion), ByteTokenizer()) for prefix, completion in TEXTS]


def build(**choices: Any) -> GPT:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32}
    return GPT(GPTConfig(**{**sizes, **choices}), 256)


def loss_of(objective: nn.Module, batch: Batch) -> Tensor:
    loss: Tensor = objective(
        batch.input_ids, batch.target_positions, batch.targets, batch.document_ids, batch.positions
    )
    return loss


def gradients_of(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_is_the_sum_over_targets_one_by_one(label_smoothing: float) -> None:
    model = build()
    expected = torch.zeros(())
    for example in examples():
        ids = torch.tensor(example.ids.astype(int))
        for place in range(example.prefix_length, len(ids)):
            log_probabilities = model.logits(model.hidden(ids[None, :place]))[0, -1].log_softmax(-1)
            expected -= (1 - label_smoothing) * log_probabilities[ids[place]]
            expected -= label_smoothing * log_probabilities.mean()  # as transformers' LabelSmoother
    found = loss_of(Objective(model, 256, label_smoothing), collate(examples()))
    assert found.dtype == torch.float32
    assert found.shape == ()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_packed_rows_have_the_loss_and_gradients_of_padded_ones() -> None:
    model = build(positions="rope", smear=True)
    objective = Objective(model, 256)
    found = []
    first, second, third, fourth = examples()
    for batch in (collate(examples()), collate([[first, third], [second, fourth]], 40)):
        model.zero_grad()
        loss = loss_of(objective, batch)
        loss.backward()
        found.append([loss.detach(), *gradients_of(model)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class WithoutMatrix(nn.Module):
    """A model whose head is more than a product, so the logits of each piece are computed again backwards."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.inner = model

    def hidden(self, input_ids: Tensor) -> Tensor:
        return self.inner.hidden(input_ids)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.inner.logits(hidden)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("has_matrix", [True, False])
def test_pieces_give_the_loss_and_gradients_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, label_smoothing: float, tied: bool, has_matrix: bool
) -> None:
    model = build(tie_word_embeddings=tied)
    batch, found = collate(examples()), []
    for in_pieces in (False, True):
        with monkeypatch.context() as patch:
            if in_pieces:
                patch.setattr(objective_module, "LARGE_VOCABULARY", 256)
                patch.setattr(objective_module, "PIECE", 7 * 256)  # 27 targets: the last piece is a part
            model.zero_grad()
            loss = loss_of(Objective(model if has_matrix else WithoutMatrix(model), 256, label_smoothing), batch)
            (loss / 3).backward()
            found.append([loss.detach(), *gradients_of(model)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_in_pieces_agrees_with_torchs_own(label_smoothing: float) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(50, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(300, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 300, (50,))
    found, expected = [], []
    for results, loss in (
        (found, linear_cross_entropy(hidden, weight, targets, label_smoothing, 16)),
        (expected, F.cross_entropy(hidden @ weight.T, targets, reduction="sum", label_smoothing=label_smoothing)),
    ):
        results.extend([loss.detach().float(), *torch.autograd.grad(loss, (hidden, weight))])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_rows_of_padding_have_no_share_of_the_loss(label_smoothing: float) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(50, 8, requires_grad=True)
    weight = torch.randn(320, 8, requires_grad=True)
    targets = torch.randint(0, 300, (50,))
    loss = linear_cross_entropy(hidden, weight, targets, label_smoothing, 16, vocab_size=300)
    logits = hidden @ weight[:300].T
    expected = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    for one, other in zip(*(torch.autograd.grad(x, (hidden, weight)) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_frozen_head_has_no_gradient() -> None:
    hidden, weight, targets = torch.randn(5, 4, requires_grad=True), torch.randn(9, 4), torch.arange(5)
    loss = linear_cross_entropy(hidden, weight, targets)
    (found,) = torch.autograd.grad(loss, hidden)
    expected = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    torch.testing.assert_close(found, torch.autograd.grad(expected, hidden)[0])


def test_autocast_rounds_products_but_not_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(2000, 32, requires_grad=True), torch.randn(512, 32, requires_grad=True)
    targets = torch.randint(0, 512, (2000,))
    exact = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    expected = torch.autograd.grad(exact, (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, targets, 0.0, 64)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=1e-3, atol=0)
    found = torch.autograd.grad(loss, (hidden, weight))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.01 * other.norm()


def test_without_gradients_none_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = torch.randn(5, 4), torch.randn(9, 4, requires_grad=True), torch.arange(5)
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ weight.T, targets, reduction="sum"))


@pytest.mark.slow
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}])
@pytest.mark.filterwarnings("ignore")
def test_the_compiled_loss_is_the_same(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], is_packed: bool
) -> None:
    model = build(positions="rope", smear=True)
    model.gradient_checkpointing = bool(options)
    first, second, third, fourth = examples()
    batch = collate([[first, third], [second, fourth]], 40) if is_packed else collate(examples())
    found = []
    for objective in (Objective(model, 256), torch.compile(Objective(model, 256), backend="aot_eager")):
        model.zero_grad()
        loss = loss_of(objective, batch)
        loss.backward()
        found.append([loss.detach(), *gradients_of(model)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
