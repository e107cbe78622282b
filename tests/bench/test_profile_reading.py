"""What is said of a profile: the largest share first, by figures written by hand."""

from typing import Any

import pytest

from hotlap.bench.profile_reading import read_profile, shares

PARTS = ("waiting", "data", "forward", "backward", "optimizer")
IDLE = {"gap_seconds": 0.0, "long_gap_seconds": 0.0, "device_seconds": 0.0, "calls": 10.0}


def figures(**changes: Any) -> dict[str, Any]:
    """Return figures of a step of 100 ms in which matrices are multiplied, with changes of `part=seconds` or keys."""
    seconds = {"waiting": 0.0, "data": 0.001, "forward": 0.033, "backward": 0.06, "optimizer": 0.006}
    seconds |= {part: changes.pop(part) for part in PARTS if part in changes}
    found: dict[str, Any] = {
        "device": "cpu",
        "step_seconds": [sum(seconds.values())] * 3,
        "seconds_by_part": {**seconds, "between": 0.0},
        "parts": {part: {"seconds": value, **IDLE} for part, value in seconds.items()},
        "num_workers": 0,
        "optimizers": ["AdamW"],
        "compiled": False,
        "families": {"matmul": 0.08, "element by element": 0.02},
        "calls": 50.0,
        "kernels": 50,
        "kernel_seconds": 0.1,
        "small_kernel_seconds": 0.001,
        "median_kernel_seconds": 5e-4,
        "device_busy_seconds": 0.095,
        "device_idle_ratio": 0.05,
    }
    return found | changes


def test_matrix_products_are_compute() -> None:
    reading = read_profile(figures())
    assert reading.bound == "compute"
    assert len(reading.findings) == 1
    assert "matmul 80%" in reading.sentences[0]


def test_moving_numbers_is_memory_bandwidth() -> None:
    reading = read_profile(figures(families={"element by element": 0.07, "matmul": 0.03}))
    assert reading.bound == "memory bandwidth"
    assert "torch_compile" in reading.findings[0].advice
    assert "torch_compile" not in read_profile(figures(families={"copies": 1.0}, compiled=True)).findings[0].advice


@pytest.mark.parametrize(("workers", "words"), [(0, "set training.dataloader_num_workers"), (1, "1 data worker ")])
def test_making_batches_is_data(workers: int, words: str) -> None:
    reading = read_profile(figures(data=0.3, num_workers=workers))
    assert reading.bound == "data"
    assert words in reading.sentences[0]
    assert reading.findings[0].ratio == pytest.approx(0.3 / 0.399)


def test_waiting_for_text_is_data() -> None:
    reading = read_profile(figures(waiting=0.3))
    assert reading.bound == "data"
    assert "still being prepared" in reading.sentences[0]


def test_a_sleep_in_the_optimizer_is_named() -> None:
    slow = figures(optimizer=0.2)
    slow["parts"]["optimizer"] |= {"gap_seconds": 0.195, "long_gap_seconds": 0.19}
    reading = read_profile(slow)
    assert reading.bound == "host"
    assert "in the optimizer with nothing computed" in reading.sentences[0]
    assert "AdamW.step()" in reading.sentences[0]


def test_tiny_operators_are_launch_overhead() -> None:
    tiny = figures(kernels=900, small_kernel_seconds=0.05, median_kernel_seconds=8e-6)
    tiny["parts"]["forward"]["gap_seconds"] = 0.02
    reading = read_profile(tiny)
    assert reading.bound == "launch overhead"
    assert "900 of them, half under 8 µs" in reading.sentences[0]
    assert "per_device_train_batch_size" in reading.findings[0].advice
    assert "adamw_torch_fused" not in reading.findings[0].advice
    tiny["parts"]["optimizer"]["calls"] = 400.0
    tiny["calls"] = 420.0
    assert "adamw_torch_fused" in read_profile(tiny).findings[0].advice


def test_an_idle_gpu_is_launch_overhead() -> None:
    idle = figures(device="cuda", device_busy_seconds=0.02, small_kernel_seconds=0.01)
    for part in ("forward", "backward"):
        idle["parts"][part]["device_seconds"] = 0.01
    reading = read_profile(idle)
    assert reading.bound == "launch overhead"
    assert "tiny kernels" in reading.sentences[0]


def test_small_shares_are_left_out_and_the_work_never_is() -> None:
    idle = figures(data=5.0)
    assert [finding.kind for finding in read_profile(idle).findings] == ["data"]
    reading = read_profile(figures(data=0.0, families={}, compiled=True))
    assert [finding.kind for finding in reading.findings] == ["memory bandwidth"]


def test_a_sleep_is_told_by_the_step_without_the_profiler() -> None:
    """It makes operators longer, and a sleep not: shares are those of the step as it is."""
    slow = figures(optimizer=0.2)
    slow["parts"]["optimizer"] |= {"gap_seconds": 0.19, "long_gap_seconds": 0.19}
    slow["parts"]["forward"]["seconds"] = 0.9
    reading = read_profile(slow)
    assert reading.bound == "host"
    assert reading.findings[0].ratio == pytest.approx(0.19 / 0.294)
    assert sum(finding.ratio for finding in reading.findings) <= 1.0


def test_the_exchange_between_devices_is_told() -> None:
    reading = read_profile(figures(families={"communication": 0.04, "matmul": 0.06}))
    assert {finding.kind for finding in reading.findings} == {"compute", "communication"}


def test_rows_add_up_to_the_step() -> None:
    assert sum(share for _, _, share, _, _ in shares(figures())) == pytest.approx(1.0)
