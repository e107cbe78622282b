"""Batches of ever other sizes in bf16 on a CPU: the same loss and gradients, by products of few shapes."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hotlap.config.schema import GPTConfig
from hotlap.config.word_latent import WordLatentConfig
from hotlap.data.batches import collate
from hotlap.data.encoding import EncodedExample, encode
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.data.word_arrays import WordLayout, arrange_words
from hotlap.data.word_batches import word_batch_of
from hotlap.models import chosen, documents, few_sizes
from hotlap.models.gpt import GPT
from hotlap.models.word_latent import WordLatent
from hotlap.tasks.examples import Example
from hotlap.train import objective
from hotlap.train.objective import Objective, WordObjective

SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
Loss = Callable[[nn.Module, list[EncodedExample]], Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Products(TorchDispatchMode):
    """Notes the shapes of the matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[Any, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm):
            self.shapes.add((str(func), *(tuple(each.shape) for each in args if isinstance(each, Tensor))))
        return func(*args, **kwargs or {})


def examples(chance: random.Random) -> list[EncodedExample]:
    def words(most: int) -> str:
        return " ".join("x" * chance.randint(1, 6) for _ in range(chance.randint(1, most)))

    return [encode(Example(words(6), words(9)), ByteTokenizer()) for _ in range(24)]


def gpt_loss(model: nn.Module, rows: list[EncodedExample]) -> Tensor:
    batch = collate(rows)
    return Objective(model, 256, 0.1)(batch.input_ids, batch.target_positions, batch.targets)


def packed_loss(model: nn.Module, rows: list[EncodedExample]) -> Tensor:
    batch = collate([rows[number::4] for number in range(4)], 480)
    return Objective(model, 256)(
        batch.input_ids, batch.target_positions, batch.targets, batch.document_ids, batch.positions
    )


def word_loss(model: nn.Module, rows: list[EncodedExample]) -> Tensor:
    assert isinstance(model, WordLatent)
    return WordObjective(model)(word_batch_of(arrange_words(rows, WordLayout(max_word_length=8))))


def gpt() -> nn.Module:
    return GPT(GPTConfig(**SIZES, max_position_embeddings=600), 256)


def checkpointed() -> nn.Module:
    return GPT(GPTConfig(**SIZES, max_position_embeddings=600), 256, gradient_checkpointing=True)


def modern() -> nn.Module:
    shape = {"positions": "rope", "norm": "rms_norm", "qk_norm": True, "smear": True, "tie_word_embeddings": False}
    return GPT(GPTConfig(**SIZES, **shape), 256)


def words() -> nn.Module:
    return WordLatent(WordLatentConfig(encoder=SIZES, latent=SIZES, decoder=SIZES, zero_init_projections=False))


CASES = [
    pytest.param(gpt, gpt_loss, id="rows"),
    pytest.param(gpt, packed_loss, id="packed"),
    pytest.param(words, word_loss, id="words"),
]
MORE = [
    pytest.param(checkpointed, gpt_loss, id="checkpointed"),
    pytest.param(modern, gpt_loss, id="modern"),
    pytest.param(modern, packed_loss, id="modern_packed"),
]


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Round, or do not, whatever the precision."""

    def switch(is_on: bool) -> None:
        for module in (few_sizes, chosen, documents):
            monkeypatch.setattr(module, "wants_few_sizes", lambda _: is_on)

    return switch


def step(model: nn.Module, loss_of: Loss, rows: list[EncodedExample]) -> list[Tensor]:
    model.zero_grad()
    loss = loss_of(model, rows)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def assert_the_same(build: Callable[[], nn.Module], loss_of: Loss, rounds: Callable[[bool], None]) -> None:
    torch.manual_seed(0)
    model, found = build(), []
    rows = examples(random.Random(3))
    for is_on in (True, False):
        rounds(is_on)
        found.append(step(model, loss_of, rows))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize(("build", "loss_of"), [*CASES, *MORE])
def test_rounding_changes_neither_the_loss_nor_its_gradients(
    build: Callable[[], nn.Module], loss_of: Loss, rounds: Callable[[bool], None]
) -> None:
    assert_the_same(build, loss_of, rounds)


@pytest.mark.parametrize("piece", [7 * 256, 64 * 256, 10_000 * 256])
@pytest.mark.parametrize(("build", "loss_of"), [CASES[0], CASES[1]])
def test_nor_do_they_where_the_head_is_computed_in_pieces(
    build: Callable[[], nn.Module],
    loss_of: Loss,
    piece: int,
    rounds: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(objective, "LARGE_VOCABULARY", 2)
    monkeypatch.setattr(objective, "PIECE", piece)
    assert_the_same(build, loss_of, rounds)


@pytest.mark.parametrize(("build", "loss_of"), CASES)
def test_it_happens_in_bf16_and_there_the_loss_stays_finite(build: Callable[[], nn.Module], loss_of: Loss) -> None:
    model, rows = build(), examples(random.Random(3))
    with Products() as plain:
        step(model, loss_of, rows)
    with Products() as rounded, torch.autocast("cpu", torch.bfloat16):
        found = step(model, loss_of, rows)
    assert all(torch.isfinite(each).all() for each in found)
    assert plain.shapes != rounded.shapes


@pytest.mark.parametrize(("build", "loss_of"), CASES)
def test_batches_of_ever_other_sizes_take_products_of_few_shapes(
    build: Callable[[], nn.Module], loss_of: Loss, rounds: Callable[[bool], None]
) -> None:
    model, seen = build(), []
    for is_on in (True, False):
        rounds(is_on)
        chance = random.Random(1)
        with Products() as products:
            for _ in range(40):
                step(model, loss_of, examples(chance))
        seen.append(len(products.shapes))
    assert seen[0] < 0.6 * seen[1], seen
