"""Loading a config: where problems stand, overrides, round trips, hashes and the keys of the protocol."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hotlap.config.load import (
    config_diff,
    config_from_values,
    config_hash,
    config_text,
    get_dotted,
    load_config,
    parse_override,
    refuse_protocol_keys,
    set_dotted,
)
from hotlap.config.schema import PROTOCOL_KEYS, RunConfig
from hotlap.core.errors import ConfigError, unknown_name
from hotlap.core.targets import CHEAP_METRICS, GENERATION_METRICS

OPTIMIZERS = ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "muon"]
METRICS = [*CHEAP_METRICS, *GENERATION_METRICS]
EXAMPLE = Path(__file__).parents[2] / "examples" / "string_repetition" / "hotlap.yaml"


def load(folder: Path, text: str, *overrides: str) -> RunConfig:
    path = folder / "hotlap.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def problems(folder: Path, text: str, *overrides: str) -> list[str]:
    """Return the lines of the message, with `FILE` for the path of the config."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return str(caught.value).replace(str(folder / "hotlap.yaml"), "FILE").splitlines()


def test_the_example_is_loaded() -> None:
    config = load_config(EXAMPLE)
    assert config.training.learning_rate == 6e-4
    assert config.training.num_warmup_steps == 250
    assert (config.budget.run, config.budget.total) == (900, 3600)


def test_an_empty_file_is_the_default_config(tmp_path: Path) -> None:
    assert load(tmp_path, "") == load(tmp_path, "# nothing yet\n") == RunConfig()


def test_all_problems_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
name: a run
model:
  hidden_size: 10
  num_attention_heads: 3
training:
  learning_rat: 1e-3
  # a comment
  optim: adam
  max_steps: many
  per_device_train_batch_size: 0
targets:
  - eval_loss < 0.76
  - eval_los < 0.76
  - eval_loss
