"""The task `language_model`: predict each next byte of running text.

Each file is a document. Documents are put end to end, in the order of their hashes, in one file of the cache folder
that is mapped into memory: it is prepared once per project, and several processes share its pages. The documents with
the lowest hashes are for evaluation. An example is a window of `block_size` bytes and the one that follows them, so
that every byte of a document but its first is a target exactly once.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotlap.config.schema import LanguageModelConfig
from hotlap.core.errors import DataError, StorageError
from hotlap.core.files import read_json, write_json
from hotlap.tasks.examples import TokenTask, TokenWindows, map_tokens
from hotlap.tasks.sentences import library_files, matching_files

_EVAL_SHARE = 50  # one document in fifty may be evaluated on
_RECIPE = 1  # raise it when the same files would give another corpus


def load_language_model(config: LanguageModelConfig, directory: Path, cache: Path) -> TokenTask:
    """Return the task's windows over the corpus, which is prepared now or found in the cache.

    `directory` is what a relative `text` glob starts from. Raises DataError for text that is missing or too little.
    """
    if config.text is None:
        identity = source = f"source code of Python {platform.python_version()}"
        files = None
    else:
        files, source = matching_files(config.text, directory), config.text
        identity = hashlib.sha256(b"".join(hashlib.sha256(_content(path)).digest() for path in files)).hexdigest()
    key = hashlib.sha256(json.dumps([_RECIPE, identity]).encode()).hexdigest()[:16]
    path = cache / f"language_model-{key}.bytes"
    index = read_json(path.with_suffix(".json"))
    if index is None or not path.is_file() or path.stat().st_size != sum(index["lengths"]):
        index = _prepare(library_files() if files is None else files, path)
    return _task(config, source, path, index)


def windows_of(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], block_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut documents, each of 2 tokens at least, into windows; return their starts and lengths.

    A window has `block_size` + 1 tokens, the last one of a document perhaps less; its last token is the first of the
    next window.
    """
    counts = -(-(lengths - 1) // block_size)
    before = np.cumsum(counts) - counts
    offsets = (np.arange(counts.sum()) - np.repeat(before, counts)) * block_size
    left = np.repeat(lengths, counts) - offsets
    return np.repeat(starts, counts) + offsets, np.minimum(left, block_size + 1)


def _task(config: LanguageModelConfig, source: str, path: Path, index: dict[str, Any]) -> TokenTask:
    tokens = map_tokens(path)
    lengths = np.array(index["lengths"], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    num_eval = int(index["num_eval"])
    held_out = windows_of(starts[:num_eval], lengths[:num_eval], config.block_size)
    wanted = min(config.max_eval_samples, len(held_out[0]))
    spread = np.arange(wanted) * len(held_out[0]) // wanted  # over all documents that are held out
    others = np.delete(np.arange(len(held_out[0])), spread)
    unseen = others[np.arange(min(wanted, len(others))) * len(others) // max(1, min(wanted, len(others)))]
    train = windows_of(starts[num_eval:], lengths[num_eval:], config.block_size)
    settings = [index["hash"], config.block_size, config.max_eval_samples]
    return TokenTask(
        train=TokenWindows(tokens, *train, path),
        eval=TokenWindows(tokens, held_out[0][spread], held_out[1][spread], path),
        source=source,
        hash=hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16],
        audit=TokenWindows(tokens, held_out[0][unseen], held_out[1][unseen], path) if len(unseen) else None,
        files=(path, path.with_suffix(".json")),
    )


def _prepare(files: Iterable[Path], path: Path) -> dict[str, Any]:
    """Write the corpus and then its index, each atomically; return the index.

    Raises DataError when there are fewer than two documents, StorageError when the cache cannot be written.
    """
    by_hash: dict[bytes, Path] = {}  # a document that comes twice counts once
    for file in files:
        content = _content(file)
        if len(content) > 1:
            by_hash.setdefault(hashlib.sha256(content).digest(), file)
    if len(by_hash) < 2:
        raise DataError(
            f"the corpus is too small: {len(by_hash)} file(s) that differ and have two bytes or more; a language "
            "model needs one to learn from and one to be evaluated on, so give more files with task.text"
        )
    ranked = sorted(by_hash)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lengths = _write_end_to_end((by_hash[digest] for digest in ranked), path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from error
    index = {
        "lengths": lengths,
        "num_eval": max(1, len(ranked) // _EVAL_SHARE),
        "hash": hashlib.sha256(b"".join(ranked)).hexdigest(),
    }
    write_json(path.with_suffix(".json"), index)
    return index


def _write_end_to_end(files: Iterable[Path], path: Path) -> list[int]:
    """Write the files' contents one after the other; return their lengths."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    lengths = []
    try:
        with temporary.open("wb") as corpus:
            for file in files:
                lengths.append(corpus.write(_content(file)))
            corpus.flush()
            os.fsync(corpus.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return lengths


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
