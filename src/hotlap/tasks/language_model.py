"""The task `language_model`: predict each next token of running text, from files, data sets or Python's own library."""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotlap.config.schema import LanguageModelConfig
from hotlap.config.tasks import LIBRARY_TEXTS
from hotlap.core.errors import DataError
from hotlap.tasks.documents import CHUNK_BYTES, LONGEST, TextOptions, TextSource
from hotlap.tasks.examples import TextTask
from hotlap.tasks.file_states import TextFile, file_states, find_files
from hotlap.tasks.hub_datasets import DatasetTexts
from hotlap.tasks.sentences import file_docstrings, library_files
from hotlap.tasks.text_files import TextFiles

_FEW_FILES: Final = 50
"""So few documents cannot be split one in fifty, so they are cut."""
_PIECES: Final = 100
_SHORTEST_PIECE: Final = 2048


def load_language_model(config: LanguageModelConfig, directory: Path, cache: Path) -> TextTask:
    """Return the task's documents; they are read later, in stretches.

    `directory` is what relative names start from; hashes of large files are kept in `cache`. Raises DataError for text
    that is missing or unreadable, MissingExtraError where a package is missing that reads it.
    """
    text, source = _text(config, directory, cache)
    validation: TextSource | None = None
    if config.validation_split is not None:
        validation = _dataset(config, config.validation_split)
    elif config.validation_text is not None:
        paths = find_files(config.validation_text, directory, "task.validation_text")
        validation = TextFiles(file_states(paths, cache), _options(config))
    return TextTask(
        text=text,
        source=source,
        block_size=config.block_size,
        max_eval_samples=config.max_eval_samples,
        validation=validation,
        streaming=config.streaming,
        num_workers=config.preprocessing_num_workers,
    )


def _text(config: LanguageModelConfig, directory: Path, cache: Path) -> tuple[TextSource, str]:
    """Return the text to train on, and where it comes from in words."""
    if config.dataset_name is not None:
        parts = (config.dataset_name, config.dataset_config_name, config.dataset_split)
        return _dataset(config, config.dataset_split), ", ".join(part for part in parts if part)
    if config.text is None or config.text in LIBRARY_TEXTS:
        library = LibraryTexts(is_source=config.text is None)
        return library, library.identity
    files = file_states(find_files(config.text, directory, "task.text"), cache)
    is_split = config.validation_text is None
    names = [config.text] if isinstance(config.text, str) else config.text
    return TextFiles(files, _options(config, files if is_split else ())), ", ".join(names)


def _dataset(config: LanguageModelConfig, split: str) -> DatasetTexts:
    assert config.dataset_name is not None
    return DatasetTexts(
        config.dataset_name, config.dataset_config_name, split, config.text_key, is_streamed=config.streaming
    )


def _options(config: LanguageModelConfig, to_split: Sequence[TextFile] = ()) -> TextOptions:
    """Return how files are read; a few large ones that are to be split are cut into about a hundred documents."""
    longest = LONGEST
    files = [file for file in to_split if file.size]
    is_cut = config.document_separator is None and all(file.kind == "text" for file in files)
    if is_cut and 0 < len(files) < _FEW_FILES:
        longest = min(LONGEST, max(_SHORTEST_PIECE, sum(file.size for file in files) // _PIECES))
    return TextOptions(config.encoding, config.document_separator, config.text_key, longest)


@dataclass(frozen=True, slots=True)
class LibraryTexts:
    """The source files of Python's standard library, or the docstrings in them."""

    is_source: bool

    @property
    def identity(self) -> str:
        """Names the text by Python's version."""
        return f"{'source code' if self.is_source else 'docstrings'} of Python {platform.python_version()}"

    @property
    def num_bytes(self) -> int:
        """Bytes of the files."""
        return sum(path.stat().st_size for path in library_files())

    def chunks(self) -> Iterator["LibraryChunk"]:
        """Yield the files, some at a time."""
        paths: list[Path] = []
        size = 0
        for path in library_files():
            paths.append(path)
            size += path.stat().st_size
            if size >= CHUNK_BYTES:
                yield LibraryChunk(tuple(paths), size, self.is_source)
                paths, size = [], 0
        if paths:
            yield LibraryChunk(tuple(paths), size, self.is_source)


@dataclass(frozen=True, slots=True)
class LibraryChunk:
    """Some files of the standard library."""

    paths: tuple[Path, ...]
    num_bytes: int
    is_source: bool

    def documents(self) -> Iterator[str]:
        """Yield their content, or the docstrings in them; bytes that are not UTF-8 become U+FFFD."""
        for path in self.paths:
            try:
                if self.is_source:
                    yield path.read_text(encoding="utf-8", errors="replace")
                else:
                    yield from file_docstrings(path)
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
