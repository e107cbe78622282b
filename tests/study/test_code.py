"""Studies that change code: kept changes become commits, what is protected stays, the user's files stay as they are."""

import json
from pathlib import Path

import pytest
from own_project import (
    FASTER,
    FORGED,
    MODEL,
    all_decided,
    config_of,
    drive,
    fingerprint,
    git,
    make_project,
    patch_of,
)

from hotlap.core.errors import ConfigError, StudyError
from hotlap.study.code import UNVERIFIED
from hotlap.study.patch_folder import PatchFolder
from hotlap.study.sources import NoPolicy, Sources
from hotlap.study.study import Study, open_study

pytestmark = pytest.mark.usefixtures("quiet_machine")

SETS_BACK = "    global STEP_SECONDS\n    if step == 10:\n        STEP_SECONDS = 0.001\n"


def write_patches(folder: Path, **patches: str) -> Path:
    folder.mkdir()
    for name, text in patches.items():
        (folder / f"{name}.patch").write_text(text)
    return folder


def with_patches(folder: Path):  # type: ignore[no-untyped-def]
    return lambda study: Sources(study, NoPolicy(), print, folder)


@pytest.mark.slow
def test_without_an_evaluator_each_patch_meets_its_fate(tmp_path: Path) -> None:
    """Refused, broken, with a clock that leaves time out or is set back, good, and with a forged line of a log."""
    project = make_project(tmp_path / "project")
    (project.project / "untracked.py").write_text("x = 1\n")
    slower = "    import time\n\n    time.sleep(0.2)\n"
    lies = MODEL.replace("    pass\n", slower).replace("0.02", "0.001")
    patches = write_patches(
        tmp_path / "patches",
        a_protected=patch_of(project, "train.py", "range(1, 60)", "range(1, 61)"),
        b_other=patch_of(project, "untracked.py", "x = 1", "x = 2"),
        c_breaks=patch_of(project, "model.py", "GAIN = 1.0", "GAIN = undefined"),
        d_leaves_time_out=patch_of(project, "model.py", MODEL, lies),
        e_sets_back=patch_of(project, "model.py", "    pass\n", SETS_BACK),
        f_faster=patch_of(project, *FASTER),
        g_forged=patch_of(project, *FORGED),
    )
    before = fingerprint(project)
    study, _ = drive(project, with_patches(patches), all_decided(7))
    history = study.history
    decisions = [history.verdict(number) for number in range(1, 8)]
    verdicts = [decision.verdict for decision in decisions if decision is not None]
    reasons = [decision.reason for decision in decisions if decision is not None]
    assert [verdicts[number] for number in (0, 1, 2, 5)] == ["discard", "discard", "crash", "keep"]
    assert not {"keep", "inconclusive"} & set(verdicts[3:5])
    assert "train.py, which edits.protect holds" in reasons[0]
    assert "untracked.py, which edits.files does not name" in reasons[1]
    assert "undefined" in reasons[2]
    assert "outside of the clock that it reports" in reasons[3]
    assert "the clock went back from 0." in reasons[4]
    assert UNVERIFIED in reasons[5]
    assert not history.runs_of(2)
    assert history.runs_of(4)[0].outcome == "invalid"
    assert verdicts[6] != "keep" or UNVERIFIED in reasons[6]
    assert history.runs_of(7)[0].guards["unverified"] == UNVERIFIED
    assert fingerprint(project) == before
    assert study.code is not None
    store = study.code.store
    commits = store.branch("hotlap/own")
    assert len(commits) == 1 + len(history.kept())
    assert "Hotlap-Proposal: 6" in store.message_of(commits[1])
    assert "STEP_SECONDS = 0.01" in (store.text_of(commits[1], "model.py") or "")
    assert (study.folder.patches_path / "0002.patch").read_text() == history.proposal(2).code
    assert not any(project.worktrees_path.iterdir())
    diff = (project.runs_path / history.runs_of(6)[0].run_id / "diff.patch").read_text()
    assert "+STEP_SECONDS = 0.01" in diff
    git(project.project, "fsck")


