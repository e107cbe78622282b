"""Preparing by several processes: the same result whoever makes it, and what a kill leaves is gone on with."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

import hotlap
from hotlap.config.schema import LanguageModelConfig
from hotlap.core.errors import DataError, RunFailedError
from hotlap.core.progress import Progress
from hotlap.data import preparation
from hotlap.data.corpus import job_for, prepare_corpus
from hotlap.data.preparation import Job, num_shards, prepare_shards
from hotlap.data.shards import index_path, read_index, tokens_path, write_shard
from hotlap.data.tokenizers import ByteTokenizer, CharacterTokenizer, Ids, Tokenizer
from hotlap.tasks import language_model, text_files
from hotlap.tasks.documents import TextOptions
from hotlap.tasks.file_states import file_states
from hotlap.tasks.language_model import load_language_model
from hotlap.tasks.text_files import TextFiles

QUIET = Progress(None, None)
LETTERS = " abcdefghijklmnopqrstuvwxyzäöü"
CHARACTERS = CharacterTokenizer(LETTERS)


@pytest.fixture(autouse=True)
def little_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start processes for little text."""
    monkeypatch.setattr(preparation, "_ALONE_BYTES", 0)


def write_corpus(folder: Path, lines: int = 2000) -> Path:
    draw = random.Random(7)
    rows = ("".join(draw.choices("abcdefghij äöü", k=draw.randint(5, 60))) for _ in range(lines))
    path = folder / "corpus.txt"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def lines_of(path: Path) -> TextFiles:
    return TextFiles(file_states([path], path.parent), TextOptions(separator="\n", chunk_bytes=4000))


def files_of(folder: Path) -> dict[str, str]:
    """Return the content of all shards."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix == ".tokens"
    }


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CHARACTERS], ids=["byte", "character"])
def test_the_number_of_processes_changes_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    text = lines_of(write_corpus(tmp_path))
    found = []
    for count in (1, 2, 3):
        job = Job(tmp_path / f"by-{count}", tokenizer, "held_out")
        assert prepare_shards(text, job, count, QUIET) == len(list(text.chunks())) > 10
        indexes = [read_index(job.folder, number, job.itemsize) for number in range(num_shards(job.folder) or 0)]
        found.append((files_of(job.folder), [(one.hashes.tolist(), one.ends.tolist()) for one in indexes if one]))
    assert found[0] == found[1] == found[2]


def test_every_document_is_in_a_shard_once(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    job = Job(tmp_path / "shards", ByteTokenizer(), "none")
    count = prepare_shards(lines_of(path), job, 2, QUIET)
    documents = []
    for number in range(count):
        index = read_index(job.folder, number, 1)
        assert index is not None
        tokens = tokens_path(job.folder, number).read_bytes()
        ends = np.cumsum(index.lengths).tolist()
        documents += [tokens[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]
    assert documents == [line for line in path.read_text(encoding="utf-8").split("\n") if not line.isspace()]


def test_shards_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    text, job = lines_of(write_corpus(tmp_path)), Job(tmp_path / "shards", ByteTokenizer(), "none")
    count = prepare_shards(text, job, 1, QUIET)
    before = {number: index_path(job.folder, number).stat().st_mtime_ns for number in range(count)}
    index_path(job.folder, 3).unlink()
    tokens_path(job.folder, 5).write_bytes(b"cut off")
    (job.folder / "000009.tokens.1.tmp").write_bytes(b"left by one that was killed")
    assert prepare_shards(text, job, 2, QUIET) == count
    after = {number: index_path(job.folder, number).stat().st_mtime_ns for number in range(count)}
    assert [number for number in range(count) if before[number] != after[number]] == [3, 5]
    assert not list(job.folder.glob("*.tmp"))


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_preparation as here
here.prepare_slowly(Path(sys.argv[1]))
"""


class SlowTokenizer(CharacterTokenizer):
    """Takes its time, so that a kill hits it at work."""

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        time.sleep(0.05)
        return super().encode_batch(texts)


def prepare_slowly(folder: Path) -> None:
    """What the process does that is killed."""
    preparation._ALONE_BYTES = 0
    prepare_shards(
        lines_of(folder / "corpus.txt"), Job(folder / "killed", SlowTokenizer(LETTERS), "held_out"), 2, QUIET
    )


