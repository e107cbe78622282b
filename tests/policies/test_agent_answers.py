"""What an agent answers is read strictly."""

import json

import pytest

from hotlap.core.errors import ConfigError
from hotlap.policies.agent import Replacement, read_answer, replaced_contents

GOOD = {"observation": "o", "hypothesis": "h"}


def test_an_object_is_found_in_words_and_fences() -> None:
    text = f"I think {{so}}.\n```json\n{json.dumps({**GOOD, 'settings': {'params.lr': 1}})}\n```\nDone."
    answer = read_answer(text)
    assert (answer.hypothesis, answer.settings) == ("h", {"params.lr": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no object", "no JSON object"),
        ('{"hypothesis": "h"}', "observation"),
        (json.dumps({**GOOD, "targets": ["x < 1"]}), "targets"),
        (json.dumps({**GOOD, "predicted_ratio": -1}), "predicted_ratio"),
        ('{"observation": "o", "hypothesis": "h", "predicted_ratio": NaN}', "no JSON object"),
        (json.dumps({**GOOD, "hypothesis": "x" * 5000}), "hypothesis"),
        ("x" * (2**20 + 1), "longer than"),
        ("{" * 100_000, "no JSON object"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_answer(text)


def test_half_signs_become_harmless() -> None:
    assert read_answer('{"observation": "o\\ud800", "hypothesis": "h"}').observation == "o?"


def test_passages_are_replaced_once() -> None:
    changes = [
        Replacement(file="a", old="x", new="y"),
        Replacement(file="b", new="new"),
        Replacement(file="a", old="y", new="z"),
    ]
    assert replaced_contents(changes, {"a": "1x1", "b": None}) == {"a": "1z1", "b": "new"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Replacement(file="a", old="q", new="y"), "stands in it 0 times"),
        (Replacement(file="a", old="x", new="y"), "stands in it 2 times"),
        (Replacement(file="b", old="x", new="y"), "the file is not there"),
        (Replacement(file="a", new="y"), "is there already"),
    ],
)
def test_passages_that_are_not_clear_are_refused(change: Replacement, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replaced_contents([change], {"a": "xx", "b": None})
