"""What settings mean by their names, and how far a search may go with them."""

from typing import Any

import pytest

from hotlap.config.knob_ranges import is_left_alone, range_of, role_of


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("learning_rate", "learning_rate"),
        ("LR", "learning_rate"),
        ("optimizer.lr", "learning_rate"),
        ("batch-size", "per_device_train_batch_size"),
        ("n_layer", "num_hidden_layers"),
        ("random_seed", "seed"),
        ("--lr", "learning_rate"),
        ("eval_steps", None),
        ("label_smoothing_factor", None),
        ("packing", None),
        ("widget", None),
    ],
)
def test_roles(name: str, role: str | None) -> None:
    assert role_of(name) == role


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lr", 3e-4, {"min": 3e-05, "max": 0.003, "distribution": "log_uniform_values"}),
        ("dropout", 0.1, {"min": 0.0, "max": 0.3, "distribution": "uniform"}),
        ("dropout", 0.5, {"min": 0.0, "max": 0.5, "distribution": "uniform"}),
        ("batch_size", 8, {"values": [2, 4, 8, 16]}),
        ("batch_size", 1, {"values": [1, 2]}),
        ("weight_decay", 0, {"values": [0.0, 0.01, 0.1]}),
        ("beta2", 0.97, {"values": [0.95, 0.97, 0.98, 0.99, 0.999]}),
        ("max_steps", 100, {"min": 25, "max": 100, "distribution": "int_uniform"}),
        ("warmup_steps", 0, None),
        ("warmup_steps", 10, {"min": 0, "max": 20, "distribution": "int_uniform"}),
        ("epochs", 8, {"min": 2, "max": 8, "distribution": "int_uniform"}),
        ("num_train_epochs", 10.0, {"min": 2.5, "max": 10.0, "distribution": "log_uniform_values"}),
        ("bf16", False, {"values": [False, True]}),
        ("lr_scheduler_type", "cosine", {"values": ["linear", "cosine", "constant_with_warmup"]}),
        ("lr_scheduler_type", "my_own", None),
        ("optim", "adafactor", {"values": ["adamw_torch_fused", "adamw_torch", "adafactor"]}),
        ("widget", 3.0, {"min": 1.0, "max": 9.0, "distribution": "log_uniform_values"}),
        ("widget", -3.0, None),
        ("widget", float("nan"), None),
        ("widget", None, None),
    ],
)
def test_ranges(name: str, value: Any, expected: Any) -> None:
    assert range_of(name, value) == expected


def test_choices_of_the_script_go_first() -> None:
    assert range_of("optim", "sgd", ("sgd", "adam")) == {"values": ["sgd", "adam"]}
    assert range_of("optim", "sgd", ("sgd",)) is None


@pytest.mark.parametrize(
    "name",
    ["eval_steps", "log_every", "out_dir", "vocab_size", "block_size", "data.path", "packing", "label_smoothing"],
)
def test_what_is_left_alone(name: str) -> None:
    assert is_left_alone(name)
    assert not is_left_alone("width")
