"""Planning to repeat a run: what is the same, what is told, and what cannot be repeated."""

from typing import Any

import pytest

from hotlap.config.load import config_from_values, config_text
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.rerun import plan_rerun

LIMITS = {"train_seconds": 12.5, "wall_seconds": None}


def folder_of(project: ProjectFolder, config: RunConfig, **command: Any) -> RunFolder:
    folder = RunFolder.create(project.runs_path)
    folder.write_config(config_text(config))
    facts = {"verb": "train", "study": "toy", "role": "confirm", "candidate": 3, "seed": 7, "limits": LIMITS}
    folder.write("command", {**facts, **command})
    return folder


def test_config_seed_limits_and_devices_are_the_same_and_the_run_is_nobodys(project: ProjectFolder) -> None:
    config = config_from_values({"devices": 2}, {"training.seed": 7, "training.learning_rate": 0.25})
    plan = plan_rerun(folder_of(project, config), project.project)
    assert plan.config == config
    assert (plan.facts.seed, plan.facts.limits, plan.facts.devices) == (7, LIMITS, 2)
    assert (plan.facts.role, plan.facts.study, plan.facts.candidate) == ("manual", "", 0)
    assert plan.notices == ()


def test_a_run_of_another_program_gets_the_limit_of_its_config(project: ProjectFolder) -> None:
    folder = RunFolder.create(project.runs_path)
    folder.write_config(config_text(config_from_values({"budget": {"run": "2m"}}, {"training.seed": 9})))
    plan = plan_rerun(folder, project.project)
    assert (plan.facts.seed, plan.facts.limits) == (9, {"train_seconds": 120.0})


def test_a_batch_size_that_was_found_is_not_looked_for_again(project: ProjectFolder) -> None:
    patch = {"training.per_device_train_batch_size": "auto", "training.total_batch_size": 64}
    folder = folder_of(project, config_from_values({}, patch))
    folder.write("environment", {"batch_size": 16, "accumulation_steps": 4})
    plan = plan_rerun(folder, project.project)
    training = plan.config.training
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (16, 4)
    assert training.total_batch_size is None
    assert "auto found 16" in plan.notices[0]
    config_from_values(plan.config.model_dump(mode="json"))  # it can be stored and read again


def test_a_resumed_run_is_told(project: ProjectFolder) -> None:
    folder = folder_of(project, config_from_values({}))
    for number in (1, 2):
        (folder.path / f"worker.{number}.json").write_text("{}")
    assert "was stopped and resumed 2 times" in plan_rerun(folder, project.project).notices[0]


@pytest.mark.parametrize("outcome", ["raced", "interrupted", "invalid"])
def test_a_run_that_was_stopped_from_outside_is_told(project: ProjectFolder, outcome: str) -> None:
    """Nobody races the rerun, or breaks it off."""
    folder = folder_of(project, config_from_values({}))
    folder.write("stop", {"outcome": outcome, "reason": "behind by 31 %"})
    folder.write("result", {"outcome": "interrupted", "reason": "SIGTERM at step 7"})
    (notice,) = plan_rerun(folder, project.project).notices
    assert notice == (
        f"r0001 was stopped from outside ({outcome}: behind by 31 %); the rerun is not, and may go on for longer"
    )
    folder.write("result", {"outcome": "reached"})
    assert plan_rerun(folder, project.project).notices == (), "the stop came too late"


def test_a_crash_was_not_stopped_from_outside(project: ProjectFolder) -> None:
    folder = folder_of(project, config_from_values({}))
    folder.write("stop", {"outcome": "crashed", "reason": "exit code 7"})
    assert plan_rerun(folder, project.project).notices == ()


def test_a_limit_that_a_study_set_is_told_where_it_ended_the_run(project: ProjectFolder) -> None:
    folder = folder_of(project, config_from_values({"budget": {"run": "2m"}}))
    assert plan_rerun(folder, project.project).notices == ()
    folder.write("result", {"outcome": "out_of_budget", "reason": "12.6 s on the train clock, the limit is 12.5 s"})
    (notice,) = plan_rerun(folder, project.project).notices
    assert notice == (
        "r0001 was given 12.5 s on the train clock (budget.run is 2:00), and used them up; the rerun ends there, too"
    )
    own = folder_of(project, config_from_values({"budget": {"run": "12.5s"}}))
    own.write("result", {"outcome": "out_of_budget"})
    assert plan_rerun(own, project.project).notices == ()


def test_a_changed_source_is_told(project: ProjectFolder) -> None:
    source = project.project / "mine.py"
    source.write_text("def build(): ...\n")
    folder = folder_of(project, config_from_values({}, {"training.optim": "mine:build"}))
    folder.write("environment", {"sources": {"training.optim": "0123"}})
    assert "the source of mine:build is another" in plan_rerun(folder, project.project).notices[0]
    source.unlink()
    with pytest.raises(ConfigError, match=r"there is no file mine\.py"):
        plan_rerun(folder, project.project)


def test_what_left_no_config_or_was_no_training_cannot_be_repeated(project: ProjectFolder) -> None:
    with pytest.raises(ConfigError, match="r0001 cannot be run again"):
        plan_rerun(RunFolder.create(project.runs_path), project.project)
    folder = folder_of(project, config_from_values({}), verb="bench")
    with pytest.raises(ConfigError, match="r0002 was no training"):
        plan_rerun(folder, project.project)
