"""Loading a sweep: wandb's files as they are, the section `search`, names, values, conditions and every problem."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hotlap.config.load import load_config
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.config.sweep import SweepConfig, SweepParameter, load_sweep
from hotlap.core.errors import ConfigError

PASTED = """\
method: bayes
metric:
  name: final_eval_loss
  goal: minimize
parameters:
  learning_rate:
    distribution: log_uniform_values
    min: 1e-5
    max: 1e-3
  warmup_steps:
    values: [50, 200, 500, 1000]
  lr_scheduler_type:
    values: [linear, constant_with_warmup, cosine, cosine_with_restarts]
  per_device_train_batch_size:
    values: [4, 8, 16]
  gradient_accumulation_steps:
    values: [1, 2, 4]
  torch_compile:
    values: [true, false]
  optim:
    values: [adamw_torch, adamw_apex_fused, adafactor]
  bf16:
    values: [true, false]
"""
OWN = """\
name: mine
model: {hidden_size: 64}
training: {max_steps: 500}
targets: [eval_loss < 0.9]
search:
  method: random
  metric: {name: eval_byte_accuracy, goal: maximize, target: 0.9}
  run_cap: 12
  constraints:
    - warmup_steps < max_steps
    - per_device_train_batch_size * gradient_accumulation_steps <= 64
  muon_learning_rate: {min: 0.005, max: 0.05, when: {optim: muon}}
  training.optim: {values: [adamw_torch_fused, muon]}
  training.warmup_steps: {values: [0, 50, 600]}
  per_device_train_batch_size: {values: [8, 32]}
  training.gradient_accumulation_steps: {min: 1, max: 4}
