"""The task `generator`: endless examples from a function of the project's.

The function is called with a seed, and with the further keys of the section, and yields examples for ever. The
training stream is made of shards: a shard is what one call with a seed of its own yields, from its first sample on. No
two shards have the same seed, so whoever makes a shard repeats nobody else's samples, and a sample is named by its
shard and its place there, wherever and whenever it is made. Evaluation examples are drawn apart.
"""

import hashlib
import inspect
import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from hotlap.config.tasks import GeneratorConfig
from hotlap.core.errors import ConfigError, DataError
from hotlap.tasks.custom import load_part
from hotlap.tasks.examples import Example, GeneratorTask

_SEEDS: Final = 2**32
"""Every usual generator of random numbers takes a seed below this."""
_STRIDE: Final = 0x9E3779B1
"""Odd, so that multiples of it meet every number below `_SEEDS` once."""
_COMPARED: Final = 8  # samples that two calls with one seed have to have in common
_PILOT_CALLS, _PILOT_SAMPLES = 4, 64  # as a training draws them: some from the start of each call
_TOKENIZED: Final = 10_000  # samples that a tokenizer is trained on
_PATIENCE: Final = 1000  # samples in a row that bring nothing new
_SHOWN: Final = 60  # characters of a value in a message


class SampleFunction:
    """A function of the project's with its arguments; sent to another process, it is imported there by its name."""

    def __init__(
        self, directory: Path, part: str, arguments: Mapping[str, Any], function: Callable[..., Any] | None = None
    ) -> None:
        """Take `module:function` of a project's folder; it is imported with the first draw where it is not given."""
        self.part = part
        self._directory = directory
        self._arguments = dict(arguments)
        self._function = function

    def __reduce__(self) -> tuple[Any, ...]:
        return SampleFunction, (self._directory, self.part, self._arguments)

    def draw(self, seed: int) -> Iterator[Example]:
        """Yield what a call with this seed yields.

        Raises DataError when the function fails, ends or yields something else than examples.
        """
        if self._function is None:
            self._function = load_part(self._directory, self.part)
        call = f"task.function: {self.part}, called with seed={seed}"
        try:
            samples = iter(self._function(seed=seed, **self._arguments))
        except Exception as error:  # whatever the project's code raises
            raise DataError(f"{call}: {_failure(error)}") from error
        number = 0
        while True:
            try:
                value = next(samples)
            except StopIteration:
                break
            except Exception as error:  # whatever the project's code raises
                raise DataError(f"{call}: sample {number}: {_failure(error)}") from error
            yield _example(value, f"{call}: sample {number}")
            number += 1
        raise DataError(
            f"{call}: ended after {number} sample(s); it has to yield samples for ever, such as with while True"
        )


def load_generator(
    config: GeneratorConfig, directory: Path, function: Callable[..., Any] | None, key: str = "task"
) -> GeneratorTask:
    """Return the task of a function of the project's; `key` names its section.

    Raises ConfigError for a function that does not take the keys of the section, DataError for one whose samples cannot
    be used or differ between two calls with one seed.
    """
    if function is None:
        raise ConfigError(f"{key}.function: {config.function} was not loaded; it is a function of the project's folder")
    arguments = config.model_extra or {}
    own_keys = (*GeneratorConfig.model_fields, *(() if key == "task" else ("weight",)))
    _check_signature(function, arguments, own_keys, f"{key}.function: {config.function}")
    samples = SampleFunction(directory, config.function, arguments, function)
    _check_repeats(samples, stream_start(config.eval_seed, "check"))
    evaluation = _distinct(samples, stream_start(config.eval_seed, "evaluation"), config.max_eval_samples, ())
    audit = _distinct(samples, stream_start(config.eval_seed, "audit"), config.max_eval_samples, evaluation)
    if not evaluation:
        raise DataError(f"{key}.function: {config.function} gives no evaluation example")
    held_out = frozenset((*evaluation, *audit))
    start = stream_start(config.eval_seed, "pilot")
    pilot = tuple(
        example
        for shard in range(_PILOT_CALLS)
        for example in islice(without(samples.draw(shard_seed(start, shard)), held_out), _PILOT_SAMPLES)
    )
    facts = [config.function, arguments, [[example.prefix, example.completion] for example in (*evaluation, *pilot)]]
    return GeneratorTask(
        samples=samples,
        pilot=pilot,
        eval=evaluation,
        audit=audit,
        source=config.function,
        hash=hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16],
        max_length=config.max_length,
        too_long=config.too_long,
    )


