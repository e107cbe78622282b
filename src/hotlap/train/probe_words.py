"""Do the predictions of a model that writes words rest on what stands before them alone?

Words after a place, and the bytes after one inside a word, are replaced or left out; what was predicted up to there
must not change. And the probabilities of all bytes in one place, each asked for with that byte standing there, must not
get more than 1 together. The rows are changed as words, so that another ending never moves the borders before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from hotlap.config.word_latent import WordLatentConfig
from hotlap.data.word_arrays import WordLayout, WordRow, arrange_rows, word_row
from hotlap.data.word_batches import word_batch_of
from hotlap.models.word_latent import IGNORED, WordLatent
from hotlap.train.evaluate import autocast_of, evaluating
from hotlap.train.parts import Evaluable

_CUTS: Final = 8
_ROWS: Final = 8

Floats = NDArray[np.float32]
Learned = dict[tuple[int, int], tuple[Floats, NDArray[np.int64]]]
"""Log-probabilities of all bytes in each place of a word (L, 256), and its bytes (L,), by row and word."""


def probe_words(parts: Evaluable, rounding: float, tolerance: float, seed: int = 0) -> dict[str, Any]:
    """Return `problems` in words, `causality` and `normalisation`, as `probe.probe_model` describes them.

    `rounding` is the largest change, in nats, that can come of another order of sums, `tolerance` the probability that
    may be too much.
    """
    draw, model = Random(seed), parts.config.model
    assert isinstance(model, WordLatentConfig)
    count = min(_ROWS, parts.config.training.per_device_eval_batch_size, len(parts.eval))
    numbers = draw.sample(range(len(parts.eval)), count)
    rows = [word_row(parts.eval[number], model.max_word_length) for number in numbers]
    problems = []
    with evaluating(parts), autocast_of(parts):
        before = _log_probs(parts, rows)
        change = max(_largest_change(parts, rows, before, draw) for _ in range(_CUTS))
        mass = _mass(parts, rows, draw)
    if not all(np.isfinite(found).all() for found, _ in before.values()):
        problems.append("normalisation: the model's logits are not finite")
    if change > rounding:
        problems.append(
            f"causality: the model's predictions change by {change:.3g} nats when words or bytes after their position "
            f"are others or left out ({rounding:g} can be rounding): it sees what it is to predict"
        )
    if mass > 1 + tolerance:
        problems.append(
            f"normalisation: all bytes in one place together get a probability of {mass:.4g}, where 1 is all there is: "
            "the loss is not that of a prediction"
        )
    return {"problems": problems, "causality": change, "normalisation": mass}


def _log_probs(parts: Evaluable, rows: Sequence[WordRow]) -> Learned:
    """Return what a model predicts for every learned word of rows."""
    model, section = cast(WordLatent, parts.model), parts.config.model
    assert isinstance(section, WordLatentConfig)
    batch = word_batch_of(arrange_rows(rows, WordLayout(section.max_word_length))).to(parts.device)
    width, found = batch.word_at.shape[1], {}
    for logits, group in model.predictions(batch):
        log_probs = torch.log_softmax(logits.float(), -1).cpu().numpy()
        targets, places = group.targets.cpu().numpy(), group.latents.cpu().numpy()
        for place, values, wanted in zip(places.tolist(), log_probs, targets, strict=True):
            row, word = divmod(place, width)
            found[row, word + 1] = values, np.where(wanted == IGNORED, 0, wanted)
    return found


@dataclass(frozen=True, slots=True)
class _Cut:
    """The end of a row that a model has read: a word, and so many of its bytes."""

    word: int
    num_bytes: int


def _largest_change(parts: Evaluable, rows: Sequence[WordRow], before: Learned, draw: Random) -> float:
    """Return the largest change of a log-probability, in nats, when what follows a place of each row changes."""
    cuts = [_cut(row, draw) for row in rows]
    pool = [word for row in rows for word in _words(row) if word]
    has_others = [draw.random() < 0.7 for _ in rows]
    changed = [
        _other_end(row, cut, pool if has else (), draw) for row, cut, has in zip(rows, cuts, has_others, strict=True)
    ]
    worst = 0.0
    for (row, word), (values, _) in _log_probs(parts, changed).items():
        cut = cuts[row]
        if word > cut.word:
            continue
        places = len(values) if word < cut.word else cut.num_bytes + 1
        here, there = values[:places], before[row, word][0][:places]
        worst = max(worst, float(np.abs(np.exp(here) - np.exp(there)).max()), float(_nats(here, there)))
    return worst


def _nats(one: Floats, other: Floats) -> float:
    """Return the largest difference of log-probabilities of what is not all but impossible."""
    return float(np.abs(np.maximum(one, -30.0) - np.maximum(other, -30.0)).max())


def _words(row: WordRow) -> list[bytes]:
    """Return the words of a row as bytes."""
    return [bytes(part) for part in np.split(row.content, np.cumsum(row.lengths)[:-1])]


def _with_words(row: WordRow, words: Sequence[bytes]) -> WordRow:
    lengths = np.array([len(word) for word in words], dtype=np.int64)
    blocks = row.blocks
    if blocks is not None:
        blocks = np.full(len(words), -1, dtype=np.int64)
        blocks[: row.num_given] = row.blocks[: row.num_given] if row.blocks is not None else -1
    return replace(row, content=np.frombuffer(b"".join(words), dtype=np.uint8), lengths=lengths, blocks=blocks)


def _cut(row: WordRow, draw: Random) -> _Cut:
    """Choose a learned word of a row, its end too where it has one, and how many of its bytes have been read."""
    word = draw.randrange(row.num_given, max(row.num_given + 1, len(row.lengths)))
    size = int(row.lengths[word]) if word < len(row.lengths) else 0
    return _Cut(word, draw.randrange(size) if size else 0)


def _other_end(row: WordRow, cut: _Cut, pool: Sequence[bytes], draw: Random) -> WordRow:
    """Return a row with other bytes from the cut on, and other words behind it; without a pool it ends there."""
    words = _words(row)
    if cut.word >= len(words):
        return row
    kept = words[cut.word][: cut.num_bytes]
    rest = bytes(draw.randrange(32, 127) for _ in words[cut.word][cut.num_bytes :])
    if not pool:
        return replace(_with_words(row, [*words[: cut.word], kept + rest[:1]]), has_end=True)
    others = [draw.choice(pool) for _ in range(draw.randint(1, len(words)))]
    return _with_words(row, [*words[: cut.word], kept + rest, *others])


def _mass(parts: Evaluable, rows: Sequence[WordRow], draw: Random) -> float:
    """Return the probability that all bytes get together, each in turn in one place of a word."""
    row = max(rows, key=lambda each: each.num_targets)
    cut, words = _cut(row, draw), _words(row)
    if cut.word >= len(words):
        return 0.0
    word, place, total = words[cut.word], cut.num_bytes, 0.0
    at_once = min(_ROWS, parts.config.training.per_device_eval_batch_size)
    for start in range(0, 256, at_once):
        tried = range(start, min(256, start + at_once))
        others = [word[:place] + bytes([byte]) + word[place + 1 :] for byte in tried]
        changed = [_with_words(row, [*words[: cut.word], other, *words[cut.word + 1 :]]) for other in others]
        found = _log_probs(parts, changed)
        total += sum(float(np.exp(found[n, cut.word][0][place, byte])) for n, byte in enumerate(tried))
    return total
