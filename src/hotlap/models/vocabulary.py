"""How many rows the tables of a vocabulary have: a good multiple for the matrix products, some of them for no token."""

from typing import Final

from hotlap.core.errors import ConfigError

BYTES: Final = 256
_MULTIPLE: Final = 64
_SPARE: Final = 20  # a model may have one row more for each so many tokens


def padded_vocab_size(vocab_size: int) -> int:
    """Return the rows for a vocabulary: the next multiple of 64; the 256 bytes stay 256.

    Ids from vocab_size on are padding: never a target, never generated, and without a share of the loss.
    """
    return vocab_size if vocab_size == BYTES else -(-vocab_size // _MULTIPLE) * _MULTIPLE


def refuse_other_vocabulary(vocab_size: int, table_rows: int, source: str) -> None:
    """Raise ConfigError unless weights with a table of so many rows are for a tokenizer's vocabulary.

    A few rows more are padding: many models have some.
    """
    most = vocab_size + max(_MULTIPLE - 1, vocab_size // _SPARE)
    if not vocab_size <= table_rows <= most:
        raise ConfigError(
            f"{source}: the weights have a vocabulary of {table_rows:,} tokens, the tokenizer has {vocab_size:,}; set "
            "the section tokenizer to the one that the weights were trained with, such as "
            "tokenizer: {name: pretrained, path: gpt2}"
        )
