"""Where proposals come from, and in which order."""

import json
from pathlib import Path

import pytest
from own_project import FASTER, all_decided, config_of, drive, make_project, patch_of

from hotlap.core.errors import ConfigError
from hotlap.study.proposing import Draft, make_proposal_of
from hotlap.study.queue import enqueue, waiting
from hotlap.study.sources import NoPolicy, Sources, without_code
from hotlap.study.study import open_study

pytestmark = pytest.mark.usefixtures("quiet_machine")


def draft(**facts: object) -> Draft:
    values: dict[str, object] = {"observation": "seen", "hypothesis": "expected", **facts}
    return Draft(**values)  # type: ignore[arg-type]


@pytest.mark.slow
def test_what_is_queued_goes_first_and_only_once(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    patches = tmp_path / "patches"
    patches.mkdir()
    (patches / "a.patch").write_text(patch_of(project, *FASTER))
    folder = project.study("own").create()
    enqueue(folder, draft(settings={"params.lr": 0.5}), "somebody")
    enqueue(folder, draft(settings={"targets": []}), "somebody")
    assert [path.name for path, _, _ in waiting(folder)] == ["000001.json", "000002.json"]
    study, _ = drive(project, lambda study: Sources(study, NoPolicy(), print, patches), all_decided(2))
    first, second = study.history.proposals[:2]
    assert (first.proposer, dict(first.patch)) == ("somebody", {"params.lr": 0.5})
    assert second.proposer == "patches"
    assert not waiting(folder)


def test_the_same_words_for_other_settings_are_another_proposal(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    study = open_study(project, config_of(project))
    sources = Sources(study, NoPolicy(), print)
    for rate in (0.5, 0.6):
        enqueue(study.folder, draft(settings={"params.lr": rate}), "somebody")
    found = []
    while (proposal := sources.propose(study.history)) is not None:
        study.append(proposal)
        found.append(dict(proposal.patch))
    assert found == [{"params.lr": 0.5}, {"params.lr": 0.6}]
    assert not waiting(study.folder)
    enqueue(study.folder, draft(settings={"params.lr": 0.7}), "somebody")  # under a name that was there before
    last = sources.propose(study.history)
    assert last is not None
    assert dict(last.patch) == {"params.lr": 0.7}
    study.append(last)
    after_a_kill = Sources(study, NoPolicy(), print)
    assert after_a_kill.propose(study.history) is None
    assert not waiting(study.folder)


@pytest.mark.parametrize(
    "evaluator", ["python -m tools.eval", "python ./tools/eval.py --weights=w", "bash -c 'python tools/eval.py'"]
)
def test_the_evaluators_files_are_protected(tmp_path: Path, evaluator: str) -> None:
    project = make_project(tmp_path / "project", more=f"\n  evaluator: {json.dumps(evaluator)}")
    (project.project / "tools").mkdir()
    (project.project / "tools" / "eval.py").write_text("x = 1\n")
    study = open_study(project, config_of(project))
    assert study.code is not None
    assert study.code.edits.is_protected("tools/eval.py")
    assert not study.code.edits.is_protected("tools/other.py")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"observation": " "}, "no observation"),
        ({"settings": {}}, "changes nothing"),
        ({"settings": {"params.lr": 0.1}}, "the incumbent has that already"),
        ({"settings": {"targets": ["val_loss < 9"]}}, "may not change targets"),
        ({"settings": {"clock": "wall"}}, "may not change clock"),
        ({"settings": {"command.run": "true"}}, "may not change command.run"),
        ({"settings": {"command.evaluator": None}}, "may not change command.evaluator"),
        ({"settings": {"edits.protect": []}}, "may not change edits.protect"),
        ({"settings": {"budget.run": 1}}, "may not change budget.run"),
        ({"settings": {"params.seed": 1}}, "may not change params.seed"),
        ({"settings": {"params.unknown": 1}}, "params.unknown"),
        ({"settings": {"params.lr": 0.2}, "predicted_ratio": 0.0}, "predicted ratio of 0"),
    ],
)
def test_drafts_that_cannot_be_used_are_told(tmp_path: Path, facts: dict[str, object], message: str) -> None:
    project = make_project(tmp_path / "project")
    study = open_study(project, config_of(project))
    with pytest.raises(ConfigError, match=message):
        make_proposal_of(study.code, study.history, draft(**facts), "somebody")


@pytest.mark.slow
def test_a_kept_change_of_code_is_tried_without(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    patches = tmp_path / "patches"
    patches.mkdir()
    (patches / "a.patch").write_text(patch_of(project, *FASTER))
    (patches / "b.patch").write_text(patch_of(project, "model.py", "GAIN = 1.0", "GAIN = 2.0"))
    study, _ = drive(project, lambda study: Sources(study, NoPolicy(), print, patches), all_decided(2))
    history = study.history
    assert history.kept() == (1, 2)
    assert study.code is not None
    proposal = without_code(study.code, history)
    assert proposal is not None
    assert (proposal.role, proposal.parent, proposal.title) == ("ablation", 2, "without the code of #1 (a)")
    assert "+STEP_SECONDS = 0.02" in proposal.code
    assert "GAIN" not in "".join(line for line in proposal.code.splitlines() if line.startswith(("+", "-")))
    assert len(study.code.store.branch("hotlap/own")) == 3
