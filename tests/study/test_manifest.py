"""Protected files: changes are found however they are hidden, and a mere touch is none."""

import os
from pathlib import Path

import pytest

from hotlap.config.load import config_from_values
from hotlap.core.errors import ConfigError
from hotlap.study import manifest
from hotlap.study.manifest import Manifest, digest, evaluator_files, evaluator_hash, source_files


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.json"
    path.write_text("what is evaluated")
    return path


def known(*paths: Path) -> Manifest:
    found = Manifest()
    found.add(paths)
    assert found.changed() == []
    return found


def test_a_changed_file_is_found_and_found_again(corpus: Path) -> None:
    files = known(corpus)
    corpus.write_text("what is easier")
    assert files.changed() == files.changed() == [corpus]
    corpus.write_text("what is evaluated")
    assert files.changed() == [], "put back"


def test_a_change_with_the_old_size_and_time_is_found(corpus: Path) -> None:
    files, before = known(corpus), corpus.stat()
    corpus.write_text("what is evaluateD")
    os.utime(corpus, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert corpus.stat().st_mtime_ns == before.st_mtime_ns
    assert files.changed() == [corpus]


def test_a_file_that_is_replaced_or_gone_is_found(corpus: Path) -> None:
    files, other = known(corpus), corpus.with_name("other")
    other.write_text("what was put there")
    other.replace(corpus)
    assert files.changed() == [corpus]
    corpus.unlink()
    assert files.changed() == [corpus]


def test_a_file_that_appears_where_none_was_is_found(tmp_path: Path) -> None:
    files = known(tmp_path / "absent")
    (tmp_path / "absent").write_text("x")
    assert files.changed() == [tmp_path / "absent"]


def test_adding_a_changed_file_again_does_not_make_it_right(corpus: Path) -> None:
    files = known(corpus)
    corpus.write_text("what is easier")
    files.add([corpus])
    assert files.changed() == [corpus]


def test_files_are_read_only_when_they_were_touched(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, read = known(corpus), list[Path]()
    monkeypatch.setattr(manifest, "digest", lambda path: read.append(path) or digest(path))
    assert files.changed() == [] and read == []
    corpus.touch()
    assert files.changed() == [] and read == [corpus]
    assert files.changed() == [] and read == [corpus], "it is known by its new time"


def test_the_evaluator_is_named_by_its_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert all(path.is_file() for path in evaluator_files())
    before = evaluator_hash()
    assert before == evaluator_hash() and len(before) == 16
    (tmp_path / "evaluate.py").write_text("eval_loss = 0.1")
    monkeypatch.setattr(manifest, "evaluator_files", lambda: [*evaluator_files()[:-1], tmp_path / "evaluate.py"])
    assert evaluator_hash() != before


def test_the_projects_own_parts_are_protected(tmp_path: Path) -> None:
    config = config_from_values({"model": {"name": "mine:build"}, "task": {"name": "mine:task"}})
    with pytest.raises(ConfigError, match="there is no file"):
        source_files(config, tmp_path)
    (tmp_path / "mine.py").write_text("")
    assert set(source_files(config, tmp_path)) == {tmp_path / "mine.py"}
    assert source_files(config_from_values({}), tmp_path) == []


def test_a_file_that_is_expected_may_still_be_made(corpus: Path) -> None:
    files, content = Manifest(), digest(corpus)
    corpus.unlink()
    files.expect({corpus: content})
    assert files.changed() == []
    corpus.write_text("what is easier")
    assert files.changed() == [corpus]
    corpus.write_text("what is evaluated")
    assert files.changed() == []
    corpus.unlink()
    assert files.changed() == [corpus], "it was there"
