"""A plain Trainer YAML: its settings with Hugging Face's meaning and defaults, and hotlap's sections beside them."""

from pathlib import Path
from typing import Any

import pytest

from hotlap.config.huggingface import TRAINER_DEFAULTS
from hotlap.config.load import config_text, load_config
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.core.errors import ConfigError

WELT_LIKE = """\
output_dir: ./out
overwrite_output_dir: true
per_device_train_batch_size: 32
learning_rate: 3e-4
lr_scheduler_type: cosine
warmup_ratio: 0.05
max_steps: 500
bf16: true
include_tokens_per_second: true
logging_steps: 10
eval_strategy: steps
eval_steps: 100
save_strategy: "no"
report_to: none
seed: 7
dataloader_num_workers: 4
max_eval_samples: 32
"""


def load(folder: Path, text: str, *overrides: str, notices: list[str] | None = None) -> RunConfig:
    path = folder / "trainer.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides, notices)


def problems(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return str(caught.value).replace(str(folder / "trainer.yaml"), "FILE").splitlines()


def notices_of(folder: Path, text: str, *overrides: str) -> list[str]:
    notices: list[str] = []
    load(folder, text, *overrides, notices=notices)
    return [notice.replace(str(folder / "trainer.yaml"), "FILE") for notice in notices]


def test_what_a_flat_file_leaves_out_is_as_the_trainer_has_it(tmp_path: Path) -> None:
    training = load(tmp_path, "learning_rate: 1e-3\n").training
    assert training.learning_rate == 1e-3
    for name, default in TRAINER_DEFAULTS.items():
        if name not in ("learning_rate", "lr_scheduler_kwargs", "include_num_input_tokens_seen", "report_to"):
            assert getattr(training, name) == default, name
    assert training.is_by_epochs


def test_a_file_with_sections_has_the_defaults_of_hotlap(tmp_path: Path) -> None:
    training = load(tmp_path, "training: {learning_rate: 1e-3}\n").training
    assert (training.max_steps, training.save_steps, training.eval_strategy) == (1000, None, None)


def test_a_recipe_for_the_trainer_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, WELT_LIKE)
    training = config.training
    assert (training.learning_rate, training.max_steps, training.eval_steps) == (3e-4, 500, 100)
    assert (training.save_strategy, training.seed, training.bf16) == ("no", 7, True)
    assert training.include_num_input_tokens_seen == "all"
    assert config.task.model_dump()["max_eval_samples"] == 32
    assert notices_of(tmp_path, WELT_LIKE) == [
        "FILE: read as a Trainer YAML: flat settings, with Hugging Face's defaults",
        "FILE:1: output_dir: no effect here: each run has a folder of its own under .hotlap/runs",
        "FILE:2: overwrite_output_dir: no effect here: a run never writes into the folder of another",
        "FILE:9: include_tokens_per_second: called include_num_input_tokens_seen here: all",
    ]


def test_a_stored_recipe_is_the_same_and_says_nothing(tmp_path: Path) -> None:
    config = load(tmp_path, WELT_LIKE)
    stored = tmp_path / "stored.yaml"
    stored.write_text(config_text(config), encoding="utf-8")
    notices: list[str] = []
    assert load_config(stored, notices=notices) == config
    assert notices == []


@pytest.mark.parametrize("number", ["3e-4", "3E-4", "3.0e-4", ".0003", "'3e-4'"])
def test_a_number_may_be_written_in_any_form(tmp_path: Path, number: str) -> None:
    assert load(tmp_path, f"learning_rate: {number}\n").training.learning_rate == 3e-4
    assert load(tmp_path, f"%YAML 1.1\n---\nlearning_rate: {number}\n").training.learning_rate == 3e-4
    assert load(tmp_path, "bf16: true\n", f"learning_rate={number}").training.learning_rate == 3e-4


@pytest.mark.parametrize("start", ["", "%YAML 1.1\n---\n"])
@pytest.mark.parametrize("word", ["no", "'no'"])
def test_no_is_a_strategy_in_every_yaml(tmp_path: Path, start: str, word: str) -> None:
    assert load(tmp_path, f"{start}save_strategy: {word}\n").training.save_strategy == "no"


