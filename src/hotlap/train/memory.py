"""What a training needs of a device's memory, by arithmetic: before anything is put there.

Weights, gradients and optimizer state follow from the parameters, frozen ones counting as weights alone. Activations
are what the backward pass of a block keeps, counted tensor by tensor (the way of Korthikanti et al. 2022, arXiv
2205.05198), without the attention's weights where those are computed again; logits follow from the vocabulary. On a CPU
the process holds more than its tensors: the gaps between them, and the libraries that the first step loads.
`benchmarks/memory_estimates.py` compares all that with what processes held.
"""

import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import torch
from torch import nn

from hotlap.config.schema import TrainingConfig
from hotlap.core.errors import ConfigError
from hotlap.models.attention import kept_weights
from hotlap.train.model_size import ModelSize, size_of
from hotlap.train.objective import LARGE_VOCABULARY, PIECE

_MOMENT_BYTES: Final = {"adamw_torch": 8, "adamw_torch_fused": 8, "muon": 4, "sgd": 0, "adafactor": 0}
"""Bytes of optimizer state per fp32 parameter; 0 for one of the user's own, of which nothing is known."""
_GAPS: Final = 0.3
"""Memory between a CPU's tensors, relative to those of a step: glibc seldom puts an aligned block where one was."""
_GAPS_WHEN_TIGHT: Final = 0.5
"""The same where only small blocks leave gaps, and there is less to relate them to."""
_LIBRARY_BYTES: Final = 28 * 2**20
"""What the first step reads of torch's libraries."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_BYTES_PER_WORD: Final = 4
"""Of a word with its space, rather too few: English has five to six. More words need more memory."""
_LARGEST_INT: Final = 2**31 - 1
_LARGEST_MMAP_THRESHOLD: Final = 2**25
_TIGHT_MMAP_THRESHOLD: Final = 2**22


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows of a forward pass, and tokens in each with padding."""

    rows: int
    length: int
    target_ratio: float = 1.0
    """Share of the tokens that something is predicted for."""

    @property
    def tokens(self) -> int:
        """Tokens with padding."""
        return self.rows * self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes on one device, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """Kept between forward and backward pass of one micro-batch."""
    logits: int
    """With their gradients."""
    overhead: int = 0
    """What a process on a CPU holds besides: gaps between its tensors, libraries."""

    @property
    def state(self) -> int:
        """What stays for the whole training: it has to fit, whatever the batch size."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """Everything together."""
        return self.state + self.activations + self.logits + self.overhead

    def describe(self) -> str:
        """Return the parts in words; those of a micro-batch only where they are known."""
        parts = [
            f"weights {show_bytes(self.weights)}",
            f"gradients {show_bytes(self.gradients)}",
            f"optimizer state {show_bytes(self.optimizer)}",
        ]
        for name in ("activations", "logits", "overhead"):
            if size := getattr(self, name):
                parts.append(f"{name} about {show_bytes(size)}")
        return ", ".join(parts)


def memory_estimate(
    size: ModelSize, training: TrainingConfig, batch: MicroBatch, *, on_cpu: bool = False
) -> MemoryEstimate:
    """Return what one process needs for a transformer and a micro-batch; without rows, what it needs for any."""
    places, activations = batch.tokens, 0
    if size.word_parts and batch.tokens:
        places, activations = _of_words(size, training, batch)
    elif size.num_layers and batch.tokens:
        activations = _activation_bytes(size, training, batch, on_cpu=on_cpu)
    logits = _logit_bytes(size, round(batch.target_ratio * places), is_bf16=training.bf16)
    gaps = _GAPS_WHEN_TIGHT if training.gradient_checkpointing else _GAPS
    has_overhead = on_cpu and batch.tokens > 0
    return MemoryEstimate(
        weights=size.trained_bytes + size.frozen_bytes,
        gradients=size.trained_bytes,
        optimizer=_optimizer_bytes(size, training),
        activations=activations,
        logits=logits,
        overhead=_LIBRARY_BYTES + int(gaps * (activations + logits)) if has_overhead else 0,
    )


def _activation_bytes(size: ModelSize, training: TrainingConfig, batch: MicroBatch, *, on_cpu: bool) -> int:
    """Return what is held when the backward pass begins, and what it adds in the first block."""
    width = 2 if training.bf16 else 4
    before, after = _bytes_per_token(size, is_bf16=training.bf16)
    attention = before * batch.tokens
    if on_cpu and not training.torch_compile:
        attention += _attention_bytes(size, batch, is_bf16=training.bf16)
    whole, ratio = attention + after * batch.tokens, batch.target_ratio if size.is_gpt else 1.0
    last = attention + int(ratio * after * batch.tokens)
    if training.gradient_checkpointing:  # the inputs of all blocks in fp32, and one block that is computed again
        blocks = size.num_layers * batch.tokens * 4 * size.hidden_size + (whole if size.num_layers > 1 else last)
    else:
        blocks = (size.num_layers - 1) * whole + last
    inner = size.inner_size or 4 * size.hidden_size
    passing = int(ratio * batch.tokens) * (width * inner + 2 * 4 * size.hidden_size)
    ends = (4 + width) * size.hidden_size * int(ratio * batch.tokens)  # the last norm's input and the head's
    ends += 4 * size.num_kept_embeddings * size.hidden_size * batch.tokens
    return blocks + passing + ends + (2 * size.num_copied if training.bf16 else 0)


def _of_words(size: ModelSize, training: TrainingConfig, batch: MicroBatch) -> tuple[int, int]:
    """Return the places for bytes that the encoder computes, and what the three parts keep, for bytes of text.

    Each word has two places more than bytes; padded, all words have as many as the longest may have, and the decoder
    writes all of them, too.
    """
    words, is_padded = -(-batch.tokens // _BYTES_PER_WORD), training.padding == "max_length"
    places = words * (size.max_word_length + 1) if is_padded else batch.tokens + 2 * words
    written = places if is_padded else round(batch.target_ratio * places)
    kept = sum(
        _activation_bytes(part, training, MicroBatch(1, count), on_cpu=False)
        for part, count in zip(size.word_parts, (places, words, written), strict=True)
    )
    return places, kept + (2 * size.num_copied if training.bf16 else 0)


def _bytes_per_token(size: ModelSize, *, is_bf16: bool) -> tuple[int, int]:
    """Return what the backward pass of a block keeps for a token, up to the attention's weights and after them.

    Each norm's input in fp32 (autocast leaves the residual stream so), the norm of RMS its result; what goes into each
    matrix product, where that is another tensor; queries, keys and values; and 2 of the MLP's inner width, 4 where it
    is gated.
    """
    width = 2 if is_bf16 else 4
    inner = size.inner_size or 4 * size.hidden_size
    normed = 4 + (0 if size.has_rms_norm and not is_bf16 else width)
    dropped = width if size.has_residual_dropout else 0
    before = (normed + (5 if size.has_qk_norm else 3) * width) * size.hidden_size
    mixed = (width + normed + 2 * dropped) * size.hidden_size
    return before, mixed + (4 if size.is_gated else 2) * width * inner


def _attention_bytes(size: ModelSize, batch: MicroBatch, *, is_bf16: bool) -> int:
    """Return the attention weights that a layer keeps on a CPU; with dropout always, and what they are dropped by."""
    dtype = torch.bfloat16 if is_bf16 else torch.float32
    kept = kept_weights(batch.length, dtype, has_dropout=size.has_attention_dropout)
    return batch.rows * size.num_heads * kept * dtype.itemsize


def _logit_bytes(size: ModelSize, tokens: int, *, is_bf16: bool) -> int:
    """Return the logits, their logarithms and gradients; a large vocabulary's exist one piece at a time.

    Such a piece-wise loss keeps a gradient of the head beside, and a copy of it in bf16.
    """
    if size.vocab_size < LARGE_VOCABULARY:
        return tokens * size.vocab_size * (2 + 4 + 4 if is_bf16 else 4 + 4)
    each = 4 + 4  # the logits of one piece, and what their logarithm takes
    head = size.vocab_size * size.hidden_size * (4 + 2 if is_bf16 else 4)
    return min(tokens, max(1, PIECE // size.vocab_size)) * size.vocab_size * each + (head if tokens else 0)


def _optimizer_bytes(size: ModelSize, training: TrainingConfig) -> int:
    scale = size.trained_bytes / (4 * size.num_trained) if size.num_trained else 0.0  # moments have the weights' type
    state = _MOMENT_BYTES.get(training.optim, 0) * size.num_trained
    if training.optim == "muon":  # the embedding is AdamW's, with a second moment
        state += 4 * min(size.num_trained, size.vocab_size * size.hidden_size)
    if training.optim == "adafactor":  # a number per row and column of each matrix
        state += 2 * 4 * size.num_trained // max(1, size.hidden_size)
    if training.optim == "sgd" and "momentum" in (training.optim_args or ""):
        state += 4 * size.num_trained
    return int(state * scale)


def refuse_if_too_big(estimate: MemoryEstimate, device_bytes: int, device_name: str) -> None:
    """Raise ConfigError with the parts of the estimate when what stays in memory alone exceeds the device."""
    if estimate.state <= device_bytes:
        return
    raise ConfigError(
        f"the model does not fit: weights, gradients and optimizer state need {show_bytes(estimate.state)}, "
        f"{device_name} has {show_bytes(device_bytes)} ({estimate.describe()}); make the model smaller, or choose an "
        "optim with less state (adamw 8, muon 4, sgd and adafactor about 0 bytes a parameter), or for pretrained "
        "weights model.lora. More devices do not help: each holds the whole model"
    )


def refuse_model_too_big(
    model: nn.Module, training: TrainingConfig, device: torch.device, processes_on_cpu: int = 1
) -> None:
    """Raise ConfigError when a model and what belongs to it cannot be held, whatever the batch size.

    Call it before the model is moved to the device. Processes on a CPU share its memory.
    """
    estimate = memory_estimate(size_of(model), training, MicroBatch(0, 0))
    refuse_if_too_big(estimate, device_memory_bytes(device, processes_on_cpu), device_name(device, processes_on_cpu))


def device_name(device: torch.device, processes_on_cpu: int = 1) -> str:
    """Return what a message calls the place whose memory it is about."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return "this machine" if processes_on_cpu == 1 else f"each of {processes_on_cpu} processes on this machine"


