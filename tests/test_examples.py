"""The examples: what they say they are, and alike where they should be."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from hotlap.cli.demo import DEMO_CONFIG
from hotlap.config.load import load_config
from hotlap.config.schema import RunConfig
from hotlap.config.sweep import load_sweep
from hotlap.runs.views import flatten
from hotlap.study.settings import StudySettings

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "string_repetition" / "hotlap.yaml"
SWEEP = ROOT / "examples" / "sweep"
HAND_RECIPE = ROOT / "benchmarks" / "hand_recipe.yaml"
TARGETS = ("eval_loss < 0.76", "eval_byte_accuracy > 0.75", "eval_sacrebleu > 0.3")

RECIPE = {
    "name": "string-repetition",
    "task.name": "string_repetition",
    "task.max_length_bytes": 48,
    "task.text": None,
    "model.name": "gpt",
    "model.hidden_size": 128,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 4,
    "model.intermediate_size": None,
    "model.positions": "learned",
    "model.norm": "layer_norm",
    "model.hidden_act": "gelu_new",
    "model.tie_word_embeddings": True,
    "model.use_bias": True,
    "model.qk_norm": False,
    "model.zero_init_projections": False,
    "model.smear": False,
    "model.initializer_range": 0.02,
    "model.embd_pdrop": 0.1,
    "model.attn_pdrop": 0.1,
    "model.resid_pdrop": 0.1,
    "training.optim": "adamw_torch",
    "training.learning_rate": 6e-4,
    "training.adam_beta1": 0.9,
    "training.adam_beta2": 0.999,
    "training.weight_decay": 0.001,
    "training.max_grad_norm": 1.0,
    "training.lr_scheduler_type": "linear",
    "training.warmup_ratio": 0.05,
    "training.warmup_steps": 0,
    "training.max_steps": 5000,
    "training.per_device_train_batch_size": 32,
    "training.gradient_accumulation_steps": 1,
    "training.padding": "longest",
    "training.bf16": False,
    "clock": "train",
    "budget.run": 15 * 60.0,
    "budget.total": 60 * 60.0,
    "calibrate.runs": 3,
}
"""What people start from: GPT-2's shape with the Trainer's habits."""


def resolved(path: Path) -> dict[str, Any]:
    return flatten(load_config(path).model_dump())


def test_the_example_is_the_recipe_that_people_start_from() -> None:
    values = resolved(EXAMPLE)
    assert {key: values[key] for key in RECIPE} == RECIPE
    assert values["targets"] == TARGETS
    assert load_config(EXAMPLE).training.num_warmup_steps == 250


def test_the_demo_is_the_example_with_shorter_sentences_and_less_time() -> None:
    demo, example = resolved(DEMO_CONFIG), resolved(EXAMPLE)
    assert DEMO_CONFIG.is_file()
    assert demo.keys() == example.keys()
    differing = {key for key in demo if demo[key] != example[key]}
    allowed = {"name", "task.max_length_bytes", "budget.run", "budget.total", "calibrate.runs"}
    assert differing <= allowed
    assert demo["name"] != example["name"]
    assert demo["task.max_length_bytes"] < example["task.max_length_bytes"]
    assert demo["budget.total"] < example["budget.total"]


def test_the_hand_recipe_runs_for_the_same_task_and_targets() -> None:
    hand, example = load_config(HAND_RECIPE), load_config(EXAMPLE)
    assert hand.task == example.task
    assert hand.targets == example.targets
    assert (hand.clock, hand.budget.run) == (example.clock, example.budget.run)
    assert hand.training.optim == "muon" and not hand.model.embd_pdrop


@pytest.mark.parametrize("path", [EXAMPLE, DEMO_CONFIG, HAND_RECIPE], ids=lambda path: path.stem)
def test_every_example_can_be_studied(path: Path) -> None:
    """Its targets and its plan for a record are such that a study would begin."""
    config = load_config(path)
    assert isinstance(config, RunConfig)
    assert StudySettings.from_config(config).run_seconds <= config.budget.total


def test_the_pasted_sweep_loads_with_the_settings_of_its_command() -> None:
    command = re.search(r"^hotlap sweep sweep.yaml (.*)$", (SWEEP / "README.md").read_text(), flags=re.MULTILINE)
    assert command is not None
    words = shlex.split(command[1])
    assert set(words[::2]) == {"-s"}
    space, notices = load_sweep(SWEEP / "sweep.yaml", words[1::2])
    assert space.base is not None
    assert (space.name, space.method, space.metric, space.goal) == ("sweep", "tpe", "eval_loss", "minimize")
    assert (len(space.parameters), space.run_cap, space.base.budget.run) == (8, 25, 60.0)
    assert any("adamw_apex_fused needs apex" in notice for notice in notices)