def test_sections_and_settings_of_hotlap_may_stand_beside(tmp_path: Path) -> None:
    text = """\
num_train_epochs: 1
padding: bucketed
name: mixed
model: {hidden_size: 64}
budget: {run: 5m}
targets: [eval_loss < 0.8]
clock: wall
"""
    config = load(tmp_path, text)
    assert isinstance(config.model, GPTConfig)
    assert (config.model.hidden_size, config.budget.run, config.clock, config.name) == (64, 300, "wall", "mixed")
    assert (config.training.num_train_epochs, config.training.max_steps) == (1, -1)
    assert (config.training.padding, config.training.eval_strategy) == ("bucketed", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bf16: true\n", {"eval_strategy": "no"}),
        ("bf16: true\ndo_eval: true\n", {"eval_strategy": None}),
        ("bf16: true\ntargets: [eval_loss < 1]\n", {"eval_strategy": None}),
        ("eval_strategy: steps\n", {"eval_steps": 500}),
        ("eval_strategy: steps\nlogging_steps: 20\n", {"eval_steps": 20}),
        ("bf16: true\nschedule_by: seconds\n", {"max_steps": 1000, "schedule_by": "seconds"}),
        ("adafactor: true\n", {"optim": "adafactor"}),
        ("load_best_model_at_end: true\neval_strategy: steps\n", {"metric_for_best_model": "eval_loss"}),
    ],
)
def test_defaults_give_way_to_what_the_file_asks_for(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    training = load(tmp_path, text).training
    assert {name: getattr(training, name) for name in expected} == expected


def test_overrides_may_leave_the_section_out(tmp_path: Path) -> None:
    text = "learning_rate: 1e-3\nmax_steps: 5\n"
    training = load(tmp_path, text, "learning_rate=2e-3", "training.max_steps=6", "no_cuda=true").training
    assert (training.learning_rate, training.max_steps, training.use_cpu) == (2e-3, 6, True)
    assert load(tmp_path, text, "model.hidden_size=64").model.model_dump()["hidden_size"] == 64


def test_all_problems_are_told_at_once_under_the_names_that_were_written(tmp_path: Path) -> None:
    text = """\
learning_rate: fast
per_gpu_train_batch_size: 0
fp16: true
# a comment
report_to: wendb
optim: lion_32bit
lr_scheduler_type: greedy
corpus_folder: wikitext
learning_rat: 1
model: {hidden_sizes: 3}
"""
    assert problems(tmp_path, text, "deepspeed=zero.json", "training.seed=x") == [
        "FILE has 11 problem(s):",
        "  FILE:3: fp16: not supported: use bf16, which needs no loss scaling, got True",
        "  the command line: deepspeed: not supported: sharding comes later; a model has to fit one device, "
        "got 'zero.json'",
        "  FILE:10: model.hidden_sizes: unknown key; did you mean 'hidden_size'?",
        "  FILE:1: learning_rate: Input should be a valid number, unable to parse string as a number, got 'fast'",
        "  FILE:2: per_gpu_train_batch_size: Input should be greater than or equal to 1, got 0",
        "  FILE:7: lr_scheduler_type: greedy is not supported: it moves the rate with what the evaluations say, so "
        "runs could not be compared on a clock, got 'greedy'",
        "  FILE:6: optim: unknown optimizer 'lion_32bit'. Known: adafactor, adamw_torch, adamw_torch_fused, muon, sgd. "
        "Code of your own: module:function, got 'lion_32bit'",
        "  FILE:5: report_to: unknown tracker 'wendb'. Did you mean 'wandb'? Known: all, tensorboard, trackio, wandb. "
        "Or none, got 'wendb'",
        "  the command line: training.seed: Input should be a valid integer, unable to parse string as an integer, "
        "got 'x'",
        "  FILE:8: corpus_folder: unknown key; neither the Trainer nor hotlap has it",
        "  FILE:9: learning_rat: unknown key; did you mean 'learning_rate'?",
    ]


def test_names_of_the_trainer_are_translated_in_a_section_too(tmp_path: Path) -> None:
    text = "training:\n  no_cuda: true\n  fp16: true\n  save_safetensors: true\n"
    assert problems(tmp_path, text) == [
        "FILE has 1 problem(s):",
        "  FILE:3: training.fp16: not supported: use bf16, which needs no loss scaling, got True",
    ]
    assert notices_of(tmp_path, text, "training.fp16=false", "training.run_name=a") == [
        "FILE:2: training.no_cuda: called use_cpu here: True",
        "FILE:4: training.save_safetensors: no effect here: weights are always saved as safetensors",
        "the command line: training.run_name: no effect here: runs are numbered; the top-level key name gives them a "
        "name",
    ]


def test_a_setting_beside_a_section_is_no_flat_file(tmp_path: Path) -> None:
    rows = problems(tmp_path, "training: {bf16: true}\nlearning_rate: 1e-3\n")
    assert rows[1:] == ["  FILE:2: learning_rate: unknown key; did you mean 'training.learning_rate'?"]


@pytest.mark.parametrize("override", ["training=5", "training=[1]"])
def test_a_section_that_is_none_is_told(tmp_path: Path, override: str) -> None:
    rows = problems(tmp_path, "bf16: true\n", override)
    assert any(row.startswith("  the command line: training: ") for row in rows)
