"""Running text as windows over tokens that were prepared once per project and are mapped into memory.

Each document stands behind the token that starts it where the tokenizer has one. A document is for evaluation when its
hash says so, wherever it stands, and the windows come in the order of the documents' hashes: the split and the order
depend on what the documents are, and neither on the files they lie in nor on the tokenizer. An example is a window of
`block_size` targets and the token before them, so that every token of a document but its first is a target exactly
once. A document that comes again is left out, and so is one to train on that is evaluated on.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from hotlap.core.errors import DataError, StorageError
from hotlap.core.files import read_json, write_json
from hotlap.core.progress import Progress
from hotlap.data.preparation import Job, facts_key, is_prepared, num_shards, prepare_shards
from hotlap.data.shards import EVAL_SHARE, EndsOf, ShardIndex, read_index, tokens_path, write_arrays, write_file
from hotlap.data.tokenizers import ByteTokenizer, Tokenizer, id_type
from hotlap.tasks.documents import TextSource
from hotlap.tasks.examples import TextTask, TokenShards, TokenTask, TokenWindows, map_tokens

Say = Callable[[str], None]
Numbers = NDArray[np.int64]

RECIPE: Final = 3
"""Raised when the same text would give another corpus."""


def prepare_corpus(task: TextTask, tokenizer: Tokenizer, cache: Path, say: Say | None = None) -> TokenTask:
    """Return the windows over a text's tokens, which are prepared now or found in the cache.

    `say` is told how far the preparation is. Raises DataError for unusable or too little text, StorageError when the
    cache cannot be written.
    """
    train = job_for(task.text, tokenizer, cache, "held_out" if task.validation is None else "none")
    evaluation = None if task.validation is None else job_for(task.validation, tokenizer, cache, "all")
    key = facts_key(RECIPE, train.folder.name, evaluation.folder.name if evaluation else None)
    path = cache / f"language_model-{key}.json"
    facts = read_json(path)
    if facts is None or not _is_whole(facts, path, train, evaluation):
        prepare_all(task.text, train, task.num_workers, say)
        if task.validation is not None and evaluation is not None:
            prepare_all(task.validation, evaluation, task.num_workers, say)
        facts = _merge(path, train, evaluation)
    return _task(task, path, facts, train, evaluation)


def job_for(text: TextSource, tokenizer: Tokenizer, cache: Path, ends_of: EndsOf) -> Job:
    """Return where the shards of a text lie and what they are made with."""
    if isinstance(tokenizer, ByteTokenizer):
        ends_of = "none"  # a token is a byte
    key = facts_key(RECIPE, text.identity, tokenizer.hash, ends_of)
    return Job(cache / f"tokens-{key}", tokenizer, ends_of)


def windows_of(starts: Numbers, lengths: Numbers, block_size: int) -> tuple[Numbers, Numbers]:
    """Cut documents, each of 2 tokens at least, into windows; return their starts and lengths.

    A window has `block_size` + 1 tokens, the last one of a document perhaps less; its last token is the first of the
    next window.
    """
    counts = -(-(lengths - 1) // block_size)
    before = np.cumsum(counts) - counts
    offsets = (np.arange(counts.sum()) - np.repeat(before, counts)) * block_size
    left = np.repeat(lengths, counts) - offsets
    return np.repeat(starts, counts) + offsets, np.minimum(left, block_size + 1)


def prepare_all(text: TextSource, job: Job, num_workers: int | None, say: Say | None = None) -> None:
    """Make the shards of a text, unless they are all there."""
    if not is_prepared(job):
        prepare_shards(text, job, num_workers, Progress(text.num_bytes if say is not None else None, say))


@dataclass(frozen=True, slots=True, eq=False)
class _Documents:
    """The documents of a text, D of them."""

    lengths: NDArray[np.uint32]
    starts: Numbers
    """Where the tokens of each begin, the shards put end to end."""
    hashes: NDArray[np.uint64]
    has_ends: NDArray[np.bool_]
    order: Numbers
    """The places of those that differ, by their hashes; of those that are alike the first."""
    counts: list[int]
    """Tokens of each shard."""
    num_bytes: int

    @property
    def sorted_hashes(self) -> NDArray[np.uint64]:
        """The hashes of those that differ, in order."""
        return self.hashes[self.order]


def _documents(job: Job) -> _Documents:
    """Read the indexes of all shards; with millions of documents, care is taken of the memory."""
    parts: dict[str, list[NDArray[Any]]] = {"lengths": [], "hashes": [], "has_ends": []}
    counts, num_bytes = [], 0
    for index in shard_indexes(job):
        for name, arrays in parts.items():
            arrays.append(getattr(index, name))
        counts.append(index.num_tokens)
        num_bytes += index.num_bytes
    if not sum(counts):
        raise DataError("the corpus holds no document of two tokens or more; give text")
    lengths, hashes, has_ends = (np.concatenate(parts.pop(name)) for name in tuple(parts))
    order = np.argsort(hashes, kind="stable")
    in_order = hashes[order]
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = in_order[1:] != in_order[:-1]
    del in_order
    order = order[is_first]
    ends = np.cumsum(lengths, dtype=np.int64)
    ends -= lengths  # where they begin
    return _Documents(lengths, ends, hashes, has_ends, order, counts, num_bytes)


def shard_indexes(job: Job) -> Iterator[ShardIndex]:
    """Yield the indexes of a prepared text's shards; raises StorageError when one is gone."""
    for number in range(num_shards(job.folder) or 0):
        index = read_index(job.folder, number, job.itemsize)
        if index is None:
            raise StorageError(f"{job.folder}: shard {number} vanished while it was read; start again")
        yield index


