"""Is what was measured a language model? Looked at on its own evaluation batches, in the evaluation's own way.

A model of the project's can see the tokens that it is to predict, or hand back something that no loss can be taken of.
Its loss is then as low as one likes, in every process, and no repetition finds it out; these probes do.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hotlap.data.batches import Batch, collate
from hotlap.data.encoding import EncodedExample
from hotlap.models.protocol import CausalLM, hidden_at
from hotlap.models.word_latent import WordLatent
from hotlap.train.evaluate import autocast_of, evaluating, target_loss
from hotlap.train.parts import Evaluable
from hotlap.train.probe_words import probe_words

ROUNDING: Final = 2e-3
"""Largest difference, in nats, of a log-probability that comes of adding the same numbers in another order."""
ROUNDING_BF16: Final = 2e-2
LEAST_LOG_PROB: Final = -30.0
"""What is less likely than this counts as this: no loss rests on it, and a mask may be as low as it likes."""
MASS_TOLERANCE: Final = 1e-2
"""Probability that may be too much, since sums of many small numbers are not exact."""
LOSS_TOLERANCE: Final = 1e-3
"""Share of a loss that may lie between two ways of computing it, or nats where the loss is below 1."""
_ROWS: Final = 8
_CUTS: Final = 4
_ALL_TOKENS: Final = 512
_SOME_TOKENS: Final = 64
_LEAST_PLACES: Final = 16
_LARGEST_LOGITS: Final = 2**24
"""Numbers in the logits of the rows that are looked at together; a row that has more by itself is cut."""

Floats = NDArray[np.float32]


class _Found(Exception):
    """What speaks against a model."""


def probe_model(parts: Evaluable, seed: int = 0) -> dict[str, Any]:
    """Return `problems` (in words; none speaks for the model), `causality` and `normalisation`.

    `causality` is the largest change of a log-probability, in nats, when tokens after its position change;
    `normalisation` the probability of all tokens that were tried in one place together. Each is None where it was not
    measured: the first problem is enough.
    """
    if isinstance(parts.model, WordLatent):
        return probe_words(parts, _rounding(parts), MASS_TOLERANCE, seed)
    draw = Random(seed)
    found: dict[str, Any] = {"problems": [], "causality": None, "normalisation": None}
    examples = _some_examples(parts, draw)
    try:
        with evaluating(parts), autocast_of(parts):
            _check_loss(parts, collate(examples))
            found["causality"] = _causality(parts, examples, draw)
            found["normalisation"] = _normalisation(parts, examples, draw)
    except _Found as problem:
        found["problems"].append(str(problem))
    return found


def _some_examples(parts: Evaluable, draw: Random) -> list[EncodedExample]:
    """Return evaluation examples as they stand together in a batch, as many as are looked at."""
    most = min(_ROWS, parts.config.training.per_device_eval_batch_size, len(parts.eval))
    numbers = draw.sample(range(len(parts.eval)), most)
    places = max(_LEAST_PLACES, _LARGEST_LOGITS // parts.tokenizer.vocab_size)
    found = [parts.eval[number] for number in numbers]
    ends = [each.prefix_length + places for each in found]
    found = [replace(each, ids=each.ids[:end]) for each, end in zip(found, ends, strict=True)]
    fitting = places // max(each.num_targets for each in found)
    return found[: max(1, fitting)]


def _log_probs(parts: Evaluable, batch: Batch) -> Floats:
    """Return the logarithm of the probability of every token at a batch's targets, shape (N, V)."""
    model, here = cast(CausalLM, parts.model), batch.to(parts.device)
    logits = model.logits(hidden_at(parts.model, here.target_positions, here.input_ids))
    if type(logits) is not Tensor:
        raise _Found(
            f"normalisation: the model's logits are a {type(logits).__name__} and no plain tensor, so what is computed "
            "from them need not be a loss"
        )
    if logits.ndim != 2 or logits.shape[0] != len(batch.targets):
        raise _Found(f"normalisation: {len(batch.targets)} targets got logits of the shape {tuple(logits.shape)}")
    values: Floats = logits.float().cpu().numpy()
    if not (np.isfinite(values) | np.isneginf(values)).all():
        raise _Found("normalisation: the model's logits are not finite")
    values = values - values.max(-1, keepdims=True)
    found: Floats = np.maximum(values - np.log(np.exp(values).sum(-1, keepdims=True)), LEAST_LOG_PROB)
    return found


def _of_targets(log_probs: Floats, batch: Batch) -> Floats:
    """Return the logarithm of the probability of each target, shape (N,)."""
    found: Floats = np.take_along_axis(log_probs, batch.targets.numpy()[:, None], -1)[:, 0]
    return found


