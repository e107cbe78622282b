"""Generation word by word with caches on both levels, against one prompt at a time without any."""

from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hotlap.config.samples import GenerationSettings
from hotlap.config.schema import TrainingConfig
from hotlap.config.word_latent import WordLatentConfig
from hotlap.models.word_latent import WordLatent
from hotlap.optim.build import build_optimizers
from hotlap.train.generate_words import WordPrompt, generate_words, next_words
from hotlap.train.utf8 import allowed_bytes, is_whole_word

SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
PROMPTS = (
    WordPrompt((b"<text>", b"\x0e", b"the ", b"cat ", b"sat", b"\x0f"), (-1, 0, 0, 0, 0, 0)),
    WordPrompt((b"a ",)),
    WordPrompt(()),
    WordPrompt(("für ".encode(), b"   ", b"x"), (0, 0, -1)),
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def parts_with(model: WordLatent) -> Any:
    return SimpleNamespace(config=None, device=torch.device("cpu"), model=model)


def lively_model(**choices: Any) -> WordLatent:
    """Build a model with large random weights: its text changes with every byte that it reads."""
    torch.manual_seed(3)
    parts = dict.fromkeys(("encoder", "latent", "decoder"), SHAPE)
    model = WordLatent(WordLatentConfig(**{**parts, **choices})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.6)
    return model


def batch_of(words: list[bytes], blocks: list[int]) -> Any:
    """Lay out one row of words, each a group of its own."""
    groups = [SimpleNamespace(ids=torch.tensor([[2, *word, 3]]), is_real=None) for word in words]
    at = torch.arange(len(words))[None]
    return SimpleNamespace(words=groups, word_at=at, blocks=torch.tensor([blocks]), targets=())


def one_by_one(model: WordLatent, prompt: WordPrompt, max_new_words: int) -> bytes:
    """Generate greedily with a full pass over all words, and over all bytes of the new one, for every byte."""
    words, blocks = [b"", *prompt.words], [-1, *(prompt.blocks or [-1] * len(prompt.words))]
    longest = model.config.max_word_length - 2
    for _ in range(max_new_words):
        state = model.latents(batch_of(words, blocks))[0, -1:]
        word = b""
        while len(word) < longest and not is_whole_word(word):
            logits = model.logits(state, torch.tensor([[2, *word]]))[0, -1]
            byte = int(logits.masked_fill(~allowed_bytes(word, longest - len(word)), -torch.inf).argmax())
            if byte == 3:
                break
            word += bytes([byte])
        if not word:
            break
        words, blocks = [*words, word], [*blocks, -1]
    return b"".join(words[1 + len(prompt.words) :])


@pytest.mark.parametrize("choices", [{}, {"hidden_act": "swiglu", "norm": "layer_norm", "qk_norm": False}], ids=str)
def test_many_prompts_with_caches_give_the_text_of_each_alone(choices: dict[str, Any]) -> None:
    model = lively_model(**choices)
    with torch.inference_mode():
        found = generate_words(parts_with(model), PROMPTS, 9)
        assert found == [one_by_one(model, prompt, 9) for prompt in PROMPTS]
    assert len(set(found)) > 2
    for text in found:
        text.decode()


def test_a_trained_model_says_what_it_predicts() -> None:
    """Teacher-forced argmax and generation agree on what was learned by heart."""
    torch.manual_seed(0)
    rows = [
        (b"one", (b"der ", b"hund ", b"bellt")),
        (b"two", ("größe ".encode(), b"\x0e", b"x ")),
        (b"three", ()),
    ]
    model = WordLatent(WordLatentConfig(preset="micro"))
    training = TrainingConfig(optim="muon", learning_rate=6e-3)
    optimizers = build_optimizers(model, training, bf16_is_fast=False)
    batches = [batch_of([b"", prefix, *completion], [-1] * (2 + len(completion))) for prefix, completion in rows]
    for batch, (_, completion) in zip(batches, rows, strict=True):
        batch.blocks = None
        batch.targets = [
            SimpleNamespace(
                input_ids=torch.tensor([[2, *word]]), targets=torch.tensor([[*word, 3]]), latents=torch.tensor([place])
            )
            for place, word in enumerate((*completion, b""), start=1)
        ]
    for _ in range(60):
        sum(model.loss(batch) for batch in batches).backward()
        optimizers.step()
        optimizers.zero_grad()
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            for logits, group in model.predictions(batch):
                assert torch.equal(logits.argmax(-1), group.targets)
    found = generate_words(parts_with(model), [WordPrompt((prefix,)) for prefix, _ in rows], 20)
    assert found == [b"".join(completion) for _, completion in rows]


def test_a_row_draws_the_same_whatever_stands_beside_it() -> None:
    parts, settings = parts_with(lively_model()), GenerationSettings(temperature=1.0, seed=4)

    def drawn(prompts: tuple[WordPrompt, ...], settings: GenerationSettings) -> list[bytes]:
        return [b"".join(words) for words in zip(*islice(next_words(parts, prompts, settings), 6), strict=True)]

    together = drawn(PROMPTS, settings)
    assert together == [drawn((prompt,), settings)[0] for prompt in PROMPTS]
    assert together != drawn(PROMPTS, settings.model_copy(update={"seed": 5}))
    for text in together:
        text.decode()


def test_a_text_that_has_ended_stays_empty() -> None:
    settings = GenerationSettings(temperature=100.0)  # every byte that may come is about as likely, the end too
    rounds = list(islice(next_words(parts_with(lively_model()), PROMPTS, settings), 300))
    for row in range(len(PROMPTS)):
        said = [words[row] for words in rounds]
        if b"" in said:
            assert not any(said[said.index(b"") :])
    assert rounds[-1].count(b"") > 1
