"""What the suggestion of a bench makes of a config file."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotlap.cli.apply import apply
from hotlap.config.load import config_text, load_config
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.bench_records import CellRepeat
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.study_folder import ProjectFolder
from hotlap.study.apply_bench import plan_bench_application

TEXT = """\
name: toy  # short
training:
  per_device_train_batch_size: 4  # guessed
  learning_rate: 3.0e-3
"""
BATCH = "training.per_device_train_batch_size"


@pytest.fixture
def config_path(project: ProjectFolder) -> Path:
    """A config with comments."""
    path = project.project / "hotlap.yaml"
    path.write_text(TEXT)
    return path


Make = Callable[..., BenchFolder]


@pytest.fixture
def make(project: ProjectFolder, config_path: Path) -> Make:
    """Make a bench of the config in which batch 16 is the fastest by far, and bf16 brings nothing."""

    def call(outcome: Any = "measured", planned: int = 12) -> BenchFolder:
        folder = BenchFolder.create(project.benches_path)
        config = load_config(config_path)
        folder.write_plan({"name": config.name, "num_repeats": planned})
        folder.write_config(config_text(config))
        cells = [{BATCH: batch, "training.bf16": bf16} for batch in (4, 8, 16) for bf16 in (False, True)]
        for repeat in range(2):
            for number, settings in enumerate(cells):
                seconds = 0.01 + 0.0001 * settings[BATCH] + 0.00001 * repeat
                one = CellRepeat(number, repeat, settings, outcome, step_seconds=(seconds,) * 3)
                folder.append(replace(one, samples_per_step=float(settings[BATCH])))
        return folder

    return call


def test_the_suggestion_is_written_and_the_comments_stay(make: Make, config_path: Path, project: ProjectFolder) -> None:
    make()
    found = plan_bench_application(project, config_path, "bench")
    assert found.patch == {BATCH: 16}  # bf16 is no faster, so it is left alone
    assert found.after == TEXT.replace("4  # guessed", "16  # guessed")
    assert found.study == "b0001" and found.numbers == ()
    assert any("another batch is another training" in note for note in found.notes)


def test_the_last_bench_of_the_config_is_meant(make: Make, config_path: Path, project: ProjectFolder) -> None:
    make()
    make(planned=40)
    found = plan_bench_application(project, config_path, "bench")
    assert found.study == "b0002"
    assert "b0002 is not complete; hotlap bench --resume measures the rest" in found.notes
    assert plan_bench_application(project, config_path, "b0001").study == "b0001"


def test_a_bench_that_ended_before_it_measured_anything_is_not_the_last_one(
    make: Make, config_path: Path, project: ProjectFolder
) -> None:
    make()
    empty = BenchFolder.create(project.benches_path)
    empty.write_plan({"name": load_config(config_path).name})
    empty.write_config(config_text(load_config(config_path)))
    assert plan_bench_application(project, config_path, "bench").study == "b0001"
    with pytest.raises(ConfigError, match="b0002 suggests nothing: nothing was measured yet"):
        plan_bench_application(project, config_path, "b0002")


def test_a_config_with_a_total_batch_keeps_it(make: Make, config_path: Path, project: ProjectFolder) -> None:
    folder = make()
    own = {BATCH: "auto", "training.total_batch_size": 64}
    folder.write_plan({**folder.plan(), "own": own})
    config_path.write_text(
        "name: toy\ntraining: {per_device_train_batch_size: auto, total_batch_size: 64, learning_rate: 3.0e-3}\n"
    )
    found = plan_bench_application(project, config_path, "bench")
    assert found.patch == {} and found.is_done
    assert any("total_batch_size 64 of the config" in note for note in found.notes)
    assert not any("is not what the bench" in note for note in found.notes)


def test_what_the_file_has_already_is_no_change(make: Make, config_path: Path, project: ProjectFolder) -> None:
    make()
    config_path.write_text(plan_bench_application(project, config_path, "bench").after)
    assert plan_bench_application(project, config_path, "bench").is_done


def test_a_file_that_was_changed_since_is_told(make: Make, config_path: Path, project: ProjectFolder) -> None:
    make()
    config_path.write_text(TEXT + "model: {hidden_size: 256}\n")
    first, *_ = plan_bench_application(project, config_path, "b0001").notes
    assert "is not what the bench b0001 measured" in first and "model.hidden_size 128 → 256" in first


def test_what_cannot_be_applied_says_what_to_do(make: Make, config_path: Path, project: ProjectFolder) -> None:
    with pytest.raises(StudyError, match="measure one with: hotlap bench"):
        plan_bench_application(project, config_path, "bench")
    make(outcome="out_of_memory")
    with pytest.raises(ConfigError, match="b0001 suggests nothing: nothing could be measured in 6 cells"):
        plan_bench_application(project, config_path, "bench")
    with pytest.raises(StudyError, match=r"no bench b0009 in .*; there are: b0001 \(toy\)"):
        plan_bench_application(project, config_path, "b0009")
    config_path.write_text(TEXT.replace("toy", "other"))
    with pytest.raises(StudyError, match="no bench of the config 'other'"):
        plan_bench_application(project, config_path, "bench")
    with pytest.raises(ConfigError, match="belongs to no study"):
        apply("bench", config_path, study="toy", project=project.project)


def test_the_command_writes_and_tells(
    make: Make, config_path: Path, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    make()
    apply("bench", config_path, project=project.project, dry_run=True)
    told = capsys.readouterr().out
    assert "+  per_device_train_batch_size: 16  # guessed" in told and "next: hotlap apply bench" in told
    assert config_path.read_text() == TEXT
    apply("bench", config_path, project=project.project, json=True)
    assert json.loads(capsys.readouterr().out)["patch"] == {BATCH: 16}
    assert load_config(config_path).training.per_device_train_batch_size == 16
    apply("bench", config_path, project=project.project)
    assert "has the suggestion of b0001 already" in capsys.readouterr().out