@pytest.mark.slow
def test_with_an_evaluator_its_figures_decide(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", more="\n  evaluator: python eval.py")
    cheat = "    open('eval.py', 'w').write('print(\"val_loss: 0.1\")')\n    open('json.py', 'w').write('')\n"
    patches = write_patches(
        tmp_path / "patches",
        a_forged=patch_of(project, *FORGED),
        b_writes=patch_of(project, "model.py", "    pass\n", cheat),
        c_faster=patch_of(project, *FASTER),
    )
    study, _ = drive(project, with_patches(patches), all_decided(3))
    history = study.history
    forged, writes, faster = (history.verdict(number) for number in (1, 2, 3))
    assert forged is not None
    assert forged.verdict != "keep"
    assert "by the evaluator val_loss is 3.9" in forged.reason
    run = history.runs_of(2)[0]
    assert writes is not None
    assert (run.outcome, writes.verdict) == ("invalid", "discard")
    assert "eval.py was changed while it ran, and edits.protect holds it" in run.reason
    assert "it wrote json.py while it ran" in run.reason
    assert (project.project / "eval.py").read_text().startswith("import json")
    assert faster is not None
    assert (history.runs_of(3)[0].outcome, history.runs_of(3)[0].guards["state"]) == ("reached", "passed")
    assert "unverified" not in faster.reason
    assert history.runs_of(3)[0].guards["verified"]["val_loss"] < 2.0


@pytest.mark.slow
def test_linked_data_is_hashed(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    spoils = "    open('data/a.txt', 'a').write('more')\n"
    again = patch_of(project, "model.py", "GAIN = 1.0", "GAIN = 1.1")
    patches = write_patches(tmp_path / "patches", a=patch_of(project, "model.py", "    pass\n", spoils), b=again)
    with pytest.raises(StudyError, match=r"data/a.txt: changed since the study 'own' began"):
        drive(project, with_patches(patches), all_decided(2))
    facts = json.loads((project.study("own").path / "code.json").read_text())
    assert list(facts["linked"]) == ["data/a.txt"]


@pytest.mark.slow
def test_the_snapshot_stays_when_the_working_tree_goes_on(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    study, _ = drive(project, is_done=lambda history: len(history.runs) >= 1)
    (project.project / "model.py").write_text("STEP_SECONDS = 1e-9\nGAIN = broken\n")
    study, _ = drive(project, is_done=lambda history: len(history.runs) >= 2)
    assert [run.outcome for run in study.history.runs] == ["reached", "reached"]


def test_a_snapshot_that_is_gone_is_told(tmp_path: Path) -> None:
    import shutil

    project = make_project(tmp_path / "project")
    open_study(project, config_of(project))
    shutil.rmtree(project.code_path)
    with pytest.raises(StudyError, match="the code that the study 'own' began with is gone"):
        open_study(project, config_of(project))


def test_patches_need_edits(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    text = (project.project / "hotlap.yaml").read_text()
    (project.project / "hotlap.yaml").write_text("\n".join(text.splitlines()[:-1]))
    folder = write_patches(tmp_path / "patches", a=patch_of(project, *FASTER))
    study = open_study(project, config_of(project))
    assert study.code is None
    with pytest.raises(ConfigError, match="add edits"):
        Sources(study, NoPolicy(), print, folder)


def proposals_of(study: Study, folder: Path) -> list[str]:
    proposal = PatchFolder(study, folder, print).propose(study.history)
    assert proposal is not None
    return [proposal.title, proposal.observation, proposal.hypothesis, str(proposal.predicted_ratio)]


def test_what_stands_above_a_patch_says_why(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    study = open_study(project, config_of(project))
    patch = patch_of(project, *FASTER)
    head = "Observation: half of a step\nis waiting.\nHypothesis: waiting can go.\nPredicted: 0.5\n\n"
    long = proposals_of(study, write_patches(tmp_path / "long", a=f"Observation: {'very ' * 900}long\n\n{patch}"))
    assert "SHA-256 " in long[1], "or else it would be tried again for ever"
    mail = f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: me <me@example.com>\nDate: today\n"
    mail += "Subject: [PATCH 1/2] Wait no more\n\nA step waits for nothing.\n---\n model.py | 2 +-\n\n"
    found = proposals_of(study, write_patches(tmp_path / "plain", a=head + patch))
    assert found[1].startswith("half of a step is waiting. The patch a.patch (SHA-256 ")
    assert found[2:] == ["waiting can go.", "0.5"]
    found = proposals_of(study, write_patches(tmp_path / "mail", a=mail + patch))
    assert (found[0], found[2]) == ("Wait no more", "A step waits for nothing.")
