"""Parts from a project's folder: found by name, never in the way of Python's own modules."""

import random
import re
import sys
from pathlib import Path

import pytest

from hotlap.core.errors import ConfigError
from hotlap.tasks.custom import load_part


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def test_a_function_is_loaded_from_the_project(tmp_path: Path) -> None:
    write(tmp_path, "my_part.py", "from my_helper import FACTOR\n\ndef build(width):\n    return FACTOR * width\n")
    write(tmp_path, "my_helper.py", "FACTOR = 3\n")
    path = list(sys.path)
    assert load_part(tmp_path, "my_part:build")(5) == 15
    assert load_part(tmp_path, "my_part:build") is load_part(tmp_path, "my_part:build")
    assert sys.path == path


def test_a_module_of_a_package_may_import_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "my_package/__init__.py", "")
    write(tmp_path, "my_package/shapes.py", "WIDTH = 4\n")
    write(tmp_path, "my_package/nets.py", "from .shapes import WIDTH\n\ndef build():\n    return WIDTH\n")
    assert load_part(tmp_path, "my_package.nets:build")() == 4


def test_projects_do_not_share_modules_of_the_same_name(tmp_path: Path) -> None:
    for number in (1, 2):
        project = tmp_path / str(number)
        write(project, "same_part.py", "from same_helper import NUMBER\n\ndef build():\n    return NUMBER\n")
        write(project, "same_helper.py", f"NUMBER = {number}\n")
        assert load_part(project, "same_part:build")() == number
    assert load_part(tmp_path / "1", "same_part:build")() == 1


def test_a_file_with_the_name_of_a_module_of_python_shadows_nothing(tmp_path: Path) -> None:
    write(tmp_path, "random.py", "def build(): ...\n")
    with pytest.raises(ConfigError, match=r"the name random belongs to .*; rename "):
        load_part(tmp_path, "random:build")
    write(tmp_path, "uses_random.py", "import random\n\ndef build():\n    return random.Random\n")
    assert load_part(tmp_path, "uses_random:build")() is random.Random
    assert sys.modules["random"] is random


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        ("gone_part:build", None, "there is no file gone_part.py"),
        ("broken_part:build", "import no_such_module\n", "cannot be imported: No module named 'no_such_module"),
        ("wrong_part:build", "def build(:\n", "cannot be imported: "),
        ("empty_part:build", "def builds(): ...\n", "has no function build; did you mean 'builds'?"),
        ("value_part:build", "build = 3\n", "has no function build"),
    ],
)
def test_a_part_that_cannot_be_loaded_is_told(tmp_path: Path, part: str, text: str | None, message: str) -> None:
    if text is not None:
        write(tmp_path, f"{part.partition(':')[0]}.py", text)
    path = list(sys.path)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_part(tmp_path, part)
    assert sys.path == path


def test_what_goes_wrong_inside_a_part_keeps_its_traceback(tmp_path: Path) -> None:
    write(tmp_path, "failing_part.py", "raise ZeroDivisionError('in the part')\n")
    with pytest.raises(ZeroDivisionError, match="in the part"):
        load_part(tmp_path, "failing_part:build")
