"""The model: nothing looks ahead, the cache changes nothing, and each choice does what its name says."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hotlap.config.schema import GPTConfig
from hotlap.models.fused import rotate
from hotlap.models.gpt import GPT, KeyValueCache, Norm

VOCAB = 64
CHOICES: dict[str, tuple[Any, ...]] = {
    "positions": ("learned", "rope"),
    "norm": ("layer_norm", "rms_norm"),
    "hidden_act": ("gelu_new", "gelu", "relu_squared", "swiglu"),
    "qk_norm": (False, True),
    "smear": (False, True),
    "tie_word_embeddings": (True, False),
}
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]


def build(seed: int = 0, *, stir: bool = True, **choices: Any) -> GPT:
    """Build a tiny model for evaluation; `stir` moves every weight, so that no gate or bias is at its silent start."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 16}
    model = GPT(GPTConfig(**{**sizes, **choices}), VOCAB).eval()
    if stir:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def forward(model: GPT, tokens: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.logits(model.hidden(tokens))


def random_tokens(rows: int = 2, length: int = 10) -> Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("choices", COMBINATIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_no_position_looks_ahead(choices: dict[str, Any]) -> None:
    model, tokens = build(**choices), random_tokens()
    logits = forward(model, tokens)
    for changed in (1, 6, 9):
        other = tokens.clone()
        other[:, changed] = (other[:, changed] + 1) % VOCAB
        found = forward(model, other)
        torch.testing.assert_close(found[:, :changed], logits[:, :changed], atol=1e-6, rtol=1e-6)
        assert not torch.allclose(found[:, changed], logits[:, changed], atol=1e-3)
        assert not torch.allclose(found[:, -1], logits[:, -1], atol=1e-5)  # the last one sees every earlier one


@pytest.mark.parametrize("choices", COMBINATIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_a_cache_gives_the_logits_of_a_full_pass(choices: dict[str, Any]) -> None:
    model, tokens = build(**choices), random_tokens()
    expected = forward(model, tokens)
    cache, found = KeyValueCache(), []
    with torch.inference_mode():
        found.append(model.logits(model.hidden(tokens[:, :4], cache=cache)))
        for place in range(4, 10):
            positions = torch.full((2, 1), place)
            mask = torch.ones(2, 1, 1, place + 1, dtype=torch.bool)
            found.append(model.logits(model.hidden(tokens[:, place : place + 1], positions, mask, cache)))
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sizes", [(1,) * 40, (7, *(1,) * 30), (3, 20, 1, 1, 50, 2), (5,)], ids=len)
def test_a_cache_holds_all_that_came_whatever_its_room(sizes: tuple[int, ...]) -> None:
    cache = KeyValueCache()
    parts = [[(torch.randn(2, 3, size, 4), torch.randn(2, 3, size, 4)) for size in sizes] for _ in range(2)]
    for number in range(len(sizes)):
        for layer, pairs in enumerate(parts):
            keys, values = cache.extend(layer, *pairs[number])
            for found, which in ((keys, 0), (values, 1)):
                assert torch.equal(found, torch.cat([pair[which] for pair in pairs[: number + 1]], dim=2))


def test_the_example_has_the_size_of_gpt2s_shape() -> None:
    """256 x 128 bytes, 128 x 128 positions, 2 blocks of 198,272 and the last norm."""
    model = GPT(GPTConfig(hidden_size=128, num_hidden_layers=2, max_position_embeddings=128), 256)
    assert sum(p.numel() for p in model.parameters()) == 256 * 128 + 128 * 128 + 2 * 198_272 + 256 == 445_952


@pytest.mark.parametrize(
    ("choices", "difference"),
    [
        ({"positions": "rope"}, -16 * 16),
        ({"norm": "rms_norm"}, -5 * 32),
        ({"tie_word_embeddings": False}, VOCAB * 16),
        ({"smear": True}, 16),
        ({"qk_norm": True}, 0),
        ({"use_bias": False}, -2 * (48 + 16 + 64 + 16)),
        ({"intermediate_size": 32}, -2 * 32 * (2 * 16 + 1)),
        ({"hidden_act": "swiglu"}, 2 * (48 * (3 * 16 + 2) - 64 * (2 * 16 + 1))),
        ({"num_hidden_layers": 3}, 3 * 16 * 16 + 48 + 16 * 16 + 16 + 2 * 64 * 16 + 64 + 16 + 4 * 16),
    ],
)
def test_a_choice_adds_or_saves_its_parameters(choices: dict[str, Any], difference: int) -> None:
    def size(**chosen: Any) -> int:
        return sum(p.numel() for p in build(**chosen).parameters())

    assert size(**choices) - size() == difference


def test_gpt2_has_its_size_with_47_rows_of_padding() -> None:
    with torch.device("meta"):
        model = GPT(GPTConfig(preset="gpt2"), 50_257)
    assert sum(p.numel() for p in model.parameters()) == 124_439_808 + 47 * 768


@pytest.mark.parametrize("tied", [True, False])
def test_the_rows_of_padding_give_no_logit_and_no_loss(tied: bool) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16}
    model = GPT(GPTConfig(**sizes, tie_word_embeddings=tied), 70).eval()
    assert len(model.embedding.weight) == len(model.head_weight) == 128
    tokens = random_tokens()
    logits = model.logits(model.hidden(tokens))
    assert logits.shape == (2, 10, 70)
    with torch.no_grad():
        model.head_weight[70:] = 1e3
    assert torch.equal(model.logits(model.hidden(tokens)), logits)


def test_zero_init_projections_start_at_zero() -> None:
    model = build(stir=False, zero_init_projections=True, tie_word_embeddings=False)
    silent = {name for name, p in model.named_parameters() if p.ndim == 2 and not p.any()}
    projections = {f"blocks.{n}.{part}.projection.weight" for n in (0, 1) for part in ("attention", "mlp")}
    assert silent == {*projections, "head.weight"}
    tokens = random_tokens()
    embedded = model.embedding(tokens) + model.positions(torch.arange(10)) if model.positions else None
    assert embedded is not None
    torch.testing.assert_close(model.hidden(tokens), model.final_norm(embedded))  # each block is the identity
    assert not model.logits(model.hidden(tokens)).any()


def test_a_tied_head_is_never_silenced() -> None:
    assert build(stir=False, zero_init_projections=True).embedding.weight.any()


def test_initial_weights_have_the_spread_that_was_asked_for() -> None:
    model = build(stir=False, hidden_size=64, initializer_range=0.05, num_hidden_layers=2)
    for name, parameter in model.named_parameters():
        if name.endswith("projection.weight"):
            assert parameter.std().item() == pytest.approx(0.05 / math.sqrt(4), rel=0.1)
        elif parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.05, rel=0.1)
        else:
            assert parameter.unique().tolist() == ([1] if name.endswith("norm.weight") else [0])


def test_weights_follow_from_the_seed_alone() -> None:
    first, again, other = build(3, stir=False), build(3, stir=False), build(4, stir=False)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


def test_a_smear_starts_without_effect_but_learns() -> None:
    tokens = random_tokens()
    plain, smeared = build(stir=False), build(stir=False, smear=True)
    assert torch.equal(forward(plain, tokens), forward(smeared, tokens))
    smeared.logits(smeared.hidden(tokens)).square().mean().backward()
    assert smeared.smear_gate is not None
    assert smeared.smear_gate.grad is not None
    assert smeared.smear_gate.grad.abs().min() > 0


def test_a_smear_adds_a_gated_share_of_the_token_before() -> None:
    model, plain, tokens = build(smear=True), build(smear=False), random_tokens()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name != "smear_gate"})
    assert model.smear_gate is not None
    x = model.embedding(tokens)
    mixed = x.clone()
    for place in range(1, x.shape[1]):
        mixed[:, place] += model.smear_gate * x[:, place - 1]
    plain.embedding.register_forward_hook(lambda *_: mixed)
    torch.testing.assert_close(plain.hidden(tokens), model.hidden(tokens))


