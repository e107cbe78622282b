"""Whole sweeps in real processes, but without training: the fake worker ends at once, in virtual seconds."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.load import config_from_values
from hotlap.config.sweep import SweepConfig, load_sweep
from hotlap.core.errors import ConfigError, NotSupportedError, StudyError
from hotlap.core.records import History, Proposal, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.environment import worker_threads
from hotlap.launch.local import LocalLauncher
from hotlap.search.sweep_sampler import Told
from hotlap.study import runner, sweep_drive, sweep_loop
from hotlap.study import sweep as sweep_module
from hotlap.study.study import Study, open_study
from hotlap.study.sweep import open_sweep, retry_failures, slot_devices
from hotlap.study.sweep_drive import rung_rules, settings_of, space_values, suggester
from hotlap.study.sweep_loop import SweepDriver, cores_of
from hotlap.study.sweep_plan import Start, SweepSettings, best_candidate
from hotlap.study.sweep_view import sweep_summary

PROGRAM = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))

SWEEP = """
name: toy-sweep
model: {embd_pdrop: 0.1}
training: {learning_rate: 3.0e-3, lr_scheduler_type: constant, max_steps: 100000}
budget: {run: 60s, total: 1000h}
search:
  method: random
  metric: {name: eval_loss, goal: minimize}
  run_cap: 4
  parameters:
    training.learning_rate: {distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-2}
    training.optim: {values: [adamw_torch, muon]}
