"""Opening, reading and continuing studies: protocol, lock, time spent."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.records import Decision, Proposal
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.locks import study_lock
from hotlap.runs.history import load_history
from hotlap.study import study as study_module
from hotlap.study.study import as_studied, open_study, read_study
from hotlap.study.view import view_study

VALUES = {"name": "toy", "targets": ["eval_loss < 0.76"], "budget": {"run": "15m", "total": "1h"}}


def config(**patch: Any) -> RunConfig:
    """Return the toy config with dotted keys changed; `__` stands for the dot."""
    return config_from_values(VALUES, {key.replace("__", "."): value for key, value in patch.items()})


def proposal(number: int = 1) -> Proposal:
    texts = dict.fromkeys(("family", "title", "observation", "hypothesis"), "x")
    return Proposal(number=number, parent=0, patch={"training.learning_rate": 0.1}, predicted_ratio=0.9, **texts)


def test_a_changed_protocol_is_refused_with_both_values_and_advice(project: ProjectFolder) -> None:
    open_study(project, config())
    before = project.study("toy").protocol()
    with pytest.raises(StudyError) as caught:
        open_study(project, config(training__learning_rate=0.25, targets=["eval_loss < 0.5"], calibrate__runs=5))
    head, *rows, advice = str(caught.value).splitlines()
    assert "'toy' was begun under another protocol" in head
    assert rows == [
        "  calibrate.runs: 3 → 5",
        "  targets: ['eval_loss < 0.76'] → ['eval_loss < 0.5']",
        "  training.learning_rate: 5e-05 → 0.25",
    ]
    assert "-s name=" in advice
    assert caught.value.exit_code == 2
    assert project.study("toy").protocol() == before
    open_study(project, config(training__learning_rate=0.25, name="other"))


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [("worker_threads", 7, "threads"), ("devices_of", ("cuda:0",), "device"), ("_version", "9.9.9", "torch")],
)
def test_another_machine_is_another_protocol(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, name: str, value: object, key: str
) -> None:
    open_study(project, config())
    before = (project.study("toy").protocol() or {})[key]
    monkeypatch.setattr(study_module, name, lambda *_: value)
    now = value[0] if isinstance(value, tuple) else value
    with pytest.raises(StudyError, match=re.escape(f"  {key}: {before!r} → {now!r}")):
        open_study(project, config())


def test_the_whole_budget_and_patience_may_change_and_are_told(project: ProjectFolder) -> None:
    open_study(project, config())
    study = open_study(project, config(budget__total="2h", patience=5))
    assert (study.settings.total_seconds, study.settings.patience) == (7200.0, 5)
    stored, _, _ = read_study(project)
    assert (stored.budget.total, stored.patience) == (7200.0, 5)
    _, summary = view_study(project)
    assert summary.budget_seconds == 7200.0
    with pytest.raises(StudyError, match=r"budget\.run: 900\.0 → 60\.0"):
        open_study(project, config(budget__total="2h", patience=5, budget__run="1m"))


@pytest.mark.parametrize(
    ("patch", "told"), [({"targets": []}, "needs targets"), ({"record__runs": 3}, "can never succeed")]
)
def test_what_cannot_be_studied_leaves_nothing_behind(project: ProjectFolder, patch: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        open_study(project, config(**patch))
    assert project.studies() == []


def test_the_lock_names_who_drives(project: ProjectFolder) -> None:
    folder = project.study("toy").create()
    with study_lock(folder), pytest.raises(StudyError, match=f"'toy' .* process {os.getpid()} on "), study_lock(folder):
        pass


def test_reading_nothing_is_an_error_that_says_what_to_do(project: ProjectFolder, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no study yet in .*start one with: hotlap speedrun"):
        read_study(ProjectFolder(tmp_path / "nowhere"))
    project.study("begun").create()  # the lock is taken before the protocol is written
    with pytest.raises(StudyError, match="no study yet"):
        read_study(project)
    open_study(project, config())
    with pytest.raises(StudyError, match="no study 'other'"):
        read_study(project, "other")


def test_the_study_touched_last_is_read(project: ProjectFolder) -> None:
    for name in ("a", "c", "b"):
        open_study(project, config(name=name))
    for number, name in enumerate(("a", "b", "c")):
        os.utime(project.study(name).path, ns=(number, number))
    assert read_study(project)[0].name == "c"
    assert read_study(project, "b")[0].name == "b"


def test_the_time_spent_is_the_sum_over_sittings(project: ProjectFolder) -> None:
    folder = open_study(project, config()).folder
    folder.ledger_path.unlink()
    for at, sitting in ((1000.0, "a"), (1060.0, "a"), (5000.0, "b"), (5007.5, "b")):
        folder.append("note", {"at": at, "sitting": sitting})
    study = open_study(project, config())
    assert study.history.seconds_spent == 67.5
    time.sleep(0.01)  # stamps are in milliseconds
    study.append(proposal())
    assert study.history.seconds_spent > 67.5, "this sitting counts, too"
    assert read_study(project)[1].seconds_spent == study.history.seconds_spent, "to the last bit: the journal tells it"
    assert open_study(project, config()).history.seconds_spent == study.history.seconds_spent


def test_every_fact_is_on_disk_before_it_is_believed(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(project, config())
    study.append(proposal())
    study.append(Decision(proposal=1, verdict="keep", reason="fast", statistics={"ratio": 0.5}))
    assert study.history.incumbent == 1
    assert read_study(project)[1].decisions == study.history.decisions
    monkeypatch.setattr(type(study.folder), "append", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        study.append(proposal(2))
    assert len(study.history.proposals) == 1


def test_an_ended_study_is_opened_again(project: ProjectFolder) -> None:
    study = open_study(project, config())
    study.end("there are no ideas left")
    assert read_study(project)[1].ended == study.history.ended == "there are no ideas left"
    again = open_study(project, config())
    assert again.history.ended == ""
    assert read_study(project)[1].ended == ""
    assert again.sitting != study.sitting
    values = again.config.model_dump(mode="json")
    assert load_history(project, again.folder, values, "train").base_config == again.history.base_config


def test_a_study_evaluates_on_the_grid_and_saves_no_checkpoints() -> None:
    given = config(training__eval_strategy="steps", training__eval_steps=50, training__save_steps=100)
    studied, idle = as_studied(given)
    training = studied.training
    assert (training.eval_strategy, training.eval_steps, training.save_steps) == (None, None, None)
    assert set(idle) == {"eval_strategy", "eval_steps", "save_steps"}
    assert as_studied(config())[1] == ()
    config_from_values(studied.model_dump(mode="json"))  # what is stored can be read again


def test_another_backend_cannot_be_searched(project: ProjectFolder) -> None:
    with pytest.raises(ConfigError, match="hotlap's own training loop"):
        open_study(project, config(backend="hf"))
