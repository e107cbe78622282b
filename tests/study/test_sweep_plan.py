"""What a sweep does next, on simulated sweeps."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hotlap.core.records import History, Outcome, Proposal, RunRecord
from hotlap.study.sweep_plan import (
    Ask,
    Start,
    Stop,
    SweepSettings,
    Wait,
    best_candidate,
    next_sweep_action,
    ranking,
)

SETTINGS = SweepSettings(run_cap=5, total_seconds=3600.0, run_seconds=60.0)
RUN_WALL = 65.0


def point(number: int) -> Proposal:
    return Proposal(
        number=number,
        parent=0,
        family="sweep",
        title=f"point {number}",
        observation="",
        hypothesis="",
        patch={"training.learning_rate": number / 1000},
        predicted_ratio=1.0,
    )


@dataclass
class Sweep:
    """Plays a sweep: `losses` by candidate, every run takes the same time."""

    settings: SweepSettings
    losses: Mapping[int, float]
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    """Forced outcomes by run number, counted from 1."""
    history: History = field(default_factory=lambda: History(clock="train", base_config={}))
    running: list[Start] = field(default_factory=list)
    started: list[Start] = field(default_factory=list)
    spent: float = 0.0
    points: int = 99

    def play(self, most: int = 500) -> str:
        for _ in range(most):
            action = next_sweep_action(
                self.history,
                self.running,
                self.settings,
                spent_seconds=self.spent,
                no_points="" if len(self.history.proposals) < self.points else "the space is exhausted",
            )
            match action:
                case Start():
                    self.started.append(action)
                    self.running.append(action)
                    assert len(self.running) <= self.settings.slots
                case Ask():
                    proposal = point(len(self.history.proposals) + 1)
                    self.history = replace(self.history, proposals=(*self.history.proposals, proposal))
                case Wait():
                    self.end_one()
                case Stop(reason):
                    assert not self.running
                    return reason
        raise AssertionError(f"no end after {most} actions")

    def end_one(self) -> None:
        assert self.running, "waiting for nothing"
        start = self.running.pop(0)
        self.spent += RUN_WALL / self.settings.slots
        number = len(self.history.runs) + 1
        outcome = self.outcomes.get(number, "out_of_budget")
        record = RunRecord(
            run_id=f"r{number:04}",
            role=start.role,
            candidate=start.candidate,
            seed=start.seed,
            outcome=outcome,
            steps=100,
            train_seconds=60.0,
            wall_seconds=RUN_WALL,
            metrics={"eval_loss": self.losses.get(start.candidate, 5.0) + 0.001 * start.seed},
        )
        self.history = replace(self.history, runs=(*self.history.runs, record), seconds_spent=self.spent)


def test_a_sweep_runs_the_baseline_then_its_points_then_the_best_again() -> None:
    sweep = Sweep(SETTINGS, {0: 4.0, 1: 3.0, 2: 1.0, 3: 2.0, 4: 5.0, 5: 1.5})
    assert sweep.play() == "all 5 points have run"
    assert [start.role for start in sweep.started] == ["baseline", *["screen"] * 5, *["confirm"] * 6]
    repeated = [(start.candidate, start.seed) for start in sweep.started[6:]]
    assert repeated == [(2, 43), (2, 44), (5, 43), (5, 44), (3, 43), (3, 44)]
    assert {start.seed for start in sweep.started[:6]} == {42}
    assert best_candidate(sweep.history, SETTINGS) == 2 and ranking(sweep.history, SETTINGS) == [2, 5, 3, 1, 4]


def test_slots_are_kept_busy() -> None:
    sweep = Sweep(replace(SETTINGS, slots=2, run_cap=7), {2: 1.0})
    sweep.play()
    assert len(sweep.started) == 1 + 7 + 6
    assert len({(start.candidate, start.seed) for start in sweep.started}) == len(sweep.started)


def test_what_was_lost_runs_again_and_what_failed_does_not() -> None:
    sweep = Sweep(SETTINGS, {1: 1.0}, outcomes={2: "interrupted", 3: "lost", 5: "diverged"})
    sweep.play()
    first = [start.candidate for start in sweep.started[:8]]
    assert first == [0, 1, 1, 1, 2, 3, 4, 5]
    assert 2 not in ranking(sweep.history, SETTINGS)


def test_a_machine_that_spoils_run_after_run_ends_the_sweep() -> None:
    sweep = Sweep(SETTINGS, {}, outcomes=dict.fromkeys(range(2, 9), "lost"))
    assert "4 runs in a row were spoiled by the machine" in sweep.play()
    action = next_sweep_action(sweep.history, [], SETTINGS, spent_seconds=sweep.spent)
    assert isinstance(action, Stop) and action.cause == "machine"
    later = next_sweep_action(
        sweep.history, [], SETTINGS, spent_seconds=sweep.spent, sitting_start=len(sweep.history.runs)
    )
    assert isinstance(later, Start), "the next sitting tries again"


def test_a_point_that_is_tried_again_takes_no_place_of_a_new_one() -> None:
    sweep = Sweep(SETTINGS, {}, outcomes={3: "crashed"})
    again = replace(point(3), patch=point(2).patch, proposer="retry")
    sweep.history = replace(sweep.history, proposals=(point(1), point(2), again))
    assert sweep.play() == "all 5 points have run"
    assert len(sweep.history.proposals) == 6


def test_a_sampler_without_points_ends_nothing_that_runs() -> None:
    sweep = Sweep(replace(SETTINGS, run_cap=None), {1: 1.0, 2: 2.0}, points=2)
    sweep.play()
    assert [start.role for start in sweep.started] == ["baseline", "screen", "screen", *["confirm"] * 4]


def test_the_budget_keeps_room_for_the_repetitions() -> None:
    sweep = Sweep(replace(SETTINGS, run_cap=None, total_seconds=20.5 * RUN_WALL), {1: 1.0})
    assert "no room for another point" in sweep.play()
    assert sweep.spent <= 20 * RUN_WALL and sum(start.role == "confirm" for start in sweep.started) == 6
    tight = Sweep(replace(SETTINGS, run_cap=None, total_seconds=1.5 * RUN_WALL), {})
    assert "no room for another point" in tight.play()
    assert [start.role for start in tight.started] == ["baseline"]
    late = Sweep(replace(SETTINGS, run_cap=None, total_seconds=0.5 * RUN_WALL), {})
    assert "used up" in late.play()


@pytest.mark.parametrize(
    ("goal", "target", "points"), [("minimize", 1.1, 2), ("maximize", 4.9, 1), ("minimize", 0.1, 5)]
)
def test_no_further_point_is_asked_for_at_the_target(goal: str, target: float, points: int) -> None:
    settings = replace(SETTINGS, goal=goal, target=target)  # type: ignore[arg-type]
    sweep = Sweep(settings, {0: 4.0, 1: 5.0, 2: 1.0, 3: 4.0, 4: 4.0, 5: 4.0})
    sweep.play()
    assert len(sweep.history.proposals) == points


def test_an_exhausted_space_ends_a_sweep() -> None:
    sweep = Sweep(replace(SETTINGS, run_cap=None), {1: 1.0}, points=2)
    assert sweep.play() == "the space is exhausted"
    assert {start.candidate for start in sweep.started} == {0, 1, 2}


def test_what_failed_has_reached_nothing() -> None:
    sweep = Sweep(replace(SETTINGS, target=1.1), {}, outcomes={1: "crashed", 2: "diverged"})
    assert sweep.play() == "all 5 points have run"


def test_a_short_budget_is_not_all_kept_for_repetitions() -> None:
    sweep = Sweep(replace(SETTINGS, run_cap=None, total_seconds=4 * RUN_WALL), {1: 1.0})
    sweep.play()
    assert [(start.role, start.candidate) for start in sweep.started] == [
        ("baseline", 0),
        ("screen", 1),
        ("confirm", 1),
        ("confirm", 1),
    ]


def test_a_metric_that_no_run_tells_ends_a_sweep() -> None:
    sweep = Sweep(replace(SETTINGS, metric="bits_per_byte"), {})
    assert sweep.play() == "r0001 ended by itself and told no bits_per_byte; it told eval_loss"
    assert not sweep.history.proposals
    generated = Sweep(replace(SETTINGS, metric="eval_sacrebleu"), {})
    assert generated.play() == "all 5 points have run", "only good runs generate text"
    assert best_candidate(generated.history, SETTINGS) is not None
    assert best_candidate(generated.history, generated.settings) is None


def test_a_lucky_run_does_not_pass_what_was_repeated() -> None:
    sweep = Sweep(replace(SETTINGS, top=1), {1: 1.0, 2: 1.01})
    sweep.play()
    worse = tuple(
        replace(run, metrics={"eval_loss": 3.0}) if run.candidate == 1 and run.role == "confirm" else run
        for run in sweep.history.runs
    )
    assert ranking(replace(sweep.history, runs=worse), sweep.settings)[:2] == [1, 2]


@given(
    losses=st.lists(st.floats(0.5, 9.0), min_size=1, max_size=8),
    slots=st.integers(1, 3),
    seed=st.integers(0, 99),
    lost=st.sets(st.integers(1, 20), max_size=2),
)
@hypothesis_settings(deadline=None)
def test_every_point_runs_exactly_once_with_each_of_its_seeds(
    losses: list[float], slots: int, seed: int, lost: set[int]
) -> None:
    generator = random.Random(seed)
    settings = replace(SETTINGS, run_cap=len(losses), slots=slots, top=generator.randint(0, 3), seeds=2)
    sweep = Sweep(settings, dict(enumerate(losses, start=1)), outcomes=dict.fromkeys(lost, "interrupted"))
    sweep.play()
    counted = [(run.candidate, run.seed) for run in sweep.history.runs if not run.is_infrastructure_failure]
    assert len(set(counted)) == len(counted)
    assert {candidate for candidate, _ in counted} == set(range(len(losses) + 1))
    assert len(counted) == 1 + len(losses) + min(settings.top, len(losses))
