"""The task `language_model`: predict each next token of running text. Each file is a document."""

import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path

from hotlap.config.schema import LanguageModelConfig
from hotlap.core.errors import DataError
from hotlap.tasks.examples import TextTask
from hotlap.tasks.sentences import file_texts, library_files, matching_files


def load_language_model(config: LanguageModelConfig, directory: Path) -> TextTask:
    """Return the task's documents; they are read, not kept.

    `directory` is what a relative `text` glob starts from. Raises DataError for text that is missing or unreadable.
    """
    if config.text is None:
        identity = source = f"source code of Python {platform.python_version()}"
        return TextTask(_library_texts, identity, source, config.block_size, config.max_eval_samples)
    pattern = config.text
    hashes = [hashlib.sha256(_content(path)).digest() for path in matching_files(pattern, directory)]
    return TextTask(
        documents=lambda: file_texts(pattern, directory),
        identity=hashlib.sha256(b"".join(hashes)).hexdigest(),
        source=pattern,
        block_size=config.block_size,
        max_eval_samples=config.max_eval_samples,
    )


def _library_texts() -> Iterator[str]:
    for path in library_files():
        yield path.read_text(encoding="utf-8", errors="replace")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
