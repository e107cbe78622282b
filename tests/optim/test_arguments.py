"""Further arguments of optimizers: Hugging Face's string or a mapping, and only those that the optimizer takes."""

from typing import Any

import pytest

from hotlap.core.errors import ConfigError
from hotlap.optim.arguments import optimizer_arguments, parse_optim_args


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, {}),
        ("", {}),
        ("momentum=0.9,nesterov=true", {"momentum": 0.9, "nesterov": True}),
        ("momentum = 0.9, nesterov = False,", {"momentum": 0.9, "nesterov": False}),
        ("steps=3,eps=1e-8,kind=fast,limit=none", {"steps": 3, "eps": 1e-8, "kind": "fast", "limit": None}),
        ({"eps": [None, 0.01], "d": 2}, {"eps": (None, 0.01), "d": 2}),
    ],
)
def test_both_forms_are_read(given: Any, found: dict[str, Any]) -> None:
    assert parse_optim_args(given) == found


@pytest.mark.parametrize("text", ["momentum", "=0.9", "momentum=0.9,nesterov"])
def test_a_string_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="name=value"):
        parse_optim_args(text)


@pytest.mark.parametrize(
    ("optim", "given", "message"),
    [
        ("sgd", "betas=1", "sgd takes momentum, dampening, nesterov, not betas"),
        ("adamw_torch", {"momentum": 0.9}, "adamw_torch takes amsgrad, not momentum"),
        ("adafactor", "relative_step=False", "not relative_step; its learning rate is relative to the size"),
        ("muon", "momentum=0.9", "muon takes none, not momentum; set training.muon_learning_rate"),
    ],
)
def test_an_argument_that_the_optimizer_does_not_take_is_refused(optim: str, given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        optimizer_arguments(optim, given)
    assert optimizer_arguments("sgd", "momentum=0.9") == {"momentum": 0.9}