"""


@dataclass
class Recorder:
    """Remembers what a sweep tells; stops it after some runs."""

    stops_after: int = 10**6
    most_at_once: int = 0
    records: list[RunRecord] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    driver: SweepDriver | None = None

    def started(self, folder: RunFolder, start: object, study: Study) -> None:
        pass

    def follows(self, running: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> None:
        self.most_at_once = max(self.most_at_once, len(running))

    def ended(self, record: RunRecord, study: Study) -> None:
        self.records.append(record)
        if len(self.records) == self.stops_after:
            raise KeyboardInterrupt

    def says(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "locks"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(runner, "contamination", lambda *_: "")


def space_in(project: ProjectFolder, text: str = SWEEP) -> SweepConfig:
    path = project.project / "sweep.yaml"
    path.write_text(text)
    return load_sweep(path)[0]


def sweep(
    project: ProjectFolder, space: SweepConfig, recorder: Recorder | None = None, **spending: int
) -> tuple[Study, SweepSettings, str]:
    settings = settings_of(space, **{"slots": 1, "top": 2, "seeds": 2, **spending})
    assert space.base is not None
    study = open_sweep(project, space.base, settings, space_values(space))
    rules, launcher = rung_rules(space, settings), LocalLauncher(PROGRAM)
    watcher = recorder or Recorder()
    end = SweepDriver(study, settings, suggester(space, settings), rules, watcher, launcher).run()
    return study, settings, end.reason


def test_a_sweep_finds_the_better_optimizer(project: ProjectFolder) -> None:
    study, settings, reason = sweep(project, space_in(project, SWEEP.replace("run_cap: 4", "run_cap: 8")))
    assert reason == "all 8 points have run"
    roles = [run.role for run in study.history.runs]
    assert roles == ["baseline", *["screen"] * 8, "confirm", "confirm"]
    best = best_candidate(study.history, settings)
    assert best is not None and study.history.config_of(best)["training.optim"] == "muon"
    found = sweep_summary("toy-sweep", "random", study.history, settings)
    assert found.points[0].number == best and found.points[0].runs == 2 and found.baseline is not None
    assert ("training.optim", "adamw_torch_fused", "muon") in found.changes
    assert json.dumps(found.document())


def test_several_slots_run_at_once_on_cores_of_their_own(project: ProjectFolder) -> None:
    (project.project / "fake.json").write_text('{"cases": [{"when": {"role": "screen"}, "does": "wait"}]}')
    recorder = Recorder()
    original = recorder.follows

    def until_two_run(running: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> None:
        original(running, study)
        if len(running) == 2:
            (project.project / "go").touch()

    recorder.follows = until_two_run  # type: ignore[method-assign]
    study, _, _ = sweep(project, space_in(project), recorder, slots=2)
    assert recorder.most_at_once == 2
    commands = [RunFolder(project.runs_path / run.run_id).read("command") or {} for run in study.history.runs]
    assert {command["slots"] for command in commands} == {2}
    threads = max(1, worker_threads() // 2)
    assert {command["environment"]["OMP_NUM_THREADS"] for command in commands} == {str(threads)}
    assert {tuple(command["cores"]) for command in commands} == {cores_of(slot, 2) for slot in range(2)}


def test_what_fails_is_not_repeated_unless_asked(project: ProjectFolder) -> None:
    fake = project.project / "fake.json"
    fake.write_text('{"cases": [{"when": {"training.optim": "muon"}, "does": "crash"}]}')
    space = space_in(
        project,
        SWEEP.replace("method: random", "method: grid").replace(
            "training.learning_rate: {distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-2}",
            "training.learning_rate: {values: [1.0e-3, 3.0e-3]}",
        ),
    )
    study, settings, _ = sweep(project, space)
    crashed = [run.candidate for run in study.history.runs if run.outcome == "crashed"]
    assert len(crashed) == 2 and len(set(crashed)) == 2
    fake.unlink()
    again = open_sweep(project, space.base, settings, space_values(space))  # type: ignore[arg-type]
    assert retry_failures(again) == 2
    study, settings, _ = sweep(project, space)
    assert len(study.history.proposals) == 6 and retry_failures(study) == 0
    best = best_candidate(study.history, settings)
    assert best is not None and study.history.config_of(best)["training.optim"] == "muon"


def test_of_a_point_that_was_tried_again_the_sampler_is_told_the_latest_run(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = project.project / "fake.json"
    fake.write_text('{"cases": [{"when": {"candidate": 1}, "does": "crash"}]}')
    study, settings, _ = sweep(project, space := space_in(project), top=0)
    assert retry_failures(study) == 1
    study, settings, reason = sweep(project, space, top=0)
    assert reason == "all 4 points have run" and len(study.history.proposals) == 5
    told: list[Told] = []
    monkeypatch.setattr(sweep_drive, "suggest", lambda space, known, *_: told.extend(known))
    suggester(space, settings)(study.history, [])
    failed = study.history.config_of(1)
    assert [each.point for each in told].count(failed) == 1 and len(told) == 1 + 4
    assert next(each.score for each in told if each.point == failed) == study.history.runs_of(5)[0].metrics["eval_loss"]


def test_a_sampler_that_finds_no_point_ends_no_run_and_the_best_are_repeated(project: ProjectFolder) -> None:
    space = space_in(project)
    settings = settings_of(space, slots=2, top=1, seeds=2)
    assert space.base is not None
    study = open_sweep(project, space.base, settings, space_values(space))
    ask = suggester(space, settings)

    def two_points(history: History, running: Sequence[Start]) -> Proposal | None:
        if len(history.proposals) == 2:
            raise StudyError("none of 100000 points")
        return ask(history, running)

    end = SweepDriver(study, settings, two_points, None, Recorder(), LocalLauncher(PROGRAM)).run()
    assert (end.reason, end.cause) == ("none of 100000 points", "end")
    assert sorted(run.role for run in study.history.runs) == ["baseline", "confirm", "screen", "screen"]
    assert {run.outcome for run in study.history.runs} == {"out_of_budget"}


def test_an_interrupted_sweep_goes_on_where_it_was(project: ProjectFolder) -> None:
    with pytest.raises(KeyboardInterrupt):
        sweep(project, space_in(project), Recorder(stops_after=3))
    study, _, reason = sweep(project, space_in(project))
    assert reason == "all 4 points have run"
    counted = [(run.candidate, run.seed) for run in study.history.runs if not run.is_infrastructure_failure]
    assert len(set(counted)) == len(counted) == 1 + 4 + 2


def test_the_space_may_grow_and_the_base_may_not_change(project: ProjectFolder) -> None:
    sweep(project, space_in(project))
    wider = SWEEP.replace("values: [adamw_torch, muon]", "values: [adamw_torch, muon, adafactor]").replace(
        "run_cap: 4", "run_cap: 6"
    )
    study, _, _ = sweep(project, space_in(project, wider))
    assert len(study.history.proposals) == 6
    with pytest.raises(StudyError, match="max_steps"):
        sweep(project, space_in(project, SWEEP.replace("max_steps: 100000", "max_steps: 5000")))


def test_a_speedruns_name_is_refused(project: ProjectFolder) -> None:
    config = config_from_values({"name": "toy-sweep", "targets": ["eval_loss < 0.76"]})
    open_study(project, config)
    with pytest.raises(StudyError, match="name of a speedrun"):
        sweep(project, space_in(project))


def test_runs_far_behind_are_stopped_at_their_rung_with_the_reason(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its learning rate alone makes a run better or worse here, at every reading."""
    monkeypatch.setattr(sweep_loop, "POLL_SECONDS", 0.01)
    (project.project / "fake.json").write_text('{"sigma": 0.0, "cases": [{"when": {}, "does": "slow"}]}')
    text = SWEEP.replace("method: random", "method: grid").replace("run_cap: 4", "early_terminate: {eta: 3, s: 2}")
    rates = "{values: [2.9e-3, 2.5e-3, 1.0e-7, 1.0e-8, 2.95e-3]}"
    text = text.replace("{distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-2}", rates)
    study, settings, reason = sweep(project, space_in(project, text.replace("[adamw_torch, muon]", "[adamw_torch]")))
    assert reason == "the space is exhausted"
    runs = {(run.role, run.candidate): run for run in study.history.runs}
    raced = {candidate for (_, candidate), run in runs.items() if run.outcome == "raced"}
    assert raced == {3, 4}, "two others are too few to be held against"
    stopped = runs["screen", 3]
    assert stopped.kill is not None and stopped.kill.rule == "rung"
    assert "not among the best 2 of 4 runs at" in stopped.kill.reason == stopped.reason
    assert 0 < stopped.train_seconds < settings.run_seconds
    assert {run.outcome for (role, _), run in runs.items() if role != "screen"} == {"out_of_budget"}
    assert {run.candidate for run in study.history.runs if run.role == "confirm"} == {1, 5}
    assert best_candidate(study.history, settings) == 5


