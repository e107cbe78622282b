"""Variants from the command line: how lists are read, and what cannot be compared."""

from pathlib import Path

import pytest

from hotlap.config.ablation import MOST_VARIANTS, Ablation, load_ablation, split_values
from hotlap.core.errors import ConfigError

CONFIG = "name: toy\ntraining: {max_steps: 100}\n"
FLAT = "learning_rate: 1.0e-3\nmax_steps: 100\n"


def load(tmp_path: Path, *settings: str, text: str = CONFIG) -> Ablation:
    path = tmp_path / "hotlap.yaml"
    path.write_text(text)
    return load_ablation(path, settings)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("learned,rope", ["learned", "rope"]),
        ("1e-3, 3e-3 ,1e-2", ["1e-3", "3e-3", "1e-2"]),
        ("one", ["one"]),
        ("", [""]),
        ("a,", ["a", ""]),
        ("[a, b],[c]", ["[a, b]", "[c]"]),
        ("{name: gpt, hidden_size: 8},{name: gpt}", ["{name: gpt, hidden_size: 8}", "{name: gpt}"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ('"momentum=0.9,nesterov=true",""', ['"momentum=0.9,nesterov=true"', '""']),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        ("it's,that's", ["it's", "that's"]),
        ("['a]', b],c", ["['a]', b]", "c"]),
    ],
)
def test_values_stand_between_commas_outside_of_brackets_and_quotes(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def test_the_variants_are_every_combination_and_the_first_values_are_the_reference(tmp_path: Path) -> None:
    found = load(tmp_path, "model.positions=learned,rope", "training.learning_rate=1e-3,3e-3", "budget.run=60s")
    assert found.keys == ("model.positions", "training.learning_rate")
    told = [(v.config.model.model_dump()["positions"], v.config.training.learning_rate) for v in found.variants]
    assert told == [("learned", 1e-3), ("learned", 3e-3), ("rope", 1e-3), ("rope", 3e-3)]
    assert {variant.config.budget.run for variant in found.variants} == {60.0}
    assert found.variants[1].values == {"model.positions": "learned", "training.learning_rate": 3e-3}


def test_a_variant_means_what_the_same_setting_means_to_a_training(tmp_path: Path) -> None:
    """With num_train_epochs on the command line, max_steps is left to the epochs."""
    found = load(tmp_path, "training.num_train_epochs=1,2", text="name: toy\n")
    assert [variant.config.training.max_steps for variant in found.variants] == [-1, -1]
    flat = load(tmp_path, "learning_rate=1e-3,1e-4", text=FLAT)
    assert [variant.config.training.learning_rate for variant in flat.variants] == [1e-3, 1e-4]
    whole = load(tmp_path, "model={name: gpt, smear: true},{name: gpt, positions: rope}")
    assert [variant.config.model.model_dump()["smear"] for variant in whole.variants] == [True, False]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "there is nothing to compare: no setting has two values"),
        (("model.positions=rope",), "there is nothing to compare"),
        (("model.position=learned,rope",), "model.position: unknown key; did you mean 'positions'?"),
        (("model.positions=learned,ropes",), "model.positions: Input should be 'learned' or 'rope', got 'ropes'"),
        (("training.learning_rate=1e-3,fast",), "training.learning_rate: Input should be a valid number"),
        (("training.seed=1,2",), "training.seed belongs to the measurement"),
        (("targets=[eval_loss < 1],[eval_loss < 2]",), "targets belongs to the measurement"),
        (("task.max_eval_samples=8,16",), "task.max_eval_samples (by task) belongs to the measurement"),
        (("training={seed: 1},{seed: 2}",), "training (by training.seed) belongs to the measurement"),
        (("name=a,b",), "name belongs to the measurement"),
        (("model.smear=true,",), "has an empty value in its list"),
        (("model.smear=true,true",), "are the same config"),
        (("training.learning_rate=1e-3,0.001",), "are the same config"),
        (("model.smear=true,false", "model.smear=true"), "model.smear is set twice"),
        (("model.smear=true", "model.smear=true,false"), "model.smear is set twice"),
        (("model.positions=learned,rope", "oops"), "cannot read the setting 'oops'"),
        (("model.positions=[learned,rope",), "cannot read the value"),
        (("training.fp16=true,false",), "not supported: use bf16"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_message(
    tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, *settings)
    assert message in str(raised.value)


def test_a_key_of_the_measurement_is_found_under_any_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"seed \(by training.seed\) belongs to the measurement"):
        load(tmp_path, "seed=1,2", text=FLAT)


def test_too_many_variants_are_refused(tmp_path: Path) -> None:
    rates = ",".join(f"{number}e-4" for number in range(1, MOST_VARIANTS + 2))
    with pytest.raises(ConfigError, match="65 variants, at most 64"):
        load(tmp_path, f"training.learning_rate={rates}")