budget: {run: 15 minutes}
seed: 3
sed: 3
"""
    assert problems(tmp_path, text, "training.bf16=perhaps") == [
        "FILE has 12 problem(s):",
        "  FILE:1: name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$', got 'a run'",
        "  FILE:2: model: num_attention_heads 3 does not divide hidden_size 10",
        "  FILE:10: training.per_device_train_batch_size: Input should be greater than or equal to 1, got 0",
        "  FILE:9: training.max_steps: Input should be a valid integer, unable to parse string as an integer, "
        "got 'many'",
        f"  FILE:8: training.optim: {unknown_name('optimizer', 'adam', OPTIMIZERS)} Code of your own: "
        "module:function, got 'adam'",
        "  the command line: training.bf16: Input should be a valid boolean, unable to interpret input, got 'perhaps'",
        "  FILE:6: training.learning_rat: unknown key; did you mean 'learning_rate'?",
        f"  FILE:13: targets.1: {unknown_name('metric in a target', 'eval_los', METRICS)}, got 'eval_los < 0.76'",
        "  FILE:14: targets.2: cannot read the target 'eval_loss'; write for example 'eval_loss < 0.76', "
        "got 'eval_loss'",
        "  FILE:15: budget.run: cannot read the duration '15 minutes'; write 90s, 15m, 1h30m or 4:38, got '15 minutes'",
        "  FILE:16: seed: unknown key; did you mean 'training.seed'?",
        f"  FILE:17: sed: unknown key; known here: {', '.join(RunConfig.model_fields)}",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [a\n", "FILE:2: not valid YAML: "),
        ("a: 1\nb: 2\na: 3\n", 'FILE:3: not valid YAML: found duplicate key "a"'),
        ("a: *anchor\n", "FILE:1: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "FILE:2: not valid YAML: but found another document"),
        ("name: \x07\n", "FILE: not valid YAML: unacceptable character #x0007"),
        ("- a\n- b\n", "FILE: expected settings such as 'name: my-run', got "),
        ("just text\n", "FILE: expected settings such as 'name: my-run', got "),
    ],
)
def test_what_is_not_yaml_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert problems(tmp_path, text)[0].startswith(message)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("training:\n", "training"),
        ("training: 5\n", "training"),
        ("model: {hidden_size: [1]}\n", "model.hidden_size"),
        ("model: {hidden_size: }\n", "model.hidden_size"),
        ("targets: eval_loss < 0.76\n", "targets"),
        ("targets: [3]\n", "targets.0"),
        ("budget: {run: }\n", "budget.run"),
        ("budget: {total: true}\n", "budget.total"),
        ("name: 2026-01-01\n", "name"),
        ("training: {lr_scheduler_kwargs: 3}\n", "training.lr_scheduler_kwargs"),
        ("1: 2\n", "1"),
    ],
)
def test_a_value_of_a_wrong_type_is_a_problem_of_its_key(tmp_path: Path, text: str, key: str) -> None:
    first, *rows = problems(tmp_path, text)
    assert first == "FILE has 1 problem(s):"
    assert len(rows) == 1
    assert rows[0].startswith(f"  FILE:1: {key}: ")


def test_a_config_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config; run `hotlap demo`"):
        load_config(tmp_path / "hotlap.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "bytes").write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "bytes")


def test_a_glob_of_texts_starts_from_the_folder_of_the_config(tmp_path: Path) -> None:
    assert load(tmp_path, "task: {text: corpus/*.txt}").task.text == str(tmp_path / "corpus" / "*.txt")
    assert load(tmp_path, "task: {text: /corpus/*.txt}").task.text == "/corpus/*.txt"
    assert load(tmp_path, "task: {text: null}").task.text is None
    assert load(tmp_path, "task: {name: language_model, text: src/*.py}").task.text == str(tmp_path / "src" / "*.py")
    assert load(tmp_path, "task: {name: 'mine:make', text: a.txt}").task.model_extra == {"text": "a.txt"}
    home = str(Path.home() / "corpus")
    assert load(tmp_path, "task: {name: language_model, text: [~/corpus]}").task.text == (home,)


def test_a_tokenizers_file_starts_from_the_folder_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    assert load(tmp_path, "tokenizer: ./own").tokenizer.path == str(tmp_path / "own")
    assert load(tmp_path, "tokenizer: gpt2").tokenizer.path == "gpt2", "it may be a name of the hub"


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.0e-4", ".0001", "0.0001", "'1e-4'"])
def test_a_small_number_may_be_written_in_any_form(tmp_path: Path, number: str) -> None:
    assert load(tmp_path, f"training: {{learning_rate: {number}}}").training.learning_rate == 1e-4
    assert load(tmp_path, "", f"training.learning_rate={number}").training.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1e-4", ("a.b", 1e-4)),
        ("a= 3 ", ("a", 3)),
        ("a=null", ("a", None)),
        ("a=", ("a", None)),
        ("a=[x < 1, y > 2]", ("a", ["x < 1", "y > 2"])),
        ("a=x=y", ("a", "x=y")),
        (" a =true", ("a", True)),
    ],
)
def test_an_override_is_a_dotted_key_and_a_yaml_value(text: str, expected: tuple[str, Any]) -> None:
    assert parse_override(text) == expected
    assert type(parse_override(text)[1]) is type(expected[1])


@pytest.mark.parametrize("text", ["", "a", "=3", "  =3", "a=[1", "a=\x07", "a=!!python/object:os.system 1"])
def test_an_override_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        parse_override(text)


def test_overrides_win_in_their_order(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "training: {max_steps: 5}\ntargets: [eval_loss < 1]\n",
        "training.max_steps=6",
        "training.max_steps=7",
        "budget.run=90s",
        "targets=[perplexity < 2]",
    )
    assert (config.training.max_steps, config.budget.run, config.targets) == (7, 90, ("perplexity < 2",))


def test_an_override_opens_a_section_that_is_absent_or_empty(tmp_path: Path) -> None:
    assert load(tmp_path, "training:\n", "training.max_steps=7").training.max_steps == 7


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, "name: x\n", "name.first=y") == ["cannot set name.first: name is 'x', not a section"]


def test_problems_of_overrides_are_told_as_such(tmp_path: Path) -> None:
    rows = problems(tmp_path, "targets: [eval_loss < 1]\n", "targets=[loss < 1]", "training.optin=muon")[1:]
    assert [row.partition(":")[0] for row in rows] == ["  the command line"] * 2
    assert "did you mean 'optim'?" in rows[0]


def test_a_patch_that_does_not_fit_is_told_as_a_patch() -> None:
    with pytest.raises(ConfigError, match=r"^the patched config has 1 problem\(s\):\n  the patched config: model: "):
        config_from_values({}, {"model.num_attention_heads": 3})


def test_a_patch_changes_nothing_of_the_values_it_is_put_on() -> None:
    values = {"training": {"max_steps": 5}}
    assert config_from_values(values, {"training.max_steps": 6}).training.max_steps == 6
    assert values == {"training": {"max_steps": 5}}


@pytest.mark.parametrize("key", [*PROTOCOL_KEYS, "task.max_length_bytes", "targets.0", "budget.run", "training"])
def test_the_protocol_is_out_of_reach_of_a_proposal(key: str) -> None:
    with pytest.raises(ConfigError, match=f"may not change {key}: it belongs to the protocol"):
        refuse_protocol_keys({"training.max_steps": 5, key: 1})


def test_everything_else_may_be_changed_by_a_proposal() -> None:
    free = [key for key in leaf_keys(RunConfig().model_dump()) if not is_protocol(key)]
    assert "training.learning_rate" in free
    refuse_protocol_keys(dict.fromkeys([*free, "tasks", "training.seeds"]))


def is_protocol(key: str) -> bool:
    return any(key == protected or key.startswith(f"{protected}.") for protected in PROTOCOL_KEYS)


def leaf_keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for name, value in values.items():
        is_section = isinstance(value, dict) and name not in ("lr_scheduler_kwargs", "optim_args")
        keys.extend(leaf_keys(value, f"{prefix}{name}.") if is_section else [f"{prefix}{name}"])
    return keys


TEXT = st.text(st.characters(codec="utf-8"), max_size=90)
POSITIVE = st.floats(1e-12, 1e6, exclude_min=True)
SHARE = st.floats(0, 1, exclude_max=True)
COUNT = st.integers(1, 10**6)
ARGUMENT = st.from_regex(r"[a-z_]{1,9}", fullmatch=True)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]*", fullmatch=True),
    "task.text": st.none() | TEXT.map(lambda text: f"/{text}"),
    "task.min_length_bytes": st.integers(1, 40),
    "model.num_hidden_layers": COUNT,
    "model.num_attention_heads": st.sampled_from([1, 2, 8, 32]),
    "model.intermediate_size": st.none() | COUNT,
    "model.positions": st.sampled_from(["learned", "rope"]),
    "model.hidden_act": st.sampled_from(["gelu_new", "gelu", "relu_squared", "swiglu"]),
    "model.norm": st.sampled_from(["layer_norm", "rms_norm"]),
    "model.smear": st.booleans(),
    "model.embd_pdrop": SHARE,
    "model.initializer_range": POSITIVE,
    "training.learning_rate": POSITIVE,
    "training.per_device_eval_batch_size": COUNT,
    "training.max_steps": COUNT | st.just(-1),
    "training.num_train_epochs": POSITIVE,
    "training.lr_scheduler_type": st.sampled_from(["linear", "cosine", "constant", "triangular", "mine:curve"]),
    "training.warmup_steps": st.floats(0, 1e6) | COUNT,
    "training.warmup_ratio": SHARE,
    "training.optim": st.sampled_from(["adamw_torch", "adamw_torch_fused", "sgd", "muon", "mine.rules:build"]),
    "training.optim_args": st.none() | st.just("momentum=0.9") | st.dictionaries(ARGUMENT, COUNT),
    "training.head_learning_rate": st.none() | POSITIVE,
    "training.adam_beta2": SHARE,
    "training.eval_steps": st.none() | COUNT,
    "training.logging_steps": COUNT | st.floats(0.001, 0.999),
    "training.save_every": st.none() | st.sampled_from(["90s", "15m"]),
    "training.include_num_input_tokens_seen": st.sampled_from([None, True, False, "no", "all", "non_padding"]),
    "training.padding": st.sampled_from(["max_length", "longest", "bucketed", "packed"]),
    "training.bf16": st.booleans(),
    "training.seed": st.integers(0, 2**40),
    "training.data_seed": st.none() | st.integers(0, 2**40),
    "targets": st.lists(st.sampled_from(["eval_loss < 0.76", "perplexity <= 2", "eval_chrf>8"]), max_size=3),
    "clock": st.sampled_from(["train", "wall"]),
    "budget.run": POSITIVE | st.sampled_from(["90s", "15m", "1h30m", "4:38"]),
    "record.alpha": st.floats(0.001, 0.999),
    "allow_trade": st.booleans(),
    "devices": st.integers(1, 8),
    "backend": st.sampled_from(["fast", "hf"]),
}
SCHEDULES: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.fixed_dictionaries(
    {
        "training.lr_scheduler_type": st.just("warmup_stable_decay"),
        "training.lr_scheduler_kwargs": st.fixed_dictionaries(
            {"num_decay_steps": COUNT},
            optional={"min_lr_ratio": SHARE, "decay_type": st.sampled_from(["linear", "1-sqrt"])},
        ),
    }
)
PATCHES = st.tuples(st.fixed_dictionaries({}, optional=VALUES), SCHEDULES).map(lambda pair: {**pair[0], **pair[1]})


@given(patch=PATCHES)
@example(patch={"task.text": "/\x85 \u2028\u2029x"})
@example(patch={"task.text": "/0/"})
@settings(deadline=None, max_examples=40)
def test_a_stored_config_is_loaded_as_the_same_config(
    tmp_path_factory: pytest.TempPathFactory, patch: dict[str, Any]
) -> None:
    config = config_from_values({}, patch)
    path, notices = tmp_path_factory.mktemp("config") / "config.yaml", list[str]()
    path.write_text(config_text(config), encoding="utf-8")
    loaded = load_config(path, notices=notices)
    assert notices == []
    assert loaded == config
    assert config_hash(loaded) == config_hash(config)
    assert config_diff(config, loaded) == ""


@given(patch=PATCHES)
@settings(deadline=None, max_examples=40)
def test_a_stored_config_is_plain_yaml_for_other_readers(patch: dict[str, Any]) -> None:
    config = config_from_values({}, patch)
    assert YAML(typ="safe").load(config_text(config)) == config.model_dump(mode="json")


ONE_CHANGE = st.one_of([st.tuples(st.just(key), value) for key, value in VALUES.items()])


@given(base=st.fixed_dictionaries({}, optional=VALUES), change=ONE_CHANGE)
@settings(deadline=None)
def test_the_hash_names_a_config_apart_from_its_seeds(base: dict[str, Any], change: tuple[str, Any]) -> None:
    key, value = change
    before, after = config_from_values({}, base), config_from_values({}, {**base, key: value})
    is_replicate = before == after or key in ("training.seed", "training.data_seed")
    assert (config_hash(before) == config_hash(after)) == is_replicate


def test_a_diff_shows_what_was_changed_and_nothing_else() -> None:
    parent = RunConfig()
    diff = config_diff(parent, config_from_values({}, {"training.optim": "muon", "model.smear": True}))
    changed = [line for line in diff.splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == ["-  smear: false", "+  smear: true", "-  optim: adamw_torch_fused", "+  optim: muon"]
    assert config_diff(parent, parent) == ""


def test_dotted_keys_reach_into_sections() -> None:
    values: dict[str, Any] = {"a": {"b": 1}}
    set_dotted(values, "a.c.d", 2)
    assert values == {"a": {"b": 1, "c": {"d": 2}}}
    assert get_dotted(values, "a.c.d") == 2
    with pytest.raises(KeyError):
        get_dotted(values, "a.x")
