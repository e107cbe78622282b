"""Generation for many prompts at once against one prompt at a time without any cache."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hotlap.config.samples import GenerationSettings
from hotlap.config.schema import GPTConfig
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.models.gpt import GPT
from hotlap.train.generate import CachedReader, PlainReader, continue_rows, generate, next_tokens, position_limit

PROMPTS = [np.frombuffer(text, dtype=np.uint8) for text in (b"a", b"abcdefghij", b"xy zw", b"\x00\x00q", b"abcde")]
CHOICES: dict[str, tuple[Any, ...]] = {
    "positions": ("learned", "rope"),
    "norm": ("layer_norm", "rms_norm"),
    "hidden_act": ("gelu_new", "relu_squared", "swiglu"),
    "qk_norm": (False, True),
    "smear": (False, True),
}
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def parts_with(model: Any, limit: int | None, positions: str = "learned", tokenizer: Any = None) -> Any:
    """Return what text is generated with; without a limit the config says nothing of positions, as a project's own."""
    section = SimpleNamespace(max_position_embeddings=limit, positions=positions) if limit else SimpleNamespace()
    config = SimpleNamespace(model=section)
    tokenizer = tokenizer or ByteTokenizer()
    return SimpleNamespace(config=config, device=torch.device("cpu"), model=model, tokenizer=tokenizer)


def lively_model(vocab_size: int = 256, **choices: Any) -> GPT:
    """Build a model with large random weights and its own head: its text changes with every byte that it reads."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 24}
    model = GPT(GPTConfig(**{**sizes, **choices, "tie_word_embeddings": False}), vocab_size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model


def one_by_one(model: GPT, prompt: Any, count: int) -> list[int]:
    """Generate greedily with a full pass over the whole text for every byte."""
    ids = torch.tensor(prompt.astype(int))[None]
    for _ in range(count):
        following = model.logits(model.hidden(ids)[:, -1:]).argmax(-1)
        ids = torch.cat([ids, following], dim=1)
    return ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize("choices", COMBINATIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_many_prompts_with_a_cache_give_the_text_of_each_alone(choices: dict[str, Any]) -> None:
    model = lively_model(**choices)
    with torch.inference_mode():
        found = generate(parts_with(model, 24), PROMPTS, 12)
        expected = [one_by_one(model, prompt, 12) for prompt in PROMPTS]
    assert found == expected
    assert len({tuple(row) for row in found}) > 2  # a model that says the same to everyone would prove nothing


def test_a_text_ends_where_the_positions_end() -> None:
    model = lively_model()
    with torch.inference_mode():
        found = generate(parts_with(model, 24), PROMPTS, 100)
    assert [len(row) for row in found] == [24 - 10 + 1] * len(PROMPTS)
    assert len(generate(parts_with(model, 24), PROMPTS[1:2], 3)[0]) == 3


class Scripted:
    """Stands for a model that says what was written down for each row."""

    def __init__(self, *script: bytes) -> None:
        self.script = script
        self.calls = 0

    def hidden(self, tokens: Tensor, *_: object) -> Tensor:
        self.calls += 1
        said = [line[min(self.calls, len(line)) - 1] for line in self.script]
        return torch.tensor(said).view(-1, 1, 1).expand(-1, tokens.shape[1], 1)

    def logits(self, hidden: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(hidden.squeeze(-1).long(), 256).float()


def test_generation_goes_on_until_every_text_has_ended() -> None:
    end = bytes([ByteTokenizer.eos])
    model = Scripted(b"yes" + end, b"longer" + end)
    rows = generate(parts_with(model, 99), PROMPTS[:2], 50)
    assert [bytes(row[: row.index(ByteTokenizer.eos)]) for row in rows] == [b"yes", b"longer"]
    assert model.calls == 7


WILD = GenerationSettings(temperature=1.0, top_k=50, top_p=0.95, seed=3, max_new_tokens=12)
ROWS = [prompt.tolist() for prompt in PROMPTS]


class WithoutCache(torch.nn.Module):
    """A model of a project's own that takes tokens and nothing else."""

    def __init__(self, inner: GPT) -> None:
        super().__init__()
        self.inner = inner
        self.longest = 0

    def hidden(self, input_ids: Tensor) -> Tensor:
        self.longest = max(self.longest, input_ids.shape[1])
        return self.inner.hidden(input_ids)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.inner.logits(hidden)


@pytest.mark.parametrize("settings", [GenerationSettings(max_new_tokens=12), WILD], ids=["greedy", "drawn"])
@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_text_is_the_same_in_a_batch_alone_and_without_a_cache(positions: str, settings: GenerationSettings) -> None:
    model = lively_model(positions=positions)
    together = continue_rows(parts_with(model, 24, positions), ROWS, settings)
    alone = [continue_rows(parts_with(model, 24, positions), [row], settings)[0] for row in ROWS]
    plain = continue_rows(parts_with(WithoutCache(model).eval(), None), ROWS, settings)
    assert together == alone == plain
    backwards = continue_rows(parts_with(model, 24, positions), ROWS[::-1], settings)
    assert backwards[::-1] == together
    assert len({tuple(row) for row in together}) > 2