def _merge(path: Path, train: Job, evaluation: Job | None) -> dict[str, Any]:
    """Split the documents, write where those of each part lie, and return the facts about them, written last."""
    documents = _documents(train)
    if evaluation is None:
        is_held = _is_held_out(documents.sorted_hashes)
        held, held_order, order = documents, documents.order[is_held], documents.order[~is_held]
    else:
        held = _documents(evaluation)
        held_order = held.order
        order = documents.order[~is_in(documents.sorted_hashes, held.sorted_hashes)]
    total = len(documents.hashes) + (0 if held is documents else len(held.hashes))
    if not len(order) or not len(held_order):
        raise DataError(
            f"the corpus is too small: {len(order)} document(s) to learn from and {len(held_order)} to be evaluated "
            f"on are left of {total}, once none is on both sides; give more text"
        )
    num_ends = 0
    if held.has_ends.any():
        num_ends = _write_ends(path, evaluation or train)
    ends_of = np.cumsum(np.where(held.has_ends, held.lengths, 0), dtype=np.int64) - held.lengths
    arrays: dict[str, NDArray[Any]] = {
        "train_starts": documents.starts[order],
        "train_lengths": documents.lengths[order],
        "eval_starts": held.starts[held_order],
        "eval_lengths": held.lengths[held_order],
        "eval_ends": ends_of[held_order],
    }
    write_arrays(path.with_suffix(".npz"), arrays)
    hashes, held_hashes = documents.hashes[order], held.hashes[held_order]
    facts = {
        "hash": _content_hash(hashes, held_hashes),
        "train_shards": documents.counts,
        "eval_shards": None if held is documents else held.counts,
        "ends": num_ends,
        "documents": {
            "documents": total,
            "duplicates": total - len(order) - len(held_order),
            "held_out": len(held_order),
            "shared": int(is_in(held_hashes, hashes).sum()),
            "bytes": documents.num_bytes + (0 if held is documents else held.num_bytes),
        },
    }
    write_json(path, facts)
    return facts


