"""Which runs can go on, from where, at which reading of the clock, and what is said of changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.load import config_from_values, config_text
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder
from hotlap.launch.resume import ResumePlan, last_resumable, plan_resume

ALIVE = process_identity()
GONE = {**ALIVE, "start_seconds": 1.0}
CONFIG = {
    "name": "toy",
    "training": {"learning_rate": 1e-3, "lr_scheduler_type": "linear", "max_steps": 40, "save_steps": 10},
    "targets": ["eval_loss < 0.5"],
    "budget": {"run": "10m"},
}
FINISHED = {"outcome": "missed", "reason": "the schedule ended", "step": 40, "wall_seconds": 44.0}
REACHED = {"outcome": "reached", "reason": "all targets held", "step": 30, "time_to_target": {"train": 30.0}}

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def make_run(runs: Path) -> MakeRun:
    """Make a run that was killed after step 25, with checkpoints after 10 and 20 steps."""

    def make(
        patch: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
        steps: tuple[int, ...] = (10, 20),
        **command: Any,
    ) -> RunFolder:
        folder = RunFolder.create(runs)
        folder.write_config(config_text(config_from_values(CONFIG, patch)))
        folder.write("command", {"study": "", "driver": GONE, **command})
        folder.write("worker", GONE)
        for step in range(5, 26, 5):
            folder.append_point({"step": step, "train_seconds": 1.0 * step, "wall_seconds": 2.0 + step})
        for step in steps:
            add_checkpoint(folder, step)
        if result is not None:
            folder.write("result", result)
        return folder

    return make


def add_checkpoint(folder: RunFolder, step: int, **state: Any) -> Path:
    path = folder.checkpoint_path(step)
    path.mkdir()
    files = {"model.safetensors": 4, "optimizer.pt": 4}
    for name, size in files.items():
        (path / name).write_bytes(b"x" * size)
    clocks = {"train_seconds": 1.0 * step, "wall_seconds": 2.0 + step, "tokens": 100 * step}
    (path / "state.json").write_text(json.dumps({"step": step, **clocks, "files": files, **state}))
    return path


def config_with(patch: dict[str, Any]) -> RunConfig:
    return config_from_values(CONFIG, patch)


def plan_with(folder: RunFolder, patch: dict[str, Any]) -> ResumePlan:
    return plan_resume(folder, config_with(patch))


def test_a_killed_run_goes_on_from_its_newest_checkpoint(make_run: MakeRun) -> None:
    folder = make_run()
    plan = plan_resume(folder)
    assert (plan.checkpoint, plan.step, plan.num_lost_steps) == ("checkpoint-20", 20, 5)
    assert plan.differences == ()
    assert plan.wall_before_seconds == 27.0, "the seconds of lost steps were spent all the same"
    assert plan.config == config_with({})


def test_an_incomplete_checkpoint_is_passed_over(make_run: MakeRun) -> None:
    folder = make_run()
    (folder.checkpoint_path(20) / "optimizer.pt").write_bytes(b"x")
    plan = plan_resume(folder)
    assert (plan.checkpoint, plan.num_lost_steps) == ("checkpoint-10", 15)


def test_the_same_config_makes_no_difference(make_run: MakeRun) -> None:
    assert plan_with(make_run(), {}).differences == ()


def test_planning_changes_nothing(make_run: MakeRun) -> None:
    folder = make_run()
    before = {path: path.read_bytes() for path in sorted(folder.path.rglob("*")) if path.is_file()}
    plan_with(folder, {"training.max_steps": 60})
    assert {path: path.read_bytes() for path in sorted(folder.path.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "facts", "expected"),
    [
        ("result", {"outcome": "interrupted", "wall_seconds": 90.5}, 90.5),
        ("stop", {"outcome": "interrupted", "at_seconds": 31.25}, 31.25),
        ("command", {"wall_before_seconds": 120.0}, 120.0),
    ],
)
def test_the_wall_clock_goes_on_from_its_last_known_reading(
    make_run: MakeRun, name: str, facts: dict[str, Any], expected: float
) -> None:
    folder = make_run()
    folder.write(name, facts)
    assert plan_resume(folder).wall_before_seconds == expected


def test_a_later_attempt_adds_to_the_wall_clock(make_run: MakeRun) -> None:
    folder = make_run(wall_before_seconds=100.0)
    folder.write("stop", {"outcome": "interrupted", "at_seconds": 6.0})
    assert plan_resume(folder).wall_before_seconds == 106.0


def test_points_that_were_put_aside_still_count_for_the_wall_clock(make_run: MakeRun) -> None:
    folder = make_run()
    folder.begin_attempt()
    folder.drop_points_after(20)  # and then the driver is killed, before it has started anything
    assert plan_resume(folder).wall_before_seconds == 27.0


def test_a_run_that_still_runs_is_left_alone(make_run: MakeRun) -> None:
    folder = make_run()
    folder.write("worker", ALIVE)
    with pytest.raises(ConfigError, match=rf"r0001 is still running \(process {ALIVE['pid']}\)"):
        plan_resume(folder)


def test_a_run_of_a_study_never_goes_on(make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match=r"belongs to the study 'fast'.*hotlap speedrun"):
        plan_resume(make_run(study="fast"))


def test_without_a_checkpoint_the_advice_is_to_save_some(make_run: MakeRun) -> None:
    advice = r"no complete checkpoint.*save_steps or training\.save_every.*save_every=10m"
    with pytest.raises(ConfigError, match=advice):
        plan_resume(make_run(steps=()))


def test_weights_alone_are_not_enough(make_run: MakeRun) -> None:
    folder = make_run(steps=())
    path = add_checkpoint(folder, 20)
    (path / "optimizer.pt").unlink()
    (path / "state.json").write_text('{"step": 20, "files": {"model.safetensors": 4}}')
    with pytest.raises(ConfigError, match=r"checkpoint-20 holds weights only.*save_only_model"):
        plan_resume(folder)


def test_a_run_that_diverged_would_again(make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match=r"diverged, and would again: loss is nan.*lower learning rate"):
        plan_resume(make_run(result={"outcome": "diverged", "reason": "loss is nan"}))


def test_a_folder_without_a_config_is_no_run(runs: Path) -> None:
    with pytest.raises(ConfigError, match=r"r0001 cannot go on: .*config\.yaml is not there"):
        plan_resume(RunFolder.create(runs))


def test_the_trainer_saves_no_checkpoints(make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match="backend hf saves no checkpoints"):
        plan_resume(make_run({"backend": "hf", "training.save_steps": None}))


@pytest.mark.parametrize("outcome", ["interrupted", "crashed", "out_of_memory"])
def test_a_run_that_was_cut_short_goes_on(make_run: MakeRun, outcome: str) -> None:
    result = {"outcome": outcome, "reason": "so it was", "step": 23, "wall_seconds": 25.0}
    assert plan_resume(make_run(result=result)).step == 20


@pytest.mark.parametrize(
    ("result", "patch", "advice"),
    [
        (FINISHED, {}, r"has finished \(the schedule ended\).*-s training\.max_steps=80"),
        (FINISHED, {"training.eval_steps": 5}, "has finished"),
        (FINISHED, {"targets": ["eval_loss < 0.9"]}, "has finished"),
        (FINISHED, {"training.max_steps": 30}, "has finished"),
        (REACHED, {}, r"has reached its targets.*targets=\[\]"),
        (REACHED, {"training.max_steps": 60}, "has reached its targets"),
        ({"outcome": "out_of_budget", "reason": "600.1 s"}, {}, r"used up its budget \(600\.1 s\).*budget\.run="),
        ({"outcome": "out_of_budget", "reason": "600.1 s"}, {"training.max_steps": 60}, "used up its budget"),
    ],
)
def test_a_finished_run_needs_a_later_end(
    make_run: MakeRun, result: dict[str, Any], patch: dict[str, Any], advice: str
) -> None:
    folder = make_run(result=result)
    with pytest.raises(ConfigError, match=advice):
        plan_with(folder, patch)


@pytest.mark.parametrize(
    ("result", "patch"),
    [
        (FINISHED, {"training.max_steps": 60}),
        (FINISHED, {"training.max_steps": -1, "training.num_train_epochs": 9.0}),
        (REACHED, {"targets": ["eval_loss < 0.1"]}),
        (REACHED, {"targets": []}),
        ({"outcome": "out_of_budget", "reason": "600.1 s"}, {"budget.run": "20m"}),
    ],
)
def test_with_a_later_end_a_finished_run_goes_on(
    make_run: MakeRun, result: dict[str, Any], patch: dict[str, Any]
) -> None:
    plan = plan_with(make_run(result=result), patch)
    assert plan.step == 20
    assert plan.config == config_with(patch)


def test_epochs_and_tokens_can_be_extended_too(make_run: MakeRun) -> None:
    by_epochs = {"training.max_steps": -1, "training.num_train_epochs": 2.0}
    folder = make_run(by_epochs, FINISHED, steps=())
    add_checkpoint(folder, 20, max_steps=40)
    with pytest.raises(ConfigError, match="has finished"):
        plan_with(folder, by_epochs)
    plan = plan_with(folder, {**by_epochs, "training.num_train_epochs": 3.0})
    assert plan.differences[0] == "training.num_train_epochs: 2.0 → 3.0"
    assert plan.differences[1].endswith("since the linear schedule now ends at step 60")
    by_tokens = {"training.schedule_by": "tokens", "training.max_tokens": 4000}
    folder = make_run(by_tokens, FINISHED)
    plan = plan_with(folder, {**by_tokens, "training.max_tokens": 8000})
    jump = "the learning rate at step 20 jumps from 0.0005 to 0.00075, since the linear schedule now ends after"
    assert plan.differences[1] == f"{jump} 8,000 tokens"


def test_a_longer_schedule_says_what_becomes_of_the_learning_rate(make_run: MakeRun) -> None:
    plan = plan_with(make_run(result=FINISHED), {"training.max_steps": 80})
    assert plan.differences == (
        "training.max_steps: 40 → 80",
        "the learning rate at step 20 jumps from 0.0005 to 0.00075, since the linear schedule now ends at step 80",
    )


def test_a_schedule_in_seconds_follows_the_budget(make_run: MakeRun) -> None:
    by_seconds = {"training.schedule_by": "seconds", "budget.run": "40s"}
    plan = plan_with(make_run(by_seconds), {**by_seconds, "budget.run": "80s"})
    jump = "jumps from 0.0005 to 0.00075, since the linear schedule now ends after 80.0 s"
    assert plan.differences[0] == "budget.run: 40.0 → 80.0"
    assert plan.differences[1].endswith(jump)


def test_a_schedule_that_stays_as_it_is_needs_no_word(make_run: MakeRun) -> None:
    constant = {"training.lr_scheduler_type": "constant"}
    plan = plan_with(make_run(constant), {**constant, "training.max_steps": 80})
    assert plan.differences == ("training.max_steps: 40 → 80",)


def test_what_is_looked_at_and_kept_may_change(make_run: MakeRun) -> None:
    patch = {"training.eval_steps": 5, "training.logging_steps": 7, "training.save_total_limit": 2, "targets": []}
    plan = plan_with(make_run(), {**patch, "samples.prompts": ["a"]})
    assert set(plan.differences) == {
        'samples.prompts: [] → ["a"]',
        'targets: ["eval_loss < 0.5"] → []',
        "training.eval_steps: null → 5.0",
        "training.logging_steps: 100.0 → 7.0",
        "training.save_total_limit: null → 2",
    }


def test_other_settings_would_make_it_another_run(make_run: MakeRun) -> None:
    patch = {"training.learning_rate": 0.002, "model.hidden_size": 64, "training.max_steps": 60}
    with pytest.raises(ConfigError) as caught:
        plan_with(make_run(), patch)
    lines = str(caught.value).splitlines()
    assert lines[0] == "r0001 cannot go on with other settings than it began with:"
    assert set(lines[1:3]) == {
        "  training.learning_rate: 0.001 in the run, 0.002 now",
        "  model.hidden_size: 128 in the run, 64 now",
    }
    assert "start a new run" in lines[3] and "max_steps" in lines[3]


def test_an_end_before_the_checkpoint_is_refused(make_run: MakeRun) -> None:
    folder = make_run()
    with pytest.raises(ConfigError, match=r"already at step 20; training\.max_steps is 15"):
        plan_with(folder, {"training.max_steps": 15})
    assert plan_with(folder, {"training.max_steps": 20}).step == 20, "what is left is the last evaluation"


@pytest.mark.parametrize(("clock", "spent"), [("train", "20.0 s"), ("wall", "27.0 s")])
def test_a_budget_that_is_spent_is_told_with_the_reading(make_run: MakeRun, clock: str, spent: str) -> None:
    patch = {"clock": clock, "budget.run": "12s"}
    with pytest.raises(ConfigError, match=rf"has spent {spent} on the {clock} clock.*-s budget\.run="):
        plan_resume(make_run(patch))


def test_the_last_run_that_can_go_on_is_found(make_run: MakeRun, runs: Path) -> None:
    with pytest.raises(ConfigError, match="this project has none yet"):
        last_resumable(runs)
    make_run()
    wanted = make_run()
    make_run(result=FINISHED)
    make_run(study="fast")
    make_run(steps=())
    assert last_resumable(runs).run_id == wanted.run_id == "r0002"
    assert last_resumable(runs, is_changed=True).run_id == "r0003", "its end may be moved"


def test_where_no_run_can_go_on_the_newest_says_why(make_run: MakeRun, runs: Path) -> None:
    make_run(study="fast")
    make_run(steps=())
    with pytest.raises(ConfigError, match="there is no run to go on with: r0002 has no complete checkpoint"):
        last_resumable(runs)


def test_changed_code_of_the_project_is_told(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def build(): ...\n")
    patch = {"model": {"name": "own:build"}, "training.lr_scheduler_type": "own:factor"}
    folder = make_run(patch, directory=str(tmp_path))
    folder.write("environment", {"sources": {"model.name": "0" * 16}})
    plan = plan_with(folder, {**patch, "training.max_steps": 60})
    assert plan.differences == (
        "training.max_steps: 40 → 60",
        "model.name: the source of own:build is another than when the run last ran",
    ), "what becomes of the learning rate is known to the project's own code only"
