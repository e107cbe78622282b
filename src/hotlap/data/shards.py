"""Shards: the tokens of one stretch of text in a file, and beside them what is to be known of its documents.

A shard is its number, its tokens (`000007.tokens`) and its index (`000007.npz`). Each file is written beside its place
and renamed, the index last, so a shard that has an index is whole and is never made again.
"""

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hotlap.core.errors import StorageError
from hotlap.data.tokenizers import Tokenizer, id_type

EndsOf = Literal["held_out", "all", "none"]
"""The documents whose tokens' ends in bytes are kept: what may be evaluated on."""

EVAL_SHARE: Final = 50
"""One document in fifty is held out, where nothing else says what to evaluate on."""
_GROUP_CHARACTERS: Final = 1 << 20
_GROUP_TEXTS: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class ShardIndex:
    """The documents of a shard, in order; those of less than two tokens are not among them."""

    lengths: NDArray[np.uint32]
    """Tokens of each, with the one that starts it, shape (D,)."""
    hashes: NDArray[np.uint64]
    """The start of the SHA-256 of each text, shape (D,)."""
    has_ends: NDArray[np.bool_]
    """Whether `ends` tells of it, shape (D,)."""
    ends: NDArray[np.uint32]
    """Bytes of UTF-8 up to the end of each token, of the documents that have them, end to end."""
    num_bytes: int
    """Bytes of all texts in UTF-8."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return int(self.lengths.sum(dtype=np.int64))


def tokens_path(folder: Path, number: int) -> Path:
    """Return where the tokens of a shard lie."""
    return folder / f"{number:06}.tokens"


def index_path(folder: Path, number: int) -> Path:
    """Return where the index of a shard lies."""
    return folder / f"{number:06}.npz"


def read_index(folder: Path, number: int, itemsize: int) -> ShardIndex | None:
    """Return the index of a shard, None where the shard is missing or damaged."""
    try:
        with np.load(index_path(folder, number)) as found:
            index = ShardIndex(
                found["lengths"], found["hashes"], found["has_ends"], found["ends"], int(found["num_bytes"])
            )
        size = tokens_path(folder, number).stat().st_size
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return index if size == index.num_tokens * itemsize else None


def write_shard(folder: Path, number: int, documents: Iterable[str], tokenizer: Tokenizer, ends_of: EndsOf) -> None:
    """Make a shard of documents: the tokens, then the index.

    Raises StorageError when it cannot be written, and what reading the documents raises.
    """
    maker = _ShardMaker(tokenizer, ends_of)

    def write_tokens(file: IO[bytes]) -> None:
        for texts in _groups(documents):
            file.write(maker.take(texts).tobytes())

    write_file(tokens_path(folder, number), write_tokens)
    index = maker.index()
    arrays = {name: getattr(index, name) for name in ("lengths", "hashes", "has_ends", "ends")}
    write_arrays(index_path(folder, number), arrays | {"num_bytes": np.array(index.num_bytes)})


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a file of named arrays (.npz) atomically; raises StorageError when it cannot be written."""
    named: dict[str, Any] = dict(arrays)
    write_file(path, lambda file: np.savez(file, **named))


def write_file(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write a file atomically, and wait until it is on the disk; raises StorageError when it cannot be written."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _groups(documents: Iterable[str]) -> Iterator[list[str]]:
    """Yield documents some at a time, so that they are made into tokens together."""
    texts: list[str] = []
    size = 0
    for text in documents:
        texts.append(text)
        size += len(text)
        if size >= _GROUP_CHARACTERS or len(texts) == _GROUP_TEXTS:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


class _ShardMaker:
    """Makes tokens of documents and remembers what the index tells of them."""

    def __init__(self, tokenizer: Tokenizer, ends_of: EndsOf) -> None:
        self._tokenizer = tokenizer
        self._ends_of = ends_of
        start = tokenizer.document_start
        self._start = np.array([] if start is None else [start], dtype=id_type(tokenizer.vocab_size))
        self._lengths: list[NDArray[np.uint32]] = []
        self._hashes: list[NDArray[np.uint64]] = []
        self._ends: dict[int, NDArray[np.uint32]] = {}
        self._count = self._num_bytes = 0
        self._smallest: tuple[int, int, str] | None = None
        """Hash, place and text of the document that is held out where no hash falls on one in fifty."""

    def take(self, texts: list[str]) -> NDArray[Any]:
        """Return the tokens of documents, end to end, shape (T,)."""
        parts: list[NDArray[Any]] = []
        lengths: list[int] = []
        hashes: list[int] = []
        for text, ids in zip(texts, self._tokenizer.encode_batch(texts), strict=True):
            length = len(self._start) + len(ids)
            if length < 2:
                continue
            data = text.encode()
            digest = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
            self._num_bytes += len(data)
            self._note(text, digest, self._count + len(lengths))
            parts += [self._start, ids]
            lengths.append(length)
            hashes.append(digest)
        self._count += len(lengths)
        self._lengths.append(np.array(lengths, dtype=np.uint32))
        self._hashes.append(np.array(hashes, dtype=np.uint64))
        return np.concatenate(parts) if parts else self._start[:0]

    def _note(self, text: str, digest: int, place: int) -> None:
        """Take the ends of a document that may be evaluated on."""
        if self._ends_of == "none":
            return
        if self._ends_of == "all" or digest % EVAL_SHARE == 0:
            self._ends[place] = self._ends_in(text)
        elif not self._ends and (self._smallest is None or digest < self._smallest[0]):
            self._smallest = digest, place, text

    def _ends_in(self, text: str) -> NDArray[np.uint32]:
        ends = self._tokenizer.encode_with_ends(text)[1].astype(np.uint32)
        return np.concatenate([np.zeros(len(self._start), dtype=np.uint32), ends])

    def index(self) -> ShardIndex:
        """Return the index of all documents taken."""
        if not self._ends and self._smallest is not None:
            self._ends[self._smallest[1]] = self._ends_in(self._smallest[2])
        has_ends = np.zeros(self._count, dtype=np.bool_)
        has_ends[list(self._ends)] = True
        empty = np.zeros(0, dtype=np.uint32)
        return ShardIndex(
            np.concatenate([empty, *self._lengths]),
            np.concatenate([empty.astype(np.uint64), *self._hashes]),
            has_ends,
            np.concatenate([empty, *(self._ends[place] for place in sorted(self._ends))]),
            self._num_bytes,
        )
