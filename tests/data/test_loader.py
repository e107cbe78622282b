"""Where batches come from: the same ones whoever makes them, and workers that end with the training."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import hotlap
from hotlap.core.errors import RunFailedError
from hotlap.data import workers
from hotlap.data.batches import Batch, collate
from hotlap.data.encoding import Examples, encode, end_to_end
from hotlap.data.loader import BatchSource
from hotlap.data.order import BatchOrder
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.tasks.examples import Example

FIELDS = ("input_ids", "target_positions", "targets", "document_ids", "positions")
MODES = ["random", "bucketed", "packed"]

MakeSource = Callable[..., BatchSource]


def make_examples(count: int = 60) -> Examples:
    draw = np.random.default_rng(3)
    return end_to_end(
        [encode(Example("p" * draw.integers(1, 9), "c" * draw.integers(0, 30)), ByteTokenizer()) for _ in range(count)]
    )


@pytest.fixture
def make_source() -> Iterator[MakeSource]:
    made = []

    def make(mode: Any = "random", batch_size: int = 4, row_width: int | None = None, **options: Any) -> BatchSource:
        examples = make_examples()
        order = BatchOrder(
            examples.lengths, batch_size * options.get("world_size", 1), 5, mode=mode, row_length=row_width or 64
        )
        made.append(BatchSource(examples, order, row_width, **options))
        return made[-1]

    yield make
    for source in made:
        source.close()


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.num_tokens == other.num_tokens
        for name in FIELDS:
            a, b = getattr(one, name), getattr(other, name)
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_the_rows_of_its_number(make_source: MakeSource, mode: str) -> None:
    source, examples = make_source(mode, row_width=64), make_examples()
    batches, num_targets = source.micro_batches(3, 2)
    rows = [source.order.rows(number) for number in (3, 4)]
    if mode == "packed":
        expected = [collate([[examples[n] for n in row] for row in batch], 64) for batch in rows]
    else:
        expected = [collate([examples[row[0]] for row in batch], 64) for batch in rows]
    assert_same(batches, expected)
    assert num_targets == sum(len(batch.targets) for batch in batches)
    assert all(batch.input_ids.shape == (4, 63) for batch in batches)


def test_rows_are_as_long_as_the_longest_where_no_width_is_given(make_source: MakeSource) -> None:
    source, examples = make_source(), make_examples()
    for number in range(5):
        (batch,), _ = source.micro_batches(number, 1)
        longest = max(int(examples.lengths[row].max()) for row in source.order.rows(number))
        assert batch.input_ids.shape == (4, longest - 1)


@pytest.mark.parametrize("mode", MODES)
def test_two_ranks_share_the_rows_of_one_and_know_all_targets(make_source: MakeSource, mode: str) -> None:
    whole = make_source(mode, 4, 64)
    halves = [make_source(mode, 2, 64, rank=rank, world_size=2) for rank in (0, 1)]
    for first in (0, 7):
        batches, num_targets = whole.micro_batches(first, 3)
        shares = [half.micro_batches(first, 3) for half in halves]
        assert [share[1] for share in shares] == [num_targets] * 2
        for place, batch in enumerate(batches):
            for rank in (0, 1):
                assert torch.equal(shares[rank][0][place].input_ids, batch.input_ids[rank::2])
        assert sum(len(batch.targets) for share in shares for batch in share[0]) == num_targets


@pytest.mark.parametrize("mode", MODES)
def test_workers_make_the_same_batches_also_after_a_jump(make_source: MakeSource, mode: str) -> None:
    plain, ahead = make_source(mode), make_source(mode, workers=2, prefetch=2)
    ahead.start(5)
    calls = [(5, 3), (8, 1), (9, 4), (0, 2), (0, 2), (1, 1), (40, 3), (42, 2), (50, 1)]
    for first, count in calls:
        expected, found = plain.micro_batches(first, count), ahead.micro_batches(first, count)
        assert found[1] == expected[1]
        assert_same(found[0], expected[0])


def test_workers_use_up_no_random_numbers(make_source: MakeSource) -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["pos"]
    make_source(workers=1).micro_batches(0, 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state(legacy=False)["state"]["pos"] == before[1]


def test_no_more_is_made_ahead_than_was_asked_for(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    ask = workers.WorkerPool.ask

    def note(pool: workers.WorkerPool, number: int) -> None:
        asked.append(number)
        ask(pool, number)

    monkeypatch.setattr(workers.WorkerPool, "ask", note)
    source = make_source(workers=2, prefetch=3)
    source.start(2)
    assert asked == [2, 3, 4, 5, 6, 7]
    source.micro_batches(2, 2)
    assert asked == list(range(2, 10))
    source.micro_batches(4, 1)
    assert asked == list(range(2, 11))
    asked.clear()
    source.micro_batches(0, 1)
    assert asked == list(range(7))


def children() -> list[psutil.Process]:
    """Return the data workers of this process; multiprocessing's own helper is none."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if "spawn_main" in " ".join(process.cmdline())]


