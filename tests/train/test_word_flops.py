"""FLOPs of the word-latent model, held against a count by hand; padding and the layout change nothing."""

import numpy as np
import pytest

from hotlap.config.word_latent import WordLatentConfig
from hotlap.data.encoding import EncodedExample
from hotlap.data.word_arrays import WordLayout, arrange_words
from hotlap.data.word_batches import WordBatch, word_batch_of
from hotlap.models.word_latent import WordLatent
from hotlap.train.word_flops import WordFlops, words_per_row

WIDTHS = {"encoder": 8, "latent": 16, "decoder": 12}
LENGTH = 8
MODEL = WordLatent(
    WordLatentConfig(
        name="word_latent",
        max_word_length=LENGTH,
        use_bias=False,
        hidden_act="gelu",
        **{
            part: {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": width}
            for part, width in WIDTHS.items()
        },
    )
)
ROWS = (b"ab c ", b"d"), (b"ab ", b"ef gh")


def batch(**choices: bool) -> WordBatch:
    examples = [
        EncodedExample(np.frombuffer(prefix + completion + b"\x03", dtype=np.uint8), len(prefix))
        for prefix, completion in ROWS
    ]
    return word_batch_of(arrange_words(examples, WordLayout(LENGTH, **choices)))


def matrices(width: int) -> int:
    """Return the FLOPs of a place in a block of so many dimensions, with an MLP of the same width."""
    return 6 * (3 * width**2 + width**2 + 2 * width**2)


def by_hand() -> float:
    encoder, latent, decoder = WIDTHS.values()
    words = [2, 5, 4, 3, 2, 5, 5, 4]  # "", "ab ", "c ", "d"; "", "ab ", "ef ", "gh", each with BOS and EOS
    found = sum(matrices(encoder) * places + 12 * encoder * places**2 for places in words)
    found += 6 * encoder * latent * len(words)
    found += sum(matrices(latent) * count + 12 * latent * count**2 for count in (4, 4))
    written = [2, 1, 4, 3, 1]  # "d" and the end; "ef ", "gh" and the end, each with EOS
    found += 6 * latent * decoder * len(written)
    found += sum(matrices(decoder) * (count + 1) + 12 * decoder * (count + 1) ** 2 for count in written)
    return found + 6 * decoder * 256 * sum(written)


@pytest.mark.parametrize("choices", [{}, {"is_padded": True}, {"encode_distinct": True}], ids=str)
def test_every_word_counts_and_no_padding(choices: dict[str, bool]) -> None:
    rows = batch(**choices)
    assert words_per_row(rows).tolist() == [4, 4]
    assert WordFlops(MODEL).of_batch(rows) == pytest.approx(by_hand())
