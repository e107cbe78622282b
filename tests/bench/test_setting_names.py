"""What settings are called, and what they have to do with speed."""

import pytest

from hotlap.bench.setting_names import SHORT_NAMES, changes_filling, label_of, role_of, short_name


@pytest.mark.parametrize(
    ("key", "short", "role"),
    [
        ("params.bs", "batch", "batch"),
        ("params.micro-batch-size", "batch", "batch"),
        ("task.max_length_bytes", "seq", "length"),
        ("params.max_seq_len", "seq", "length"),
        ("devices", "devices", "devices"),
        ("params.num_gpus", "devices", "devices"),
        ("training.torch_compile", "compile", "how"),
        ("params.num-workers", "workers", "how"),
        ("training.gradient_checkpointing", None, "how"),
        ("training.optim", "optim", "what"),
        ("training.padding", None, "how"),
        ("model.hidden_size", None, "what"),
        ("training.learning_rate", None, "what"),
    ],
)
def test_settings_go_by_names(key: str, short: str | None, role: str) -> None:
    assert (short_name(key), role_of(key)) == (short, role)


def test_every_name_has_one_short_name_and_a_role() -> None:
    for short, names in SHORT_NAMES.items():
        assert [short_name(name) for name in names] == [short] * len(names)
        assert len({role_of(name) for name in names}) == 1


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("params.bs", "batch"),
        ("task.block_size", "length"),
        ("training.torch_compile", "compile"),
        ("training.bf16", "bf16"),
        ("model.hidden_size", "hidden_size"),
    ],
)
def test_settings_have_labels(key: str, label: str) -> None:
    assert label_of(key) == label


@pytest.mark.parametrize(
    ("key", "expected"),
    [("training.padding", True), ("params.group_by_length", True), ("training.bf16", False), ("padding_side", False)],
)
def test_padding_changes_how_full_a_batch_is(key: str, expected: bool) -> None:
    assert changes_filling(key) is expected
