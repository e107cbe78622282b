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

from hotlap.config.schema import GPTConfig, TrainingConfig
from hotlap.config.word_latent import WordLatentConfig
from hotlap.core.errors import ConfigError
from hotlap.models.gpt import GPT
from hotlap.models.word_latent import WordLatent
from hotlap.train import memory
from hotlap.train.memory import (
    MemoryEstimate,
    MicroBatch,
    device_memory_bytes,
    held_memory_bytes,
    keep_freed_memory,
    memory_estimate,
    peak_memory_bytes,
    refuse_if_too_big,
    refuse_model_too_big,
)
from hotlap.train.model_size import ModelSize, size_of

GPT2 = ModelSize(
    num_trained=124_000_000, trained_bytes=496_000_000, hidden_size=768, num_layers=12, vocab_size=50_257, num_heads=12
)
BATCH = MicroBatch(8, 1024)
CPU = torch.device("cpu")


def estimate(size: ModelSize = GPT2, *, on_cpu: bool = False, **training: Any) -> MemoryEstimate:
    return memory_estimate(size, TrainingConfig(**training), BATCH, on_cpu=on_cpu)


def test_adamw_keeps_16_bytes_a_parameter() -> None:
    found = estimate(bf16=True, optim="adamw_torch_fused")
    assert (found.weights, found.gradients, found.optimizer) == (496_000_000, 496_000_000, 992_000_000)
    assert found.state == 16 * 124_000_000
    assert found.activations == 2_856_321_024  # 12 blocks × (2·(4 + 2) + 4·2 + 2·2·4) and 22 more bytes, × 8192 × 768
    assert found.logits == 499_755_608 == 667 * 50_257 * (4 + 4) + 50_257 * 768 * (4 + 2)  # in pieces of 667 rows
    assert found.total == found.state + found.activations + found.logits


def test_fp32_keeps_more_activations() -> None:
    full = estimate()
    assert full.activations == 5_033_164_800  # 12 blocks × (2·(4 + 4) + 4·4 + 2·4·4) and 32 more bytes, × 8192 × 768
    assert full.logits == 667 * 50_257 * (4 + 4) + 50_257 * 768 * 4
    assert full.state == estimate(bf16=True).state, "weights are fp32 in both"


def test_checkpointing_keeps_the_inputs_of_the_blocks() -> None:
    found = estimate(bf16=True, gradient_checkpointing=True)
    assert found.activations == 666_894_336  # (4 × 12 + 36 + 22) × 8192 × 768


def test_a_small_vocabulary_has_its_logits_at_once() -> None:
    small = ModelSize(num_trained=1000, trained_bytes=4000, hidden_size=8, num_layers=1, vocab_size=256)
    assert estimate(small).logits == 8192 * 256 * (4 + 4)
    assert estimate(small, bf16=True).logits == 8192 * 256 * (2 + 4 + 4)


def test_a_gated_mlp_and_its_width_count() -> None:
    wide = ModelSize(
        num_trained=1000, trained_bytes=4000, hidden_size=8, num_layers=1, vocab_size=256, inner_size=48, is_gated=True
    )
    assert estimate(wide).activations == 8192 * (8 * (2 * 8 + 4 * 4 + 8 + 8) + (4 + 1) * 4 * 48)


@pytest.mark.parametrize(("length", "kept"), [(64, 64**2), (256, 128 * (128 + 256)), (512, 163_840), (1024, 0)])
def test_short_rows_on_a_cpu_keep_their_attention_weights(length: int, kept: int) -> None:
    batch = MicroBatch(4, length)
    plain, on_cpu = (memory_estimate(GPT2, TrainingConfig(), batch, on_cpu=flag) for flag in (False, True))
    assert on_cpu.activations - plain.activations == 12 * 4 * 12 * kept * 4


def test_frozen_weights_have_no_gradient_and_no_state() -> None:
    lora = ModelSize(
        num_trained=1_000_000,
        trained_bytes=4_000_000,
        frozen_bytes=248_000_000,
        hidden_size=768,
        num_layers=12,
        vocab_size=50_257,
    )
    found = estimate(lora)
    assert (found.weights, found.gradients, found.optimizer) == (252_000_000, 4_000_000, 8_000_000)
    assert found.activations == estimate().activations


def test_weights_in_bfloat16_have_moments_in_it() -> None:
    half = ModelSize(num_trained=1000, trained_bytes=2000, hidden_size=8, num_layers=1, vocab_size=256)
    found = estimate(half)
    assert (found.weights, found.gradients, found.optimizer) == (2000, 2000, 4000)


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
    size = ModelSize(
        num_trained=10_000_000, trained_bytes=40_000_000, hidden_size=384, num_layers=6, vocab_size=256, num_heads=6
    )
    found = memory_estimate(size, TrainingConfig(**training), MicroBatch(0, 0))
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
        "activations about 2.7 GiB",
    ):
        assert part in message


def test_a_model_is_weighed_before_it_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Embedding(256, 64, device="meta"), nn.Linear(64, 256, bias=False, device="meta"))
    monkeypatch.setattr(memory, "device_memory_bytes", lambda *_: 16 * 32_768)
    refuse_model_too_big(model, TrainingConfig(optim="adamw_torch"), CPU)
    monkeypatch.setattr(memory, "device_memory_bytes", lambda *_: 12 * 32_768)
    refuse_model_too_big(model, TrainingConfig(optim="sgd"), CPU)
    with pytest.raises(ConfigError, match=r"each of 2 processes on this machine has 384\.0 KiB") as caught:
        refuse_model_too_big(model, TrainingConfig(optim="adamw_torch"), CPU, 2)
    assert "weights 128.0 KiB, gradients 128.0 KiB, optimizer state 256.0 KiB)" in str(caught.value)