def device_memory_bytes(device: torch.device, processes_on_cpu: int = 1) -> int:
    """Return what one process may fill: its GPU, or its share of the machine's or container's memory."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    whole = int(psutil.virtual_memory().total)
    limit = _container_bytes()
    return (whole if limit is None else min(whole, limit)) // processes_on_cpu


def _container_bytes() -> int | None:
    """Return the memory limit of the container (cgroup v2), None without one."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return None if text == "max" else int(text)
    except (OSError, ValueError):
        return None


def show_bytes(num_bytes: int) -> str:
    """Return a size in the unit that suits it."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most that this process held so far: of a GPU's memory in tensors, or of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Where /proc does not tell, what getrusage says: that counts what was this process before it became Python, too.
    return _status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kibibytes on Linux


def held_memory_bytes(device: torch.device) -> int:
    """Return what this process holds now, counted as the peak is."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status_bytes("VmRSS") or int(psutil.Process().memory_info().rss)


def _status_bytes(name: str) -> int:
    """Return a size from /proc/self/status, 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    found = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(next(found, "0")) * 1024


def keep_freed_memory(*, is_tight: bool = False) -> bool:
    """Let glibc keep the memory that tensors gave back, and say whether it does.

    It would return blocks of some megabytes to the system at once, and the next step would wait for the same pages to
    be handed out and zeroed again. Where memory is scarcer than time (`is_tight`) it goes on to do so: blocks that come
    and go among others that stay leave gaps, with gradient checkpointing twice as large as the blocks. Other C
    libraries are left alone, and so is who has set glibc's variables.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Before glibc 2.35 the first value is refused. Setting either ends glibc's own adapting, so the order matters.
    sizes = (_TIGHT_MMAP_THRESHOLD,) if is_tight else (_LARGEST_INT, _LARGEST_MMAP_THRESHOLD)
    if not any(mallopt(_M_MMAP_THRESHOLD, size) for size in sizes):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT))
