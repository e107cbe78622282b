"""Parts of a project's own: which a config names, where they stand, and what their files hash to."""

import hashlib
from pathlib import Path

import pytest

from hotlap.config.load import config_from_values
from hotlap.config.parts import custom_parts, source_hashes, source_of
from hotlap.core.errors import ConfigError

PARTS = {
    "task.name": "tasks.count:make",
    "model.name": "nets:tiny",
    "training.optim": "rules:build",
    "training.lr_scheduler_type": "rules:curve",
}


def fill(project: Path) -> None:
    (project / "tasks").mkdir()
    (project / "tasks" / "count.py").write_text("def make(): ...\n")
    (project / "nets").mkdir()
    (project / "nets" / "__init__.py").write_text("def tiny(): ...\n")
    (project / "rules.py").write_text("def build(): ...\n")


def test_parts_are_named_by_their_keys() -> None:
    assert custom_parts(config_from_values({})) == {}
    assert custom_parts(config_from_values({}, PARTS)) == PARTS


def test_a_part_stands_in_a_file_of_the_project(tmp_path: Path) -> None:
    fill(tmp_path)
    assert source_of(tmp_path, "rules:build") == tmp_path / "rules.py"
    assert source_of(tmp_path, "tasks.count:make") == tmp_path / "tasks" / "count.py"
    assert source_of(tmp_path, "nets:tiny") == tmp_path / "nets" / "__init__.py"


@pytest.mark.parametrize("part", ["rules:build", "os:getcwd", "..:x", ".rules:x", "a..b:x", "tasks:make", "rules"])
def test_a_file_that_is_not_there_is_told(tmp_path: Path, part: str) -> None:
    (tmp_path / "tasks").mkdir()
    with pytest.raises(ConfigError, match=r"there is no file .* standing in the project's folder"):
        source_of(tmp_path, part)


def test_the_hash_of_a_part_follows_its_file(tmp_path: Path) -> None:
    fill(tmp_path)
    config = config_from_values({}, PARTS)
    before = source_hashes(config, tmp_path)
    assert before.keys() == PARTS.keys()
    assert before["model.name"] == hashlib.sha256(b"def tiny(): ...\n").hexdigest()[:16]
    (tmp_path / "rules.py").write_text("def build(): return 1\n")
    after = source_hashes(config, tmp_path)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"training.optim", "training.lr_scheduler_type"}
    assert source_hashes(config_from_values({}), tmp_path) == {}
