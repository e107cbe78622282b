"""What applying kept changes makes of a config file, and what the user is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.load import load_config
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.records import Decision, Proposal, Verdict
from hotlap.core.study_folder import ProjectFolder
from hotlap.study.apply import Application, plan_application
from hotlap.study.study import open_study

TEXT = """\
name: toy  # short
model: {embd_pdrop: 0.1}
training:
  learning_rate: 3.0e-3  # guessed
  optim: adamw_torch
targets: [eval_loss < 0.76]
"""
IDEAS: list[tuple[int, dict[str, Any], Verdict]] = [
    (0, {"model.embd_pdrop": 0.0}, "keep"),
    (1, {"training.optim": "sgd"}, "discard"),
    (1, {"training.optim": "muon"}, "keep"),
    (3, {"training.learning_rate": 0.009}, "keep"),
    (4, {"training.learning_rate": 0.027}, "keep"),
]

Plan = Callable[..., Application]


@pytest.fixture
def plan(project: ProjectFolder) -> Plan:
    """A study with a ladder of four and an undecided proposal; call it as `plan_application`."""
    path = project.project / "hotlap.yaml"
    path.write_text(TEXT)
    study = open_study(project, load_config(path))
    texts = dict.fromkeys(("family", "observation", "hypothesis"), "x")
    for number, (parent, patch, verdict) in enumerate(IDEAS, start=1):
        facts: dict[str, Any] = {"number": number, "parent": parent, "patch": patch, "predicted_ratio": 0.9}
        study.append(Proposal(title=f"idea {number}", **facts, **texts))
        study.append(Decision(proposal=number, verdict=verdict, reason=f"because {number}\nand more"))
    study.append(Proposal(number=6, parent=5, title="open", patch={"model.smear": True}, predicted_ratio=0.9, **texts))

    def call(what: str, *, config: Path = path, **more: Any) -> Application:
        return plan_application(project, config, what, **more)

    return call


def test_the_ladder_is_written_whole_and_the_comments_stay(plan: Plan) -> None:
    found = plan("ladder")
    assert found.numbers == (1, 3, 4, 5)
    expected = TEXT.replace("0.1}", "0.0}").replace("3.0e-3", "0.027").replace("adamw_torch", "muon")
    assert found.after == expected
    assert found.notes == ()
    added = [line for line in found.diff("hotlap.yaml").splitlines() if line.startswith("+ ")]
    assert added == ["+  learning_rate: 0.027  # guessed", "+  optim: muon"]


def test_one_change_tells_what_it_was_measured_with_and_what_came_later(plan: Plan) -> None:
    found = plan("4")
    assert found.numbers == (4,)
    assert found.after == TEXT.replace("3.0e-3", "0.009")
    before, later = found.notes
    assert "#4 was measured on top of #1, #3, which " in before and before.endswith("the ladder is all of them")
    assert later == "a later kept change sets training.learning_rate to 0.027"
    assert plan("#1").notes == ()


def test_what_the_file_has_already_is_no_change(plan: Plan, project: ProjectFolder) -> None:
    path = project.project / "hotlap.yaml"
    path.write_text(plan("ladder").after)
    again = plan("ladder")
    assert again.after == again.before and again.diff("x") == "" and again.notes == ()


def test_a_file_that_is_not_the_studys_is_told(plan: Plan, project: ProjectFolder) -> None:
    path = project.project / "hotlap.yaml"
    path.write_text(TEXT + "budget: {total: 2h}\npatience: 3\n")
    assert plan("1").notes == ()
    path.write_text(TEXT.replace("0.76", "0.5") + "clock: wall\ncalibrate: {runs: 5}\n")
    (note,) = plan("1").notes
    assert "is not what the study toy began with" in note and "clock train → wall" in note


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("2", r"#2 was not kept \(discard: because 2\); kept are #1, #3, #4, #5"),
        ("6", r"#6 was not kept \(not decided yet\)"),
        ("7", "there is no proposal #7"),
        ("0", "there is no proposal #0"),
        ("best", "cannot read 'best': write the number of a kept change such as 4, or ladder"),
    ],
)
def test_what_was_not_kept_is_refused_with_the_reason(plan: Plan, what: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        plan(what)
    assert caught.value.exit_code == 2


def test_a_study_is_found_by_the_name_in_the_file_or_named(plan: Plan, project: ProjectFolder) -> None:
    other = project.project / "other.yaml"
    other.write_text(TEXT.replace("name: toy", "name: mine"))
    with pytest.raises(StudyError, match=r"no study 'mine' \(the name in .*other.yaml\); choose one with --study: toy"):
        plan("1", config=other)
    assert plan("1", config=other, study="toy").after == other.read_text().replace("0.1}", "0.0}")
    with pytest.raises(StudyError, match="no study 'nobody'"):
        plan("1", study="nobody")
    with pytest.raises(ConfigError, match="no such config"):
        plan("1", config=project.project / "absent.yaml")


def test_without_a_keep_there_is_no_ladder(project: ProjectFolder) -> None:
    path = project.project / "hotlap.yaml"
    path.write_text(TEXT)
    with pytest.raises(StudyError, match="no study 'toy'"):
        plan_application(project, path, "ladder")
    open_study(project, load_config(path))
    with pytest.raises(ConfigError, match="no ladder to apply: nothing was kept so far"):
        plan_application(project, path, "ladder")


def test_line_ends_of_windows_are_kept(plan: Plan, project: ProjectFolder) -> None:
    path = project.project / "hotlap.yaml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    found = plan("ladder")
    assert found.after.count("\r\n") == found.after.count("\n") == TEXT.count("\n")
