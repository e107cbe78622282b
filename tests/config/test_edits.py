"""Which files may be changed, and who may be asked."""

import pytest
from pydantic import ValidationError

from hotlap.config.edits import AgentConfig, EditsConfig, matches


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("train.py", "train.py", True),
        ("src/train.py", "train.py", False),
        ("src/a.py", "src/*.py", True),
        ("src/a/b.py", "src/*.py", False),
        ("src/a/b.py", "src/**/*.py", True),
        ("src/b.py", "src/**/*.py", True),
        ("data/x/y.bin", "data/", True),
        ("data/x/y.bin", "data", True),
        ("data2/x", "data/", False),
        ("a/b/c", "**", True),
        ("x/.gitignore", "**/.gitignore", True),
        (".gitignore", "**/.gitignore", True),
        ("train.pyc", "train.py", False),
        ("trainxpy", "train.py", False),
        ("src/x", "*", False),
        ("x", "*", True),
        ("a.py", "?.py", True),
    ],
)
def test_patterns(path: str, pattern: str, fits: bool) -> None:
    assert matches(path, [pattern]) is fits


def test_protection_goes_before_permission() -> None:
    edits = EditsConfig(files=("src/**",), protect=("src/eval.py",), link=("src/data/",))
    assert edits.is_editable("src/model.py")
    assert not edits.is_editable("src/eval.py")
    assert not edits.is_editable("src/data/a.bin")
    assert not edits.is_editable("train.py")
    assert EditsConfig(protect=("eval.py",)).is_editable("train.py")


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../other", "~/x", "a/../../b", " "])
def test_patterns_stay_inside_the_project(pattern: str) -> None:
    with pytest.raises(ValidationError):
        EditsConfig(files=(pattern,))


def test_links_have_no_wildcards() -> None:
    with pytest.raises(ValidationError, match="without wildcards"):
        EditsConfig(link=("data/*.bin",))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "name one of command"),
        ({"command": "x", "base_url": "http://localhost/v1", "model": "m"}, "name one of command"),
        ({"base_url": "http://localhost/v1"}, "base_url needs model"),
        ({"command": "x", "cost": 1.0}, "cost needs cost_per_call"),
        ({"base_url": "https://a/v1", "model": "m", "cost": 1.0}, "cost needs input_price"),
        ({"command": "x", "api_key": "sk-1"}, "api_key"),
        ({"base_url": "ftp://a", "model": "m"}, "base_url"),
    ],
)
def test_an_agent_is_told_what_is_missing(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AgentConfig.model_validate(values)
