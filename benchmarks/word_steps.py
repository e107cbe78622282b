"""Seconds per training step of the word-latent model at equal batches, by how its words are laid out and in which type.

    python benchmarks/word_steps.py            # both texts, 5 repeats after 1 that does not count, about 4 minutes

Model: preset tiny (7M parameters), words of 16 bytes at most. A step is forward and backward pass, clipping and AdamW,
on 8 rows of 128 words of English (docstrings of Python). Texts: `running`, where every word is learned, and
`repetition`, where the second half of a row is to repeat the first one, which is a shift block. Sides: padded rows and
words as published, with masks, a word decoded in every place; words bucketed by their length, without any padding,
and only what is learned decoded; and the same with each distinct word encoded once. All sides stand in one process,
in turn, on the same weights and words, and every side's loss is checked against the padded one's.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from measuring import RESULTS, Spread, hardware, in_turn, table, write_results

ROWS, WORDS, LONGEST = 8, 128, 16
SIDES: Mapping[str, tuple[bool, bool, bool]] = {
    "padded, fp32": (True, False, False),
    "padded, bf16": (True, False, True),
    "bucketed, fp32": (False, False, False),
    "bucketed, bf16": (False, False, True),
    "distinct, fp32": (False, True, False),
    "distinct, bf16": (False, True, True),
}
"""Whether words and rows are padded, whether each distinct word is encoded once, whether in bf16."""
BASE, AIMED = "padded, fp32", "bucketed, bf16"
AIM = 3.0
TEXTS = ("running", "repetition")
UNCOUNTED = 1
LOSS_TOLERANCE = {False: 1e-4, True: 2e-2}
"""Nats of the mean loss between a side and the padded one in fp32, by whether it is in bf16."""


def examples_of(text: str) -> list[Any]:
    """Return rows of 128 words, the first and the last one empty, as bytes."""
    import numpy as np

    from hotlap.data.encoding import EncodedExample
    from hotlap.data.words import split_words
    from hotlap.tasks.sentences import docstring_texts

    sentences = (each.encode() for whole in docstring_texts() for each in whole.split("\n\n"))
    words = [word for sentence in islice(sentences, 4000) for word in split_words(b" ".join(sentence.split()), LONGEST)]
    rows = []
    for number in range(ROWS):
        if text == "running":
            given, learned = [b"<en> "], words[number * 126 : (number + 1) * 126]
        else:
            learned = words[number * 62 : number * 62 + 61]
            given = [b"<text>", b"\x0e", *learned, b"\x0f", b"<repeat> "]
        ids = np.frombuffer(b"".join([*given, *learned, b"\x03"]), dtype=np.uint8)
        rows.append(EncodedExample(ids, sum(map(len, given))))
    return rows


def batches_of(text: str) -> dict[str, Any]:
    """Return the batch of each side."""
    from hotlap.data.word_arrays import WordLayout, arrange_words
    from hotlap.data.word_batches import word_batch_of

    examples, batches = examples_of(text), {}
    for side, (is_padded, distinct, _) in SIDES.items():
        layout = WordLayout(LONGEST, is_padded, encode_distinct=distinct, row_words=WORDS if is_padded else None)
        batches[side] = word_batch_of(arrange_words(examples, layout))
    return batches


def measure(text: str, repeats: int) -> tuple[dict[str, list[float]], dict[str, float], dict[str, Any]]:
    """Return seconds of each side's steps, its mean loss at the start, and facts about the batch."""
    import torch

    from hotlap.config.training import TrainingConfig
    from hotlap.config.word_latent import WordLatentConfig
    from hotlap.models.word_latent import WordLatent
    from hotlap.optim.build import build_optimizers

    torch.manual_seed(0)
    config = WordLatentConfig(preset="tiny", max_word_length=LONGEST)
    model = WordLatent(config)
    training = TrainingConfig(optim="adamw_torch_fused", learning_rate=1e-4)
    optimizers = build_optimizers(model, training, bf16_is_fast=True)
    batches = batches_of(text)

    def loss_of(side: str) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=SIDES[side][2]):
            return model.loss(batches[side]) / batches[side].num_targets

    with torch.inference_mode():
        losses = {side: loss_of(side).item() for side in SIDES}
    for side, loss in losses.items():
        if abs(loss - losses[BASE]) > LOSS_TOLERANCE[SIDES[side][2]]:
            raise SystemExit(f"{side} has the loss {loss}, {BASE} {losses[BASE]}: they do not do the same")
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for repeat, side in in_turn(tuple(SIDES), UNCOUNTED + repeats):
        start = time.perf_counter()
        loss_of(side).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step()
        optimizers.zero_grad()
        if repeat >= UNCOUNTED:
            seconds[side].append(time.perf_counter() - start)
    facts = {
        "bytes": batches[AIMED].num_tokens,
        "byte_slots_padded": batches[BASE].num_slots,
        "target_bytes": batches[AIMED].num_targets,
        "words": ROWS * WORDS,
        "words_encoded_distinct": sum(len(group.ids) for group in batches["distinct, fp32"].words),
    }
    return seconds, losses, facts


