"""Which knobs a study may vary, and how far: the section `search` of a command's config."""

from pathlib import Path
from typing import Any

import pytest

from hotlap.config.bounds import check_search, knob_roles, knob_search
from hotlap.config.load import config_from_text, config_from_values
from hotlap.config.schema import RunConfig
from hotlap.config.sweep import load_sweep
from hotlap.core.errors import ConfigError, StudyError
from hotlap.study.study import refuse_changed_protocol

PARAMS = {"lr": 0.1, "batch": 32, "optim": "adamw_torch", "widget": 3.0, "seed": 1}


def config(search: dict[str, Any] | None = None) -> RunConfig:
    run = "train " + " ".join(f"{{{name}}}" for name in PARAMS)
    values = {"command": {"run": run}, "params": PARAMS, "targets": ["val_loss < 2"]}
    return config_from_values({**values, **({"search": search} if search else {})})


def test_without_a_section_names_say_what_may_be_varied() -> None:
    found = knob_search(config())
    assert found.parameters.keys() == {"params.lr", "params.batch", "params.optim", "params.widget"}
    assert (found.parameters["params.lr"].low, found.parameters["params.lr"].high) == (0.01, 1.0)


def test_what_is_listed_is_all_that_may_be_varied() -> None:
    found = knob_search(
        config({"lr": {"min": 0.05, "max": 0.2}, "params.batch": {"values": [16, 64]}, "method": "qmc"})
    )
    assert found.parameters.keys() == {"params.lr", "params.batch"}
    assert found.towards("params.lr", 0.1, 0.15) == 0.15
    assert found.towards("params.lr", 0.1, 5.0) == 0.2, "as far as it may go"
    assert found.towards("params.lr", 0.2, 5.0) is None, "it is there already"
    assert found.towards("params.batch", 32, 16) == 16
    assert found.towards("params.batch", 32, 8) is None
    assert found.towards("params.widget", 3.0, 4.0) is None


def test_steps_whole_numbers_and_shapes() -> None:
    found = knob_search(
        config(
            {
                "lr": {"distribution": "q_uniform", "min": 0.1, "max": 0.5, "q": 0.1},
                "batch": {"min": 8, "max": 64},
                "widget": {"distribution": "normal", "mu": 3.0, "sigma": 0.1},
            }
        )
    )
    assert found.towards("params.lr", 0.1, 0.33) == 0.3
    assert found.towards("params.batch", 32, 20.4) == 20
    assert found.towards("params.widget", 3.0, 9.0) == pytest.approx(3.205, abs=0.01)


def test_constraints_hold_for_the_values_beside_the_patch() -> None:
    found = knob_search(config({"lr": {"min": 0.05, "max": 0.5}, "constraints": ["lr * batch < 8"]}))
    assert found.allows(config(), {"params.lr": 0.2})
    assert not found.allows(config(), {"params.lr": 0.3})
    assert found.allows(config(), {"params.lr": 0.3, "params.batch": 16})


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"optimm": {"values": [1, 2]}}, r"search\.optimm: unknown name; did you mean 'params.optim'"),
        ({"learning_rate": {"min": 1, "max": 2}}, "unknown name; did you mean 'params.lr'"),
        ({"lr": {"min": 2}}, "lr: expected value, values, or min and max"),
        ({"lr": {"min": 0.1, "max": 1.0}, "params.lr": {"value": 1}}, "params.lr is there twice"),
        ({"optim": {"min": 0.1, "max": 1.0}}, "bounds are for numbers, but params.optim is 'adamw_torch'"),
        ({"optim": {"values": [["a"], ["b"]]}}, "optim"),
        ({"lr": {"min": 0.1, "max": 1.0}, "constraints": ["lr <"]}, "constraints"),
    ],
)
def test_what_cannot_be_used_is_told(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_search(config(search))


def test_the_section_is_read_from_the_file_and_left_to_a_sweep(tmp_path: Path) -> None:
    text = "command: {run: 'train {lr}'}\nparams: {lr: 0.1}\ntargets: [loss < 1]\nsearch:\n  lr: {min: 0.1, max: 1.0}\n"
    (tmp_path / "hotlap.yaml").write_text(text)
    read = config_from_text(text, tmp_path / "hotlap.yaml")
    assert knob_search(read).parameters.keys() == {"params.lr"}
    space, _ = load_sweep(tmp_path / "hotlap.yaml")
    assert space.base is not None and space.base.search == {}
    assert [parameter.key for parameter in space.parameters] == ["params.lr"]
    own = config_from_text("search: {training.learning_rate: {values: [1, 2]}}\n", tmp_path / "own.yaml")
    assert own.search == {} and "search" not in own.model_dump()


def test_it_may_change_between_two_sittings() -> None:
    before, after = ({"config": config({"lr": {"min": 0.05, "max": top}}).model_dump()} for top in (0.2, 0.5))
    refuse_changed_protocol("mine", before, after)
    other = {"config": {**after["config"], "clock": "train"}}
    with pytest.raises(StudyError, match="clock"):
        refuse_changed_protocol("mine", before, other)


def test_roles_follow_names_and_places() -> None:
    values = {
        "command": {"run": "train a.yaml {lr}", "files": {"a.yaml": {"optimizer.weight_decay": "decay"}}},
        "params": {"lr": 1.0, "decay": 0.1},
    }
    assert knob_roles(config_from_values(values)) == {"lr": "learning_rate", "decay": "weight_decay"}
