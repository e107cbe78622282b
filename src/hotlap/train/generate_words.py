"""Text from a word-latent model, word by word, for several prompts at once.

    texts = generate_words(parts, prompts, max_new_words=50)    # the likeliest bytes, for metrics
    for words in next_words(parts, prompts, settings):          # chosen as the settings say, one word of each at a time

Keys and values are remembered on both levels: of the words of a text, and of the bytes of the word that is being
written. What is written is always valid UTF-8: bytes that would break it cannot be chosen. Shapes: B prompts, W words
of the longest, D width of the words' states.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hotlap.config.samples import GenerationSettings
from hotlap.config.schema import RunConfig
from hotlap.data.word_arrays import shift_blocks
from hotlap.data.words import split_words
from hotlap.models.gpt import KeyValueCache
from hotlap.models.word_latent import BOS, EOS, PAD, WordLatent, block_mask
from hotlap.train.sampling import Chooser
from hotlap.train.utf8 import allowed_bytes, is_whole_word


@dataclass(frozen=True, slots=True)
class WordPrompt:
    """The words of one prompt, without the empty one that every text begins with."""

    words: Sequence[bytes]
    blocks: Sequence[int] = ()
    """Number of the shift block that each word is in, -1 outside; empty: there is none."""


def word_prompt(prompt: Sequence[int] | NDArray[Any], max_word_length: int) -> WordPrompt:
    """Return the words of a prompt given as bytes, cut as they are in training."""
    words = split_words(np.asarray(prompt, dtype=np.uint8).tobytes(), max_word_length)
    blocks = shift_blocks([b"", *words])
    return WordPrompt(words, () if blocks is None else blocks[1:].tolist())


class WordSpeaker(Protocol):
    """What text is generated with: the parts of a training, or a model with saved weights."""

    @property
    def config(self) -> RunConfig:
        """The run's config."""

    @property
    def model(self) -> nn.Module:
        """The bare model, a `WordLatent`."""

    @property
    def device(self) -> torch.device:
        """The device that it lies on."""


def generate_words(
    parts: WordSpeaker, prompts: Sequence[WordPrompt], max_new_words: int, max_new_bytes: int | None = None
) -> list[bytes]:
    """Return the likeliest bytes after each prompt, up to the empty word that ends a text, or so many words or bytes.

    The model has to be in evaluation mode; gradients are not needed. Bytes are cut between characters.
    """
    settings = GenerationSettings(max_new_tokens=max_new_bytes or max_new_words * _longest(parts))
    return _written(islice(next_words(parts, prompts, settings), max_new_words), len(prompts), settings)


def _written(rounds: Iterator[list[bytes]], count: int, settings: GenerationSettings) -> list[bytes]:
    """Put words together until every text has ended."""
    texts, is_open = [b""] * count, [True] * count
    for words in rounds:
        for row, word in enumerate(words):
            if is_open[row]:
                texts[row] += word
                is_open[row] = bool(word) and len(texts[row]) < settings.max_new_tokens
        if not any(is_open):
            break
    return [_cut(text, settings.max_new_tokens) for text in texts]


def _cut(text: bytes, length: int) -> bytes:
    """Return what fits of valid UTF-8, to the last whole character."""
    return text if len(text) <= length else text[:length].decode("utf-8", errors="ignore").encode()


@torch.inference_mode()
def next_words(
    parts: WordSpeaker, prompts: Sequence[WordPrompt], settings: GenerationSettings
) -> Iterator[list[bytes]]:
    """Yield the next word of every prompt, for as long as it is asked; the model has to be in evaluation mode.

    An empty word ends a text: after it a row yields empty words only. A row's words do not depend on the rows beside
    it, but for rounding where the lengths differ.
    """
    choose = Chooser(settings, [list(b"".join(prompt.words)) for prompt in prompts])
    reader = _Reader(parts)
    states = reader.read(prompts)
    has_ended = [False] * len(prompts)
    while True:
        words = _write(parts, states, choose, {row for row, ended in enumerate(has_ended) if ended})
        yield words
        has_ended = [ended or not word for ended, word in zip(has_ended, words, strict=True)]
        if all(has_ended):
            while True:
                yield words
        states = reader.append(words)