def stream_start(seed: int, *words: object) -> int:
    """Return where the seeds of a stream begin; the words tell one stream of a seed from another."""
    text = json.dumps([seed, *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def shard_seed(start: int, shard: int) -> int:
    """Return the seed of a shard of a stream, below 2**32; no two of its first 2**32 shards have the same."""
    return (start + shard * _STRIDE) % _SEEDS


def without(
    samples: Iterator[Example], held_out: frozenset[Example], note: Callable[[], None] = lambda: None
) -> Iterator[Example]:
    """Yield the samples that are not held out, and call `note` for each that is.

    Raises DataError when hardly anything else comes.
    """
    num_refused = 0
    for example in samples:
        if example not in held_out:
            num_refused = 0
            yield example
            continue
        num_refused += 1
        note()
        if num_refused == _PATIENCE:
            raise DataError(
                f"task.function: {_PATIENCE} samples in a row are among the {len(held_out)} that are held out from "
                "training; the function has too few different ones, so lower task.max_eval_samples"
            )


def tokenizer_texts(task: GeneratorTask) -> Iterator[str]:
    """Yield texts to train a tokenizer on, drawn apart."""
    for example in islice(task.samples.draw(stream_start(0, "tokenizer")), _TOKENIZED):
        yield example.prefix
        yield example.completion


def _check_signature(
    function: Callable[..., Any], arguments: Mapping[str, Any], own_keys: Sequence[str], name: str
) -> None:
    """Raise ConfigError unless the function takes a seed and the arguments, and none that the section has itself."""
    try:
        signature = inspect.signature(function)
        signature.bind(seed=0, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{name} cannot be called with seed and the other keys of the section ({', '.join(arguments) or 'none'}): "
            f"{error}"
        ) from error
    own = [key for key in own_keys if key in signature.parameters]
    if own:
        raise ConfigError(f"{name} has a parameter {own[0]}, which is a setting of the task itself; rename it")


def _check_repeats(samples: SampleFunction, seed: int) -> None:
    """Raise DataError when two calls with one seed, drawn from in turn, do not give the same."""
    first, second = samples.draw(seed), samples.draw(seed)
    for number in range(_COMPARED):
        one, other = next(first), next(second)
        if one != other:
            raise DataError(
                f"task.function: {samples.part} gives other samples when it is called again with seed={seed} (sample "
                f"{number}: {_told(one.prefix)} is now {_told(other.prefix)}); draw every number from a generator made "
                "of the seed, such as random.Random(seed), and none from the module random itself"
            )


def _distinct(samples: SampleFunction, seed: int, count: int, others: tuple[Example, ...]) -> tuple[Example, ...]:
    """Return up to so many different examples that are none of the others; fewer when nothing new comes for long."""
    found: dict[Example, None] = {}
    known = set(others)
    idle = 0
    drawn = samples.draw(seed)
    while len(found) < count and idle < _PATIENCE:
        example = next(drawn)
        idle = idle + 1 if example in known else 0
        if example not in known:
            known.add(example)
            found[example] = None
    return tuple(found)


def _example(value: Any, place: str) -> Example:
    """Return a sample as an example; raises DataError for anything that is none."""
    match value:
        case Example(prefix=prompt, completion=completion):
            pass
        case {"prompt": prompt, "completion": completion}:
            pass
        case (prompt, completion):
            pass
        case _:
            prompt = completion = None
    if not isinstance(prompt, str) or not isinstance(completion, str):
        raise DataError(
            f"{place} is {_told(value)}; expected a prompt and its completion, two texts, as a tuple, as a dict with "
            "these keys, or as an Example"
        )
    for name, text in (("prompt", prompt), ("completion", completion)):
        if not text:
            raise DataError(f"{place} has an empty {name}: {_told(value)}")
    return Example(prompt, completion)


def _failure(error: Exception) -> str:
    """Return what an error of the project's code says, and where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(error).__name__}: {error}{where}"


def _told(value: object) -> str:
    """Return a value as a message shows it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
