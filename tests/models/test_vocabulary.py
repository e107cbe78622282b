"""Rows of the tables, and the vocabularies that they are for."""

import pytest

from hotlap.core.errors import ConfigError
from hotlap.models.vocabulary import padded_vocab_size, refuse_other_vocabulary


@pytest.mark.parametrize(("size", "rows"), [(256, 256), (50_257, 50_304), (65, 128), (64, 64), (3, 64), (8192, 8192)])
def test_tables_have_a_multiple_of_64_rows(size: int, rows: int) -> None:
    assert padded_vocab_size(size) == rows


@pytest.mark.parametrize(
    ("size", "rows", "fits"),
    [
        (50_257, 50_257, True),
        (50_257, 50_304, True),
        (50_257, 51_200, True),  # as some models are padded
        (50_257, 50_256, False),
        (256, 50_257, False),
        (256, 319, True),
        (256, 320, False),
        (50_257, 65_536, False),
    ],
)
def test_weights_are_for_one_vocabulary(size: int, rows: int, fits: bool) -> None:
    if fits:
        refuse_other_vocabulary(size, rows, "x")
        return
    with pytest.raises(ConfigError, match=f"x: the weights have a vocabulary of {rows:,} tokens, the tokenizer has"):
        refuse_other_vocabulary(size, rows, "x")