def test_without_temperature_it_is_what_metrics_are_taken_from() -> None:
    model = lively_model()
    with torch.inference_mode():
        expected = generate(parts_with(model, 24), PROMPTS, 12)
    end = ByteTokenizer.eos
    cut = [row[: row.index(end) + 1] if end in row else row for row in expected]
    assert continue_rows(parts_with(model, 24), ROWS, GenerationSettings(max_new_tokens=12)) == cut


def test_another_seed_gives_another_text() -> None:
    parts = parts_with(lively_model(), 24)
    texts = [continue_rows(parts, ROWS[:1], WILD.model_copy(update={"seed": seed})) for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


def test_a_row_that_has_ended_says_no_more() -> None:
    model, endless = lively_model(), SimpleNamespace(vocab_size=256, eos=1000)
    rows = continue_rows(parts_with(model, 24, tokenizer=endless), ROWS, GenerationSettings(max_new_tokens=10))
    end = rows[0][4]  # what the first row says fifth becomes the end of text
    ending = SimpleNamespace(vocab_size=256, eos=end)
    found = continue_rows(parts_with(model, 24, tokenizer=ending), ROWS, GenerationSettings(max_new_tokens=10))
    expected = [row[: row.index(end) + 1] if end in row else row for row in rows]
    assert found == expected
    assert len(found[0]) < 10


def test_learned_positions_forget_the_older_half_when_they_are_full() -> None:
    model = lively_model(max_position_embeddings=8)
    settings = GenerationSettings(max_new_tokens=30)
    parts = parts_with(model, 8)
    together = continue_rows(parts, ROWS, settings)
    assert together == [continue_rows(parts, [row], settings)[0] for row in ROWS]
    for row, said in zip(ROWS, together, strict=True):
        window = list(row) if len(row) <= 8 else list(row[-4:])
        for token in said:
            with torch.inference_mode():
                expected = model.logits(model.hidden(torch.tensor([window]))[:, -1]).argmax(-1).item()
            assert token == expected
            window.append(token)
            window = window if len(window) <= 8 else window[-4:]


def test_a_model_without_a_cache_keeps_to_its_longest_input() -> None:
    model = WithoutCache(lively_model(max_position_embeddings=8)).eval()
    model.max_positions = 8  # type: ignore[assignment]
    cached = parts_with(lively_model(max_position_embeddings=8), 8)
    settings = GenerationSettings(max_new_tokens=30)
    assert continue_rows(parts_with(model, None), ROWS, settings) == continue_rows(cached, ROWS, settings)
    assert model.longest == 8


def test_rotary_positions_go_on() -> None:
    model = lively_model(positions="rope", max_position_embeddings=8)
    settings = GenerationSettings(max_new_tokens=30)
    parts = parts_with(model, 8, "rope")
    assert position_limit(parts) is None
    (row,) = continue_rows(parts, [ROWS[0]], settings)
    assert len(row) == 30 or row[-1] == ByteTokenizer.eos
    assert row == one_by_one(model, np.array(ROWS[0]), len(row))


@pytest.mark.parametrize("settings", [GenerationSettings(), GenerationSettings(temperature=5.0)])
@pytest.mark.parametrize("reader", [CachedReader, PlainReader])
def test_ids_beyond_the_tokenizers_vocabulary_are_never_said(settings: GenerationSettings, reader: Any) -> None:
    """A model may have a vocabulary that is padded to a round number."""
    model = lively_model(vocab_size=128)
    with torch.no_grad():
        model.head.weight[100:] = 0.0  # type: ignore[union-attr]
        model.head.weight[:100] = -0.01 * model.head.weight[:100].abs()  # type: ignore[union-attr]
    tokenizer = SimpleNamespace(vocab_size=100, eos=1000)
    parts = parts_with(model if reader is CachedReader else WithoutCache(model).eval(), 24, tokenizer=tokenizer)
    assert reader(parts).read([[1, 2]]).shape == (1, 100)
    rows = continue_rows(parts, [[1, 2], [3]], settings.model_copy(update={"max_new_tokens": 20}))
    assert all(token < 100 for row in rows for token in row)
    if reader is CachedReader:
        with torch.inference_mode():
            greedy = generate(parts, [np.array([1, 2])], 20)
        assert max(greedy[0]) < 100


def test_the_model_is_as_it_was_and_so_are_the_random_numbers() -> None:
    model = lively_model(embd_pdrop=0.5, resid_pdrop=0.5).train()
    before = torch.get_rng_state()
    first = continue_rows(parts_with(model, 24), ROWS, WILD)
    assert model.training and torch.equal(torch.get_rng_state(), before)
    assert continue_rows(parts_with(model, 24), ROWS, WILD) == first, "no dropout"
    assert not torch.is_inference_mode_enabled()


def test_between_two_tokens_the_caller_is_not_in_inference_mode() -> None:
    model = lively_model()
    for _ in itertools.islice(next_tokens(parts_with(model, 24), ROWS, WILD), 3):
        assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
