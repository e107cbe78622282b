"""Changing a config file in place: only what was asked for, and every comment where it was."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hotlap.config.edit import edited_text
from hotlap.config.load import config_from_text, config_from_values
from hotlap.config.set_in_yaml import value_text
from hotlap.core.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "examples" / "string_repetition" / "hotlap.yaml"
PATH = Path("hotlap.yaml")
BLOCK = EXAMPLE.read_text(encoding="utf-8")
FLOW = """\
# our recipe
name: string-repetition
model: {name: gpt, hidden_size: 128,   num_hidden_layers: 2,  # small
        num_attention_heads: 4}  # heads
training: {learning_rate: 6.0e-4, per_device_train_batch_size: 32, max_steps: 5000}  # as always
targets: [eval_loss < 0.76]  # the point of it all
"""
FLAT = """\
learning_rate: 3e-4   # peak
warmup_ratio: 0.05
# what follows is how long
num_train_epochs: 1
"""
DEEP = """\
training:
    learning_rate: 1.0e-3

    # the schedule
    lr_scheduler_type: cosine_with_min_lr
    lr_scheduler_kwargs:   # of the schedule
        # a tenth
        min_lr_rate: 0.1
    # batch: later
model:
    name: gpt
# the end
"""
TEXTS = {
    "block": BLOCK,
    "flow": FLOW,
    "flat": FLAT,
    "deep": DEEP,
    "empty": "",
    "only a comment": "# nothing yet\n",
    "windows": BLOCK.replace("\n", "\r\n"),
    "no last line end": BLOCK.rstrip(),
    "json": '{"name": "x", "training": {"learning_rate": 0.5}, "model": {}}',
    "between markers": f"---\n{FLOW}...\n",
    "byte order mark": f"\ufeff{FLOW}",
}
WORDS = st.text(st.characters(exclude_categories=("C", "Z")) | st.sampled_from(" \n\t"))
"""Text that YAML can hold."""
PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "model.embd_pdrop": st.sampled_from([0.0, 0.1, 0.25]),
        "model.positions": st.sampled_from(["rope", "learned"]),
        "model.smear": st.booleans(),
        "model.hidden_size": st.sampled_from([64, 256]),
        "training.optim": st.sampled_from(["adamw_torch", "muon", "sgd"]),
        "training.learning_rate": st.floats(1e-7, 1.0),
        "training.weight_decay": st.floats(0, 1),
        "training.max_steps": st.integers(1, 10**6),
        "training.per_device_train_batch_size": st.integers(1, 512),
        "training.lr_scheduler_type": st.sampled_from(["linear", "constant"]),
        "training.lr_scheduler_kwargs": st.just({}),
    },
)


def comments(text: str) -> list[str]:
    return [line.partition("#")[2].strip() for line in text.splitlines() if "#" in line]


@settings(max_examples=60, deadline=None)
@given(text=st.sampled_from(sorted(TEXTS)).map(TEXTS.__getitem__), patch=PATCHES)
def test_a_patch_changes_its_values_and_nothing_else(text: str, patch: dict[str, Any]) -> None:
    if patch.get("training.lr_scheduler_type") and text == DEEP:
        patch = {**patch, "training.lr_scheduler_kwargs": {}}  # the old schedule's own
    elif text == DEEP:
        patch.pop("training.lr_scheduler_kwargs", None)
    edited = edited_text(text, PATH, patch)
    before = config_from_text(text, PATH).model_dump(mode="json")
    assert config_from_text(edited, PATH) == config_from_values(before, patch)
    assert comments(edited) == comments(text) or "lr_scheduler_kwargs" in str(patch)
    assert edited_text(edited, PATH, patch) == edited, "a second time there is nothing to do"
    assert edited.count("\r\n") == edited.count("\n") or "\r\n" not in text


def test_only_the_characters_of_the_value_change() -> None:
    edited = edited_text(BLOCK, PATH, {"training.learning_rate": 0.0018, "model.embd_pdrop": 0.0})
    changed = [(a, b) for a, b in zip(BLOCK.splitlines(), edited.splitlines(), strict=True) if a != b]
    assert changed == [
        (
            "  embd_pdrop: 0.1 # GPT-2's config has dropout 0.1 by default, in all three places",
            "  embd_pdrop: 0.0 # GPT-2's config has dropout 0.1 by default, in all three places",
        ),
        ("  learning_rate: 6.0e-4", "  learning_rate: 0.0018"),
    ]


def test_a_new_key_stands_at_the_end_of_its_section() -> None:
    edited = edited_text(BLOCK, PATH, {"model.smear": True})
    lines = edited.splitlines()
    assert lines[lines.index("  smear: true") - 1].startswith("  resid_pdrop: 0.1")
    assert lines[lines.index("  smear: true") + 1] == "training:"
    edited = edited_text(FLOW, PATH, {"model.smear": True, "training.optim": "muon"})
    assert "num_attention_heads: 4, smear: true}  # heads" in edited
    assert "max_steps: 5000, optim: muon}  # as always" in edited


def test_a_missing_section_is_added_and_an_empty_file_filled() -> None:
    assert edited_text("", PATH, {"model.smear": True}) == "model: {smear: true}\n"
    patch = {"model.smear": True, "model.positions": "rope", "training.optim": "muon"}
    expected = "# nothing yet\nmodel: {smear: true, positions: rope}\ntraining: {optim: muon}\n"
    assert edited_text("# nothing yet\n", PATH, patch) == expected
    assert edited_text("model: {}\n", PATH, {"model.smear": True}) == "model: {smear: true}\n"


def test_a_trainer_yaml_stays_one() -> None:
    edited = edited_text(FLAT, PATH, {"training.learning_rate": 1e-5, "training.optim": "muon"})
    assert edited == FLAT.replace("3e-4", "1.0e-05") + "optim: muon\n"


def test_a_block_becomes_a_value_and_its_comment_stays_behind_the_key() -> None:
    edited = edited_text(DEEP, PATH, {"training.lr_scheduler_type": "linear", "training.lr_scheduler_kwargs": {}})
    assert "    lr_scheduler_kwargs: {}   # of the schedule\n" in edited
    assert "min_lr_rate" not in edited and "    # batch: later\nmodel:" in edited


def test_what_is_there_already_is_left_as_it_was_written() -> None:
    assert edited_text(BLOCK, PATH, {"training.learning_rate": 6e-4, "model.hidden_size": 128}) == BLOCK


def test_a_file_with_anchors_is_refused_with_what_to_set() -> None:
    text = "model: &shape {name: gpt, embd_pdrop: &p 0.1, attn_pdrop: *p}\n"
    with pytest.raises(ConfigError, match=r"(?s)cannot be changed safely .*set by hand:\n  model.embd_pdrop: 0.0"):
        edited_text(text, PATH, {"model.embd_pdrop": 0.0})
    with pytest.raises(ConfigError, match=r"attn_pdrop: 0.0"):
        edited_text(text, PATH, {"model.attn_pdrop": 0.0})


def test_values_that_do_not_fit_are_refused_as_anywhere() -> None:
    with pytest.raises(ConfigError, match="positions"):
        edited_text(BLOCK, PATH, {"model.positions": "nowhere"})
    with pytest.raises(ConfigError, match="not valid YAML"):
        edited_text("training: [", PATH, {"model.smear": True})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
        max_leaves=6,
    )
)
def test_a_written_value_reads_back_as_it_was(value: Any) -> None:
    assert YAML(typ="safe").load(f"key: {value_text(value)}") == {"key": value}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-5, "1.0e-05"), (0.1, "0.1"), (None, "null"), ("yes", '"yes"'), ("1:30", '"1:30"'), ("mine:loss", "mine:loss")],
)
def test_readers_of_both_yaml_versions_see_the_same(value: Any, text: str) -> None:
    assert value_text(value) == text
