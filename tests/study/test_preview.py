"""What a study would do next: the steps that the plan would take, and what the policy would propose on the way."""

from dataclasses import dataclass, field, replace

import pytest
from simulated_study import SimulatedStudy, noisy, proposal, run_record

from hotlap.config.load import config_from_values
from hotlap.core.records import Decision, History, Proposal
from hotlap.core.study_folder import ProjectFolder
from hotlap.study import preview
from hotlap.study.preview import Preview, preview_study
from hotlap.study.settings import StudySettings

VALUES = {"name": "toy", "targets": ["eval_loss < 0.76"], "budget": {"run": "15m", "total": "100h"}, "patience": 2}


@dataclass
class Ideas:
    """A policy with so many ideas of each kind."""

    changes: int = 9
    ablations: int = 9
    asked: list[bool] = field(default_factory=list)
    """For each proposal, whether only leave-one-out was asked for."""

    def propose(self, history: History, *, is_ablation: bool = False) -> Proposal | None:
        self.asked.append(is_ablation)
        if self.asked.count(is_ablation) > (self.ablations if is_ablation else self.changes):
            return None
        role = "ablation" if is_ablation else "screen"
        return proposal(len(history.proposals) + 1, parent=history.incumbent, role=role)


@pytest.fixture(scope="module")
def history() -> History:
    """A study with one keep and no more ideas."""
    settings = StudySettings(total_seconds=360_000.0, run_seconds=900.0)
    study = SimulatedStudy(settings, noisy({0: 100.0, 1: 50.0}, 0.03, 3), [proposal(1)])
    study.history = replace(study.history, base_config=config_from_values(VALUES).model_dump(mode="json"))
    study.run()
    assert study.history.kept() == (1,)
    return study.history


def shown(history: History, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, ideas: Ideas) -> Preview:
    monkeypatch.setattr(preview, "load_history", lambda *_: history)
    return preview_study(project, config_from_values(VALUES), ideas)


def tried(history: History, times: int) -> History:
    """Return the history after so many changes that were not kept."""
    for _ in range(times):
        number = len(history.proposals) + 1
        decision = Decision(proposal=number, verdict="discard", reason="slower")
        proposals = (*history.proposals, proposal(number, parent=1))
        runs = (*history.runs, run_record(len(history.runs) + 1, "screen", number, 60.0))
        history = replace(history, runs=runs, proposals=proposals, decisions=(*history.decisions, decision))
    return history


def test_changes_come_until_patience_is_used_up_and_then_leave_one_out(
    history: History, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shown(history, project, monkeypatch, Ideas())
    assert found.next_step == "takes up the first of the proposals below"
    assert [proposal.role for proposal in found.proposals] == ["screen"] * 2 + ["ablation"] * 3


def test_leave_one_out_is_told_as_such(
    history: History, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shown(tried(history, 2), project, monkeypatch, Ideas(ablations=2))
    assert found.next_step.startswith("leaves out what was kept")
    assert [proposal.role for proposal in found.proposals] == ["ablation"] * 2


@pytest.mark.parametrize("has_claim", [True, False])
def test_without_ideas_the_look_or_the_end_is_told(
    has_claim: bool, history: History, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = history if has_claim else replace(history, claims=(), runs=history.runs[:-8])
    found = shown(past, project, monkeypatch, Ideas(changes=0, ablations=0))
    assert found.proposals == ()
    said = "the study ends: there are no ideas left; candidate 1 is a record" if has_claim else "record look 1, run 1"
    assert found.next_step.startswith(said)
