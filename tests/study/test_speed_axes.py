"""Which settings a study measures before it searches."""

from typing import Any

import pytest

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.study.speed_axes import Machine, speed_axes

CPU = Machine(is_gpu=False, bf16_is_fast=True, cores=2)
PLAIN_CPU = Machine(is_gpu=False, bf16_is_fast=False, cores=2)
GPU = Machine(is_gpu=True, bf16_is_fast=True, cores=8)
VALUES = {
    "model": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    "training": {"per_device_train_batch_size": 16},
    "targets": ["eval_loss < 0.76"],
}
KNOBS = {"lr": 1e-3, "batch_size": 8, "bf16": False, "num_workers": 0, "compile": False}


def config(**changes: Any) -> RunConfig:
    return config_from_values(VALUES, {key.replace("__", "."): value for key, value in changes.items()})


def command(params: dict[str, Any], **more: Any) -> RunConfig:
    run = "train " + " ".join(f"--{name} {{{name}}}" for name in params)
    return config_from_values({"command": {"run": run}, "params": params, "targets": ["loss < 1"], **more})


def keys(asked: RunConfig, room: float, machine: Machine = CPU) -> list[str]:
    return [axis.key.rpartition(".")[2] for axis in speed_axes(asked, room, machine)]


def values(asked: RunConfig, name: str, room: float = 6000, machine: Machine = CPU) -> tuple[Any, ...]:
    found = [axis.values for axis in speed_axes(asked, room, machine) if axis.key.rpartition(".")[2] == name]
    return found[0] if found else ()


def test_axes_are_as_many_as_there_is_time_for() -> None:
    assert keys(config(), 30) == []
    assert keys(config(), 72) == ["bf16", "per_device_train_batch_size"]
    assert keys(config(), 72, PLAIN_CPU) == ["per_device_train_batch_size", "attn_implementation"]
    assert keys(config(), 55, PLAIN_CPU) == []  # three cells tell too little
    assert keys(config(), 360, GPU) == ["bf16", "per_device_train_batch_size", "torch_compile"]
    single = speed_axes(config(training__per_device_train_batch_size=1), 72, CPU)
    assert single[1].values == (1, 2)


@pytest.mark.parametrize(
    "changes",
    [{"training__torch_compile_mode": "max-autotune"}, {"model": {"name": "word_latent", "preset": "micro"}}],
    ids=["the mode overrules off", "words compile with padding: max_length alone"],
)
def test_what_does_not_fit_the_config_is_left_out(changes: dict[str, Any]) -> None:
    assert "torch_compile" not in keys(config(**changes), 6000, GPU)


def test_attention_is_measured_where_there_is_another_way() -> None:
    assert values(config(), "attn_implementation") == (None, "sdpa")
    assert values(config(), "attn_implementation", machine=GPU) == (None, "cudnn")
    long = {"task": {"name": "language_model", "block_size": 1024}, "model__max_position_embeddings": 1024}
    assert values(config(**long, model__embd_pdrop=0), "attn_implementation") == (), "torch's own is chosen already"
    assert values(config(**long, model__attn_pdrop=0.1), "attn_implementation") == (None, "sdpa")
    assert values(config(model__attn_implementation="eager"), "attn_implementation") == (), "somebody chose"
    packed = config(training__padding="packed", model__positions="rope")
    assert values(packed, "attn_implementation", machine=GPU) == (), "packed rows have a kernel of their own"


def test_workers_are_measured_where_samples_are_made_during_the_training() -> None:
    drawn = {"name": "generator", "function": "own:draw", "max_length": 32}
    text = {"name": "language_model", "streaming": True}
    assert values(config(), "dataloader_num_workers") == ()
    assert values(config(), "dataloader_num_workers", machine=GPU) == (0, 1)
    assert values(config(task=drawn), "dataloader_num_workers") == (0, 1)
    assert values(config(task=text, training__max_steps=9), "dataloader_num_workers") == (0, 1)
    mixed = {"name": "mixture", "tasks": {"one": drawn, "two": {"name": "string_repetition"}}}
    assert values(config(task=mixed), "dataloader_num_workers") == (0, 1)
    alone = Machine(is_gpu=False, bf16_is_fast=False, cores=1)
    assert values(config(task=drawn), "dataloader_num_workers", machine=alone) == ()