def test_cores_are_shared_fairly_and_within_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_loop, "separate_cores", lambda: [0, 1, 2, 3, 4, 5, 6, 7])
    monkeypatch.setattr(sweep_loop, "worker_threads", lambda: 8)
    assert [cores_of(slot, 3) for slot in range(3)] == [(0, 1), (2, 3), (4, 5)]
    assert cores_of(0, 1) == (), "a run that is alone has the machine"
    assert {cores_of(slot, 16) for slot in range(16)} == {(core,) for core in range(8)}
    monkeypatch.setattr(sweep_loop, "worker_threads", lambda: 4)
    assert [cores_of(slot, 2) for slot in range(2)] == [(0, 1), (2, 3)], "a container's quota is for all slots together"
    monkeypatch.setattr(sweep_loop, "worker_threads", lambda: 1)
    assert [cores_of(slot, 2) for slot in range(2)] == [(0,), (0,)]


def test_runs_side_by_side_are_not_taken_for_disturbed(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "contamination", lambda *_: "others were busy")
    study, _, reason = sweep(project, space_in(project), slots=2)
    assert reason == "all 4 points have run"
    assert not any(run.contaminated for run in study.history.runs)
    _, _, reason = sweep(project, space_in(project, SWEEP.replace("toy-sweep", "alone")))
    assert "spoiled by the machine" in reason and "others were busy" in reason


def test_targets_end_no_run_unless_the_sweep_is_for_them(project: ProjectFolder) -> None:
    text = f"{SWEEP}targets: [eval_loss < 4.0]\n"
    study, _, _ = sweep(project, space_in(project, text))
    assert {run.outcome for run in study.history.runs} == {"out_of_budget"}
    assert study.config.targets == ()
    timed = text.replace("metric: {name: eval_loss, goal: minimize}", "metric: time_to_target")
    study, _, _ = sweep(project, space_in(project, timed.replace("toy-sweep", "timed")))
    assert study.config.targets == ("eval_loss < 4.0",)
    with pytest.raises(ConfigError, match="no times that could be compared"):
        sweep(project, space_in(project, timed.replace("toy-sweep", "timed")), slots=2)


def test_each_slot_has_a_gpu_of_its_own(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = space_in(project).base
    assert config is not None
    assert slot_devices(config, 2) == ("cpu",)
    monkeypatch.setattr(sweep_module, "visible_gpus", lambda: 2)
    assert slot_devices(config, 2) == ("cuda:0", "cuda:1")
    with pytest.raises(NotSupportedError, match="--slots 3 needs 3 GPUs"):
        slot_devices(config, 3)
