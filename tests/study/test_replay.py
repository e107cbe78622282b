"""Replays: which runs they make, in which order and within which limits, and how they go on after a stop."""

import math
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from simulated_study import proposal, run_record

from hotlap.config.load import config_from_values
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.records import Decision, History, Outcome, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.aliases import resolve_alias
from hotlap.runs.store import RunStore
from hotlap.search.transfer import transfers
from hotlap.study import study as study_module
from hotlap.study.plan import Action, End, StartRun
from hotlap.study.replay import (
    COMPLETE,
    ReplayPlan,
    differences_of,
    last_replay,
    next_run,
    open_replay,
    plan_replay,
    run_replay,
)
from hotlap.study.study import Study, open_study, read_study
from hotlap.study.watching import Interrupts, Watcher

VALUES = {"name": "toy", "targets": ["eval_loss < 0.76"], "budget": {"run": "15m", "total": "1h"}}
TRUE = {0: 100.0, 1: 50.0, 3: 20.0}
"""Training seconds of the rungs; #2 was discarded."""


@dataclass
class TableRunner:
    """Makes runs out of a table of times, as folders like any others."""

    seconds: Mapping[int, float]
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    """By number of the run, counted from 1."""
    stops_after: int = 10**6
    actions: list[StartRun] = field(default_factory=list)

    def run(self, study: Study, action: StartRun, watcher: Watcher, interrupts: Interrupts) -> RunRecord | None:
        self.actions.append(action)
        folder = RunFolder.create(study.project.runs_path)
        seconds = self.seconds[action.candidate]
        outcome: Outcome = self.outcomes.get(len(self.actions), "reached")
        if outcome == "reached" and seconds > action.limit_seconds:
            outcome, seconds = "out_of_budget", action.limit_seconds
        record = run_record(int(folder.run_id[1:]), action.role, action.candidate, seconds, outcome)
        record = replace(record, run_id=folder.run_id, seed=action.seed)
        write_run(folder, study.folder.name, record)
        study.append_run(
            {
                **{"run": record.run_id, "role": action.role, "candidate": action.candidate, "seed": action.seed},
                "phase": "started",
            }
        )
        if len(self.actions) == self.stops_after:
            signal.raise_signal(signal.SIGINT)
        return record


def write_run(folder: RunFolder, study: str, record: RunRecord) -> None:
    names = ("role", "candidate", "seed")
    command = {"study": study, "driver": {}, **{name: getattr(record, name) for name in names}}
    folder.write("command", command)
    clocks = {"step": record.steps, "train_seconds": record.train_seconds, "wall_seconds": record.wall_seconds}
    times = dict(record.time_to_target) if record.time_to_target else None
    facts: dict[str, Any] = {"outcome": record.outcome, "reason": record.reason, "time_to_target": times, **clocks}
    folder.write("result", {**facts, "metrics": {}, "seconds": {}})


class Quiet:
    def acts(self, action: Action, study: Study) -> None: ...

    def follows(self, folder: RunFolder, points: Sequence[dict[str, Any]]) -> None: ...

    def ended(self, record: RunRecord) -> None: ...

    def says(self, text: str) -> None: ...


@pytest.fixture
def kept(project: ProjectFolder) -> ProjectFolder:
    """A study with the rungs 0, 1 and 3."""
    study = open_study(project, config_from_values(VALUES))
    ideas = [proposal(1), proposal(2, parent=1), proposal(3, parent=1, patch={"training.learning_rate": 0.25})]
    for idea, verdict in zip(ideas, ("keep", "discard", "keep"), strict=True):
        study.append(idea)
        study.append(Decision(proposal=idea.number, verdict=verdict, reason="r"))  # type: ignore[arg-type]
    for number, seconds in TRUE.items():
        for place in (1, 2):
            folder = RunFolder.create(project.runs_path)
            role = "incumbent" if number else "baseline"
            record = replace(run_record(place, role, number, seconds), run_id=folder.run_id, seed=40 + place)
            write_run(folder, "toy", record)
            study.append_run({"run": record.run_id, "role": role, "candidate": number, "seed": record.seed})
    study.end("no ideas")
    return project


