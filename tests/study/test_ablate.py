"""Ablations: which runs they make, what their configs are, and how losses are read from their folders."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulated_study import run_record

from hotlap.config.ablation import load_ablation
from hotlap.config.load import config_from_values
from hotlap.core.errors import StudyError
from hotlap.core.records import History, Outcome, Role, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.ablation import render_ablation
from hotlap.study.ablate import (
    COMPLETE,
    AblationPlan,
    as_ablated,
    config_patch,
    next_ablation_run,
    open_ablation,
    plan_ablation,
    stored_plan,
    variant_title,
)
from hotlap.study.ablate_view import ablation_summary, course_of
from hotlap.study.plan import End, StartRun
from hotlap.study.study import found_study

CONFIG = "name: toy\ntraining: {max_steps: 1000}\nbudget: {run: 60s, total: 1h}\n"


def plan_in(project: ProjectFolder, *settings: str, text: str = CONFIG, **options: Any) -> AblationPlan:
    path = project.project / "hotlap.yaml"
    path.write_text(text)
    chosen = settings or ("model.norm=layer_norm,rms_norm", "training.optim=adamw_torch,muon")
    return plan_ablation(project, load_ablation(path, chosen), **options)


def record(number: int, role: Role, candidate: int, seed: int, outcome: Outcome = "missed") -> RunRecord:
    return replace(run_record(number, role, candidate, 10.0, outcome), seed=seed)


def play(plan: AblationPlan, outcomes: dict[int, Outcome] | None = None) -> tuple[list[StartRun], str]:
    """Make the runs that are asked for, by their place; return them and why there is no further one."""
    made: list[StartRun] = []
    history = History(clock="train", base_config={})
    while True:
        action = next_ablation_run(history, plan)
        assert action == next_ablation_run(replace(history), plan), "a pure function"
        if isinstance(action, End):
            return made, action.reason
        made.append(action)
        outcome = (outcomes or {}).get(len(made), "missed")
        run = record(len(made), action.role, action.candidate, action.seed, outcome)
        history = replace(history, runs=(*history.runs, run))


def test_the_order_turns_round_with_every_seed(project: ProjectFolder) -> None:
    made, reason = play(plan_in(project, seeds=3))
    assert reason == COMPLETE
    assert [action.candidate for action in made] == [0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3]
    assert [action.seed for action in made] == [42] * 4 + [43] * 4 + [44] * 4
    assert [action.role for action in made] == ["baseline", *["ablation"] * 11]
    assert {action.limit_seconds for action in made} == {60.0} and not any(action.is_raced for action in made)


def test_what_the_machine_spoiled_is_made_again_in_its_place(project: ProjectFolder) -> None:
    made, reason = play(plan_in(project, seeds=2), {1: "lost", 4: "interrupted"})
    assert reason == COMPLETE
    assert [(action.candidate, action.role) for action in made[:3]] == [
        (0, "baseline"),
        (0, "baseline"),
        (1, "ablation"),
    ]
    assert [action.candidate for action in made] == [0, 0, 1, 2, 2, 3, 3, 2, 1, 0]
    spoiled = dict.fromkeys(range(3, 20), "lost")
    assert "4 runs in a row were spoiled by the machine" in play(plan_in(project), spoiled)[1]  # type: ignore[arg-type]


def test_a_variant_that_broke_is_left_out_from_then_on(project: ProjectFolder) -> None:
    made, reason = play(plan_in(project, seeds=2), {2: "out_of_memory"})
    assert reason == COMPLETE
    assert [action.candidate for action in made] == [0, 1, 2, 3, 3, 2, 0]
    _, reason = play(plan_in(project, seeds=2), {1: "crashed"})
    assert reason.startswith("the reference, norm layer_norm, optim adamw_torch, crashed in r0001")


def test_no_run_starts_without_room_for_it(project: ProjectFolder) -> None:
    plan = plan_in(project)
    runs = (replace(record(1, "baseline", 0, 42), wall_seconds=30.0),)
    history = History(clock="train", base_config={}, runs=runs, seconds_spent=3600 - 29)
    action = next_ablation_run(history, plan)
    assert isinstance(action, End) and action.reason.startswith("budget.total of 1:00:00 has no room")
    assert isinstance(next_ablation_run(replace(history, seconds_spent=3600 - 31), plan), StartRun)


def test_patches_hold_what_differs_and_whole_sections_where_keys_do(project: ProjectFolder) -> None:
    plan = plan_in(project)
    assert plan.patches == (
        {},
        {"training.optim": "muon"},
        {"model.norm": "rms_norm"},
        {"model.norm": "rms_norm", "training.optim": "muon"},
    )
    assert config_patch({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"x": 1, "z": 2}, "b": 1}) == {"a": {"x": 1, "z": 2}}
    base = plan.config.model_dump(mode="json")
    for number, patch in enumerate(plan.patches):
        assert config_from_values(base, patch).name == "toy-norm-optim", number


def test_the_patched_reference_is_the_variant(project: ProjectFolder) -> None:
    text = "name: toy\ntraining: {lr_scheduler_type: warmup_stable_decay, lr_scheduler_kwargs: {num_decay_steps: 2}}\n"
    path = project.project / "hotlap.yaml"
    path.write_text(text)
    settings = (
        "training.num_train_epochs=1,2",
        "training.lr_scheduler_kwargs={num_decay_steps: 3},{num_decay_steps: 4}",
    )
    ablation = load_ablation(path, settings)
    plan = plan_ablation(project, ablation)
    base = plan.config.model_dump(mode="json")
    for variant, patch in zip(ablation.variants, plan.patches, strict=True):
        wanted, _ = as_ablated(variant.config)
        found = config_from_values(base, patch).model_dump(mode="json")
        assert {**found, "name": "toy"} == wanted.model_dump(mode="json")


def test_variants_are_called_by_their_last_words_where_these_differ() -> None:
    assert (
        variant_title({"model.positions": "rope", "training.learning_rate": 1e-3})
        == "positions rope, learning_rate 0.001"
    )
    assert variant_title({"model.name": "a:b", "task.name": "c:d"}) == "model.name a:b, task.name c:d"
    assert variant_title({"model.intermediate_size": None}) == "intermediate_size none"


@pytest.mark.parametrize(
    ("training", "more", "expected"),
    [
        ({}, {}, ("steps", 0.02)),
        ({"eval_strategy": "no"}, {}, ("steps", 0.02)),
        ({"eval_steps": 50}, {}, (None, 50)),
        ({"eval_strategy": "epoch"}, {}, ("epoch", None)),
        ({"schedule_by": "seconds"}, {}, ("clock", None)),
        ({"schedule_by": "seconds", "eval_steps": 20}, {}, (None, 20)),
        ({"eval_steps": 50}, {"targets": ["eval_loss < 1"]}, ("clock", None)),
    ],
)
def test_all_variants_are_evaluated_alike(
    training: dict[str, Any], more: dict[str, Any], expected: tuple[Any, Any]
) -> None:
    config = config_from_values({"name": "toy", "training": {"save_steps": 5, **training}, **more})
    by_steps = training.get("schedule_by", "steps") == "steps"
    ablated, idle = as_ablated(config, by_steps=by_steps)
    assert (ablated.training.eval_strategy, ablated.training.eval_steps) == expected
    assert ablated.training.save_steps is None and "save_steps" in idle
    assert config_from_values(ablated.model_dump(mode="json")) == ablated


def test_an_ablation_is_read_as_it_was_begun(project: ProjectFolder) -> None:
    plan = plan_in(project, seeds=2, at_step=100)
    assert not project.studies(), "planning writes nothing"
    study = open_ablation(project, plan)
    assert [proposal.patch for proposal in study.history.proposals] == list(map(dict, plan.patches[1:]))
    again = open_ablation(project, plan_in(project, seeds=2, at_step=100))
    assert len(again.history.proposals) == 3, "none of them twice"
    folder = found_study(project)
    protocol = folder.protocol() or {}
    assert stored_plan(folder, protocol) == replace(plan, folder=folder, idle=(), protocol=protocol)
    more = plan_in(project, seeds=1, text=CONFIG.replace("total: 1h", "total: 2h"))
    assert more.seeds == 2 and more.settings.total_seconds == 7200.0
    with pytest.raises(StudyError, match="max_steps: 1000 → 999"):
        plan_in(project, text=CONFIG.replace("1000", "999"))


def test_a_run_is_read_up_to_its_last_finite_loss(project: ProjectFolder) -> None:
    plan = plan_in(project, "model.norm=layer_norm,rms_norm")
    points = [
        {"step": 10, "train_seconds": 1.0, "wall_seconds": 2.0, "tokens": 100, "train_loss": 3.0},
        {"step": 10, "train_seconds": 1.0, "wall_seconds": 2.0, "tokens": 100, "eval_loss": 2.5},
        {"step": 20, "train_seconds": 2.0, "wall_seconds": 4.0, "tokens": 200, "eval_loss": math.inf},
    ]
    run = replace(record(1, "ablation", 1, 42), steps=20, train_seconds=2.0, tokens=200)
    course = course_of(run, points, plan)
    assert [tuple(evaluation) for evaluation in course.evaluations] == [(10, 1.0, 2.5)]
    assert (course.variant, course.seed, course.tokens_per_second, course.failure) == (1, 42, 100.0, "")
    assert math.isnan(course.seconds_to_target), "there are no targets"
    assert math.isnan(course_of(replace(run, tokens=0), points, plan).tokens_per_second), "a command tells no tokens"
    assert course_of(replace(run, outcome="out_of_memory"), points, plan).failure == "out of memory"


def test_nothing_of_a_plan_is_written(project: ProjectFolder, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    plan_in(project)
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "hotlap.yaml"] == before


def test_a_command_is_compared_by_the_metric_of_its_target(project: ProjectFolder) -> None:
    text = "name: toy\ncommand: {run: 'train {lr}'}\nparams: {lr: 0.1}\ntargets: [val_loss < 1]\n"
    plan = plan_in(project, "params.lr=0.1,0.3", text=text)
    runs = []
    for number in (0, 1):
        folder = RunFolder.create(project.runs_path)
        folder.append_point({"step": 1000, "wall_seconds": 12.0, "train_seconds": 12.0, "val_loss": 2.0 - number})
        run = replace(record(number + 1, "baseline" if not number else "ablation", number, 42), run_id=folder.run_id)
        runs.append(replace(run, metrics={"val_loss": 2.0 - number}))
    summary = ablation_summary(project, plan, History(clock="wall", base_config={}, runs=tuple(runs)))
    journal = render_ablation(summary)
    assert "val_loss at step 1,000" in journal and "| val_loss |" in journal and "val_loss at the end" in journal
    assert "eval_loss" not in journal
    document = summary.document()
    assert document["metric"] == "val_loss" and [run["val_loss"] for run in document["runs"]] == [2.0, 1.0]
