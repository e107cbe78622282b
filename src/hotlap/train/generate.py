"""Greedy generation for many prompts at once, with a cache of keys and values."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from hotlap.data.encoding import PAD
from hotlap.models.gpt import KeyValueCache
from hotlap.models.protocol import CausalLM
from hotlap.train.parts import Evaluable


def generate(parts: Evaluable, prompts: Sequence[NDArray[Any]], max_new_tokens: int) -> list[list[int]]:
    """Return the generated ids of each prompt, the end of text included where it came.

    Prompts are padded on the left, so that all rows grow at the same end.
    """
    width = max(map(len, prompts))
    limit = getattr(parts.config.model, "max_position_embeddings", width + max_new_tokens)
    ids = np.full((len(prompts), width), PAD, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=parts.device)
    is_real = torch.arange(width, device=parts.device).unsqueeze(0) >= width - lengths.unsqueeze(1)
    positions = (is_real.cumsum(1) - 1).clamp_min(0)
    causal = torch.ones(width, width, dtype=torch.bool, device=parts.device).tril()
    own = torch.eye(width, dtype=torch.bool, device=parts.device)  # padding looks at itself, so no row is empty
    mask = ((causal & is_real.unsqueeze(1)) | own).unsqueeze(1)
    cache = KeyValueCache()
    model = cast(CausalLM, parts.model)
    tokens = torch.from_numpy(ids).to(parts.device)
    hidden = model.hidden(tokens, positions, mask, cache, is_real)[:, -1:]
    produced: list[torch.Tensor] = []
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=parts.device)
    for count in range(max_new_tokens):
        token = model.logits(hidden).argmax(-1)
        produced.append(token)
        finished |= token.squeeze(1) == parts.tokenizer.eos
        if finished.all() or int(lengths.max()) + count >= limit:
            break
        is_real = torch.cat([is_real, torch.ones_like(is_real[:, :1])], dim=1)
        mask = is_real.unsqueeze(1).unsqueeze(1)
        hidden = model.hidden(token, (lengths + count).unsqueeze(1), mask, cache)
    rows: list[list[int]] = torch.cat(produced, dim=1).tolist()
    return rows