def play(project: ProjectFolder, runner: TableRunner, plan: ReplayPlan | None = None) -> tuple[Study, str]:
    plan = plan or plan_replay(project)
    replay = open_replay(project, plan)
    return replay, run_replay(replay, plan, Quiet(), runner)


def test_the_rungs_run_in_turn_with_fresh_seeds_and_at_most_twice_the_time_before(kept: ProjectFolder) -> None:
    runner = TableRunner(TRUE)
    replay, reason = play(kept, runner)
    assert reason == "every rung has had its runs"
    assert [action.candidate for action in runner.actions] == [0, 1, 3, 3, 1, 0, 0, 1, 3]
    assert [action.role for action in runner.actions[:3]] == ["baseline", "incumbent", "incumbent"]
    seeds = [action.seed for action in runner.actions]
    assert len(set(seeds)) == 9 and min(seeds) > 1000
    assert [action.limit_seconds for action in runner.actions[:3]] == [900.0, 200.0, 100.0]
    assert not any(action.is_raced for action in runner.actions)
    assert replay.history.config_of(3) == {"training.weight_decay": 1.0, "training.learning_rate": 0.25}
    rows = transfers(read_study(kept)[1], replay.history, (0, 1, 3))
    assert [row.answer for row in rows] == [None, "yes", "yes"]


def test_the_study_itself_is_left_as_it_was(kept: ProjectFolder) -> None:
    ledger = kept.study("toy").ledger_path.read_bytes()
    before = read_study(kept)
    play(kept, TableRunner(TRUE))
    assert kept.study("toy").ledger_path.read_bytes() == ledger
    assert read_study(kept) == before
    with RunStore(kept) as store:
        store.refresh()
        runs = store.runs()
    assert {run.study for run in runs} == {"toy", "toy@1"}
    assert resolve_alias("@baseline", runs).study == resolve_alias("@best", runs).study == "toy"


def test_a_replay_that_was_stopped_goes_on_and_one_that_ended_begins_anew(kept: ProjectFolder) -> None:
    first = TableRunner(TRUE, stops_after=4)
    assert play(kept, first)[1] == "interrupted"
    second = TableRunner(TRUE)
    replay, _ = play(kept, second)
    assert replay.folder.name == "toy@1"
    assert [action.candidate for action in first.actions + second.actions] == [0, 1, 3, 3, 1, 0, 0, 1, 3]
    third = TableRunner(TRUE)
    replay, _ = play(kept, third)
    assert replay.folder.name == "toy@2" and len(third.actions) == 9
    seeds = {action.seed for runner in (first, second) for action in runner.actions}
    assert not seeds & {action.seed for action in third.actions}
    plan, history = last_replay(kept)
    assert plan.folder.name == "toy@2" and len(history.runs) == 9 and history.ended.startswith("every rung")


