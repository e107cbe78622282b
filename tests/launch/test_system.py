"""The sampler on a real process, and the judgement of samples on invented ones."""

import os
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.files import read_json_lines
from hotlap.core.run_folder import RunFolder
from hotlap.launch.local import Job
from hotlap.launch.sessions import run_mark
from hotlap.launch.system import (
    CalibratedRange,
    SystemReader,
    SystemSampler,
    calibrated_range,
    contamination,
    stood_still,
)


def samples(count: int = 20, **values: float) -> list[dict[str, Any]]:
    usual = {"cores": 2, "other_cores": 0.05, "steal_percent": 0.0}
    return [{**usual, **values, "seconds": second + 1.0} for second in range(count)]


def test_samples_are_written_while_a_run_goes_on(
    start: Callable[[str], Job], folder: RunFolder, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    job = start("ready()\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass")
    with SystemSampler(folder, job.pid, interval_seconds=0.05) as sampler:
        wait_until(lambda: len(sampler.samples) >= 5)
    job.stop("interrupted", "enough")
    assert read_json_lines(folder.system_path) == sampler.samples
    last = sampler.samples[-1]
    assert last["memory_bytes"] > 1_000_000
    assert max(sample["run_cores"] for sample in sampler.samples) > 0.1
    assert {"seconds", "cpu_percent", "other_cores", "steal_percent", "load_average"} <= set(last)


def test_a_run_that_is_gone_uses_nothing() -> None:
    reader = SystemReader(pid=2**22 + 1)
    sample = reader.read()
    reader.close()
    assert (sample["run_cores"], sample["memory_bytes"]) == (0.0, 0)


def test_the_children_of_a_run_count_as_the_run() -> None:
    reader = SystemReader(os.getsid(0))
    sum(range(20_000_000))
    sample = reader.read()
    reader.close()
    assert sample["run_cores"] > 0


@pytest.mark.parametrize(
    ("count", "gap_seconds", "is_told"), [(20, 3.0, False), (20, 6.0, True), (1000, 6.0, False), (1000, 60.0, True)]
)
def test_a_run_in_which_everything_stood_still_is_told(count: int, gap_seconds: float, is_told: bool) -> None:
    run = samples(count)
    for sample in run[count // 2 :]:
        sample["seconds"] += gap_seconds - 1.0
    told = stood_still(run)
    assert bool(told) == is_told
    assert not is_told or told == f"everything stood still for {gap_seconds - 3:.0f} s of it"
    assert stood_still(samples(count)) == stood_still([]) == ""


def test_a_quiet_machine_is_quiet() -> None:
    assert contamination(samples(), threads=2) == ""


@pytest.mark.parametrize(
    ("values", "words"),
    [({"other_cores": 0.6}, "other processes kept 0.60 cores busy"), ({"steal_percent": 9.0}, "hypervisor took 9.0 %")],
)
def test_a_disturbed_run_says_by_what(values: dict[str, float], words: str) -> None:
    assert words in contamination(samples(**values), threads=2)


def test_a_short_disturbance_does_not_cost_a_run() -> None:
    assert contamination([*samples(12), *samples(9, other_cores=2.0)], threads=2) == ""


def test_the_start_of_the_processes_is_no_disturbance() -> None:
    assert contamination(samples(3, other_cores=2.0), threads=2) == ""


def test_idle_cores_are_free_for_others() -> None:
    assert contamination(samples(cores=8, other_cores=3.0), threads=4) == ""
    assert contamination(samples(cores=8, other_cores=3.0), threads=8) != ""


def test_what_was_normal_at_calibration_is_normal_later() -> None:
    normal = calibrated_range([samples(other_cores=0.5, steal_percent=6.0), samples(other_cores=0.6), []])
    assert normal == CalibratedRange(other_cores=0.6, steal_percent=6.0)
    assert contamination(samples(other_cores=0.8, steal_percent=10.0), 2, normal) == ""
    assert contamination(samples(other_cores=0.9), 2, normal) != ""


KEYS = st.sampled_from(["seconds", "cores", "other_cores", "steal_percent"])


@given(st.lists(st.dictionaries(KEYS, st.floats(0, 99))))
def test_any_samples_can_be_judged(found: list[dict[str, float]]) -> None:
    normal = calibrated_range([found])
    assert contamination(found, threads=2, calibrated=normal) == ""


@pytest.mark.usefixtures("fake_torchrun")
def test_all_processes_of_a_run_count_as_the_run(
    start: Callable[..., Job], folder: RunFolder, ranks: Callable[[int], list[psutil.Process]]
) -> None:
    """Ranks lead sessions of their own; taken for others they would make every run on several devices contaminated."""
    job = start("be_rank()\nready()\nwhile True: pass", devices=2)
    processes = ranks(2)
    alone, whole = SystemReader(job.pid), SystemReader(job.pid, mark=run_mark(folder))
    before = sum(sum(process.cpu_times()[:2]) for process in processes)
    time.sleep(1.0)
    used = sum(sum(process.cpu_times()[:2]) for process in processes) - before
    seen, missed = whole.read(), alone.read()
    job.stop("interrupted", "enough", grace_seconds=0)
    assert used > 0.2
    assert seen["run_cores"] > 0.8 * used
    assert missed["run_cores"] < 0.2 * used, "torchrun itself only waits"
    assert seen["memory_bytes"] > 2 * missed["memory_bytes"]
