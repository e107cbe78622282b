"""The tokenizer that a run was trained with, found again in the cache without a look at the text."""

from collections.abc import Callable
from pathlib import Path

from hotlap.config.schema import RunConfig
from hotlap.config.tokenizers import ByteTokenizerConfig, CharacterTokenizerConfig, PretrainedTokenizerConfig
from hotlap.core.errors import DataError
from hotlap.core.files import read_json
from hotlap.data.load import Functions, load_tokens
from hotlap.data.tokenizers import END_OF_TEXT, CharacterTokenizer, SubwordTokenizer, Tokenizer, load_tokenizer

Custom = Callable[[], Functions]
"""Gives the functions of the project that the task names."""


def load_saved_tokenizer(
    config: RunConfig, directory: Path, cache: Path, known_hash: str | None, custom: Custom
) -> Tokenizer:
    """Return the tokenizer of a run; `known_hash` is what the run has written down of it.

    Only one that was trained here and is not in the cache any more needs the text: the data are prepared again. Raises
    DataError when that, or a file that has changed, gives another tokenizer than the run's.
    """
    section = config.tokenizer
    if isinstance(section, ByteTokenizerConfig | PretrainedTokenizerConfig):
        found = load_tokenizer(section, tuple, "", directory, cache)
    else:
        for path in sorted(cache.glob(f"tokenizer-{section.name}-*.json")):
            kept = _kept(path, is_character=isinstance(section, CharacterTokenizerConfig))
            if kept.hash == known_hash:
                return kept
        found = load_tokens(config, directory, cache, custom())[1]
    if known_hash is not None and found.hash != known_hash:
        raise DataError(
            f"the tokenizer is another one than the run was trained with ({known_hash} is now {found.hash}): its file "
            f"or its text has changed, and {cache} does not hold it any more; put the old one back"
        )
    return found


def _kept(path: Path, *, is_character: bool) -> Tokenizer:
    if is_character:
        return CharacterTokenizer((read_json(path) or {})["characters"])
    return SubwordTokenizer(path.read_text(encoding="utf-8"), END_OF_TEXT)
