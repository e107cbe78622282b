"""Generation for many prompts at once against one prompt at a time without any cache."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hotlap.config.schema import GPTConfig
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.models.gpt import GPT
from hotlap.train.generate import generate

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


def parts_with(model: Any, limit: int) -> Any:
    config = SimpleNamespace(model=SimpleNamespace(max_position_embeddings=limit))
    return SimpleNamespace(config=config, device=torch.device("cpu"), model=model)


def lively_model(**choices: Any) -> GPT:
    """Build a model with large random weights and its own head: its text changes with every byte that it reads."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 24}
    model = GPT(GPTConfig(**{**sizes, **choices}, tie_word_embeddings=False), 256).eval()
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