def test_closing_ends_the_workers_and_asking_again_starts_new_ones(make_source: MakeSource) -> None:
    source = make_source(workers=2)
    first = source.micro_batches(0, 1)[0]
    started = children()
    assert len(started) == 2
    begun = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - begun < 1.5
    assert not any(process.is_running() for process in started)
    assert_same(source.micro_batches(0, 1)[0], first)


def test_the_signals_that_end_a_training_leave_its_workers_alone(make_source: MakeSource) -> None:
    source = make_source(workers=1, prefetch=1)
    source.micro_batches(0, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        for process in children():
            process.send_signal(number)
    assert len(source.micro_batches(1, 4)[0]) == 4


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_end(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + 10
    while any(is_alive(process) for process in processes):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.02)


def test_a_worker_that_was_killed_is_told(make_source: MakeSource) -> None:
    source = make_source(workers=1, prefetch=1)
    source.micro_batches(0, 1)
    doomed = children()
    for process in doomed:
        process.kill()
    wait_for_end(doomed)
    with pytest.raises(RunFailedError, match=r"a data worker ended before it made batch \d+; .*dataloader_num_workers"):
        source.micro_batches(1, 5)


TRAINING = """
import sys, time

if __name__ == "__main__":
    from test_loader import make_examples
    from hotlap.data.loader import BatchSource
    from hotlap.data.order import BatchOrder

    examples = make_examples()
    source = BatchSource(examples, BatchOrder(examples.lengths, 4, 0), None, workers=2)
    source.micro_batches(0, 1)
    print("ready", flush=True)
    if sys.argv[1] == "wait":
        time.sleep(60)
    elif sys.argv[1] == "raise":
        raise ValueError("an error of the training")
"""


@pytest.mark.parametrize("end", ["wait", "raise", "return"])
def test_workers_end_with_the_training_however_it_ends(tmp_path: Path, end: str) -> None:
    (tmp_path / "training.py").write_text(TRAINING)
    paths = [str(Path(hotlap.__file__).parents[1]), str(Path(__file__).parent)]
    training = subprocess.Popen(
        [sys.executable, str(tmp_path / "training.py"), end],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert training.stdout is not None
    with training:
        assert training.stdout.readline() == b"ready\n"
        family = []
        if end == "wait":
            family = psutil.Process(training.pid).children(recursive=True)
            assert len(family) >= 2
            training.kill()
        assert training.wait(20) == {"wait": -signal.SIGKILL, "raise": 1, "return": 0}[end]
    wait_for_end(family)


def test_workers_need_no_torch() -> None:
    """A worker imports what unpickling its maker imports: seconds and 200 MB less each."""
    program = "import sys, hotlap.data.workers; print({'torch', 'pydantic'} & sys.modules.keys())"
    source = str(Path(hotlap.__file__).parents[1])
    told = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert told.stdout == "set()\n"