def _write(parts: WordSpeaker, states: Tensor, choose: Chooser, ended: set[int]) -> list[bytes]:
    """Return the word that follows each state (B, D), byte by byte, until all are whole; empty for ended rows."""
    model = cast(WordLatent, parts.model)
    cache, longest = KeyValueCache(), _longest(parts)
    words, waiting = [b""] * len(states), set(ended)
    logits = model.first_byte(states, cache)
    for place in range(longest):
        allowed = torch.stack([allowed_bytes(word, longest - place) for word in words]).to(logits.device)
        chosen = choose(logits.float().masked_fill(~allowed, -torch.inf), waiting)
        for row, byte in enumerate(chosen.tolist()):
            if row in waiting:
                continue
            if byte != EOS:
                words[row] += bytes([byte])
            if byte == EOS or is_whole_word(words[row]):
                waiting.add(row)
        if len(waiting) == len(words) or place + 1 == longest:
            break
        logits = model.next_byte(chosen, place, cache)
    return words


def _longest(parts: WordSpeaker) -> int:
    """Return how many bytes a word has at most."""
    return cast(WordLatent, parts.model).config.max_word_length - 2


class _Reader:
    """Reads texts side by side, word by word, and gives the state after the last word of each, (B, D)."""

    def __init__(self, parts: WordSpeaker) -> None:
        self._model = cast(WordLatent, parts.model)
        self._device = parts.device
        self._cache = KeyValueCache()

    def read(self, prompts: Sequence[WordPrompt]) -> Tensor:
        """Read prompts; they are padded on the left, so that all grow at the same end."""
        rows = [[b"", *prompt.words] for prompt in prompts]
        width = max(map(len, rows))
        blocks = torch.full((len(rows), width), -1)
        for number, prompt in enumerate(prompts):
            if prompt.blocks:
                blocks[number, width - len(prompt.blocks) :] = torch.tensor(list(prompt.blocks))
        lengths = torch.tensor([len(row) for row in rows]).unsqueeze(1)
        self._padding = (width - lengths).to(self._device)
        self._lengths, self._width = lengths.to(self._device), width
        vectors = self._encode([word for row in rows for word in [*[b""] * (width - len(row)), *row]])
        is_real = torch.arange(width, device=self._device) >= self._padding
        positions = (is_real.cumsum(1) - 1).clamp_min(0)
        own = torch.eye(width, dtype=torch.bool, device=self._device)  # padding looks at itself, so no row is empty
        mask = (block_mask(blocks.to(self._device)) & is_real[:, None, None]) | own
        states = self._model.over_words(vectors.unflatten(0, (len(rows), width)), mask, positions, self._cache)
        return states[:, -1]

    def append(self, words: Sequence[bytes]) -> Tensor:
        """Read one more word of each row."""
        positions = self._lengths
        self._lengths, self._width = self._lengths + 1, self._width + 1
        is_real = torch.arange(self._width, device=self._device) >= self._padding
        vectors = self._encode(words).unsqueeze(1)
        return self._model.over_words(vectors, is_real[:, None, None], positions, self._cache)[:, -1]

    def _encode(self, words: Sequence[bytes]) -> Tensor:
        """Return the vectors (n, D) of words, each distinct one encoded once."""
        distinct = {word: number for number, word in enumerate(dict.fromkeys(words))}
        length = max(map(len, distinct)) + 2
        ids = torch.full((len(distinct), length), PAD)
        is_real = torch.zeros(len(distinct), length, dtype=torch.bool)
        for word, number in distinct.items():
            ids[number, : len(word) + 2] = torch.tensor([BOS, *word, EOS])
            is_real[number, : len(word) + 2] = True
        group = _Group(ids.to(self._device), is_real.to(self._device))
        places = torch.tensor([distinct[word] for word in words], device=self._device)
        return self._model.encode([group]).index_select(0, places)


@dataclass(frozen=True, slots=True)
class _Group:
    ids: Tensor
    is_real: Tensor | None