def test_the_knobs_of_a_command_are_known_by_their_meaning() -> None:
    assert keys(command(KNOBS), 6000, GPU) == ["batch_size", "bf16", "compile", "num_workers"]
    assert keys(command(KNOBS), 6000, PLAIN_CPU) == ["batch_size", "num_workers"]
    assert keys(command(KNOBS), 50, GPU) == ["batch_size", "bf16", "num_workers"], "a cell for each change"
    assert values(command(KNOBS), "batch_size") == (4, 8, 16)
    assert values(command(KNOBS), "num_workers", machine=GPU) == (0, 2)
    assert keys(command({"bf16": True}), 20) == ["bf16"], "two cells are worth it"
    assert keys(command({"bf16": True}), 19) == []
    assert keys(command({"lr": 1e-3, "width": 8}), 6000, GPU) == []


def test_only_what_the_study_may_set_is_measured() -> None:
    assert keys(command(KNOBS, search={"lr": {"min": 1e-4, "max": 1e-2}}), 6000, GPU) == []
    some = command(KNOBS, search={"batch_size": {"values": [8, 16, 64]}, "bf16": {"values": [False, True]}})
    assert values(some, "batch_size") == (8, 16)
    few = {"batch_size": {"min": 2, "max": 32}, "constraints": ["batch_size * lr < 0.01"]}
    assert values(command(KNOBS, search=few), "batch_size") == (4, 8)
    kernels = command({"attn_implementation": "sdpa"}, search={"attn_implementation": {"values": ["eager", "sdpa"]}})
    assert values(kernels, "attn_implementation") == ("sdpa", "eager")


def test_rows_have_to_divide_the_batch_of_a_whole_step() -> None:
    assert values(command({"batch_size": 8, "total_batch_size": 24}), "batch_size") == (4, 8)
    assert values(command({"batch_size": 8, "total_batch_size": 32}), "batch_size") == (4, 8, 16)


@pytest.mark.parametrize(
    ("more", "sizes"),
    [
        ({"total_batch_size": 4096, "max_seq_len": 512}, (4, 8)),
        ({"total_batch_size": 8192, "max_seq_len": 512}, (4, 8, 16)),
        ({"total_batch_size": 8192, "max_seq_len": 512, "nproc_per_node": 2}, (4, 8)),
        ({"total_batch_size": 8192}, (4, 8)),
        ({"total_batch_tokens": 1024, "seq_len": 64}, (4, 8, 16)),
        ({"total_batch_tokens": 1024}, (4, 8)),
        ({"global_tokens_per_step": 512, "seq_len": 64}, (4, 8)),
        ({"total_batch_size": 32, "devices": 4}, (4, 8)),
        ({"total_batch_size": 512, "seq_len": 64}, (4, 8)),
        ({"total_batch_size": 512, "seq_len": 128}, (4, 8, 16)),
    ],
    ids=str,
)
def test_a_total_in_tokens_is_held_against_rows_and_length(more: dict[str, Any], sizes: tuple[int, ...]) -> None:
    assert values(command({"batch_size": 8, **more}), "batch_size") == sizes


def test_devices_of_a_launcher_count_too() -> None:
    knobs = {"batch_size": 8, "total_batch_size": 32}
    run = "torchrun --nproc_per_node=4 train.py {batch_size} {total_batch_size}"
    asked = config_from_values({"command": {"run": run}, "params": knobs, "targets": ["loss < 1"]})
    assert values(asked, "batch_size") == (4, 8)
