"""What bounds a step, from the figures of its cell."""

from dataclasses import replace
from typing import Any

import pytest
from synthetic_bench import BATCH, measure

from hotlap.bench.answers import answers_from
from hotlap.bench.verdict import Verdict
from hotlap.bench.words import facts_of

PARTS = {"waiting": 0.0, "data": 0.0002, "forward": 0.004, "backward": 0.005, "optimizer": 0.0008}
CPU = {"num_operations": 400.0, "operation_seconds": 2e-6, "busy_seconds": 0.0095, "product_seconds": 0.002}


def verdict(parts: dict[str, float] | None = None, **more: Any) -> Verdict:
    """The verdict on a step of 10 ms with such parts and facts."""
    facts: dict[str, Any] = {"seconds_by_part": parts or {}, "flops_per_step": 1e9, "matmul_flops": 1e12, **more}
    (found,) = answers_from(measure({BATCH: [8]}, lambda _: 0.01, noise=0.0, **facts), {BATCH: 8}).verdicts
    return found


def told(found: Verdict) -> str:
    return "; ".join(found.evidence)


def test_a_slow_loader_is_data() -> None:
    found = verdict({**PARTS, "waiting": 0.03})
    assert found.bound == "data" and "waiting for text that is still being prepared" in told(found)
    found = verdict({**PARTS, "data": 0.03})
    assert found.bound == "data" and "making batches in the training process" in told(found)
    found = verdict({**PARTS, "data": 0.03}, evidence={"num_workers": 1.0})
    assert found.bound == "data" and "of the step is spent waiting for 1 data worker" in told(found)


def test_a_sleep_in_the_optimizer_is_named() -> None:
    facts = {"gradient_bytes": 4e6, "copy_bytes_per_second": 1e10}
    found = verdict({**PARTS, "optimizer": 0.05}, evidence={**CPU, **facts})
    assert found.bound == "optimizer"
    assert "reading and writing weights, gradients and moments once would take 2.8 ms" in told(found)


def test_tiny_kernels_are_launch_overhead() -> None:
    found = verdict(PARTS, evidence={**CPU, "num_operations": 4000.0})
    assert found.bound == "launch_overhead" and "starting 4,000 operations takes about 8 ms" in told(found)
    assert "larger batches" in found.advice


def test_products_too_small_to_be_worth_starting_are_launch_overhead() -> None:
    small = {"product_seconds": 0.006, "small_product_seconds": 0.005, "small_seconds": 0.0075}
    found = verdict(PARTS, evidence={**CPU, **small})
    assert found.bound == "launch_overhead" and "7.5 ms go into operations so small" in told(found)
    assert found.shares["compute"] == pytest.approx(0.1)
    assert "matrix products take 6 ms of 10 ms" in told(found) and "5 ms of that are small ones" in told(found)


def test_an_idle_gpu_is_launch_overhead_and_its_optimizer_is_not_told_apart() -> None:
    evidence = {"num_kernels": 900.0, "busy_seconds": 0.003, "product_seconds": 0.002, "small_ratio": 0.8}
    found = verdict({**PARTS, "optimizer": 0.05}, evidence=evidence, peak_flops=1e15)
    assert found.bound == "launch_overhead" and "optimizer" not in found.shares
    assert "80 % of its kernels are below 10 µs" in told(found)


def test_a_sleep_that_a_gpu_waits_for_is_the_host() -> None:
    evidence = {"num_kernels": 900.0, "busy_seconds": 0.003, "product_seconds": 0.002, "long_gap_seconds": 0.006}
    facts = {**evidence, "optimizer_long_gap_seconds": 0.006}
    found = verdict(PARTS, evidence=facts, peak_flops=1e15)
    assert found.bound == "host" and "plain Python" in found.advice
    assert "for 6 ms of 10 ms nothing is computed beside data, in gaps of a millisecond or more" in told(found)
    assert found.shares["host"] == pytest.approx(0.6)
    assert found.shares["launch_overhead"] == pytest.approx(0.7 - 0.6 - 0.02)


def test_a_sleep_in_the_forward_pass_is_the_host_on_a_cpu_too() -> None:
    facts = {**CPU, "busy_seconds": 0.0035, "long_gap_seconds": 0.006, "optimizer_long_gap_seconds": 0.0}
    found = verdict(PARTS, evidence=facts)
    assert found.bound == "host" and found.shares["host"] == pytest.approx(0.6)
    assert "nothing is computed beside data and optimizer" in told(found)


def test_an_optimizer_that_sleeps_stays_the_optimizer_on_a_cpu() -> None:
    facts = {**CPU, "long_gap_seconds": 0.0078, "optimizer_long_gap_seconds": 0.0078}
    found = verdict({**PARTS, "optimizer": 0.05}, evidence=facts)
    assert found.bound == "optimizer" and "host" not in found.shares
    assert "and for 7.8 ms of it nothing is computed" in told(found)


