"""The memory arithmetic, against numbers worked out by hand."""

import os
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from hotlap.config.schema import TrainingConfig
from hotlap.core.errors import ConfigError
from hotlap.train import memory
from hotlap.train.memory import (
    MemoryEstimate,
    device_memory_bytes,
    keep_freed_memory,
    memory_estimate,
    refuse_if_too_big,
    refuse_model_too_big,
)

GPT2 = {"num_parameters": 124_000_000, "hidden_size": 768, "num_layers": 12, "vocab_size": 50_304}
TOKENS = 8 * 1024


def estimate(**training: Any) -> MemoryEstimate:
    return memory_estimate(training=TrainingConfig(**training), tokens_per_microbatch=TOKENS, **GPT2)


def test_adamw_keeps_16_bytes_a_parameter() -> None:
    found = estimate(bf16=True, optim="adamw_torch_fused")
    assert (found.weights, found.gradients, found.optimizer) == (496_000_000, 496_000_000, 992_000_000)
    assert found.state == 16 * 124_000_000
    assert found.activations == 2_566_914_048  # 34 × 8192 × 768 × 12
    assert found.logits == 2_472_542_208  # 8192 × 50304 × (2 + 4)
    assert found.total == found.state + found.activations + found.logits


def test_fp32_keeps_twice_the_activations() -> None:
    full, half = estimate(), estimate(bf16=True)
    assert full.activations == 2 * half.activations
    assert full.logits == 3_296_722_944  # 8192 × 50304 × (4 + 4)
    assert full.state == half.state, "weights are fp32 in both"


def test_checkpointing_keeps_the_inputs_of_the_blocks() -> None:
    found = estimate(bf16=True, gradient_checkpointing=True)
    assert found.activations == 364_904_448  # (2 × 12 + 34) × 8192 × 768


@pytest.mark.parametrize(
    ("training", "num_bytes"),
    [
        ({"optim": "adamw_torch"}, 80_000_000),
        ({"optim": "muon"}, 40_393_216),  # 4 a parameter, and 4 more for the 256 × 384 embedding
        ({"optim": "adafactor"}, 208_333),  # two numbers for each 384 of the 10 million parameters
        ({"optim": "sgd"}, 0),
        ({"optim": "sgd", "optim_args": "momentum=0.9"}, 40_000_000),
        ({"optim": "sgd", "optim_args": {"momentum": 0.9}}, 40_000_000),
        ({"optim": "mine:build"}, 0),
    ],
)
def test_each_optimizer_has_its_state(training: dict[str, Any], num_bytes: int) -> None:
    found = memory_estimate(10_000_000, TrainingConfig(**training), 0, 384, 6, 256)
    assert found.optimizer == num_bytes
    assert (found.activations, found.logits) == (0, 0)


def test_what_stays_in_memory_has_to_fit() -> None:
    found = estimate(bf16=True)
    refuse_if_too_big(found, found.state, "cuda:0")  # activations depend on the batch size, so they do not count
    with pytest.raises(ConfigError) as caught:
        refuse_if_too_big(found, found.state - 1, "cuda:0 (Toy)")
    message = str(caught.value)
    assert "need 1.8 GiB, cuda:0 (Toy) has 1.8 GiB" in message
    for part in (
        "weights 473.0 MiB",
        "gradients 473.0 MiB",
        "optimizer state 946.0 MiB",
        "(attention weights apart) about 2.4 GiB",
    ):
        assert part in message


def test_a_model_is_weighed_before_it_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Embedding(256, 64, device="meta"), nn.Linear(64, 256, bias=False, device="meta"))
    monkeypatch.setattr(memory, "device_memory_bytes", lambda *_: 16 * 32_768)
    cpu = torch.device("cpu")
    refuse_model_too_big(model, TrainingConfig(optim="adamw_torch"), cpu)
    monkeypatch.setattr(memory, "device_memory_bytes", lambda *_: 12 * 32_768)
    refuse_model_too_big(model, TrainingConfig(optim="sgd"), cpu)
    with pytest.raises(ConfigError, match=r"each of 2 processes on this machine has 384\.0 KiB") as caught:
        refuse_model_too_big(model, TrainingConfig(optim="adamw_torch"), cpu, 2)
    assert "weights 128.0 KiB, gradients 128.0 KiB, optimizer state 256.0 KiB)" in str(caught.value)


def test_processes_share_the_memory_of_a_machine() -> None:
    whole = device_memory_bytes(torch.device("cpu"))
    assert 0 < whole <= psutil.virtual_memory().total
    assert device_memory_bytes(torch.device("cpu"), 2) == whole // 2


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_container_bytes", lambda: 1000)
    assert device_memory_bytes(torch.device("cpu")) == 1000


COUNT_FAULTS = """
import resource, sys, torch
from hotlap.train.memory import keep_freed_memory
kept = keep_freed_memory()
assert kept == (sys.argv[1] == "True"), kept
for round in range(30):
    if round == 20:  # small blocks between large ones find their places first
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = torch.ones(20, 1 << 19)  # 40 MiB: more than glibc keeps of itself
    del x
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told")
def test_the_memory_of_a_tensor_is_kept_for_the_next() -> None:
    faults = {}
    for is_kept, settings in ((True, {}), (False, {"MALLOC_ARENA_MAX": "8"})):
        clean = {name: value for name, value in os.environ.items() if "MALLOC" not in name and "GLIBC" not in name}
        command = [sys.executable, "-c", COUNT_FAULTS, str(is_kept)]
        found = subprocess.run(command, env=clean | settings, capture_output=True, text=True, check=True)
        faults[is_kept] = int(found.stdout)
    assert faults[True] * 10 < faults[False]


def test_an_older_glibc_takes_the_largest_threshold_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def mallopt(parameter: int, value: int) -> int:
        asked.append((parameter, value))
        return int(parameter == -1 or value <= 2**25)

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)
    assert keep_freed_memory()
    assert asked == [(-3, 2**31 - 1), (-3, 2**25), (-1, 2**31 - 1)]
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()
    assert len(asked) == 3
