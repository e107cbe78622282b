"""The examples: what they say they are, and alike where they should be."""

import re
import runpy
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
WELT = ROOT / "examples" / "welt_string_repetition"
WORD_HAND_RECIPE = ROOT / "benchmarks" / "word_hand_recipe.yaml"
LETTER_COUNT = ROOT / "examples" / "letter_count" / "hotlap.yaml"
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


PUBLISHED = {
    "task.name": "string_repetition",
    "task.max_eval_samples": 32,
    "model.name": "word_latent",
    "training.optim": "adamw_torch",
    "training.learning_rate": 3e-4,
    "training.lr_scheduler_type": "linear",
    "training.warmup_ratio": 0.0,
    "training.warmup_steps": 0.0,
    "training.weight_decay": 0.0,
    "training.max_grad_norm": 1.0,
    "training.per_device_train_batch_size": 32,
    "training.gradient_accumulation_steps": 1,
    "training.padding": "max_length",
    "clock": "train",
}
"""The recipe that the WeLT benchmark started from, whatever the size."""


def test_the_word_latent_recipes_are_the_published_one_at_two_sizes() -> None:
    full, small = resolved(WELT / "baseline.yaml"), resolved(WELT / "small.yaml")
    for values in (full, small):
        assert {key: values[key] for key in PUBLISHED} == PUBLISHED
        assert set(values["targets"]) == set(TARGETS)
    assert (full["model.preset"], full["model.max_word_length"], full["training.max_steps"]) == ("tiny", 16, 500)
    assert (full["training.bf16"], small["training.bf16"]) == (True, False)
    own = ("name", "task.", "model.", "training.max_steps", "training.bf16", "budget.", "calibrate.")
    assert {key for key in full if full[key] != small[key] and not key.startswith(own)} == set()
    sizes = ("preset", "max_word_length", "encoder.", "latent.", "decoder.")
    shapes = tuple(f"model.{size}" for size in sizes)
    assert {key for key in full if key.startswith("model.") and full[key] != small[key]} <= {
        key for key in full if key.startswith(shapes)
    }


def test_the_small_text_is_what_its_script_writes() -> None:
    namespace = runpy.run_path(str(WELT / "make_text.py"))
    text = (WELT / "sentences.txt").read_text(encoding="utf-8")
    assert text.splitlines() == namespace["sentences"](namespace["NUM_SENTENCES"], namespace["SEED"])
    rows = {len(line.split()) for line in text.splitlines()}
    assert rows == {6}
    assert max(len(word) + 1 for word in text.split()) <= 12 - 2, "with BOS, EOS and a space"


def test_the_word_hand_recipe_runs_for_the_same_task_and_targets() -> None:
    hand, small = load_config(WORD_HAND_RECIPE), load_config(WELT / "small.yaml")
    texts = [Path(config.task.text or "").resolve() for config in (hand, small)]
    assert texts[0] == texts[1]
    assert hand.task.model_copy(update={"text": None}) == small.task.model_copy(update={"text": None})
    assert set(hand.targets) == set(small.targets)
    assert (hand.clock, hand.budget.run) == (small.clock, small.budget.run)
    assert hand.model.name == small.model.name


def test_the_letter_count_example_asks_for_held_out_words() -> None:
    config = load_config(LETTER_COUNT)
    assert config.targets == ("eval_word_accuracy > 0.9",)
    assert (config.task.name, config.model.name) == ("letter_count", "word_latent")
    assert config.budget.run <= 600


@pytest.mark.parametrize(
    "path",
    [EXAMPLE, DEMO_CONFIG, HAND_RECIPE, WELT / "baseline.yaml", WELT / "small.yaml", WORD_HAND_RECIPE],
    ids=lambda path: path.stem,
)
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
