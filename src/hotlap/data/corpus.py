"""Running text as tokens: prepared once per project, in a file of the cache folder that is mapped into memory.

Documents stand one after the other, each behind the token that starts it where the tokenizer has one. A document is
for evaluation when its hash says so, wherever it stands, so the split depends neither on the order of the documents nor
on the tokenizer. An example is a window of `block_size` targets and the token before them, so that every token of a
document but its first is a target exactly once.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from hotlap.core.errors import DataError, StorageError
from hotlap.core.files import read_json, write_json
from hotlap.data.tokenizers import Tokenizer, id_type
from hotlap.tasks.examples import TextTask, TokenTask, TokenWindows, map_tokens

_EVAL_SHARE: Final = 50  # one document in fifty is evaluated on
_RECIPE: Final = 2  # raise it when the same text would give another corpus


def prepare_corpus(task: TextTask, tokenizer: Tokenizer, cache: Path) -> TokenTask:
    """Return the windows over a text's tokens, which are prepared now or found in the cache.

    Raises DataError for too little text, StorageError when the cache cannot be written.
    """
    key = hashlib.sha256(json.dumps([_RECIPE, task.identity, tokenizer.hash]).encode()).hexdigest()[:16]
    path = cache / f"language_model-{key}.tokens"
    index = read_json(path.with_suffix(".json"))
    size = np.dtype(id_type(tokenizer.vocab_size)).itemsize
    if index is None or not path.is_file() or path.stat().st_size != size * sum(index["lengths"]):
        index = _prepare(task, tokenizer, path)
    return _windowed(task, tokenizer, path, index)


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


def _windowed(task: TextTask, tokenizer: Tokenizer, path: Path, index: dict[str, Any]) -> TokenTask:
    tokens = map_tokens(path, id_type(tokenizer.vocab_size))
    lengths = np.array(index["lengths"], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    is_held_out = np.zeros(len(lengths), dtype=bool)
    is_held_out[index["held_out"]] = True
    held_starts, held_lengths = windows_of(starts[is_held_out], lengths[is_held_out], task.block_size)
    wanted = min(task.max_eval_samples, len(held_starts))
    spread = np.arange(wanted) * len(held_starts) // wanted  # over all documents that are held out
    others = np.delete(np.arange(len(held_starts)), spread)
    unseen = others[np.arange(min(wanted, len(others))) * len(others) // max(1, min(wanted, len(others)))]
    ends = np.load(path.with_suffix(".ends.npy"))  # bytes up to each token of the documents held out, put end to end
    before = np.concatenate([[0], np.cumsum(lengths[is_held_out])])
    place = np.searchsorted(starts[is_held_out], held_starts, side="right") - 1
    first = held_starts - starts[is_held_out][place] + before[place]  # where each window begins in `ends`
    num_bytes = ends[first + held_lengths - 1] - ends[first]

    def held(chosen: NDArray[np.int64]) -> TokenWindows:
        return TokenWindows(tokens, held_starts[chosen], held_lengths[chosen], path, num_bytes[chosen])

    settings = [index["hash"], tokenizer.hash, task.block_size, task.max_eval_samples]
    return TokenTask(
        train=TokenWindows(tokens, *windows_of(starts[~is_held_out], lengths[~is_held_out], task.block_size), path),
        eval=held(spread),
        source=task.source,
        hash=hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16],
        audit=held(unseen) if len(unseen) else None,
        files=(path, path.with_suffix(".json"), path.with_suffix(".ends.npy")),
    )


@dataclass(slots=True)
class _Writing:
    """A corpus on its way to the disk."""

    lengths: list[int] = field(default_factory=list)
    """Tokens of each document."""
    hashes: list[bytes] = field(default_factory=list)
    """SHA-256 of each document's text."""

    def append(self, text: str, tokenizer: Tokenizer, file: BinaryIO) -> None:
        ids = tokenizer.encode(text)
        if tokenizer.document_start is not None:
            ids = np.concatenate([np.array([tokenizer.document_start], dtype=ids.dtype), ids])
        if len(ids) < 2:
            return
        file.write(ids.tobytes())
        self.lengths.append(len(ids))
        self.hashes.append(hashlib.sha256(text.encode()).digest())


def _prepare(task: TextTask, tokenizer: Tokenizer, path: Path) -> dict[str, Any]:
    """Write the tokens, then the byte ends of what is held out, then the index, each atomically; return the index."""
    written = _Writing()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for text in _once(task.documents()):
                written.append(text, tokenizer, file)
            file.flush()
            os.fsync(file.fileno())
        held_out = _held_out(written.hashes)
        wanted = {written.hashes[number] for number in held_out}
        ends = [_ends(text, tokenizer) for text in _once(task.documents()) if _digest(text) in wanted]
        np.save(path.with_suffix(".ends.npy"), np.concatenate(ends))
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    digest = hashlib.sha256(b"".join(sorted(written.hashes))).hexdigest()
    index = {"lengths": written.lengths, "held_out": held_out, "hash": digest}
    write_json(path.with_suffix(".json"), index)
    return index


def _ends(text: str, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return the bytes up to each token of a document; none up to the token that starts it."""
    ends = tokenizer.encode_with_ends(text)[1]
    return ends if tokenizer.document_start is None else np.concatenate([[0], ends])


def _held_out(hashes: list[bytes]) -> list[int]:
    """Return the documents to evaluate on; raises DataError when there are fewer than two documents."""
    if len(hashes) < 2:
        raise DataError(
            f"the corpus is too small: {len(hashes)} document(s) that differ and have two tokens or more; a language "
            "model needs one to learn from and one to be evaluated on, so give more text with task.text"
        )
    chosen = [number for number, digest in enumerate(hashes) if int.from_bytes(digest[:8], "big") % _EVAL_SHARE == 0]
    return chosen[: len(hashes) - 1] or [min(range(len(hashes)), key=hashes.__getitem__)]


def _once(documents: Iterable[str]) -> Iterable[str]:
    """Yield each document the first time that it comes."""
    seen: set[bytes] = set()
    for text in documents:
        digest = _digest(text)
        if digest not in seen:
            seen.add(digest)
            yield text


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
