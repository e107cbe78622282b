"""Limits on both clocks: the last step is the last that fits."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from hotlap.train.distributed import World
from hotlap.train.loop import Step
from hotlap.worker import budget as budget_module
from hotlap.worker.budget import Budget


@dataclass
class FakeSession:
    train: float | None = None
    wall: float | None = None

    def limit(self, clock: str) -> float | None:
        return self.train if clock == "train" else self.wall


class FakeEvaluator:
    """Takes two seconds for the forward pass and three for generating."""

    can_generate = True

    def __init__(self) -> None:
        self.now = 0.0

    def cheap_metrics(self) -> None:
        self.now += 2

    def generation_metrics(self) -> None:
        self.now += 3


def make_budget(session: FakeSession, *, saves_checkpoints: bool = False) -> Budget:
    model = torch.nn.Linear(10_000, 2500, bias=False)  # 100 MB: a second to save
    training = SimpleNamespace(save_model=True)
    world = World(0, 1, 0, torch.device("cpu"))
    parts = SimpleNamespace(model=model, world=world, config=SimpleNamespace(training=training))
    return Budget(cast(Any, session), cast(Any, parts), saves_checkpoints=saves_checkpoints)


def at(train_seconds: float, wall_seconds: float) -> Step:
    return Step(1, 1.0, None, 0.1, 1, 1, train_seconds, wall_seconds, is_interrupted=False)


def test_another_step_has_to_fit() -> None:
    budget = make_budget(FakeSession(train=3.5))
    assert budget.passed(at(1.0, 9.0)) is None
    assert budget.passed(at(2.0, 99.0)) is None
    assert budget.passed(at(3.0, 99.0)) == "3.0 s on the train clock, the limit is 3.5 s"


def test_a_resumed_run_does_not_take_its_past_for_a_step() -> None:
    budget = make_budget(FakeSession(train=30.0))
    budget.start(cast(Any, FakeEvaluator()), 20.0)
    assert budget.passed(at(21.0, 0.0)) is None


@pytest.mark.parametrize(("saves", "rest"), [(False, 6.0), (True, 9.0)])
def test_on_the_wall_clock_evaluation_and_saving_are_in(
    monkeypatch: pytest.MonkeyPatch, saves: bool, rest: float
) -> None:
    budget, evaluator = make_budget(FakeSession(wall=100.0), saves_checkpoints=saves), FakeEvaluator()
    monkeypatch.setattr(budget_module.time, "monotonic", lambda: evaluator.now)
    budget.start(cast(Any, evaluator), 0.0)
    assert budget.passed(at(1.0, 99.0 - rest)) is None
    kept = f"{rest:.1f} s of it for the last evaluation and saving"
    reading = 99.1 - rest
    assert budget.passed(at(2.0, reading)) == f"{reading:.1f} s on the wall clock, the limit is 100.0 s, {kept}"


def test_without_a_wall_limit_nothing_is_timed() -> None:
    evaluator = FakeEvaluator()
    budget = make_budget(FakeSession(train=5.0))
    budget.start(cast(Any, evaluator), 0.0)
    assert evaluator.now == 0
    assert budget.passed(at(1.0, 1e9)) is None
