"""How the machine's speed is measured, with a clock of our own where there is no GPU."""

import pytest
import torch

from hotlap.train import machine_speed
from hotlap.train.machine_speed import matmul_flops

GPU = torch.device("cuda")


class Clock:
    """A clock of a GPU whose work takes 17 µs, and looking at it 10 µs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = 0

    def work(self) -> None:
        self.now += 17e-6
        self.calls += 1

    def look(self, *_: object) -> None:
        self.now += 10e-6


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(machine_speed.time, "perf_counter", lambda: found.now)
    monkeypatch.setattr(machine_speed.torch.cuda, "synchronize", found.look)
    return found


def test_a_gpu_does_its_work_many_times_between_two_looks_at_the_clock(clock: Clock) -> None:
    assert machine_speed._best_seconds(GPU, clock.work) == pytest.approx(17e-6, rel=0.01)
    assert clock.calls > 1000


def test_a_cpu_does_it_once_each_time(clock: Clock) -> None:
    assert machine_speed._best_seconds(torch.device("cpu"), clock.work) == pytest.approx(17e-6)
    assert clock.calls == 11


@pytest.mark.parametrize(
    ("largest", "expected", "sizes"),
    [(8192, 8192.0, [8192, 4096]), (4096, 4096.0, [8192, 4096]), (2048, 2048.0, [8192, 4096, 2048])],
)
def test_products_of_a_gpu_are_as_large_as_fits(
    monkeypatch: pytest.MonkeyPatch, largest: int, expected: float, sizes: list[int]
) -> None:
    tried: list[int] = []

    def measured(device: torch.device, kind: str, size: int) -> float:
        tried.append(size)
        if size > largest:
            raise torch.OutOfMemoryError("no room")
        return float(size)

    monkeypatch.setattr(machine_speed, "_matmul_flops", measured)
    assert matmul_flops(GPU, "bf16") == expected
    assert tried == sizes


def test_a_gpu_without_any_room_has_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> float:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(machine_speed, "_matmul_flops", refused)
    with pytest.raises(torch.OutOfMemoryError):
        matmul_flops(GPU, "bf16")