def rows_of(seconds: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """Return the rows of a table: each side's spread, and how it compares by medians and by lowest readings."""
    base = Spread(tuple(seconds[BASE]))
    rows = []
    for side, found in seconds.items():
        spread = Spread(tuple(1e3 * value for value in found))
        ratios = (1e3 * base.median / spread.median, 1e3 * min(base.values) / min(spread.values))
        rows.append([side, spread.text(4), *(f"{ratio:.2f}" for ratio in ratios)])
    return rows


def draw(seconds: Mapping[str, Mapping[str, Sequence[float]]]) -> Any:
    """Draw the step times as bars with the lowest and highest reading."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "word_steps"
    figure, axes = pyplot.subplots(1, len(seconds), figsize=(9, 3), sharey=True, layout="constrained")
    for place, (text, sides) in zip(axes, seconds.items(), strict=True):
        spreads = [Spread(tuple(1e3 * value for value in values)) for values in sides.values()]
        medians = [spread.median for spread in spreads]
        reach = [[one.median - min(one.values) for one in spreads], [max(one.values) - one.median for one in spreads]]
        colors = ["#0072B2" if side == AIMED else "#999999" for side in sides]
        bars = place.barh(list(sides), medians, xerr=reach, color=colors, ecolor="#333333", capsize=2)
        base = Spread(tuple(1e3 * value for value in sides[BASE])).median
        place.bar_label(bars, [f"{base / median:.1f}×" for median in medians], padding=6)
        place.margins(x=0.18)
        place.set_title(text)
        place.set_xlabel("milliseconds per step")
        place.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    return figure


def main() -> None:
    """Measure both texts and write the results and their picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-results", action="store_true", help="print only")
    options = parser.parse_args()

    import torch

    from hotlap.core.processes import processor_name, usable_cores
    from hotlap.train.memory import keep_freed_memory

    torch.set_num_threads(usable_cores())
    keep_freed_memory()
    readings, values, lines = {}, {}, []
    for text in TEXTS:
        seconds, losses, facts = measure(text, options.repeats)
        readings[text] = seconds
        values[text] = {"seconds": seconds, "losses": losses, **facts}
        rows = rows_of(seconds)
        counted = (
            f"{facts['words']} words of {facts['bytes']:,} bytes, {facts['target_bytes']:,} target bytes; padded they "
            f"have {facts['byte_slots_padded']:,} places for bytes; {facts['words_encoded_distinct']} words are "
            "distinct"
        )
        header = ["side", "ms per step: median (lowest to highest)", f"times as quick as {BASE}", "by lowest readings"]
        lines += [f"## {text}", "", *table(header, rows), "", counted, ""]
        print("\n".join(lines[-len(rows) - 6 :]), flush=True)
    lines.append(f"aim: {AIMED} at least {AIM:g} times as quick as {BASE}")
    known = {"processor": processor_name(), "device": "cpu", "threads": torch.get_num_threads()}
    facts = hardware(known | {"torch": torch.__version__})
    if options.no_results:
        return
    write_results("word_steps", facts, values, lines)
    draw(readings).savefig(RESULTS / "word_steps.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
