"""Preparing a corpus fills the cache that runs read from."""

import io
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tiny_runs import wait_until

import hotlap
from hotlap.config.load import config_from_values, config_text
from hotlap.core.study_folder import ProjectFolder
from hotlap.tasks import string_repetition
from hotlap.tasks.string_repetition import load_string_repetition
from hotlap.worker import prepare


def run_prepare(project: ProjectFolder, text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    config = config_text(config_from_values({"task": {"text": text, "max_length_bytes": 24}}))
    monkeypatch.setattr(sys, "stdin", io.StringIO(config))
    monkeypatch.setattr(sys, "argv", ["prepare", str(project.project), str(project.cache_path)])
    return prepare.main()


def test_a_prepared_corpus_is_not_prepared_again(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_prepare(project, "corpus.txt", monkeypatch) == 0
    monkeypatch.setattr(string_repetition, "split_sentences", None)  # calling it would fail
    task = config_from_values({"task": {"text": "corpus.txt", "max_length_bytes": 24}}).task
    data = load_string_repetition(task, project.project, project.cache_path)
    told = f"{len(data.train)} training and {len(data.eval)} evaluation examples from corpus.txt ({data.hash})\n"
    assert capsys.readouterr().out == told


def test_an_unusable_corpus_is_told_with_its_exit_code(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_prepare(project, "missing.txt", monkeypatch) == 2
    shown = capsys.readouterr()
    assert "no file matches 'missing.txt'" in shown.err
    assert shown.out == ""
    assert not Path(project.cache_path).exists()


DRIVER = """
import os, subprocess, sys, time
words = [sys.executable, "-m", "hotlap.worker.prepare", *sys.argv[1:], str(os.getpid())]
print(subprocess.Popen(words).pid, flush=True)
time.sleep(1000)
"""


def test_preparing_ends_with_the_process_that_asked_for_it(project: ProjectFolder) -> None:
    """It would go on reading a large corpus for a driver that was killed."""
    words = [sys.executable, "-c", DRIVER, str(project.project), str(project.cache_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1])}
    # The config never comes: preparing waits for it, on the input that it shares with its driver.
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as driver:
        assert driver.stdout is not None
        preparing = psutil.Process(int(driver.stdout.readline()))
        driver.kill()
        wait_until(lambda: not preparing.is_running() or preparing.status() == psutil.STATUS_ZOMBIE)
