"""Text to byte tokens: ids 0-255 are the UTF-8 bytes themselves, PAD 0x00 and EOS 0x03 among them."""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hotlap.tasks.examples import Example

VOCAB_SIZE: Final = 256
PAD: Final = 0
EOS: Final = 3
_WORD = re.compile(rb"\S+\s?|\s+")


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of prefix, completion and EOS in one array of shape (T,), and how many of them are prefix."""

    ids: NDArray[np.uint8]
    prefix_length: int

    @property
    def num_targets(self) -> int:
        """Tokens that the loss is on: the completion and EOS."""
        return len(self.ids) - self.prefix_length


def encode(example: Example) -> EncodedExample:
    """Encode one example as bytes, with EOS at the end."""
    prefix, completion = example.prefix.encode(), example.completion.encode()
    return EncodedExample(np.frombuffer(prefix + completion + bytes([EOS]), dtype=np.uint8), len(prefix))


def decode(ids: list[int]) -> str:
    """Turn generated ids into text, up to EOS; bytes that are not UTF-8 become U+FFFD."""
    end = ids.index(EOS) if EOS in ids else len(ids)
    return bytes(ids[:end]).decode("utf-8", errors="replace")


def word_numbers(completion: bytes) -> list[int]:
    """Return for each byte of a completion, and for its EOS, the number of the word it belongs to.

    A word is a run of non-spaces and at most one space after it; EOS is a word of its own (as in WeLT, where the
    last word's label is empty).
    """
    numbers: list[int] = []
    count = 0
    for match in _WORD.finditer(completion):
        numbers.extend([count] * len(match[0]))
        count += 1
    return [*numbers, count]