def _is_held_out(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Say which documents of these ascending hashes are evaluated on; raises DataError for fewer than two."""
    if len(hashes) < 2:
        raise DataError(
            f"the corpus is too small: {len(hashes)} document(s) that differ and have two tokens or more; a language "
            "model needs one to learn from and one to be evaluated on, so give more text with task.text"
        )
    chosen: NDArray[np.bool_] = hashes % np.uint64(EVAL_SHARE) == 0
    if not chosen.any():
        chosen[0] = True
    elif chosen.all():
        chosen[-1] = False
    return chosen


def is_in(values: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Say which of `values` are among `known`, which are ascending."""
    places = np.minimum(np.searchsorted(known, values), max(0, len(known) - 1))
    return known[places] == values if len(known) else np.zeros(len(values), dtype=np.bool_)


def _content_hash(train: NDArray[np.uint64], held_out: NDArray[np.uint64]) -> str:
    digest = hashlib.sha256()
    for part in (train, held_out):
        digest.update(np.ascontiguousarray(part, dtype="<u8").data)
        digest.update(b"|")
    return digest.hexdigest()


def _write_ends(path: Path, job: Job) -> int:
    """Put the token ends of all shards into one file; return how many they are."""
    count = 0

    def fill(file: IO[bytes]) -> None:
        nonlocal count
        for index in shard_indexes(job):
            file.write(index.ends.tobytes())
            count += len(index.ends)

    write_file(path.with_suffix(".ends"), fill)
    return count


def _is_whole(facts: Mapping[str, Any], path: Path, train: Job, evaluation: Job | None) -> bool:
    """Say whether every prepared file is there in its full size."""
    sizes = dict(_token_files(train, facts["train_shards"]))
    if evaluation is not None:
        sizes |= dict(_token_files(evaluation, facts["eval_shards"]))
    if facts["ends"]:
        sizes[path.with_suffix(".ends")] = facts["ends"] * np.dtype(np.uint32).itemsize
    try:
        return path.with_suffix(".npz").is_file() and all(one.stat().st_size == size for one, size in sizes.items())
    except OSError:
        return False


def _token_files(job: Job, counts: Sequence[int]) -> Iterator[tuple[Path, int]]:
    """Yield the files of a text's tokens with their sizes in bytes."""
    for number, count in enumerate(counts):
        yield tokens_path(job.folder, number), count * job.itemsize


def _task(task: TextTask, path: Path, facts: Mapping[str, Any], train: Job, evaluation: Job | None) -> TokenTask:
    """Return the windows of a prepared text."""
    with np.load(path.with_suffix(".npz")) as found:
        arrays = {name: found[name].astype(np.int64) for name in found.files}
    tokens = _tokens(train, facts["train_shards"])
    held_tokens = tokens if evaluation is None else _tokens(evaluation, facts["eval_shards"])
    starts, lengths = windows_of(arrays["train_starts"], arrays["train_lengths"], task.block_size)
    num_targets = int(lengths.sum()) - len(lengths)
    if num_targets < task.block_size:
        raise DataError(
            f"the corpus is smaller than one sequence: {num_targets} token(s) to predict, task.block_size is "
            f"{task.block_size}; give more text or lower task.block_size"
        )
    held_starts, held_lengths = windows_of(arrays["eval_starts"], arrays["eval_lengths"], task.block_size)
    ends = map_tokens(path.with_suffix(".ends"), np.uint32) if facts["ends"] else None
    first, _ = windows_of(arrays["eval_ends"], arrays["eval_lengths"], task.block_size)

    def held(chosen: Numbers) -> TokenWindows:
        sizes = None
        if ends is not None:
            begin, last = first[chosen], first[chosen] + held_lengths[chosen] - 1
            sizes = ends[last].astype(np.int64) - ends[begin]
        return TokenWindows(held_tokens, held_starts[chosen], held_lengths[chosen], num_bytes=sizes)

    wanted, unseen = chosen_windows(len(held_starts), task.max_eval_samples)
    files = [path, path.with_suffix(".npz"), *(name for name, _ in _token_files(train, facts["train_shards"]))]
    files += [] if ends is None else [path.with_suffix(".ends")]
    files += [] if evaluation is None else [name for name, _ in _token_files(evaluation, facts["eval_shards"])]
    settings = [facts["hash"], train.tokenizer.hash, task.block_size, task.max_eval_samples]
    return TokenTask(
        train=TokenWindows(tokens, starts, lengths),
        eval=held(wanted),
        source=task.source,
        hash=facts_key(*settings),
        audit=held(unseen) if len(unseen) else None,
        files=tuple(files),
        documents=facts["documents"],
    )


def _tokens(job: Job, counts: Sequence[int]) -> TokenShards:
    paths = [tokens_path(job.folder, number) for number in range(len(counts))]
    return TokenShards(id_type(job.tokenizer.vocab_size), paths, counts)


def chosen_windows(count: int, max_samples: int) -> tuple[Numbers, Numbers]:
    """Return which of the windows held out are evaluated on, and which of the others audits look at.

    Both are spread over all documents that are held out.
    """
    wanted = min(max_samples, count)
    spread = np.arange(wanted) * count // wanted
    others = np.delete(np.arange(count), spread)
    num_others = min(wanted, len(others))
    return spread, others[np.arange(num_others) * len(others) // max(1, num_others)]