"""


def load(folder: Path, text: str, *overrides: str, name: str = "sweep.yaml") -> tuple[SweepConfig, list[str]]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    space, notices = load_sweep(path, overrides)
    return space, [notice.replace(str(path), "FILE") for notice in notices]


def problems(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return str(caught.value).replace(str(folder / "sweep.yaml"), "FILE").splitlines()


def with_parameters(*lines: str, head: str = "method: random\n") -> str:
    return f"{head}parameters:\n" + "".join(f"  {line}\n" for line in lines)


def by_key(space: SweepConfig) -> dict[str, SweepParameter]:
    return {parameter.key: parameter for parameter in space.parameters}


def test_a_pasted_sweep_file_is_read_as_it_is(tmp_path: Path) -> None:
    space, notices = load(tmp_path, PASTED, "model.hidden_size=64", "budget.run=60s")
    assert (space.name, space.method, space.metric, space.goal) == ("sweep", "tpe", "eval_loss", "minimize")
    found = by_key(space)
    assert list(found) == [
        "training.learning_rate",
        "training.warmup_steps",
        "training.lr_scheduler_type",
        "training.per_device_train_batch_size",
        "training.gradient_accumulation_steps",
        "training.torch_compile",
        "training.optim",
        "training.bf16",
    ]
    rate = found["training.learning_rate"]
    assert (rate.distribution, rate.low, rate.high) == ("log_uniform_values", 1e-5, 1e-3)
    assert found["training.optim"].values == ("adamw_torch", "adamw_torch_fused", "adafactor")
    assert found["training.torch_compile"].values == (True, False)
    assert space.base is not None
    assert isinstance(space.base.model, GPTConfig)
    assert (space.base.model.hidden_size, space.base.budget.run, space.base.name) == (64, 60, "sweep")
    assert notices == [
        "FILE:1: method: bayes is TPE here (tree-structured Parzen estimators)",
        "FILE:20: parameters.optim: adamw_apex_fused needs apex, which is not used here: taken as adamw_torch_fused",
        "FILE:2: metric: final_eval_loss is called eval_loss here",
    ]


@pytest.mark.parametrize("indent", [2, "\t", None])
def test_json_is_read_as_yaml_is(tmp_path: Path, indent: int | str | None) -> None:
    values = YAML(typ="safe").load(PASTED)
    from_json, _ = load(tmp_path, json.dumps(values, indent=indent), name="sweep.json")
    assert from_json == load(tmp_path, PASTED)[0]


def test_a_section_of_a_config_is_read(tmp_path: Path) -> None:
    space, notices = load(tmp_path, OWN)
    assert (space.name, space.method, space.run_cap) == ("mine", "random", 12)
    assert (space.metric, space.goal, space.target) == ("eval_byte_accuracy", "maximize", 0.9)
    assert space.constraints == (
        "training.warmup_steps < training.max_steps",
        "training.per_device_train_batch_size * training.gradient_accumulation_steps <= 64",
    )
    keys = [parameter.key for parameter in space.parameters]
    assert keys.index("training.optim") < keys.index("training.muon_learning_rate")
    found = by_key(space)
    assert found["training.muon_learning_rate"].when == {"training.optim": ("muon",)}
    assert found["training.gradient_accumulation_steps"].distribution == "int_uniform"
    assert space.base == load_config(tmp_path / "sweep.yaml")
    assert notices == []


def test_a_config_with_a_search_is_a_config_for_other_commands(tmp_path: Path) -> None:
    path = tmp_path / "hotlap.yaml"
    path.write_text(OWN, encoding="utf-8")
    before, _, _ = OWN.partition("search:")
    bare = tmp_path / "bare.yaml"
    bare.write_text(before, encoding="utf-8")
    assert load_config(path) == load_config(bare)


def test_a_sweep_file_may_stand_in_a_config(tmp_path: Path) -> None:
    inside = "training: {max_steps: 300}\nsearch:\n" + "".join(f"  {line}\n" for line in PASTED.splitlines())
    space, _ = load(tmp_path, inside)
    assert space.parameters == load(tmp_path, PASTED)[0].parameters
    assert space.base is not None
    assert space.base.training.max_steps == 300


def test_a_flat_trainer_yaml_may_have_a_search(tmp_path: Path) -> None:
    space, _ = load(tmp_path, "max_steps: 40\nlearning_rate: 1e-3\nsearch: {bf16: {values: [true, false]}}\n")
    assert space.base is not None
    assert (space.base.training.max_steps, space.base.training.save_steps) == (40, 500)


def test_without_a_metric_it_is_the_time_to_the_targets_or_the_loss(tmp_path: Path) -> None:
    search = "search: {bf16: {values: [true, false]}}\n"
    assert load(tmp_path, search)[0].metric == "eval_loss"
    space, notices = load(tmp_path, f"targets: [eval_loss < 1]\n{search}")
    assert (space.metric, space.goal, space.method) == ("time_to_target", "minimize", "tpe")
    assert notices == ["FILE:2: search.metric: not given: time_to_target"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("eval_loss", "eval_loss"),
        ("eval/loss", "eval_loss"),
        ("final_eval_loss", "eval_loss"),
        ("val_loss", "eval_loss"),
        ("validation/loss", "eval_loss"),
        ("loss", "eval_loss"),
        ("train/loss", "train_loss"),
        ("perplexity", "perplexity"),
    ],
)
def test_a_metric_is_matched_to_the_one_of_hotlap(tmp_path: Path, written: str, meant: str) -> None:
    text = with_parameters("bf16: {values: [true, false]}", head=f"metric: {{name: {written}}}\n")
    space, notices = load(tmp_path, text)
    assert space.metric == meant
    assert notices == ([] if written == meant else [f"FILE:1: metric: {written} is called {meant} here"])


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("metric: {name: acuracy, goal: maximize}", "unknown metric 'acuracy'. Did you mean 'eval_"),
        ("metric: {name: eval_chrf}", "say whether to minimize or maximize eval_chrf"),
        ("metric: {name: eval_loss, goal: min}", "expected minimize or maximize, got 'min'"),
        ("metric: {name: eval_loss, target: low}", "expected a number, got 'low'"),
        ("metric: {goal: minimize}", "expected a name and a goal"),
        ("metric: {name: eval_loss, gaol: minimize}", "unknown key; known here: name, goal, target"),
        ("metric: time_to_target", "time_to_target needs targets in the config"),
        ("metric: bits_per_byte", "bits_per_byte is measured on running text"),
        ("method: custom", "custom is not supported: it names a search that wandb's server runs"),
        ("method: gp", "gp is not supported: a Gaussian process needs torch"),
        ("method: baies", "unknown method 'baies'. Did you mean 'bayes'?"),
        ("method: [bayes]", "unknown method"),
        ("method: cmaes", "cmaes needs at least 2 numbers that are always there, got 0"),
        ("run_cap: 0", "expected a whole number of runs, got 0"),
        ("run_cap: many", "expected a whole number of runs, got 'many'"),
        ("early_terminate: {type: envelope}", "expected type: hyperband"),
        ("early_terminate: {eta: 1}", "expected eta above 1"),
        ("early_terminate: {s: 0}", "1 to 20 rungs s"),
        ("early_terminate: {shares: [0.5, 0.1]}", "shares ascend between 0 and 1"),
        ("early_terminate: {shares: 3}", "expected shares of a run's budget"),
        ("early_terminate: {min_itr: 3}", "unknown key; known here: type"),
        ("constraints: warmup_steps < 3", "expected a list"),
        ("constraints: [warmup_steps + 3]", "cannot read the constraint 'warmup_steps + 3'"),
        ("constraints: [warm_up_steps < 3]", "did you mean 'training.warmup_steps'?"),
        ("constraints: [total_batch_size < 3]", "neither a parameter of the search nor a number, but None"),
        ("metod: bayes", "unknown key 'metod'. Did you mean 'method'?"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_with_its_place(tmp_path: Path, head: str, message: str) -> None:
    rows = problems(tmp_path, with_parameters("bf16: {values: [true, false]}", head=f"{head}\n"))
    assert rows[0] == "FILE has 1 problem(s):"
    assert rows[1].startswith(f"  FILE:1: {head.split(':')[0]}")
    assert message in rows[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learning_rat: {values: [1e-3, 1e-4]}", "unknown name; did you mean 'training.learning_rate'?"),
        ("model.hiden_size: {values: [64, 128]}", "unknown name; did you mean 'model.hidden_size'?"),
        ("lr: {values: [1e-3, 1e-4]}", "unknown name; did you mean 'training.learning_rate'?"),
        ("zzz: {values: [1, 2]}", "unknown name; no setting is like it"),
        ("optim: {values: [adamw_torch, lion]}", "unknown optimizer 'lion'"),
        ("learning_rate: {values: [1e-3, 0]}", "Input should be greater than 0"),
        ("adam_beta2: {min: 0.9, max: 1.5}", "Input should be less than 1"),
        ("num_hidden_layers: {min: 1.0, max: 4.0}", "for whole numbers write int_uniform"),
        ("bf16: {values: [perhaps, true]}", "Input should be a valid boolean"),
        ("seed: {values: [1, 2]}", "training.seed: it belongs to the protocol"),
        ("seed: {min: 1, max: 5}", "training.seed: it belongs to the protocol"),
        ("max_eval_samples: {values: [8, 16]}", "task.max_eval_samples: it belongs to the protocol"),
        ("fp16: {values: [true, false]}", "not supported: use bf16"),
        ("report_to: {values: [none, wandb]}", "training.report_to: it belongs to the protocol"),
        ("no_cuda: {values: [true, false]}", "some of its values ask for nothing; vary use_cpu itself"),
        (
            "num_train_epochs: {values: [1, 2]}",
            "no effect while training.max_steps is 1000; write -s training.max_steps=-1",
        ),
        ("bf16: {values: [true, false], when: {optm: muon}}", "did you mean 'training.optim'?"),
        ("bf16: {values: [true, false], when: {optim: muon}}", "training.optim is no parameter of this search"),
        ("bf16: {values: [true, false], when: {bf16: true}}", "depends on itself"),
        ("bf16: {values: [true, false], when: true}", "when holds other parameters and their values"),
        ("learning_rate: 1e-3", "expected value, values, or min and max, got 0.001"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_told_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    head, *rows = problems(tmp_path, with_parameters(line))
    assert head == "FILE has 1 problem(s):"
    assert rows[0].startswith(f"  FILE:3: parameters.{line.split(':')[0]}")
    assert message in rows[0]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = with_parameters("learning_rat: {values: [1]}", "optim: {values: [lion]}", head="method: gp\nrun_cap: -1\n")
    head, *rows = problems(tmp_path, text)
    assert head == "FILE has 4 problem(s):"
    assert sorted(row.split(": ")[0].strip() for row in rows) == ["FILE:1", "FILE:2", "FILE:4", "FILE:5"]


def test_two_names_of_one_setting_are_refused(tmp_path: Path) -> None:
    lines = ("learning_rate: {values: [1e-3, 2e-3]}", "training.learning_rate: {min: 1e-4, max: 1e-3}")
    rows = problems(tmp_path, with_parameters(*lines))
    assert rows[1:] == [
        "  FILE:4: parameters.training.learning_rate: training.learning_rate is there twice; leave one of them out"
    ]


def test_a_constant_of_the_measurement_goes_into_the_config(tmp_path: Path) -> None:
    lines = (
        "seed: {value: 7}",
        "max_eval_samples: {value: 16}",
        "weight_decay: {value: 0.1}",
        "output_dir: {value: out}",
        "report_to: {value: none}",
        "bf16: {values: ['true', 'false']}",
    )
    space, notices = load(tmp_path, with_parameters(*lines, head="metric: eval_loss\n"))
    assert space.base is not None
    assert (space.base.training.seed, space.base.task.model_dump()["max_eval_samples"]) == (7, 16)
    found = by_key(space)
    assert list(found) == ["training.bf16"]
    assert space.base.training.weight_decay == 0.1, "else the baseline would not have it"
    assert found["training.bf16"].values == (True, False)
    assert notices == [
        "FILE:3: parameters.seed: training.seed is 7 for every run",
        "FILE:4: parameters.max_eval_samples: task.max_eval_samples is 16 for every run",
        "FILE:6: parameters.output_dir: no effect here: each run has a folder of its own under .hotlap/runs",
        "FILE:7: parameters.report_to: training.report_to is 'none' for every run",
        "FILE:5: parameters.weight_decay: training.weight_decay is 0.1 for every run",
    ]


def test_constants_that_only_go_together_are_the_configs_and_others_stay_parameters(tmp_path: Path) -> None:
    together = ("hidden_size: {value: 96}", "num_attention_heads: {value: 3}", "bf16: {values: [true, false]}")
    space, _ = load(tmp_path, with_parameters(*together))
    assert list(by_key(space)) == ["training.bf16"] and space.base is not None
    assert (space.base.model_dump()["model"]["hidden_size"], space.refusal({})) == (96, "")
    apart = ("hidden_size: {values: [96, 192]}", "num_attention_heads: {value: 3}", "optim: {value: muon}")
    space, notices = load(tmp_path, with_parameters(*apart))
    assert set(by_key(space)) == {"model.hidden_size", "model.num_attention_heads"}
    assert space.base is not None and space.base.training.optim == "muon"
    assert any("3 does not go with the rest of the config" in notice for notice in notices)


def test_a_condition_on_a_constant_always_holds_or_never(tmp_path: Path) -> None:
    lines = ("optim: {value: muon}", "muon_learning_rate: {min: 0.005, max: 0.05, when: {optim: [muon, sgd]}}")
    assert by_key(load(tmp_path, with_parameters(*lines))[0])["training.muon_learning_rate"].when == {}
    never = ("optim: {value: adafactor}", "muon_learning_rate: {min: 0.005, max: 0.05, when: {optim: muon}}")
    assert (
        "training.optim is never 'muon'; its values are ['adafactor']" in problems(tmp_path, with_parameters(*never))[1]
    )


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("{value: 500}", "has no effect while training.max_steps is 500"),
        ("{values: [500, 900]}", "has no effect, since training.max_steps is never -1"),
        ("{min: 500, max: 900}", "has no effect, since training.max_steps is never -1"),
        ("{values: [-1, 900]}", ""),
        ("{value: -1}", ""),
    ],
)
def test_epochs_beside_steps_have_no_effect(tmp_path: Path, steps: str, message: str) -> None:
    text = with_parameters(f"max_steps: {steps}", "num_train_epochs: {value: 3}", "bf16: {values: [true, false]}")
    if message:
        assert message in problems(tmp_path, text)[1]
    else:
        load(tmp_path, text)


@pytest.mark.parametrize("metric", ["recent_train_loss", "eval_sacrebleu"])
def test_nothing_is_stopped_early_by_what_is_told_at_the_end(tmp_path: Path, metric: str) -> None:
    head = f"metric: {{name: {metric}, goal: maximize}}\nearly_terminate: {{type: hyperband}}\n"
    space, notices = load(tmp_path, with_parameters("bf16: {values: [true, false]}", head=head))
    assert space.early_terminate is None
    assert any(f"early_terminate: no effect: runs tell {metric} at their end alone" in notice for notice in notices)


@pytest.mark.parametrize(
    ("wrong", "message"), [("strict: 'yes'", "expected true or false, got 'yes'"), ("min_iter: abc", "got 'abc'")]
)
def test_wrong_early_termination_is_told(tmp_path: Path, wrong: str, message: str) -> None:
    head = f"metric: eval_loss\nearly_terminate: {{type: hyperband, {wrong}}}\n"
    rows = problems(tmp_path, with_parameters("bf16: {values: [true, false]}", head=head))
    assert f"early_terminate.{wrong.partition(':')[0]}: " in rows[1] and message in rows[1]


def test_names_of_the_trainer_that_have_another_name_here_are_renamed(tmp_path: Path) -> None:
    lines = ("per_gpu_train_batch_size: {values: [4, 8]}", "training.optim: {values: [adamw_apex_fused]}")
    space, _ = load(tmp_path, with_parameters(*lines))
    found = by_key(space)
    assert found["training.per_device_train_batch_size"].values == (4, 8)
    assert found["training.optim"].values == ("adamw_torch_fused",)


def test_values_that_become_the_same_count_once(tmp_path: Path) -> None:
    line = "optim: {values: [adamw_apex_fused, adamw_torch_fused, muon], probabilities: [0.25, 0.25, 0.5]}"
    optim = load(tmp_path, with_parameters(line))[0].parameters[0]
    assert (optim.values, optim.probabilities) == (("adamw_torch_fused", "muon"), (0.5, 0.5))


def test_nested_parameters_are_dotted_keys(tmp_path: Path) -> None:
    text = with_parameters(
        "training:",
        "  parameters:",
        "    learning_rate: {values: [1e-3, 2e-3]}",
        "    lr_scheduler_type: {value: cosine}",
        "    lr_scheduler_kwargs: {parameters: {num_cycles: {values: [0.5, 1.5]}}}",
    )
    space, _ = load(tmp_path, text)
    assert list(by_key(space)) == ["training.learning_rate", "training.lr_scheduler_kwargs.num_cycles"]
    assert space.base is not None and space.base.training.lr_scheduler_type == "cosine"
    assert space.refusal({"training.lr_scheduler_type": "cosine", "training.lr_scheduler_kwargs.num_cycles": 1.5}) == ""


def test_values_that_only_fit_together_are_kept_with_a_notice(tmp_path: Path) -> None:
    lines = ("hidden_size: {values: [96, 128]}", "num_attention_heads: {values: [3, 4]}")
    space, notices = load(tmp_path, with_parameters(*lines, head="metric: eval_loss\n"))
    assert len(notices) == 1
    assert notices[0].startswith("FILE:4: parameters.num_attention_heads: 3 does not go with the rest of the config")
    assert space.refusal({"model.hidden_size": 96, "model.num_attention_heads": 3}) == ""
    assert "3 does not divide" in space.refusal({"model.hidden_size": 128, "model.num_attention_heads": 3})


def test_a_condition_has_the_values_of_the_config(tmp_path: Path) -> None:
    lines = (
        "optim: {values: [adamw_apex_fused, muon]}",
        "adam_beta2: {values: [0.95, 0.99], when: {optim: [adamw_apex_fused]}}",
        "torch_compile: {values: ['true', 'false']}",
        "torch_compile_mode: {value: default, when: {torch_compile: 'true'}}",
    )
    found = by_key(load(tmp_path, with_parameters(*lines))[0])
    assert found["training.adam_beta2"].when == {"training.optim": ("adamw_torch_fused",)}
    assert found["training.torch_compile_mode"].when == {"training.torch_compile": (True,)}


def test_a_condition_that_never_holds_is_told(tmp_path: Path) -> None:
    lines = ("optim: {values: [adamw_torch, muon]}", "bf16: {values: [true, false], when: {optim: sgd}}")
    rows = problems(tmp_path, with_parameters(*lines))
    assert rows[1:] == [
        "  FILE:4: parameters.bf16.when.optim: training.optim is never 'sgd'; its values are ['adamw_torch', 'muon']"
    ]


def test_hyperband_is_on_the_clock(tmp_path: Path) -> None:
    parameter = "bf16: {values: [true, false]}"
    head = "metric: eval_loss\nearly_terminate: {type: hyperband, min_iter: 3}\n"
    space, notices = load(tmp_path, with_parameters(parameter, head=head))
    assert space.early_terminate is not None
    assert space.early_terminate.eta == 3
    assert space.early_terminate.shares == pytest.approx((1 / 9, 1 / 3))
    assert not space.early_terminate.is_strict
    assert notices == [
        "FILE:2: early_terminate.min_iter: counts logged values; "
        "here runs are compared after 0.111, 0.333 of their budget"
    ]
    head = "metric: eval_loss\nearly_terminate: {type: hyperband, max_iter: 27, s: 3, eta: 2, strict: true}\n"
    found = load(tmp_path, with_parameters(parameter, head=head))[0].early_terminate
    assert found is not None
    assert (found.eta, found.shares, found.is_strict) == (2, (0.125, 0.25, 0.5), True)


def test_settings_of_wandbs_server_have_no_effect(tmp_path: Path) -> None:
    head = "metric: eval_loss\nproject: p\nentity: e\nname: My sweep!\ndescription: d\n"
    space, notices = load(tmp_path, with_parameters("bf16: {values: [true, false]}", head=head))
    assert (space.name, space.description) == ("My-sweep", "d")
    assert notices == [
        "FILE:2: project: no effect here: only wandb's server reads it",
        "FILE:3: entity: no effect here: only wandb's server reads it",
    ]


def test_a_goal_against_the_metric_is_told(tmp_path: Path) -> None:
    head = "metric: {name: eval_loss, goal: maximize}\n"
    space, notices = load(tmp_path, with_parameters("bf16: {values: [true, false]}", head=head))
    assert space.goal == "maximize"
    assert notices == ["FILE:1: metric.goal: maximize, although less eval_loss is better"]


def test_a_sweep_of_a_command_keeps_its_names_and_words(tmp_path: Path) -> None:
    text = """\
