"""Text from a model, token by token, for several prompts at once.

    rows = generate(parts, prompts, 64)                     # the likeliest tokens, for metrics
    for tokens in next_tokens(parts, prompts, settings):    # chosen as the settings say, one of each prompt at a time
    rows = continue_rows(parts, prompts, settings)

A model reads what was said before once and remembers it, in a cache of keys and values; one that has none reads all of
it again for each token. Shapes: B prompts, V tokens of the tokenizer.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hotlap.config.samples import GenerationSettings
from hotlap.config.schema import RunConfig
from hotlap.data.encoding import PAD
from hotlap.data.tokenizers import Tokenizer
from hotlap.models.gpt import KeyValueCache
from hotlap.models.protocol import CausalLM, can_generate
from hotlap.models.word_latent import WordLatent
from hotlap.train.generate_words import next_words, word_prompt
from hotlap.train.sampling import Chooser

Row = Sequence[int] | NDArray[Any]
"""The tokens of one prompt, at least one."""


class Speaker(Protocol):
    """What text is generated with: the parts of a training, or a model with saved weights."""

    @property
    def config(self) -> RunConfig:
        """The run's config."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What the tokens are."""

    @property
    def model(self) -> nn.Module:
        """The bare model."""

    @property
    def device(self) -> torch.device:
        """The device that it lies on."""


def generate(parts: Speaker, prompts: Sequence[Row], max_new_tokens: int) -> list[list[int]]:
    """Return the likeliest ids after each prompt, the end of text included where it came.

    All rows end together: once each has ended, or where the positions of the longest one do.
    """
    longest = max(map(len, prompts))
    limit = getattr(parts.config.model, "max_position_embeddings", longest + max_new_tokens)
    reader = CachedReader(parts)
    logits = reader.read(prompts)
    produced: list[Tensor] = []
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=parts.device)
    for count in range(max_new_tokens):
        tokens = logits.argmax(-1)
        produced.append(tokens)
        finished |= tokens == parts.tokenizer.eos
        if finished.all() or longest + count >= limit:
            break
        logits = reader.append(tokens)
    rows: list[list[int]] = torch.stack(produced, dim=1).tolist()
    return rows


def continue_rows(parts: Speaker, prompts: Sequence[Sequence[int]], settings: GenerationSettings) -> list[list[int]]:
    """Return the tokens after each prompt as the settings choose them, the end of text included where it came.

    The model is back in its former mode afterwards, and no random numbers but the settings' own are drawn.
    """
    was_training = parts.model.training
    parts.model.eval()
    rows: list[list[int]] = [[] for _ in prompts]
    is_open = [True for _ in prompts]
    try:
        for tokens in islice(next_tokens(parts, prompts, settings), settings.max_new_tokens):
            for number, token in enumerate(tokens):
                if is_open[number]:
                    rows[number].append(token)
                    is_open[number] = token != parts.tokenizer.eos
            if not any(is_open):
                break
    finally:
        parts.model.train(was_training)
    return rows


@torch.inference_mode()
def next_tokens(parts: Speaker, prompts: Sequence[Sequence[int]], settings: GenerationSettings) -> Iterator[list[int]]:
    """Yield the next token of every prompt, for as long as it is asked; the model has to be in evaluation mode.

    A row of more tokens than the model has learned positions for forgets the older half of them and goes on. A row's
    tokens do not depend on the rows beside it, but for rounding where the lengths differ.
    """
    if isinstance(parts.model, WordLatent):
        yield from _next_bytes(parts, parts.model, prompts, settings)
        return
    limit = position_limit(parts)
    choose = Chooser(settings, prompts)
    reader: CachedReader | PlainReader = CachedReader(parts) if can_generate(parts.model) else PlainReader(parts)
    windows = [_window(list(prompt), limit) for prompt in prompts]
    logits = reader.read(windows)
    while True:
        tokens = choose(logits)
        said: list[int] = tokens.tolist()
        yield said
        for window, token in zip(windows, said, strict=True):
            window.append(token)
        if limit is not None and max(map(len, windows)) > limit:
            windows = [_window(window, limit) for window in windows]
            logits = reader.read(windows)
        else:
            logits = reader.append(tokens)


