"""Short pieces of a text, such as its sentences or words: split by their hashes and kept in the cache.

They are cut once per project and kept in the cache folder under the hash of what they were made from, so that runs do
not pay for it.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from hotlap.config.tasks import LetterCountConfig, StringRepetitionConfig
from hotlap.core.errors import DataError
from hotlap.core.files import read_json, write_json
from hotlap.tasks.examples import Example, TaskData
from hotlap.tasks.sentences import docstring_texts, file_texts

_EVAL_SHARE: Final = 50  # one piece in fifty may be evaluated on


@final
@dataclass(frozen=True, slots=True)
class PieceTask:
    """What a task makes of a text."""

    noun: str
    """What a piece is, for people."""
    recipe: int
    """A number that is raised when the same text would give other pieces."""
    cut: Callable[[str, int, int], Iterator[str]]
    """Yields the pieces of a text whose UTF-8 length lies within two bounds."""
    example_for: Callable[[str], Example]
    """Puts a piece into the task's template."""


def load_pieces(
    task: PieceTask, config: StringRepetitionConfig | LetterCountConfig, directory: Path, cache: Path
) -> TaskData:
    """Return a task's examples, prepared now or taken from the cache.

    `directory` is what a relative `text` glob starts from. Raises DataError for text that is missing or unusable.
    """
    if config.text is None:
        source = f"docstrings of Python {platform.python_version()}"
        identity, texts = source, None
    else:
        texts = list(file_texts(config.text, directory))
        source = config.text
        identity = hashlib.sha256("\x00".join(texts).encode()).hexdigest()
    bounds = (config.min_length_bytes, config.max_length_bytes)
    settings = [task.recipe, identity, *bounds, config.max_eval_samples]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    path = cache / f"{config.name}-{key}.json"
    cached = read_json(path)
    if cached is None:
        pieces = {
            piece for text in (docstring_texts() if texts is None else texts) for piece in task.cut(text, *bounds)
        }
        train, evaluation = split_by_hash(pieces, config.max_eval_samples, task.noun)
        cached = {"train": train, "eval": evaluation, "audit": audit_by_hash(pieces, config.max_eval_samples)}
        cache.mkdir(parents=True, exist_ok=True)
        write_json(path, cached)
    return TaskData(
        train=tuple(map(task.example_for, cached["train"])),
        eval=tuple(map(task.example_for, cached["eval"])),
        source=source,
        audit=tuple(map(task.example_for, cached["audit"])),
        files=(path,),
    )


def split_by_hash(pieces: set[str], max_eval_samples: int, noun: str) -> tuple[list[str], list[str]]:
    """Split into training and evaluation pieces by their hashes, so that the split never depends on the order.

    Raises DataError when one side would be empty.
    """
    pool, train = _pool_and_rest(pieces)
    if not train:
        raise DataError(
            f"the corpus is empty: {len(pool)} {noun}(s) within the length bounds; "
            "give more text with task.text or widen task.min_length_bytes and task.max_length_bytes"
        )
    return train, pool[:max_eval_samples]


def audit_by_hash(pieces: set[str], max_eval_samples: int) -> list[str]:
    """Return as many of the pieces that are held out behind those of the evaluation set, as far as there are any."""
    pool, _ = _pool_and_rest(pieces)
    return pool[max_eval_samples : 2 * max_eval_samples]


def _pool_and_rest(pieces: set[str]) -> tuple[list[str], list[str]]:
    """Return the pieces that are held out from training, and the others, each in the order of their hashes."""
    ranked = sorted(pieces, key=lambda piece: (hashlib.sha256(piece.encode()).digest(), piece))
    border = max(1, len(ranked) // _EVAL_SHARE)
    return ranked[:border], ranked[border:]