def test_a_preparation_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    words = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1])}
    killed = tmp_path / "killed"
    with subprocess.Popen(words, env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while len(list(killed.glob("*.npz"))) < 4:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(below, timeout=20)
    assert not [one for one in below if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], "they end with it"
    done = {one.name: one.stat().st_mtime_ns for one in killed.glob("*.npz")}
    assert num_shards(killed) is None
    text = lines_of(path)
    assert 4 <= len(done) < len(list(text.chunks()))
    prepare_shards(text, Job(killed, CHARACTERS, "held_out"), 2, QUIET)
    assert {name: (killed / name).stat().st_mtime_ns for name in done} == done, "nothing is made twice"
    whole = Job(tmp_path / "whole", CHARACTERS, "held_out")
    prepare_shards(text, whole, 1, QUIET)
    assert files_of(killed) == files_of(whole.folder)


def test_what_a_process_finds_wrong_is_told(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    content = path.read_bytes()
    place = content.index(b"\n", 9000)
    path.write_bytes(content[:place] + b"\xff" + content[place:])
    job = Job(tmp_path / "shards", ByteTokenizer(), "none")
    with pytest.raises(DataError, match=rf"corpus\.txt: not UTF-8 at byte {place} \(0xff\)"):
        prepare_shards(lines_of(path), job, 2, QUIET)
    assert num_shards(job.folder) is None


def test_a_file_that_shrinks_on_the_way_is_told_and_leaves_no_wrong_shard(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    text = lines_of(path)
    content = path.read_bytes()
    path.write_bytes(content[:20_000])
    job = Job(tmp_path / "shards", ByteTokenizer(), "none")
    with pytest.raises(DataError, match=r"corpus\.txt: shrank from [\d,]+ to 20,000 bytes"):
        prepare_shards(text, job, 2, QUIET)
    assert not list(job.folder.glob("*.npz"))


@dataclass(frozen=True, slots=True)
class DeadlyChunk:
    """Ends the process that reads it, as the kernel does when memory runs out."""

    num_bytes: int = 1

    def documents(self) -> Iterator[str]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield "never"


@dataclass(frozen=True, slots=True)
class DeadlyTexts:
    """Text that nobody survives."""

    identity: str = "deadly"
    num_bytes: int | None = None

    def chunks(self) -> Iterator[DeadlyChunk]:
        return (DeadlyChunk() for _ in range(4))


def test_a_process_that_is_ended_from_outside_is_told(tmp_path: Path) -> None:
    job = Job(tmp_path / "shards", ByteTokenizer(), "none")
    with pytest.raises(RunFailedError, match=r"ended from outside; .* lower task\.preprocessing_num_workers"):
        prepare_shards(DeadlyTexts(), job, 2, QUIET)


def test_two_that_prepare_the_same_wait_for_each_other(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    words = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1])}
    processes = [subprocess.Popen(words, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert num_shards(tmp_path / "killed") == len(list(lines_of(path).chunks()))


def test_the_library_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [Path(language_model.__file__), Path(np.__file__), Path(text_files.__file__), Path(preparation.__file__)]
    monkeypatch.setattr(language_model, "library_files", lambda: iter(files))
    task = load_language_model(LanguageModelConfig(), tmp_path, tmp_path)
    first = prepare_corpus(task, ByteTokenizer(), tmp_path)
    assert first.source.startswith("source code of Python 3.")
    monkeypatch.setattr(language_model, "library_files", None)  # calling it would fail
    assert prepare_corpus(task, ByteTokenizer(), tmp_path).hash == first.hash


def test_a_shard_knows_its_smallest_document_where_none_is_held_out(tmp_path: Path) -> None:
    texts = [f"document {number}" for number in range(5)]
    write_shard(tmp_path, 0, texts, CHARACTERS, "held_out")
    index = read_index(tmp_path, 0, 1)
    assert index is not None
    if not (index.hashes % np.uint64(50) == 0).any():
        assert index.has_ends.tolist() == (index.hashes == index.hashes.min()).tolist()
    assert len(index.ends) == index.lengths[index.has_ends].sum()


def test_shards_are_named_by_text_tokenizer_and_what_is_kept(tmp_path: Path) -> None:
    text = lines_of(write_corpus(tmp_path))
    folders = {
        job_for(text, CHARACTERS, tmp_path, "held_out").folder,
        job_for(text, CHARACTERS, tmp_path, "all").folder,
        job_for(text, CharacterTokenizer("abc"), tmp_path, "all").folder,
        job_for(text, ByteTokenizer(), tmp_path, "all").folder,
    }
    assert len(folders) == 4
    bytes_folders = {job_for(text, ByteTokenizer(), tmp_path, ends).folder for ends in ("all", "none", "held_out")}  # type: ignore[arg-type]
    assert len(bytes_folders) == 1, "bytes need no ends"