def test_rotations_keep_lengths_and_depend_on_distances_only() -> None:
    model = build(positions="rope", hidden_size=16, num_attention_heads=2)
    query, key = torch.randn(2, 1, 1, 1, 8).unbind(0)

    def at(x: Tensor, place: int) -> Tensor:
        return rotate(x, model._rotation(torch.tensor([[place]])))

    torch.testing.assert_close(at(query, 13).norm(), query.norm())
    torch.testing.assert_close(at(query, 0), query)
    products = [(at(query, 5 + shift) * at(key, 2 + shift)).sum() for shift in range(0, 90, 10)]
    torch.testing.assert_close(torch.stack(products), products[0].expand(9), atol=1e-5, rtol=1e-5)
    assert not torch.allclose((at(query, 6) * at(key, 2)).sum(), products[0])


def test_rope_theta_sets_the_slowest_rotation() -> None:
    model = build(positions="rope", rope_theta=100.0)
    cosine, sine = model._rotation(torch.tensor([[3]]))
    angles = torch.atan2(sine, cosine).flatten()
    torch.testing.assert_close(angles, 3 * 100.0 ** (-torch.arange(4) / 4))


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_norms_give_unit_size(kind: str) -> None:
    x = torch.randn(3, 64) * 7 + 5
    normed = Norm(kind, 64)(x)
    torch.testing.assert_close(normed.square().mean(-1), torch.ones(3), atol=1e-4, rtol=0)
    assert torch.allclose(normed.mean(-1), torch.zeros(3), atol=1e-5) == (kind == "layer_norm")


