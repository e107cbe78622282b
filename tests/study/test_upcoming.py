"""What a study takes up before its own ideas, looked at without a trace."""

from pathlib import Path

import pytest
from own_project import FASTER, config_of, fingerprint, git, make_project, patch_of

from hotlap.core.errors import ConfigError
from hotlap.core.records import AgentCall, History
from hotlap.study.preview import preview_study
from hotlap.study.proposing import Draft
from hotlap.study.queue import enqueue
from hotlap.study.study import open_study
from hotlap.study.upcoming import agents_turn

AGENT = "agent: {command: some-agent, every: 1, calls: 5}\n"


def patches_in(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.patch").write_text(text)
    return folder


@pytest.mark.parametrize("has_begun", [False, True])
def test_patches_are_shown_with_their_files_and_why_they_are_refused(tmp_path: Path, has_begun: bool) -> None:
    project = make_project(tmp_path / "project")
    patches = patches_in(
        tmp_path / "patches",
        a=f"Hypothesis: waiting can go.\n\n{patch_of(project, *FASTER)}",
        b=patch_of(project, "train.py", "range(1, 60)", "range(1, 61)"),
        c="--- a/model.py\n+++ b/model.py\n@@ -1 +1 @@\n-nothing of the kind\n+x\n",
    )
    if has_begun:
        open_study(project, config_of(project))
        (project.project / "model.py").write_text("the study goes on with its snapshot\n")
    before, everything = fingerprint(project), sorted(project.path.rglob("*")) if has_begun else []
    preview = preview_study(project, config_of(project), patches=patches)
    first, second, third = preview.handed_in
    assert (first.source, first.files, first.problem) == (str(patches / "a.patch"), ("model.py",), "")
    assert first.proposal is not None
    assert first.proposal.hypothesis == "waiting can go."
    assert "-STEP_SECONDS = 0.02\n+STEP_SECONDS = 0.01\n" in first.proposal.diff
    assert second.problem == "it changes train.py, which edits.protect holds"
    assert "does not apply" in third.problem
    document = preview.document()
    assert [each["files"] for each in document["handed_in"]][:2] == [["model.py"], ["train.py"]]
    assert fingerprint(project) == before
    assert (sorted(project.path.rglob("*")) if project.path.exists() else []) == everything, "nothing is written"


def test_the_queue_comes_first_and_the_agent_is_only_told_of(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", section=AGENT)
    config = config_of(project)
    enqueue(
        project.create().study("own").create(),
        Draft(observation="o", hypothesis="h", settings={"params.lr": 0.5}),
        "me",
    )
    patches = patches_in(tmp_path / "patches", a=patch_of(project, *FASTER))
    preview = preview_study(project, config, patches=patches)
    assert [each.source for each in preview.handed_in] == ["queued by me", str(patches / "a.patch")]
    assert preview.handed_in[0].files == ()
    assert preview.agent.startswith("once these are tried, the next proposal comes from the agent")
    assert preview.document()["agent"] == preview.agent
    nothing = History(clock="train", base_config={}, calls=(AgentCall(number=1),))
    assert agents_turn(config.agent, nothing, False) == (
        "the next proposal comes from the agent, and what it will change nobody knows before it is asked (4 of 5 calls "
        "left)"
    )
    assert agents_turn(None, nothing, True) == ""
    assert git(project.project, "status", "--short") == ""


def test_patches_where_no_code_may_be_changed_are_told(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    file = project.project / "hotlap.yaml"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("edits:")))
    patches = patches_in(tmp_path / "patches", a=patch_of(project, *FASTER))
    with pytest.raises(ConfigError, match="add edits"):
        preview_study(project, config_of(project), patches=patches)
