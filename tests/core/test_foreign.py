"""What readers of foreign files share: which values are numbers, and how a broken file is told."""

import math
from pathlib import Path

import pytest

from hotlap.core.errors import DataError
from hotlap.core.foreign import number_of, numbers_in, read_json_object


@pytest.mark.parametrize("value", [True, False, None, "3", "", [1], {"a": 1}])
def test_what_is_no_number(value: object) -> None:
    assert number_of(value) is None


def test_numbers_also_as_wandb_writes_them() -> None:
    assert numbers_in({"a": 1, "b": 0.5, "c": "Infinity", "d": "-Infinity", "e": "x", "f": True}) == {
        "a": 1,
        "b": 0.5,
        "c": math.inf,
        "d": -math.inf,
    }
    assert math.isnan(number_of("NaN") or 0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{\n "a": 1,\n oops\n}', "state.json:3: not valid JSON"),
        ("[1]", "state.json: expected a JSON object, got list"),
    ],
)
def test_a_broken_file_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_json_object(path)
    assert told in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        read_json_object(tmp_path / "gone.json")