def _next_bytes(
    parts: Speaker, model: WordLatent, prompts: Sequence[Sequence[int]], settings: GenerationSettings
) -> Iterator[list[int]]:
    """Yield the next byte of every prompt of a model that writes words: those of different rows are not in step."""
    rounds = next_words(parts, [word_prompt(prompt, model.config.max_word_length) for prompt in prompts], settings)
    waiting: list[deque[int]] = [deque() for _ in prompts]
    while True:
        while not all(waiting):
            for row, word in zip(waiting, next(rounds), strict=True):
                row.extend(word or [parts.tokenizer.eos])
        yield [row.popleft() for row in waiting]


def position_limit(parts: Speaker) -> int | None:
    """Return how many tokens a model can read at once; None: as many as come, or nobody knows."""
    section: Any = parts.config.model
    if getattr(section, "positions", None) == "rope":
        return None
    limit = getattr(section, "max_position_embeddings", getattr(parts.model, "max_positions", None))
    return limit if isinstance(limit, int) else None


def _window(row: list[int], limit: int | None) -> list[int]:
    """Return a row that is not too long as it is, of another one the newer half of what would fit."""
    return row if limit is None or len(row) <= limit else row[-max(1, limit // 2) :]


class CachedReader:
    """Reads rows of tokens side by side and gives the logits of what follows each, (B, V) in fp32.

    The vocabulary of a model may be padded beyond the tokenizer's: what no token stands for is left out.
    """

    def __init__(self, parts: Speaker) -> None:
        self._model = cast(CausalLM, parts.model)
        self._device = parts.device
        self._vocab_size = parts.tokenizer.vocab_size
        self._cache = KeyValueCache()

    def read(self, rows: Sequence[Row]) -> Tensor:
        """Forget everything, and read rows; they are padded on the left, so that all grow at the same end."""
        width = max(map(len, rows))
        ids = np.full((len(rows), width), PAD, dtype=np.int64)
        for number, row in enumerate(rows):
            ids[number, width - len(row) :] = row
        self._lengths = torch.tensor([len(row) for row in rows], device=self._device).unsqueeze(1)
        self._padding = width - self._lengths
        is_real = torch.arange(width, device=self._device) >= self._padding
        positions = (is_real.cumsum(1) - 1).clamp_min(0)
        causal = torch.ones(width, width, dtype=torch.bool, device=self._device).tril()
        own = torch.eye(width, dtype=torch.bool, device=self._device)  # padding looks at itself, so no row is empty
        mask = ((causal & is_real.unsqueeze(1)) | own).unsqueeze(1)
        self._cache, self._width = KeyValueCache(), width
        tokens = torch.from_numpy(ids).to(self._device)
        return self._logits(self._model.hidden(tokens, positions, mask, self._cache, is_real))

    def append(self, tokens: Tensor) -> Tensor:
        """Read one more token of each row, (B,)."""
        positions = self._lengths
        self._lengths, self._width = self._lengths + 1, self._width + 1
        is_real = torch.arange(self._width, device=self._device) >= self._padding
        mask = is_real.unsqueeze(1).unsqueeze(1)
        return self._logits(self._model.hidden(tokens.unsqueeze(1), positions, mask, self._cache))

    def _logits(self, hidden: Tensor) -> Tensor:
        return self._model.logits(hidden[:, -1:])[:, -1, : self._vocab_size].float()


class PlainReader:
    """Does what `CachedReader` does with any model: each row by itself, and from its start for every token."""

    def __init__(self, parts: Speaker) -> None:
        self._model = cast(CausalLM, parts.model)
        self._device = parts.device
        self._vocab_size = parts.tokenizer.vocab_size
        self._rows: list[list[int]] = []

    def read(self, rows: Sequence[Row]) -> Tensor:
        """Forget everything, and read rows."""
        self._rows = [[int(token) for token in row] for row in rows]
        return torch.cat([self._logits(row) for row in self._rows])

    def append(self, tokens: Tensor) -> Tensor:
        """Read one more token of each row, (B,)."""
        for row, token in zip(self._rows, tokens.tolist(), strict=True):
            row.append(token)
        return torch.cat([self._logits(row) for row in self._rows])

    def _logits(self, row: list[int]) -> Tensor:
        hidden = self._model.hidden(torch.tensor([row], device=self._device))
        return self._model.logits(hidden[:, -1:])[:, -1, : self._vocab_size].float()
