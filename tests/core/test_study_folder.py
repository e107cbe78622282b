"""The project's and the study's folders: made once, written by appending."""

from dataclasses import asdict
from pathlib import Path

import pytest

from hotlap.core.errors import StorageError
from hotlap.core.records import Decision, Proposal, RecordClaim
from hotlap.core.study_folder import ProjectFolder, StudyFolder

PROPOSAL = Proposal(
    number=1,
    parent=0,
    family="toy",
    title="größer",
    observation="o",
    hypothesis="h",
    patch={"training.learning_rate": 1e-3},
    predicted_ratio=0.9,
)
DECISION = Decision(proposal=1, verdict="discard", reason="slower", statistics={"ratio": 1.2})
CLAIM = RecordClaim(
    look=1, candidate=1, against=0, p_value=0.01, alpha=0.0167, confirmed=True, median_seconds=9.0, reason="clear"
)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return ProjectFolder(tmp_path).create().study("speed").create()


def test_the_project_keeps_itself_out_of_git_but_lets_the_user_decide(tmp_path: Path) -> None:
    project = ProjectFolder(tmp_path).create()
    ignore = project.path / ".gitignore"
    assert project.path == tmp_path / ".hotlap"
    assert ignore.read_text() == "*\n"
    ignore.write_text("*\n!notes.jsonl\n")
    project.create()
    assert ignore.read_text() == "*\n!notes.jsonl\n"


def test_studies_are_listed_by_name(tmp_path: Path) -> None:
    project = ProjectFolder(tmp_path).create()
    assert project.studies() == []
    for name in ("b", "a"):
        project.study(name).create()
    (project.path / "studies" / "stray.txt").touch()
    assert [study.name for study in project.studies()] == ["a", "b"]


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StorageError, match="choose another folder with -p"):
        ProjectFolder(file).create()
    with pytest.raises(StorageError, match="cannot make"):
        StudyFolder(file / "study").create()


def test_the_protocol_is_kept(study: StudyFolder) -> None:
    assert study.protocol() is None
    study.write_protocol({"clock": "train"})
    assert study.protocol() == {"clock": "train"}


def test_the_ledger_holds_every_fact_in_order(study: StudyFolder) -> None:
    assert study.ledger() == []
    study.append("sitting", {"at": 1})
    for event, record in (("proposal", PROPOSAL), ("decision", DECISION), ("claim", CLAIM)):
        study.append(event, asdict(record))
    events = study.ledger()
    assert [event.pop("event") for event in events] == ["sitting", "proposal", "decision", "claim"]
    assert Proposal(**events[1]) == PROPOSAL
    assert Decision(**events[2]) == DECISION
    assert RecordClaim(**events[3]) == CLAIM


def test_a_fact_of_an_unknown_kind_is_our_own_bug(study: StudyFolder) -> None:
    with pytest.raises(AssertionError):
        study.append("rumour", {})
