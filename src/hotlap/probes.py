"""Is a language model's loss a loss? Two probes for the evaluator of a project whose code is changed by others.

    from hotlap.probes import check_causality, check_normalisation

    check_causality(lambda rows: model(torch.tensor(rows)).logits, rows, vocab_size=50257)
    check_normalisation(token_log_probs, rows, vocab_size=50257)

A change that lets a model see the tokens it has to predict, or that gives out more probability than there is, makes any
loss as low as one likes. Both probes only call what they are given; they need neither torch nor numpy.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from hotlap.core.errors import HotlapError

Rows = list[list[int]]

TOLERANCE: Final = 1e-3
"""Largest difference of a logit that comes of adding the same numbers in another order, relative to its size."""
MASS_TOLERANCE: Final = 1e-2
"""Share of the probability that may be missing or too much, since sums of many small numbers are not exact."""
LARGEST_SIZE: Final = 100.0
"""Logit that rounding is believed to grow with at most: one at -1e9, as masks have it, must not hide a difference."""
POSITIONS: Final = 8
"""Positions that are looked at in each row."""
CHUNK_ROWS: Final = 256
"""Rows that a model is given at once."""


class ProbeError(HotlapError):
    """A model whose figures are no predictions; the evaluator should end with it."""

    exit_code = 5


def check_causality(
    logits_of: Callable[[Rows], Any],
    rows: Sequence[Sequence[int]],
    vocab_size: int,
    *,
    positions: int = POSITIONS,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> float:
    """Return the largest change of a prefix's logits when the tokens after it are others; 0 for a causal model.

    `logits_of` takes rows of equally many tokens and returns logits of shape rows × positions × vocabulary (a tensor,
    an array or lists), where position t predicts token t + 1. `tolerance` is relative to the largest logit, of which
    1 to 100 are believed. Raises ProbeError when a prefix sees what comes after it, or logits are not finite.
    """
    draw, worst = random.Random(seed), 0.0
    for row in _checked(rows, vocab_size):
        before = _first(logits_of([row]), len(row))
        for position in _positions(len(row), positions, draw):
            changed = [*row[: position + 1], *(_other(token, vocab_size, draw) for token in row[position + 1 :])]
            after = _first(logits_of([changed]), len(row))
            difference, size = _difference(before, after, position + 1)
            size = min(max(1.0, size), LARGEST_SIZE)
            relative = difference / size
            if not math.isfinite(relative):
                raise ProbeError(f"causality: logits up to position {position} are not finite")
            if relative > tolerance:
                raise ProbeError(
                    f"causality: the logits up to position {position} change by {difference:.3g} when tokens after it "
                    f"change (at most {tolerance * size:.3g} is rounding): the model sees what it predicts"
                )
            worst = max(worst, relative)
    return worst


def check_normalisation(
    log_probs_of: Callable[[Rows], Any],
    rows: Sequence[Sequence[int]],
    vocab_size: int,
    *,
    positions: int = POSITIONS,
    tolerance: float = MASS_TOLERANCE,
    seed: int = 0,
) -> float:
    """Return the probability of all possible next tokens together, the one that is farthest from 1.

    `log_probs_of` takes rows of equally many tokens and returns, for each row, the natural logarithm of the probability
    that it gives to each token after the first (rows × positions - 1), as the loss is computed from. At some positions
    every token of the vocabulary is put in turn. Raises ProbeError when they get more, or less, than 1 together.
    """
    draw, worst = random.Random(seed), 1.0
    for row in _checked(rows, vocab_size):
        for position in _positions(len(row), positions, draw):
            mass = math.fsum(_probabilities(log_probs_of, row, position + 1, vocab_size))
            if not abs(mass - 1.0) <= tolerance:  # also what is not a number
                raise ProbeError(
                    f"normalisation: all {vocab_size} tokens at position {position + 1} together get a probability of "
                    f"{mass:.4g} instead of 1: the loss is not that of a prediction"
                )
            if abs(mass - 1.0) > abs(worst - 1.0):
                worst = mass
    return worst


def _probabilities(
    log_probs_of: Callable[[Rows], Any], row: Sequence[int], place: int, vocab_size: int
) -> Iterator[float]:
    """Yield the probability of each token of the vocabulary at a place of a row."""
    for start in range(0, vocab_size, CHUNK_ROWS):
        tokens = range(start, min(start + CHUNK_ROWS, vocab_size))
        answers = log_probs_of([[*row[:place], token, *row[place + 1 :]] for token in tokens])
        for number in range(len(tokens)):
            value = float(answers[number][place - 1])
            yield math.exp(value) if value < 700.0 else math.inf


def _checked(rows: Sequence[Sequence[int]], vocab_size: int) -> Iterator[list[int]]:
    if vocab_size < 2 or not rows:
        raise ValueError(f"a probe needs rows and two tokens at least, got {len(rows)} rows and {vocab_size} tokens")
    for row in rows:
        if len(row) < 2 or not all(0 <= token < vocab_size for token in row):
            raise ValueError(f"a probe needs rows of two tokens at least, each below {vocab_size}; got {list(row)[:8]}")
        yield list(row)


def _positions(length: int, wanted: int, draw: random.Random) -> list[int]:
    """Return some positions that have a token after them, the last one always among them."""
    others = range(length - 2)
    return sorted({*draw.sample(others, min(wanted - 1, len(others))), length - 2})


def _other(token: int, vocab_size: int, draw: random.Random) -> int:
    """Return another token than this one."""
    return (token + 1 + draw.randrange(vocab_size - 1)) % vocab_size


def _first(logits: Any, length: int) -> Any:
    found = logits[0]
    if len(found) < length:
        raise ValueError(f"logits of {length} positions were expected, got {len(found)}")
    return found


def _difference(before: Any, after: Any, end: int) -> tuple[float, float]:
    """Return the largest difference of the logits at the first positions, and the largest of them."""
    one, other = before[:end], after[:end]
    if hasattr(one, "max"):  # a tensor or an array
        return float(abs(one - other).max()), float(abs(one).max())
    pairs = [(float(x), float(y)) for rows in zip(one, other, strict=True) for x, y in zip(*rows, strict=True)]
    differences = [abs(x - y) for x, y in pairs]
    if not all(map(math.isfinite, differences)):
        return math.inf, 1.0
    return max(differences), max(abs(x) for x, _ in pairs)
