"""The task `string_repetition`: read a sentence, write it again (the easy task of the WeLT benchmark).

The corpus is prepared once per project and kept in the cache folder under the hash of what it was made from, so
that runs do not pay for it.
"""

import hashlib
import json
import platform
from pathlib import Path

from hotlap.config.schema import StringRepetitionConfig
from hotlap.core.errors import DataError
from hotlap.core.files import read_json, write_json
from hotlap.tasks.examples import Example, TaskData
from hotlap.tasks.sentences import docstring_texts, file_texts, split_sentences

_EVAL_SHARE = 50  # one sentence in fifty may be evaluated on
_RECIPE = 2  # raise it when the same text would give other sentences


def example_for(sentence: str) -> Example:
    """Put a sentence into the template; SO and SI (0x0E, 0x0F) bracket the source text."""
    return Example(f"<text>\x0e{sentence}\x0f<repeat> ", sentence)


def split_by_hash(sentences: set[str], max_eval_samples: int) -> tuple[list[str], list[str]]:
    """Split into training and evaluation sentences by their hashes, so that the split never depends on the order.

    Raises DataError when one side would be empty.
    """
    pool, train = _pool_and_rest(sentences)
    if not train:
        raise DataError(
            f"the corpus is empty: {len(pool)} sentence(s) within the length bounds; "
            "give more text with task.text or widen task.min_length_bytes and task.max_length_bytes"
        )
    return train, pool[:max_eval_samples]


def audit_by_hash(sentences: set[str], max_eval_samples: int) -> list[str]:
    """Return as many of the sentences that are held out behind those of the evaluation set, as far as there are any."""
    pool, _ = _pool_and_rest(sentences)
    return pool[max_eval_samples : 2 * max_eval_samples]


def _pool_and_rest(sentences: set[str]) -> tuple[list[str], list[str]]:
    """Return the sentences that are held out from training, and the others, each in the order of their hashes."""
    ranked = sorted(sentences, key=lambda sentence: (hashlib.sha256(sentence.encode()).digest(), sentence))
    border = max(1, len(ranked) // _EVAL_SHARE)
    return ranked[:border], ranked[border:]


def load_string_repetition(config: StringRepetitionConfig, directory: Path, cache: Path) -> TaskData:
    """Return the task's examples, prepared now or taken from the cache.

    `directory` is what a relative `text` glob starts from. Raises DataError for text that is missing or unusable.
    """
    if config.text is None:
        source = f"docstrings of Python {platform.python_version()}"
        identity, texts = source, None
    else:
        texts = list(file_texts(config.text, directory))
        source = config.text
        identity = hashlib.sha256("\x00".join(texts).encode()).hexdigest()
    settings = [_RECIPE, identity, config.min_length_bytes, config.max_length_bytes, config.max_eval_samples]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    path = cache / f"string_repetition-{key}.json"
    cached = read_json(path)
    if cached is None:
        sentences = {
            sentence
            for text in (docstring_texts() if texts is None else texts)
            for sentence in split_sentences(text, config.min_length_bytes, config.max_length_bytes)
        }
        train, evaluation = split_by_hash(sentences, config.max_eval_samples)
        cached = {"train": train, "eval": evaluation, "audit": audit_by_hash(sentences, config.max_eval_samples)}
        cache.mkdir(parents=True, exist_ok=True)
        write_json(path, cached)
    return TaskData(
        train=tuple(map(example_for, cached["train"])),
        eval=tuple(map(example_for, cached["eval"])),
        source=source,
        audit=tuple(map(example_for, cached["audit"])),
        files=(path,),
    )
