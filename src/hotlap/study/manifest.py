"""Files that must stay as they are while a study goes on: what they held, and whether they still do.

A file is read again only when the file system says that it was touched, so looking before and after every run costs
next to nothing, however large a corpus is.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import hotlap
from hotlap.config.parts import custom_parts, source_of
from hotlap.config.schema import RunConfig

EVALUATOR_FILES: Final = (
    "core/clock.py",
    "core/targets.py",
    "data/arrays.py",
    "data/batches.py",
    "data/corpus.py",
    "data/encoding.py",
    "data/load.py",
    "data/preparation.py",
    "data/shards.py",
    "data/streaming.py",
    "data/tokenizers.py",
    "data/word_arrays.py",
    "data/word_batches.py",
    "data/words.py",
    "models/protocol.py",
    "tasks/chat.py",
    "tasks/documents.py",
    "tasks/examples.py",
    "tasks/file_states.py",
    "tasks/generator.py",
    "tasks/hub_datasets.py",
    "tasks/language_model.py",
    "tasks/letter_count.py",
    "tasks/parquet_files.py",
    "tasks/prompt_completion.py",
    "tasks/scoring.py",
    "tasks/sentences.py",
    "tasks/string_repetition.py",
    "tasks/text_files.py",
    "tasks/text_pieces.py",
    "train/evaluate.py",
    "train/generate.py",
    "train/generate_words.py",
    "train/loop.py",
    "train/probe.py",
    "train/probe_words.py",
    "train/reevaluate.py",
    "train/utf8.py",
    "train/words.py",
    "worker/evaluate.py",
    "worker/session.py",
    "worker/train.py",
)
"""The source, below the package, of what a metric and a clock reading mean."""


@dataclass(frozen=True, slots=True)
class _State:
    """What the file system says of a file; it cannot be written without one of these changing."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@final
class Manifest:
    """The protected files of a study with their content."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_State | None, str]] = {}

    def add(self, paths: Iterable[Path]) -> None:
        """Remember files as they are now; those that are known already stay as they were."""
        for path in paths:
            if path not in self._known:
                self._known[path] = (_state(path), digest(path))

    def expect(self, contents: Mapping[Path, str]) -> None:
        """Remember what files have to hold (SHA-256); one that is missing may still be made."""
        for path, content in contents.items():
            self._known.setdefault(path, (None, content))

    def changed(self) -> list[Path]:
        """Return the files that do not hold any more what they held; a touched one that holds the same is fine."""
        found = []
        for path, (state, before) in self._known.items():
            now = _state(path)
            if now == state:
                continue
            if digest(path) == before:
                self._known[path] = (now, before)
            else:
                found.append(path)
        return found


def evaluator_files() -> list[Path]:
    """Return the files that say what a metric and a clock reading mean."""
    package = Path(hotlap.__file__).parent
    return [package / name for name in EVALUATOR_FILES]


def evaluator_hash() -> str:
    """Return what names the evaluator: the start of the SHA-256 over its source."""
    return hashlib.sha256("".join(map(digest, evaluator_files())).encode()).hexdigest()[:16]


def source_files(config: RunConfig, directory: Path) -> list[Path]:
    """Return the files of the project that parts of its own stand in, or that a command's knobs stand in.

    Raises ConfigError when one is missing.
    """
    if config.command is not None:
        return [directory / Path(name).expanduser() for name in (*config.command.files, *config.command.constants)]
    return [source_of(directory, part) for part in custom_parts(config).values()]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, empty for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _state(path: Path) -> _State | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return _State(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
