"""Generators: the same seed gives the same samples, and whatever a function does wrong is told in one message."""

import pickle
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hotlap
from hotlap.config.tasks import GeneratorConfig
from hotlap.core.errors import ConfigError, DataError
from hotlap.tasks.examples import Example, GeneratorTask, num_shared
from hotlap.tasks.generator import SampleFunction, load_generator, shard_seed, stream_start, tokenizer_texts, without

SOURCE = """
import random


def sums(seed, largest=999):
    draw = random.Random(seed)
    while True:
        a, b = draw.randrange(largest), draw.randrange(largest)
        yield f"{a}+{b}=", str(a + b)
"""


def sums(seed: int, largest: int = 999) -> Iterator[tuple[str, str]]:
    draw = random.Random(seed)
    while True:
        a, b = draw.randrange(largest), draw.randrange(largest)
        yield f"{a}+{b}=", str(a + b)


def load(function: Callable[..., Any] | None = sums, **settings: Any) -> GeneratorTask:
    return load_generator(GeneratorConfig(function="my_tasks:sums", **settings), Path(), function)


def test_evaluation_audit_and_pilot_are_drawn_apart() -> None:
    task = load(max_eval_samples=32)
    assert (len(task.eval), len(task.audit), len(task.pilot)) == (32, 32, 256)
    assert len({*task.eval, *task.audit}) == 64
    assert not {*task.eval, *task.audit} & set(task.pilot)
    assert (task.source, num_shared(task)) == ("my_tasks:sums", 0)


def test_the_keys_of_the_section_are_arguments() -> None:
    task = load(largest=3, max_eval_samples=4)
    assert all(re.fullmatch(r"[0-2]\+[0-2]=", example.prefix) for example in (*task.eval, *task.pilot))


def test_the_hash_names_function_arguments_and_samples() -> None:
    assert load().hash == load().hash
    others = [load(largest=50), load(eval_seed=1), load(max_eval_samples=3), load(lambda seed: sums(seed + 1))]
    assert len({load().hash, *(task.hash for task in others)}) == 5


def test_few_different_samples_leave_some_to_train_on() -> None:
    task = load(largest=4, max_eval_samples=6)
    assert len(task.eval) == 6
    assert not set(task.eval) & set(task.pilot)
    with pytest.raises(DataError, match=r"1000 samples in a row are among the 16 that are held out .*max_eval_samples"):
        load(largest=4, max_eval_samples=50)


@given(start=st.integers(0, 2**32 - 1), shards=st.sets(st.integers(0, 2**32 - 1), min_size=2, max_size=50))
def test_no_two_shards_have_the_same_seed(start: int, shards: set[int]) -> None:
    seeds = {shard_seed(start, shard) for shard in shards}
    assert len(seeds) == len(shards)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_streams_of_other_seeds_and_names_begin_elsewhere() -> None:
    starts = {
        stream_start(seed, *words) for seed in range(50) for words in (("evaluation",), ("training", "a"), ("b",))
    }
    assert len(starts) == 150


def test_samples_come_as_tuples_dicts_or_examples() -> None:
    forms = [("p", "c"), ["p", "c"], {"prompt": "p", "completion": "c", "id": 3}, Example("p", "c")]

    def mixed(seed: int) -> Iterator[Any]:
        while True:
            yield from forms

    drawn = SampleFunction(Path(), "my_tasks:mixed", {}, mixed).draw(0)
    assert list(islice(drawn, 8)) == [Example("p", "c")] * 8


def test_a_tokenizer_is_trained_on_samples_drawn_apart() -> None:
    texts = list(tokenizer_texts(load()))
    assert len(texts) == 20_000
    assert texts == list(tokenizer_texts(load()))


def test_held_out_samples_are_left_out_and_counted() -> None:
    counted = []
    samples = [Example(str(n % 3), "c") for n in range(9)]
    found = without(iter(samples), frozenset(samples[:1]), lambda: counted.append(1))
    assert [example.prefix for example in found] == ["1", "2"] * 3
    assert len(counted) == 3


def test_another_process_draws_the_same(tmp_path: Path) -> None:
    (tmp_path / "my_tasks.py").write_text(SOURCE)
    samples = SampleFunction(tmp_path, "my_tasks:sums", {"largest": 50}, sums)
    (tmp_path / "sent").write_bytes(pickle.dumps(samples))
    program = (
        "import pickle, sys; from itertools import islice; samples = pickle.load(open('sent', 'rb')); "
        "print([(e.prefix, e.completion) for e in islice(samples.draw(7), 20)]); assert 'torch' not in sys.modules"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(hotlap.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout.strip() == str([(e.prefix, e.completion) for e in islice(samples.draw(7), 20)]), told.stderr


def test_a_function_that_forgets_its_seed_is_told() -> None:
    counter = count()

    def forgetful(seed: int) -> Iterator[tuple[str, str]]:
        while True:
            yield f"{next(counter)}", "c"

    def shared(seed: int) -> Iterator[tuple[str, str]]:
        random.seed(seed)  # right in turn, wrong as soon as two streams are drawn from
        while True:
            yield str(random.random()), "c"

    for function in (forgetful, shared):
        with pytest.raises(DataError, match=r"gives other samples when it is called again with seed=\d+ \(sample \d: "):
            load(function)


def raising(seed: int) -> Iterator[tuple[str, str]]:
    yield "p", "c"
    raise ValueError("no more words")


def ending(seed: int) -> Iterator[tuple[str, str]]:
    yield from [("p", "c")] * 3


def yielding(value: Any) -> Callable[[int], Iterator[Any]]:
    def endless(seed: int) -> Iterator[Any]:
        while True:
            yield value

    return endless


def failing(seed: int) -> Iterator[tuple[str, str]]:
    raise OSError("words.txt is missing")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raising, r"called with seed=\d+: sample 1: ValueError: no more words \(test_generator\.py:\d+\)"),
        (ending, r"ended after 3 sample\(s\); it has to yield samples for ever, such as with while True"),
        (failing, r"called with seed=\d+: OSError: words\.txt is missing \(test_generator\.py:\d+\)"),
        (lambda seed: None, r"called with seed=\d+: TypeError: 'NoneType' object is not iterable"),
        (lambda seed: [("p", "c")], r"ended after 1 sample"),
        (yielding("p c"), r"sample 0 is 'p c'; expected a prompt and its completion, two texts"),
        (yielding(("p", 3)), r"sample 0 is \('p', 3\); expected"),
        (yielding({"prompt": "p"}), r"sample 0 is .*; expected a prompt"),
        (yielding(("p", "")), r"sample 0 has an empty completion"),
        (yielding(("", "c")), r"sample 0 has an empty prompt"),
    ],
)
def test_what_a_function_does_wrong_is_told(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(DataError, match=r"task\.function: my_tasks:sums.*" + message):
        load(function)


def test_a_function_that_does_not_fit_is_told() -> None:
    with pytest.raises(ConfigError, match="my_tasks:sums was not loaded"):
        load(None)
    with pytest.raises(ConfigError, match=r"cannot be called with seed and the other keys .*\(size\): .*'size'"):
        load(size=3)
    with pytest.raises(ConfigError, match="has a parameter max_length, which is a setting of the task itself; rename"):
        load(lambda seed, max_length=3: sums(seed))