def test_what_the_optimizer_computes_hides_no_gaps_of_the_other_parts() -> None:
    own = {"optimizer_num_operations": 100.0, "optimizer_busy_seconds": 0.004, "optimizer_product_seconds": 0.001}
    facts = {**CPU, **own, "busy_seconds": 0.006}
    found = verdict(
        {"waiting": 0.0, "data": 0.0, "forward": 0.003, "backward": 0.003, "optimizer": 0.004}, evidence=facts
    )
    assert "starting 300 operations takes about 0.6 ms" in told(found)
    assert "for 4 ms, in short gaps between them, nothing computes" in told(found)
    assert found.shares["launch_overhead"] == pytest.approx(0.4)
    assert found.shares["compute"] == pytest.approx(0.1)


def test_starting_operations_never_takes_more_than_the_step() -> None:
    found = verdict(PARTS, evidence={**CPU, "num_operations": 8000.0})
    assert "starting 8,000 operations takes up to 9 ms of 10 ms" in told(found)


@pytest.mark.parametrize(
    ("usage", "bound", "text"),
    [
        ({}, "work", "how busy the device was is not known"),
        ({"used_cores": 1.9, "cores": 2.0}, "work", "its processes kept 1.9 of 2 cores busy"),
        ({"used_cores": 0.1, "cores": 2.0}, "host", "its processes kept 0.1 of 2 cores busy"),
        ({"used_cores": 1.0, "gpu_ratio": 0.97}, "work", "the GPU was busy 97 % of the time"),
        ({"used_cores": 1.0, "gpu_ratio": 0.2}, "host", "the GPU was busy 20 % of the time"),
    ],
)
def test_of_a_command_nobody_says_that_it_is_busy_who_has_not_looked(
    usage: dict[str, float], bound: str, text: str
) -> None:
    found = verdict(flops_per_step=None, evidence=usage)
    assert found.bound == bound and text in told(found)
    assert "busy" not in found.advice
    assert ("not known" in told(found)) == (not usage)


def test_processes_on_one_cpu_share_its_cores() -> None:
    evidence = {**CPU, "num_kernels": 0.0, "all_reduce_seconds": 0.001}
    repeats = [
        replace(one, num_devices=one.settings["devices"], evidence=evidence if one.settings["devices"] > 1 else CPU)
        for one in measure({"devices": [1, 2]}, lambda setting: 0.01 * setting["devices"], noise=0.0)
    ]
    answers = answers_from(repeats, {"devices": 1})
    alone, shared = answers.verdicts
    assert "sharing" not in alone.shares
    assert shared.shares["communication"] == pytest.approx(0.05)
    assert shared.bound == "sharing" and shared.shares["sharing"] == pytest.approx(0.45)
    assert "2 processes share the cores of one CPU" in told(shared)
    (mind,) = (text for label, text in facts_of(answers) if label == "Mind")
    assert mind.startswith("processes share the cores of one CPU")


def test_a_computed_step_says_so() -> None:
    repeats = measure({BATCH: [8, 16]}, lambda _: 0.01, noise=0.0, evidence={"is_computed": 1.0})
    answers = answers_from(repeats, {BATCH: 8})
    assert "the step is computed" in told(answers.verdicts[0])
    (text,) = (text for label, text in facts_of(answers) if label == "Computed")
    assert text.startswith("batch 8; batch 16: rounds of so many workers take too long")


def test_large_products_are_compute() -> None:
    found = verdict(PARTS, evidence={**CPU, "product_seconds": 0.008})
    assert found.bound == "compute" and "matrix products take 8 ms of 10 ms" in told(found)
    without_profile = verdict(PARTS, flops_per_step=8e9)
    assert without_profile.bound == "compute"


def test_the_rest_is_memory_bandwidth() -> None:
    found = verdict(PARTS, evidence=CPU)
    assert found.bound == "memory_bandwidth"
    assert found.shares["memory_bandwidth"] == pytest.approx(1 - 0.02 - 0.08 - 0.08 - 0.2)
    assert "moves data more than it computes" in told(found)


def test_two_causes_of_nearly_the_same_size_are_both_named() -> None:
    found = verdict(PARTS, evidence={**CPU, "product_seconds": 0.004})
    assert {found.bound, found.second} == {"compute", "memory_bandwidth"} and "nearly as much by" in found.text


def test_without_flops_nobody_says_compute() -> None:
    found = verdict(PARTS, flops_per_step=None)
    assert found.bound == "work" and "more than one batch or length" in told(found)


def test_what_does_not_grow_with_the_batch_is_launch_overhead() -> None:
    repeats = measure({BATCH: [1, 2, 4, 8]}, lambda setting: 0.01 + 0.0005 * setting[BATCH], noise=0.002)
    first = answers_from([replace(one, flops_per_step=None) for one in repeats], {BATCH: 1}).verdicts[0]
    assert first.bound == "launch_overhead" and "does not grow with its work" in told(first)