def _check_loss(parts: Evaluable, batch: Batch) -> None:
    """Raise _Found where the evaluation's loss is not that of the model's logits, or where these are not the same."""
    first, second = _log_probs(parts, batch), _log_probs(parts, batch)
    if (difference := _difference(first, second)) > _rounding(parts):
        raise _Found(
            f"determinism: two passes over the same tokens give log-probabilities that differ by {difference:.3g}"
        )
    expected = -float(_of_targets(first, batch).mean(dtype=np.float64))
    loss = float(target_loss(parts, batch)[0].item()) / len(batch.targets)
    is_masked = bool((_of_targets(first, batch) <= LEAST_LOG_PROB).any())  # its loss has no bound
    if not is_masked and not abs(loss - expected) <= LOSS_TOLERANCE * max(1.0, expected):  # a NaN is not below
        raise _Found(
            f"normalisation: the evaluation takes a loss of {loss:.4g} from logits that mean {expected:.4g}: the loss "
            "is not that of a prediction"
        )


def _causality(parts: Evaluable, examples: Sequence[EncodedExample], draw: Random) -> float:
    """Return the largest change of a log-probability, in nats, when what comes after it changes.

    Every row is cut somewhere among its targets; what follows is others' tokens, or nothing at all, which a model that
    knows how much is to come would notice. Raises _Found where that is more than rounding.
    """
    whole = collate(examples)
    before, width = _log_probs(parts, whole), whole.input_ids.shape[1]
    rows, places = (numbers.numpy() for numbers in (whole.target_positions // width, whole.target_positions % width))
    known = sorted({int(token) for example in examples for token in example.ids})
    worst = 0.0
    for number in range(2 * _CUTS):
        cuts = np.array([_cut(example, draw) for example in examples])
        is_before = places <= cuts[rows]
        if number % 2:
            changed = [replace(each, ids=each.ids[: cut + 2]) for each, cut in zip(examples, cuts, strict=True)]
            after = _log_probs(parts, collate(changed, length=width + 1))
        else:
            changed = [_other_end(each, cut + 1, known, draw) for each, cut in zip(examples, cuts, strict=True)]
            after = _log_probs(parts, collate(changed))[is_before]
        worst = max(worst, difference := _difference(before[is_before], after))
        if difference > _rounding(parts):
            how = "are left out" if number % 2 else "are others"
            raise _Found(
                f"causality: the model's predictions change by {difference:.3g} nats when tokens after their position "
                f"{how} ({_rounding(parts):g} can be rounding): it sees what it is to predict"
            )
    return worst


def _cut(example: EncodedExample, draw: Random) -> int:
    """Return the last place of a row whose logits must not change: one before its last input, where it has two."""
    first, last = example.prefix_length - 1, len(example.ids) - 3
    return draw.randint(first, last) if last >= first else len(example.ids) - 2


def _other_end(example: EncodedExample, start: int, known: Sequence[int], draw: Random) -> EncodedExample:
    """Return an example with other tokens from a place on, of those that examples are made of."""
    ids = example.ids.copy()
    for place in range(start, len(ids)):
        others = [token for token in known if token != ids[place]] if len(known) < _SOME_TOKENS else known
        ids[place] = draw.choice(others or [int(ids[place])])
    return replace(example, ids=ids)


def _normalisation(parts: Evaluable, examples: Sequence[EncodedExample], draw: Random) -> float | None:
    """Return the probability that tokens get together when each in turn stands in one place of a row.

    With a large vocabulary some of its tokens are tried. None where no example has a target that the model is shown
    later on. Raises _Found for more than 1; what is missing only makes the loss worse.
    """
    example = max(examples, key=lambda each: each.num_targets)
    last = len(example.ids) - 2
    if last < example.prefix_length:
        return None
    place, size = draw.randint(example.prefix_length, last), parts.tokenizer.vocab_size
    tokens = list(range(size))
    if size > _ALL_TOKENS:
        tokens = sorted({int(example.ids[place]), *draw.sample(range(size), _SOME_TOKENS)})
    mass, at_once = 0.0, min(_ROWS, parts.config.training.per_device_eval_batch_size)
    for start in range(0, len(tokens), at_once):
        rows = [_with_token(example, place, token) for token in tokens[start : start + at_once]]
        batch = collate(rows)
        width = batch.input_ids.shape[1]
        here = (batch.target_positions % width == place - 1).numpy()
        mass += math.fsum(np.exp(_of_targets(_log_probs(parts, batch), batch)[here]))
    if mass > 1.0 + MASS_TOLERANCE:
        raise _Found(
            f"normalisation: {len(tokens)} of {size} tokens in one place together get a probability of {mass:.4g}, "
            "where 1 is all there is: the loss is not that of a prediction"
        )
    return mass


def _with_token(example: EncodedExample, place: int, token: int) -> EncodedExample:
    ids = example.ids.copy()
    ids[place] = token
    return replace(example, ids=ids)


def _difference(one: Floats, other: Floats) -> float:
    """Return the largest difference, 0 where there is nothing to compare."""
    return float(abs(one - other).max()) if one.size else 0.0


def _rounding(parts: Evaluable) -> float:
    training = parts.config.training
    return ROUNDING_BF16 if training.bf16 or training.bf16_full_eval else ROUNDING
