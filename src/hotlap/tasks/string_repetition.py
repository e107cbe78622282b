"""The task `string_repetition`: read a sentence, write it again (the easy task of the WeLT benchmark)."""

from pathlib import Path
from typing import Final

from hotlap.config.schema import StringRepetitionConfig
from hotlap.tasks.examples import Example, TaskData
from hotlap.tasks.sentences import split_sentences
from hotlap.tasks.text_pieces import PieceTask, load_pieces

_RECIPE: Final = 2


def example_for(sentence: str) -> Example:
    """Put a sentence into the template; SO and SI (0x0E, 0x0F) bracket the source text."""
    return Example(f"<text>\x0e{sentence}\x0f<repeat> ", sentence)


def load_string_repetition(config: StringRepetitionConfig, directory: Path, cache: Path) -> TaskData:
    """Return the task's examples, prepared now or taken from the cache.

    `directory` is what a relative `text` glob starts from. Raises DataError for text that is missing or unusable.
    """
    return load_pieces(PieceTask("sentence", _RECIPE, split_sentences, example_for), config, directory, cache)