def test_the_size_of_a_gpt_is_that_of_its_config() -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 512}
    model = GPT(GPTConfig(**shape, hidden_act="swiglu"), 300)
    count = sum(p.numel() for p in model.parameters())
    assert size_of(model) == ModelSize(
        num_trained=count,
        trained_bytes=4 * count,
        hidden_size=32,
        num_layers=3,
        vocab_size=300,  # the table of positions is longer
        num_heads=2,
        inner_size=96,
        is_gated=True,
        num_copied=3 * (32 * 96 + 32 * 32 + 32 * 192 + 96 * 32) + 320 * 32,  # the tied table has rows to spare
        is_gpt=True,
    )
    for parameter in model.blocks.parameters():
        parameter.requires_grad_(False)
    frozen = sum(p.numel() for p in model.blocks.parameters())
    found = size_of(model)
    assert (found.num_trained, found.frozen_bytes) == (count - frozen, 4 * frozen)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_act": "swiglu"},
        {"hidden_act": "relu_squared"},
        {"intermediate_size": 48},
        {"norm": "rms_norm", "qk_norm": True, "positions": "rope", "smear": True},
        {"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("bf16", [False, True])
def test_what_a_backward_pass_keeps_is_as_estimated(changes: dict[str, Any], bf16: bool) -> None:
    """Each tensor that autograd saves counts once, parameters not at all."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 256}
    model = GPT(GPTConfig(**shape, **changes), 256)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)  # else its memory might be given out again
        return tensor

    held: list[torch.Tensor] = []
    ids = torch.randint(256, (4, 128))
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        torch.autograd.graph.saved_tensors_hooks(note, lambda x: x),
    ):
        model.hidden(ids)
    training = TrainingConfig(bf16=bf16)
    expected = memory_estimate(size_of(model), training, MicroBatch(4, 128), on_cpu=True).activations
    passing = 4 * 128 * ((2 if bf16 else 4) * size_of(model).inner_size + 2 * 4 * 64)  # the first block backwards
    head = 256 * 64 * 2 if bf16 else 0  # is not asked for here
    assert expected - passing - head == pytest.approx(sum(kept.values()), rel=0.1)


def test_the_peak_is_at_least_what_is_held() -> None:
    before, held_before = peak_memory_bytes(CPU), held_memory_bytes(CPU)
    held = torch.ones(64 << 20, dtype=torch.uint8)
    assert held_memory_bytes(CPU) >= held_before + held.numel() // 2  # the rest may lie where something lay before
    assert peak_memory_bytes(CPU) >= max(before, held.numel())


def test_a_cpu_holds_gaps_and_libraries_besides() -> None:
    plain, on_cpu = estimate(bf16=True), estimate(bf16=True, on_cpu=True)
    tensors = on_cpu.activations + on_cpu.logits
    assert plain.overhead == 0
    assert on_cpu.overhead == 28 * 2**20 + int(0.3 * tensors)
    assert on_cpu.total == on_cpu.state + tensors + on_cpu.overhead
    assert "overhead about" in on_cpu.describe()
    assert memory_estimate(GPT2, TrainingConfig(), MicroBatch(0, 0), on_cpu=True).total == on_cpu.state


def test_the_last_block_of_a_gpt_goes_on_with_the_targets_alone() -> None:
    size = ModelSize(num_trained=1, trained_bytes=4, hidden_size=8, num_layers=1, vocab_size=256, is_gpt=True)
    whole, half = (memory_estimate(size, TrainingConfig(), MicroBatch(2, 64, ratio)) for ratio in (1.0, 0.5))
    before = 128 * 8 * (4 + 4 + 3 * 4)  # norm, its result, queries, keys and values
    assert half.activations - before == (whole.activations - before) / 2
    assert half.logits == whole.logits / 2


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
    assert keep_freed_memory(is_tight=True)
    assert asked[3:] == [(-3, 2**22), (-1, 2**31 - 1)]
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()
    assert len(asked) == 5


def test_words_count_bytes_in_encoder_and_decoder_and_words_between_them() -> None:
    with torch.device("meta"):
        size = size_of(WordLatent(WordLatentConfig(preset="tiny")))
    assert size.trained_bytes == 4 * 6_946_816
    bf16 = memory_estimate(size, TrainingConfig(bf16=True), MicroBatch(8, 1000))
    # A block keeps 40 bytes for each place and dimension, the widest step of the way back takes 16, the ends take 6.
    encoder, latent, decoder = (40 * 2 + 22) * 128, (40 * 4 + 22) * 256, (40 * 4 + 22) * 256
    copies = bf16.activations - (12_000 * encoder + 2_000 * latent + 12_000 * decoder)
    assert 0 < copies < 2 * 6_946_816, "matrices in bf16"
    assert bf16.logits == 12_000 * 256 * (2 + 4 + 4)
    padded = memory_estimate(size, TrainingConfig(bf16=True, padding="max_length"), MicroBatch(8, 1000))
    assert padded.activations - copies == 34_000 * encoder + 2_000 * latent + 34_000 * decoder
    few = memory_estimate(size, TrainingConfig(bf16=True), MicroBatch(8, 1000, 0.5))
    assert few.activations - copies == 12_000 * encoder + 2_000 * latent + 6_000 * decoder
    assert few.logits == bf16.logits / 2
    kept = memory_estimate(size, TrainingConfig(bf16=True, gradient_checkpointing=True), MicroBatch(8, 1000))
    assert kept.activations < bf16.activations / 2