program: train.py
method: random
metric: {name: val/acc, goal: maximize}
command: ["${env}", "${interpreter}", "${program}", "--fast", "${args_no_hyphens}", "${envvar:HOME}"]
parameters:
  lr: {min: 0.001, max: 0.1}
  opt: {parameters: {kind: {values: [adam, sgd]}}}
  momentum: {values: [0.8, 0.9], when: {opt.kind: sgd}}
"""
    space, notices = load(tmp_path, text)
    assert (space.base, space.program, space.metric, space.goal) == (None, "train.py", "val/acc", "maximize")
    assert space.command == (
        "${env}",
        "${interpreter}",
        "${program}",
        "--fast",
        "${args_no_hyphens}",
        "${envvar:HOME}",
    )
    assert list(by_key(space)) == ["lr", "opt.kind", "momentum"]
    assert by_key(space)["momentum"].when == {"opt.kind": ("sgd",)}
    assert space.refusal({"lr": "anything"}) == ""
    assert notices == []


def test_a_program_alone_is_started_as_wandb_starts_it(tmp_path: Path) -> None:
    head = "program: train.py\nmethod: grid\nmetric: {name: acc}\n"
    space, _ = load(tmp_path, with_parameters("lr: {values: [1, 2]}", head=head))
    assert space.command == ("${env}", "${interpreter}", "${program}", "${args}")
    assert space.goal == "minimize"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("command: [python, '${progam}']\nmetric: {name: acc}", "unknown macro 'progam'. Did you mean 'program'?"),
        ("command: [python, '${program}']\nmetric: {name: acc}", "${program} needs the key program"),
        ("command: python train.py\nmetric: {name: acc}", "expected a list of words"),
        ("program: 3\nmetric: {name: acc}", "expected the path of a script"),
        ("program: train.py", "a sweep of a command needs one"),
    ],
)
def test_a_command_that_cannot_be_used_is_told(tmp_path: Path, head: str, message: str) -> None:
    rows = problems(tmp_path, with_parameters("lr: {values: [1, 2]}", head=f"{head}\n"))
    assert message in rows[1]


def test_a_command_has_no_config_to_override(tmp_path: Path) -> None:
    text = with_parameters("lr: {values: [1, 2]}", head="program: a.py\nmetric: {name: acc}\n")
    assert (
        "a program of its own, which has no config of hotlap's; remove program and command"
        in problems(tmp_path, text, "training.max_steps=3")[0]
    )


def test_settings_of_the_sweep_may_be_set_from_outside(tmp_path: Path) -> None:
    for text in (PASTED, OWN):
        space, _ = load(tmp_path, text, "search.run_cap=3", "search.method=random", "training.max_steps=77")
        assert (space.run_cap, space.method) == (3, "random")
        assert space.base is not None
        assert space.base.training.max_steps == 77
    assert problems(tmp_path, PASTED, "search.run_cap=none")[1].startswith("  the command line: run_cap: ")
    assert problems(tmp_path, OWN, "search.run_cap=none")[1].startswith("  the command line: search.run_cap: ")


@pytest.mark.parametrize("override", ["search.parameters=3", "search.bf16=true", "search.name=x", "search.program=x"])
def test_other_overrides_of_the_search_are_refused(tmp_path: Path, override: str) -> None:
    assert "of a sweep only these can be set: method, metric" in problems(tmp_path, PASTED, override)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", "nothing to vary; add a section such as"),
        ("", "nothing to vary"),
        ("search:\n", "FILE:1: search: expected parameters to vary, got None"),
        ("search: [1]\n", "expected parameters to vary"),
        ("parameters: 3\n", "expected a mapping of parameters, got 3"),
        ("parameters: {}\n", "there is nothing to vary"),
        ("search: {run_cap: 3}\n", "there is nothing to vary"),
        ("search: {program: a.py, bf16: {values: [true, false]}}\n", "belongs to a sweep file of wandb's"),
        ("search: {metod: bayes, bf16: {values: [true, false]}}\n", "did you mean 'method'?"),
        ("training: {max_step: 3}\nsearch: {bf16: {values: [true, false]}}\n", "did you mean 'max_steps'?"),
    ],
)
def test_what_is_no_sweep_is_told(tmp_path: Path, text: str, message: str) -> None:
    assert message in "\n".join(problems(tmp_path, text))


@pytest.mark.parametrize(
    ("method", "line", "message"),
    [
        ("grid", "learning_rate: {min: 0.1, max: 0.2}", "a grid cannot go through uniform"),
        ("grid", "bf16: {values: [true, false], probabilities: [0.5, 0.5]}", "leave probabilities out"),
        ("cmaes", "learning_rate: {min: 0.1, max: 0.2}", "cmaes needs at least 2 numbers"),
    ],
)
def test_what_a_method_makes_nothing_of_is_refused(tmp_path: Path, method: str, line: str, message: str) -> None:
    assert message in problems(tmp_path, with_parameters(line, head=f"method: {method}\n"))[1]


def test_probabilities_are_told_to_count_for_random_draws_alone(tmp_path: Path) -> None:
    line = "bf16: {values: [true, false], probabilities: [0.9, 0.1]}"
    _, notices = load(tmp_path, with_parameters(line, head="method: tpe\nmetric: eval_loss\n"))
    assert len(notices) == 1
    assert "probabilities count where a proposal is drawn at random" in notices[0]
    assert load(tmp_path, with_parameters(line, head="method: random\nmetric: eval_loss\n"))[1] == []


def test_a_point_that_breaks_a_constraint_is_refused(tmp_path: Path) -> None:
    space, _ = load(tmp_path, OWN)
    assert space.refusal({"training.warmup_steps": 50}) == ""
    assert space.refusal({"training.warmup_steps": 600}) == "training.warmup_steps < training.max_steps does not hold"
    batch: dict[str, Any] = {"training.per_device_train_batch_size": 32, "training.gradient_accumulation_steps": 3}
    assert space.refusal(batch).endswith("<= 64 does not hold")


def test_the_base_of_a_sweep_file_is_the_default_config(tmp_path: Path) -> None:
    space, _ = load(tmp_path, PASTED)
    assert space.base == RunConfig(name="sweep")