def test_qk_norm_makes_attention_blind_to_the_scale_of_queries_and_keys() -> None:
    for qk_norm in (True, False):
        model, tokens = build(qk_norm=qk_norm, use_bias=False), random_tokens()
        before = forward(model, tokens)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith("qkv.weight"):
                    weight[:32] *= 10  # queries and keys, not values
        assert torch.allclose(forward(model, tokens), before, atol=1e-4) == qk_norm


@pytest.mark.parametrize("key", ["embd_pdrop", "attn_pdrop", "resid_pdrop"])
def test_each_dropout_acts_in_training_only(key: str) -> None:
    choices: dict[str, Any] = {key: 0.5}
    model, tokens = build(**choices), random_tokens()
    assert torch.equal(forward(model, tokens), forward(model, tokens))
    assert torch.equal(forward(model, tokens), forward(build(), tokens))
    model.train()
    assert not torch.allclose(forward(model, tokens), forward(model, tokens))


def test_the_activations_are_what_their_names_say() -> None:
    x = torch.randn(1, 3, 16)
    found = {}
    for name in CHOICES["hidden_act"]:
        block: Any = build(hidden_act=name).blocks[0]
        mlp = block.mlp
        inner = mlp.up(x)
        half, value = inner.chunk(2, dim=-1)
        expected = {
            "gelu_new": 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3))),
            "gelu": 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2))),
            "relu_squared": inner.clamp_min(0) ** 2,
            "swiglu": half * torch.sigmoid(half) * value,
        }[name]
        torch.testing.assert_close(mlp(x), mlp.projection(expected))
        found[name] = inner.shape[-1]
    assert found == {"gelu_new": 64, "gelu": 64, "relu_squared": 64, "swiglu": 96}


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("key", ["attn_pdrop", "resid_pdrop", "embd_pdrop"])
def test_checkpointing_gives_the_same_gradients_bit_by_bit(key: str, is_packed: bool) -> None:
    """Dropout included: a block that runs again draws the random numbers of the first time."""
    found = []
    for gradient_checkpointing in (False, True):
        choices: dict[str, Any] = {key: 0.4, "smear": True}
        model = build(**choices).train()
        model.gradient_checkpointing = gradient_checkpointing
        torch.manual_seed(3)
        tokens = random_tokens()
        documents = {}
        if is_packed:
            ids = torch.tensor([[0] * 4 + [1] * 6, [2] * 7 + [-1] * 3])
            documents = {"positions": torch.tensor([[*range(4), *range(6)], [*range(7), 0, 0, 0]]), "document_ids": ids}
        loss = model.logits(model.hidden(tokens, **documents)).square().mean()
        loss.backward()
        found.append(
            [loss.detach(), torch.get_rng_state(), *(p.grad for p in model.parameters() if p.grad is not None)]
        )
    assert len(found[0]) == len(found[1])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_checkpointing_keeps_less() -> None:
    def kept(gradient_checkpointing: bool) -> int:
        model = build(num_hidden_layers=4).train()
        model.gradient_checkpointing = gradient_checkpointing
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.hidden(random_tokens())
        return sum(sizes)

    assert kept(True) < kept(False) / 3


def test_the_head_weight_is_what_the_logits_are_made_with() -> None:
    for tied in (True, False):
        model, hidden = build(tie_word_embeddings=tied), torch.randn(3, 16)
        assert torch.equal(model.logits(hidden), hidden @ model.head_weight.T)