def test_another_plan_or_machine_is_another_replay(kept: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    play(kept, TableRunner(TRUE, stops_after=2))
    assert plan_replay(kept).folder.name == "toy@1"
    assert plan_replay(kept, runs=2).folder.name == "toy@2"
    ends = plan_replay(kept, only_ends=True)
    assert ends.folder.name == "toy@2" and ends.rungs == (0, 3)
    changed = plan_replay(kept, patch={"budget.run": "5m"})
    assert changed.folder.name == "toy@2"
    assert changed.differences == {"config.budget.run": (900.0, 300.0)}
    monkeypatch.setattr(study_module, "worker_threads", lambda: 77)
    elsewhere = plan_replay(kept)
    assert elsewhere.folder.name == "toy@2" and elsewhere.differences["threads"][1] == 77


def test_runs_that_the_machine_spoiled_are_repeated_with_their_seed(kept: ProjectFolder) -> None:
    runner = TableRunner(TRUE, outcomes={2: "lost", 4: "interrupted"})
    play(kept, runner)
    counted = [a for n, a in enumerate(runner.actions, start=1) if n not in (2, 4)]
    assert len(counted) == 9 and len({action.seed for action in counted}) == 9
    assert runner.actions[1].seed == runner.actions[2].seed


def test_a_replay_that_the_machine_ended_goes_on(kept: ProjectFolder) -> None:
    spoiled = TableRunner(TRUE, outcomes=dict.fromkeys(range(3, 20), "lost"))
    assert "4 runs in a row were spoiled by the machine" in play(kept, spoiled)[1]
    quiet = TableRunner(TRUE)
    replay, reason = play(kept, quiet)
    assert replay.folder.name == "toy@1" and reason == COMPLETE
    assert [action.candidate for action in quiet.actions] == [3, 3, 1, 0, 0, 1, 3]
    assert plan_replay(kept).folder.name == "toy@2"


def test_other_data_are_told(kept: ProjectFolder) -> None:
    plan = plan_replay(kept)
    replay, _ = play(kept, TableRunner(TRUE), plan)
    assert differences_of(plan, replay.history) == {}

    def with_data(history: History, content: str) -> History:
        runs = tuple(replace(run, environment={"data": {"hash": content}}) for run in history.runs)
        return replace(history, runs=runs)

    there = replace(plan, original=with_data(plan.original, "aaa"))
    assert differences_of(there, with_data(replay.history, "aaa")) == {}
    assert differences_of(there, with_data(replay.history, "bbb")) == {"data": ("aaa", "bbb")}
    assert differences_of(there, replay.history) == {}


def test_a_rung_that_breaks_is_not_tried_again(kept: ProjectFolder) -> None:
    runner = TableRunner(TRUE, outcomes={2: "crashed"})
    replay, reason = play(kept, runner)
    assert [action.candidate for action in runner.actions] == [0, 1, 3, 3, 0, 0, 3]
    assert reason.startswith("every rung")
    rows = transfers(read_study(kept)[1], replay.history, (0, 1, 3))
    assert rows[1].answer == "no"


def test_a_slower_rung_is_stopped_and_does_not_transfer(kept: ProjectFolder) -> None:
    replay, _ = play(kept, TableRunner({**TRUE, 1: 300.0, 3: 20.0}))
    rows = transfers(read_study(kept)[1], replay.history, (0, 1, 3))
    assert rows[1].answer == "no" and math.isinf(rows[1].here.median_seconds)
    assert [run.outcome for run in replay.history.runs_of(1)] == ["out_of_budget"] * 3


def test_the_next_run_is_a_pure_function(kept: ProjectFolder) -> None:
    plan = plan_replay(kept, runs=1)
    replay, _ = play(kept, TableRunner(TRUE), plan)
    assert isinstance(next_run(replay.history, plan), End)
    for count in range(3):
        history = replace(replay.history, runs=replay.history.runs[:count])
        assert next_run(history, plan) == next_run(replace(history), plan)


def test_what_cannot_be_replayed_is_refused(project: ProjectFolder) -> None:
    with pytest.raises(StudyError, match="no study yet"):
        plan_replay(project)
    open_study(project, config_from_values(VALUES))
    with pytest.raises(StudyError, match="nothing was kept in the study 'toy'"):
        plan_replay(project)
    with pytest.raises(StudyError, match="no study 'other'"):
        plan_replay(project, "other")
    with pytest.raises(StudyError, match="not replayed yet; run: hotlap replay toy"):
        last_replay(project, "toy")


def test_a_patch_that_does_not_fit_leaves_nothing_behind(kept: ProjectFolder) -> None:
    with pytest.raises(ConfigError, match="budget"):
        plan_replay(kept, patch={"budget.runs": 3})
    assert kept.replays() == []


def test_reindexing_knows_the_replay(kept: ProjectFolder) -> None:
    play(kept, TableRunner(TRUE, outcomes={3: "lost"}))
    with RunStore(kept) as store:
        store.refresh()
        before = store.runs("toy@1")
    kept.index_path.unlink()
    with RunStore(kept) as store:
        store.refresh()
        assert store.runs("toy@1") == before
    assert len(before) == 10 and before[0].role == "baseline"
