"""From the logits of the next token to the token: the likeliest one, or one that is drawn.

Shapes: B rows, V tokens of the tokenizer. The random numbers are generators of their own, one for each row: neither the
training's numbers nor the rows beside it have a part in what a row says.
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from hotlap.config.samples import GenerationSettings


class Chooser:
    """Chooses the tokens that follow some prompts, one for each prompt at a time."""

    def __init__(self, settings: GenerationSettings, prompts: Sequence[Sequence[int]]) -> None:
        """Set the random numbers of each row up: they follow from the seed and from the row's prompt alone."""
        self._settings = settings
        is_greedy = settings.temperature == 0
        self._draws = [] if is_greedy else [np.random.default_rng([settings.seed, *prompt]) for prompt in prompts]

    def __call__(self, logits: Tensor, waiting: Collection[int] = ()) -> Tensor:
        """Return the token that follows each row, (B,), by its logits (B, V).

        Rows that are `waiting` have no use for theirs, and draw no number for it.
        """
        if not self._draws:
            return logits.argmax(-1)
        numbers = [0.0 if row in waiting else draw.random() for row, draw in enumerate(self._draws)]
        uniforms = torch.tensor(numbers, dtype=torch.float64, device=logits.device)
        return draw_tokens(logits, uniforms, self._settings)


def draw_tokens(logits: Tensor, uniforms: Tensor, settings: GenerationSettings) -> Tensor:
    """Return a token for each row of logits (B, V), (B,): where `uniforms` (B,) in [0, 1) meet the summed probability.

    The tokens stand from the likeliest down. First the temperature counts, then `top_k`, then `top_p` among what that
    leaves: the token with which the sum gets there is still in.
    """
    scores, ids = logits.double().sort(dim=-1, descending=True, stable=True)
    shares = ((scores - scores[:, :1]) / settings.temperature).softmax(-1)
    if settings.top_k is not None:
        shares[:, settings.top_k :] = 0
        shares = shares / shares.sum(-1, keepdim=True)
    if settings.top_p < 1:
        before = shares.cumsum(-1) - shares
        shares = shares.masked_fill(before >= settings.top_p, 0)
    ends = shares.cumsum(-1)
    places = (ends <= uniforms.unsqueeze(1) * ends[:, -1:]).sum(-1)
    last = ((shares > 0).sum(-1) - 1).clamp_min(0)  # rounding must not lead past what may be drawn
    return ids.gather(1, torch.minimum(places, last).unsqueeze(1)).squeeze(1)
