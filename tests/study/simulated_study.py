"""Studies without training: the real `next_action` over run times that are drawn from a distribution."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from hotlap.core.records import History, Outcome, Proposal, RunRecord
from hotlap.study.plan import Action, Claim, Decide, End, Propose, StartRun, next_action
from hotlap.study.settings import StudySettings

STEP_SECONDS = 0.01
START_UP_SECONDS = 2.0
NUMBERED = "training.weight_decay"
"""Key whose value is a proposal's number, so that no two are the same idea."""


def proposal(number: int, parent: int = 0, **changes: object) -> Proposal:
    """Return a proposal whose text does not matter."""
    plain = Proposal(
        number=number,
        parent=parent,
        family="toy",
        title=f"idea {number}",
        observation="seen",
        hypothesis="faster",
        patch={NUMBERED: float(number)},
        predicted_ratio=0.9,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def run_record(number: int, role: str, candidate: int, seconds: float, outcome: Outcome = "reached") -> RunRecord:
    """Return a run that reached after `seconds` of training, or that ended there without reaching."""
    steps = max(1, round(seconds / STEP_SECONDS)) if math.isfinite(seconds) else 1
    wall = seconds + START_UP_SECONDS
    times = {"train": seconds, "wall": wall, "step": steps} if outcome == "reached" else None
    return RunRecord(
        run_id=f"r{number:04}",
        role=role,  # type: ignore[arg-type]
        candidate=candidate,
        seed=1000 + number,
        outcome=outcome,
        steps=steps,
        train_seconds=seconds,
        wall_seconds=wall,
        tokens=100 * steps,
        time_to_target=times,
    )


@dataclass
class SimulatedStudy:
    """Drives `next_action`; `true_seconds(candidate, seed)` is what a run would need."""

    settings: StudySettings
    true_seconds: Callable[[int, History], float]
    ideas: list[Proposal]
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    """Forced outcomes by run number, counted from 1."""
    history: History = field(default_factory=lambda: History(clock="train", base_config={}))
    actions: list[Action] = field(default_factory=list)
    ideas_left: bool = True

    def run(self, most: int = 1000) -> str:
        """Go on until the study ends; return why it did."""
        for _ in range(most):
            action = next_action(self.history, self.settings, self.ideas_left)
            self.actions.append(action)
            if isinstance(action, End):
                return action.reason
            self.apply(action)
        raise AssertionError(f"no end after {most} actions")

    def apply(self, action: Action) -> None:
        """Put the outcome of one action into the history."""
        history = self.history
        match action:
            case StartRun():
                run = self._simulate(action)
                spent = history.seconds_spent + run.wall_seconds
                self.history = replace(history, runs=(*history.runs, run), seconds_spent=spent)
            case Decide(decision):
                self.history = replace(history, decisions=(*history.decisions, decision))
            case Claim(claim):
                self.history = replace(history, claims=(*history.claims, claim))
            case Propose(is_ablation):
                self._propose(is_ablation)

    def _propose(self, is_ablation: bool) -> None:
        if is_ablation or not self.ideas:
            self.ideas_left = False
            return
        number, idea = len(self.history.proposals) + 1, self.ideas.pop(0)
        patch = {key: float(number) if key == NUMBERED else value for key, value in idea.patch.items()}
        idea = replace(idea, number=number, parent=self.history.incumbent, patch=patch)
        self.history = replace(self.history, proposals=(*self.history.proposals, idea))

    def _simulate(self, action: StartRun) -> RunRecord:
        number = len(self.history.runs) + 1
        seconds = self.true_seconds(action.candidate, self.history)
        outcome: Outcome = self.outcomes.get(number, "reached")
        if outcome == "reached" and seconds > action.limit_seconds:
            outcome, seconds = "out_of_budget", action.limit_seconds
        return replace(run_record(number, action.role, action.candidate, seconds, outcome), seed=action.seed)


def noisy(seconds: Mapping[int, float], sigma: float, seed: int) -> Callable[[int, History], float]:
    """Return lognormal run times around the true time of each candidate (default: that of the baseline)."""
    generator = random.Random(seed)
    return lambda candidate, _: seconds.get(candidate, seconds[0]) * math.exp(generator.gauss(0.0, sigma))
