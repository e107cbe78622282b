"""How fast the parts of a data pipeline are, each alone in this process: sampling, tokenising, packing, collating.

Everything is told as seconds for the samples of one optimizer step, so that it can be held against the step.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from hotlap.config.schema import RunConfig
from hotlap.data.arrays import lay_out
from hotlap.data.encoding import EncodedExample, Examples, encode
from hotlap.data.load import Functions, LoadedData
from hotlap.data.loader import BatchSource
from hotlap.data.streams import EndlessExamples, StreamOrder, fill_rows
from hotlap.data.tokenizers import Tokenizer
from hotlap.tasks.examples import Example, GeneratorTask, MixtureTask, Task, TaskData, TextTask
from hotlap.tasks.generator import stream_start
from hotlap.tasks.registry import load_task

_LEAST: Final = 3  # items, however long they take
_LOOKED_AT: Final = 4  # batches
_MOST_SAMPLES: Final = 20_000
_CHARACTERS: Final = 2_000_000  # of running text that are tokenised


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the pipeline, measured alone."""

    name: str
    seconds_per_step: float
    """For the samples of one optimizer step."""
    rate: float
    unit: str
    """What the rate counts in a second."""
    is_once: bool = False
    """Whether it is done before the training, and not in its steps."""


def stages(
    config: RunConfig, data: LoadedData, source: BatchSource, accumulation: int, seconds: float
) -> Iterator[Stage]:
    """Yield the stages of a config's pipeline; each is measured for up to so many seconds.

    A generator is sampled, tokenised and packed in the steps; other tasks are tokenised before, and their steps order
    (or pack) and collate. Raises DataError as the generator does.
    """
    order = source.order
    rows = order.batch_size * accumulation
    generators = generators_of(data.task)
    for name, share, task in generators:
        yield from _drawn(name, rows * share, task, data.tokenizer, config.training.seed, seconds)
    if isinstance(data.task, TaskData):
        yield _encoding(data.task.train, data.tokenizer, rows, seconds, is_once=True)
    drawn = [[each for row in source.rows_of(number) for each in row] for number in range(_LOOKED_AT)]
    per_batch = sum(map(len, drawn)) / len(drawn)
    if isinstance(data.train, Examples) and not isinstance(order, StreamOrder):
        yield _ordering(order, accumulation, per_batch, seconds)
    elif isinstance(data.train, EndlessExamples) and isinstance(order, StreamOrder) and order.mode == "packed":
        yield _packing(data.train, order, [each for batch in drawn for each in batch], accumulation, seconds)
    yield _collating(source, accumulation, seconds)


def running_text(
    config: RunConfig, directory: Path, cache: Path, custom: Functions, tokenizer: Tokenizer, seconds: float
) -> Iterator[Stage]:
    """Yield the speed of reading and tokenising running text, which is done once; nothing for other tasks."""
    task = load_task(config.task, directory, cache, custom, config.tokenizer)
    if not isinstance(task, TextTask):
        return
    documents: list[str] = []
    taken, count = 0.0, 0
    drawn = task.documents()
    start = time.perf_counter()
    for text in drawn:
        documents.append(text[:_CHARACTERS])
        count += len(documents[-1])
        taken = time.perf_counter() - start
        if taken > seconds or count > _CHARACTERS:
            break
    if not count:
        return
    yield Stage("reading text", 0.0, count / max(taken, 1e-9) / 1e6, "million characters", is_once=True)
    num_tokens = 0

    def tokenise(text: str) -> None:
        nonlocal num_tokens
        num_tokens += len(tokenizer.encode(text))

    taken, _ = _timed((text for text in documents), tokenise, seconds)
    yield Stage("tokenising", 0.0, num_tokens / max(taken, 1e-9), "tokens", is_once=True)


def generators_of(task: Task) -> list[tuple[str, float, GeneratorTask]]:
    """Return the generators of a task, with their share of the samples."""
    if isinstance(task, GeneratorTask):
        return [("", 1.0, task)]
    if not isinstance(task, MixtureTask):
        return []
    whole = sum(part.weight for part in task.parts)
    return [
        (f" {part.name}", part.weight / whole, part.task) for part in task.parts if isinstance(part.task, GeneratorTask)
    ]


def _drawn(
    name: str, samples_per_step: float, task: GeneratorTask, tokenizer: Tokenizer, seed: int, seconds: float
) -> Iterator[Stage]:
    found: list[Example] = []
    draw = task.samples.draw(stream_start(seed, "speed"))
    taken, count = _timed(islice(draw, _MOST_SAMPLES), found.append, seconds)
    yield Stage(f"sampling{name}", taken / count * samples_per_step, count / taken, "samples")
    yield _encoding(found, tokenizer, samples_per_step, seconds, is_once=False, name=name)


def _encoding(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    samples_per_step: float,
    seconds: float,
    *,
    is_once: bool,
    name: str = "",
) -> Stage:
    num_tokens = 0

    def tokenise(example: Example) -> None:
        nonlocal num_tokens
        num_tokens += len(encode(example, tokenizer).ids)

    taken, count = _timed(islice(examples, _MOST_SAMPLES), tokenise, seconds)
    each = 0.0 if is_once else taken / count * samples_per_step
    return Stage(f"tokenising{name}", each, num_tokens / taken, "tokens", is_once)


def _ordering(order: Any, accumulation: int, per_batch: float, seconds: float) -> Stage:
    """Measure the order of the examples: sorting and packing, spread over an epoch."""
    name = "packing" if order.mode == "packed" else "ordering"
    batches = order.batches_per_epoch(0)
    taken, count = _timed(iter(range(batches)), order.rows, seconds)
    return Stage(name, taken / count * accumulation, count * per_batch / taken, "samples")


def _packing(
    train: EndlessExamples, order: StreamOrder, examples: Sequence[EncodedExample], accumulation: int, seconds: float
) -> Stage:
    longest = train.required_bound - 1
    endless = (example for _ in iter(int, 1) for example in examples)
    num_packed = 0

    def pack(_: int) -> None:
        nonlocal num_packed
        rows = fill_rows(endless, lambda each: len(each.ids) - 1, order.batch_size, order.places, longest)
        num_packed += sum(map(len, rows))

    taken, count = _timed(iter(range(_MOST_SAMPLES)), pack, seconds)
    return Stage("packing", taken / count * accumulation, num_packed / taken, "samples")


def _collating(source: BatchSource, accumulation: int, seconds: float) -> Stage:
    rows = source.rows_of(0)
    is_packed = source.order.mode == "packed"
    num_samples = sum(map(len, rows))
    taken, count = _timed(
        iter(range(_MOST_SAMPLES)), lambda _: lay_out(rows, source.layout, is_packed=is_packed), seconds
    )
    return Stage("collating", taken / count * accumulation, count * num_samples / taken, "samples")


def _timed(items: Iterator[Any], act: Callable[[Any], object], seconds: float) -> tuple[float, int]:
    """Act on items for so many seconds, on a few at least; return the seconds that it took and how many there were.

    Fetching an item is part of it.
    """
    count = 0
    start = time.perf_counter()
    taken = 0.0
    for item in items:
        act(item)
        count += 1
        taken = time.perf_counter() - start
        if taken > seconds and count >= _LEAST:
            break
    return max(taken, 1e-9), max(count, 1)
