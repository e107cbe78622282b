"""The word-latent model: nothing looks ahead, nothing hangs on how words are laid out, shift blocks look both ways."""

import itertools
import math
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from word_batches_by_hand import Batch, Row, bucketed, padded

from hotlap.config.word_latent import WordLatentConfig
from hotlap.models import documents, word_blocks
from hotlap.models.word_latent import WordLatent
from hotlap.optim.roles import roles_of

SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
CHOICES: dict[str, tuple[Any, ...]] = {
    "norm": ("rms_norm", "layer_norm"),
    "hidden_act": ("relu_squared", "swiglu", "gelu"),
    "qk_norm": (True, False),
    "use_bias": (False, True),
}
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
ROWS = (
    Row((b"<text>", b"the ", b"cat ", b"sat "), (b"the ", b"cat ", b"sat"), is_block=True),
    Row((b"\x0e", b"a "), (b"a", b"\n", b"caf\xc3\xa9 ", b"!")),
    Row((b"the ",), (b"a ",), is_block=True),
)


def build(seed: int = 0, **choices: Any) -> WordLatent:
    """Build a tiny model for evaluation, with every weight moved so that none is at its silent start."""
    torch.manual_seed(seed)
    parts = dict.fromkeys(("encoder", "latent", "decoder"), SHAPE)
    parts["encoder"] = {**SHAPE, "hidden_size": 8}
    model = WordLatent(WordLatentConfig(**{**parts, **choices})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def loss_of(model: WordLatent, batch: Batch) -> Tensor:
    with torch.inference_mode():
        return model.loss(batch)


def states(model: WordLatent, batch: Batch) -> Tensor:
    with torch.inference_mode():
        return model.latents(batch)


@pytest.mark.parametrize("choices", COMBINATIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_the_layout_changes_nothing(choices: dict[str, Any]) -> None:
    model = build(**choices)
    expected = loss_of(model, padded(ROWS))
    for batch in (bucketed(ROWS), bucketed(ROWS, distinct=True), padded(ROWS, width=13, length=16)):
        torch.testing.assert_close(loss_of(model, batch), expected, atol=1e-4, rtol=1e-6)


def test_the_loss_is_that_of_the_logits_word_by_word() -> None:
    model, total = build(), 0.0
    for row in ROWS:
        seen = states(model, padded([row]))[0]
        for place in row.places:
            word = [*row.words, b""][place + 1]
            with torch.inference_mode():
                logits = model.logits(seen[place : place + 1], torch.tensor([[2, *word]]))[0]
            total += float(F.cross_entropy(logits, torch.tensor([*word, 3]), reduction="sum"))
    assert loss_of(model, bucketed(ROWS)).item() == pytest.approx(total, abs=1e-3)


def test_gradients_do_not_hang_on_the_layout() -> None:
    model = build()
    found = []
    for batch in (padded(ROWS), bucketed(ROWS), bucketed(ROWS, distinct=True)):
        model.zero_grad()
        model.loss(batch).backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_checkpointing_changes_no_gradient() -> None:
    model, again = build(), build()
    for part in (again.encoder, again.latent, again.decoder):
        part.gradient_checkpointing = True
    for one in (model, again):
        one.loss(bucketed(ROWS)).backward()
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("layout", [padded, bucketed], ids=["padded", "bucketed"])
def test_a_row_has_the_same_states_alone_and_beside_others(layout: Any) -> None:
    model, batch = build(), states(build(), layout(ROWS))
    for number, row in enumerate(ROWS):
        alone = states(model, layout([row]))[0]
        torch.testing.assert_close(batch[number, : len(row.words)], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changed", range(1, 8))
def test_no_word_looks_ahead_outside_a_shift_block(changed: int) -> None:
    model, row = build(), replace(ROWS[0], is_block=False)
    words = [*row.words[1:]]
    words[changed - 1] = b"dogs"
    other = replace(row, prefix=tuple(words[:4]), completion=tuple(words[4:]))
    before, after = states(model, padded([row]))[0], states(model, padded([other]))[0]
    torch.testing.assert_close(before[:changed], after[:changed], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(before[changed], after[changed], atol=1e-3)
    assert not torch.allclose(before[-1], after[-1], atol=1e-4)


def test_a_shift_block_looks_both_ways_and_no_further() -> None:
    model, row = build(), ROWS[0]
    other = replace(row, prefix=(*row.prefix[:3], b"ran "))
    before, after = states(model, padded([row]))[0], states(model, padded([other]))[0]
    assert not torch.allclose(before[1], after[1], atol=1e-4)  # the first word of the block sees its last
    assert torch.equal(before[0], after[0])
    later = replace(row, completion=(b"the ", b"dog ", b"sat"))
    after = states(model, padded([later]))[0]
    torch.testing.assert_close(before[:6], after[:6], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(before[6], after[6], atol=1e-3)


def test_the_bytes_of_a_word_see_the_bytes_before_them_and_one_latent() -> None:
    model = build()
    latents, ids = torch.randn(2, 16), torch.tensor([[2, 97, 98, 99], [2, 97, 100, 99]])
    with torch.inference_mode():
        logits = model.logits(latents[:1].expand(2, -1), ids)
        torch.testing.assert_close(logits[0, :2], logits[1, :2], atol=1e-6, rtol=1e-6)
        assert not torch.allclose(logits[0, 2:], logits[1, 2:], atol=1e-3)
        assert not torch.allclose(logits, model.logits(latents, ids[:1].expand(2, -1)), atol=1e-3)


def test_the_encoder_reads_both_ways_and_each_byte_counts() -> None:
    model = build()
    one, two = (bucketed([Row((word,), ())]).words for word in (b"abcd", b"abce"))
    with torch.inference_mode():
        assert not torch.allclose(model.encode(one), model.encode(two), atol=1e-4)
        turned = bucketed([Row((b"dcba",), ())]).words
        assert not torch.allclose(model.encode(one), model.encode(turned), atol=1e-4)


def test_an_untrained_model_knows_nothing() -> None:
    """The head starts at zero: every byte costs ln 256."""
    torch.manual_seed(0)
    model = WordLatent(WordLatentConfig(preset="micro", zero_init_projections=True))
    batch = bucketed(ROWS)
    num_targets = sum(group.targets.numel() for group in batch.targets)
    assert loss_of(model, batch).item() == pytest.approx(num_targets * math.log(256), rel=1e-6)


@pytest.mark.parametrize(("preset", "size"), [("tiny", 6_946_816), ("mini", 1_187_840), ("micro", 253_952)])
def test_presets_have_their_size(preset: Any, size: int) -> None:
    with torch.device("meta"):
        model = WordLatent(WordLatentConfig(preset=preset))
    assert sum(parameter.numel() for parameter in model.parameters()) == size


def test_parameters_have_their_roles() -> None:
    roles = roles_of(build())
    assert {name for name, role in roles.items() if role == "embedding"} == {
        "encoder_embedding.weight",
        "decoder_embedding.weight",
    }
    assert {name for name, role in roles.items() if role == "head"} == {"head.weight"}
    assert set(roles.values()) == {"embedding", "head", "matrix"}


def test_flex_attention_over_all_groups_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that a GPU goes, on a CPU and not compiled: the masks are the same."""
    model, batch = build(), bucketed(ROWS)
    expected = loss_of(model, batch)
    plain = documents._plain_flex()
    monkeypatch.setattr(documents, "_compiled_flex", lambda: plain)
    monkeypatch.setattr(word_blocks, "has_flex_attention", lambda *_: True)
    calls = []
    monkeypatch.setattr(
        word_blocks, "flex_attention", lambda *parts: calls.append(1) or documents.flex_attention(*parts)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is not compiled
        torch.testing.assert_close(loss_of(model, batch), expected, atol=1e-4, rtol=1e-6)
    assert len(calls) == 4  # encoder and decoder have two layers each; the words are one group
