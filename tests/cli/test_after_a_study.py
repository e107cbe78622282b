"""`hotlap apply`, `rerun`, `replay` and `speedrun --dry-run` on a study that the fake worker has made."""

import json
import math
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from hotlap.cli import main
from hotlap.cli.replay import gain_text
from hotlap.config.load import load_config
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import prepare
from hotlap.launch.local import LocalLauncher
from hotlap.runs.notes import read_notes
from hotlap.search.transfer import Gain
from hotlap.study import runner, view
from hotlap.study.study import read_study

FAKE_WORKER = Path(__file__).parents[1] / "study" / "fake_worker.py"
CONFIG = """\
name: toy
model: {num_hidden_layers: 1, positions: rope, norm: rms_norm, qk_norm: true, hidden_act: relu_squared, smear: true,
        zero_init_projections: true, tie_word_embeddings: false, use_bias: false, embd_pdrop: 0.1}  # a fault
training: {learning_rate: 3.0e-3, optim: muon, per_device_train_batch_size: 16, max_grad_norm: 0.0, adam_beta2: 0.95,
           lr_scheduler_type: constant, max_steps: 100000, padding: bucketed}
targets: [eval_loss < 0.76, eval_byte_accuracy > 0.75, eval_sacrebleu > 0.3]
budget: {run: 1h, total: 1000h}
bench: {budget_ratio: 0}
calibrate: {runs: 2}
record: {runs: 2, alpha: 0.5}
patience: 1
"""
"""Only its dropout is a fault."""


def call(*words: str) -> int:
    """Call the entry point as a shell would; return the exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["hotlap", *words])
        main.run()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a study that kept a change and ended; the patches stay for the module."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "hotlap.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
        patch.setattr(LocalLauncher.__init__, "__defaults__", ((sys.executable, str(FAKE_WORKER)),))
        patch.setattr(prepare, "prepare_data", lambda folder, config: "40 training examples")
        patch.setattr(runner, "POLL_SECONDS", 0.01)
        patch.setattr(runner, "contamination", lambda *_: "")
        patch.setattr(view, "draw_progress", lambda info, path: None)
        with patch.context() as inside:
            inside.chdir(folder)
            assert call("speedrun") == 0
        yield folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    """A copy of the finished project, which is where the commands start."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return ProjectFolder(tmp_path / "copy")


def document(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert call(*words) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    return found


def test_applying_the_ladder_writes_the_diff_and_says_what_is_next(
    project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("hotlap.yaml")
    assert call("apply", "ladder", "--dry-run") == 0
    told = capsys.readouterr().out
    assert path.read_text() == CONFIG and "nothing was written; next: hotlap apply ladder" in told
    assert call("apply", "ladder") == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "+        zero_init_projections: true" in told.out and "embd_pdrop: 0.0}  # a fault" in told.out
    assert "wrote #1 of toy into hotlap.yaml" in told.out and "next: hotlap train" in told.out
    assert path.read_text() == CONFIG.replace("embd_pdrop: 0.1", "embd_pdrop: 0.0")
    assert load_config(path).model.model_dump()["embd_pdrop"] == 0.0
    assert call("apply", "1") == 0
    assert capsys.readouterr().out == "hotlap.yaml has #1 of toy already\n"


def test_the_next_command_can_be_pasted(
    project: ProjectFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From elsewhere, with a file and a folder that a shell would tear apart."""
    place = project.project.rename(project.project.with_name("a copy"))
    (place / "hotlap.yaml").rename(place / "my file.yaml")
    monkeypatch.chdir(place.parent)
    assert call("apply", "#1", "a copy/my file.yaml", "-p", "a copy", "--study", "toy", "-n") == 0
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("nothing was written; next: ")
    words = shlex.split(command, comments=True)
    assert words == ["hotlap", "apply", "1", "a copy/my file.yaml", "-p", "a copy", "--study", "toy"]
    assert call(*words[1:]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith("next: hotlap train 'a copy/my file.yaml' -p 'a copy' · hotlap speedrun ")
    assert "embd_pdrop: 0.0" in (place / "my file.yaml").read_text()


def test_apply_as_json_and_elsewhere(project: ProjectFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "apply", "1", "--json", "-n", "-p", str(project.project))
    assert (found["schema"], found["applied"], found["written"]) == ("hotlap/apply/1", [1], False)
    assert found["patch"] == {"model.embd_pdrop": 0.0} and found["diff"].startswith("--- ")
    assert Path("hotlap.yaml").read_text() == CONFIG
    assert document(capsys, "apply", "1", "--json")["written"]
    assert Path("hotlap.yaml").read_text() != CONFIG


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("apply", "2"), "#2 was not kept ("),
        (("apply", "all"), "cannot read 'all'"),
        (("apply", "1", "absent.yaml"), "absent.yaml: no such config"),
        (("apply", "1", "--study", "nobody"), "no study 'nobody'"),
        (("rerun", "r9999"), "unknown run 'r9999'"),
        (("rerun", "@bset"), "unknown alias"),
        (("replay", "nobody"), "no study 'nobody'"),
        (("replay", "--last"), "was not replayed yet; run: hotlap replay toy"),
        (("replay", "-s", "budget.runs=3", "-n"), "budget.runs: unknown key"),
        (("replay", "-p", "nowhere"), "there is no .hotlap in "),
        (("rerun", "r0001", "-p", "nowhere"), "there is no .hotlap in "),
        (("speedrun", "-n", "-s", "training.learning_rate=1"), "was begun under another protocol"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_exit_code_2(
    project: ProjectFolder, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert call(*words) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("hotlap: error: ") and told in printed.err
    assert "internal error" not in printed.err


def test_a_rerun_repeats_config_seed_and_limits(project: ProjectFolder, capsys: pytest.CaptureFixture[str]) -> None:
    first = RunFolder(project.runs_path / "r0004")
    assert call("rerun", "r4") == 0
    told = capsys.readouterr()
    assert told.err == ""
    newest = sorted(path.name for path in project.runs_path.iterdir())[-1]
    second = RunFolder(project.runs_path / newest)
    assert second.config_path.read_text() == first.config_path.read_text()
    before, after = first.read("command") or {}, second.read("command") or {}
    assert all(before[key] == after[key] for key in ("seed", "limits", "devices", "verb"))
    assert (after["role"], after["study"], after["candidate"]) == ("manual", "", 0)
    assert "train_loss: equal to the last digit wherever both have logged it (10 steps)" in told.out
    assert any(line.split() == ["r0004", newest] for line in told.out.splitlines())
    assert [(note.run_id, note.tags) for note in read_notes(project)] == [(newest, ("rerun",))]
    assert len(read_study(project)[1].runs) == int(newest[1:]) - 1, "the study does not count it"


def test_a_rerun_as_json_tells_what_differs(project: ProjectFolder, capsys: pytest.CaptureFixture[str]) -> None:
    environment = RunFolder(project.runs_path / "r0001").read("environment") or {}
    RunFolder(project.runs_path / "r0001").write("environment", {**environment, "torch": "1.0", "threads": 64})
    found = document(capsys, "rerun", "r0001", "--json")
    assert found["schema"] == "hotlap/rerun/1"
    assert found["first"]["time_to_target"] == found["rerun"]["time_to_target"]
    assert [trace["first_difference"] for trace in found["traces"]] == [None, None]
    assert found["differences"]["threads"] == [64, 1] and found["differences"]["torch"] == ["1.0", None]


def test_a_replay_tells_which_gains_transfer(project: ProjectFolder, capsys: pytest.CaptureFixture[str]) -> None:
    plan = document(capsys, "replay", "--dry-run", "--json", "--runs", "2")
    assert (plan["replay"], plan["rungs"], plan["runs_per_rung"]) == ("toy@1", [0, 1], 2)
    assert plan["cost_seconds"] > 0 and project.replays() == []
    assert call("replay", "toy", "--runs", "2") == 0
    told = capsys.readouterr()
    assert told.err == ""
    lines = told.out.splitlines()
    assert lines[0].startswith("replay toy@1: the baseline and #1, 2 runs each; about ")
    head = lines.index(next(line for line in lines if line.split()[:2] == ["#", "change"]))
    assert [line.split()[0] for line in lines[head + 1 : head + 3]] == ["0", "1"]
    assert lines[head + 2].endswith("yes")
    whole = next(line for line in lines if line.startswith("whole ladder: "))
    assert "inside the 90 % interval from there" in whole, "two runs of each side, and the noise of the whole study"
    assert any(line.startswith("steps to target: ") and "within 15 % of each other" in line for line in lines)
    found = document(capsys, "replay", "--last", "--json")
    assert (found["schema"], found["replay"], found["ended"]) == (
        "hotlap/replay/1",
        "toy@1",
        "every rung has had its runs",
    )
    assert [row["answer"] for row in found["rungs"]] == [None, "yes"]
    assert found["whole"]["as_claimed"] is True and len(found["runs"]) == 4
    assert found["differences"] == {}
    claim = read_study(project)[1].claims[-1]
    for interval, is_inside in (((1.5, 2.5), True), ((5.0, 9.0), False)):
        project.study("toy").append("claim", asdict(replace(claim, speedup_interval=interval)))
        assert call("replay", "--last") == 0
        word = "inside" if is_inside else "outside"
        assert f"here: {word} the 90 % interval from there" in capsys.readouterr().out
        assert document(capsys, "replay", "--last", "--json")["whole"]["as_claimed"] is is_inside


def test_a_replay_as_json_prints_nothing_else(project: ProjectFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "replay", "--runs", "1", "--json", "-s", "budget.run=30m")
    assert found["differences"] == {"config.budget.run": [3600.0, 1800.0]}
    assert found["whole"]["gain_here"]["ratio"] == pytest.approx(2.0, rel=0.15)


def test_a_replay_on_other_data_says_so(project: ProjectFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for run in read_study(project)[1].runs:
        folder = RunFolder(project.runs_path / run.run_id)
        environment = folder.read("environment") or {}
        folder.write("environment", {**environment, "data": {**environment["data"], "hash": "before"}})
    assert call("replay", "--runs", "1") == 0
    told = capsys.readouterr().out
    assert "the data are others (hash before there, 0123456789abcdef here), so the gains may be, too" in told
    found = document(capsys, "replay", "--last", "--json")
    assert found["differences"] == {"data": ["before", "0123456789abcdef"]}


@pytest.mark.parametrize(
    ("low", "high", "is_lower_bound", "text"),
    [
        (1.93, 2.3, False, "2.11× (1.93 to 2.30)"),
        (1.93, math.inf, False, "2.11× (at least 1.93)"),
        (0.0, 2.3, False, "2.11× (at most 2.30)"),
        (0.0, math.inf, False, "2.11×"),
        (1.93, math.inf, True, "≥ 2.11×"),
    ],
)
def test_a_ratio_is_a_lower_bound_only_where_the_slow_side_missed(
    low: float, high: float, is_lower_bound: bool, text: str
) -> None:
    assert gain_text(Gain(ratio=2.11, low=low, high=high, is_lower_bound=is_lower_bound)) == text


def test_a_replay_without_any_hit_ends_with_3(project: ProjectFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("replay", "--runs", "1", "-s", "training.max_steps=10") == 3
    told = capsys.readouterr().out
    assert "training.max_steps: 100000 there, 10 here" in told
    assert next(line for line in told.splitlines() if line.split()[:2] == ["1", "no"]).endswith("no")


def test_a_dry_run_shows_evidence_and_leaves_no_trace(
    project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.stat().st_mtime_ns for path in project.path.rglob("*"))
    assert call("speedrun", "--dry-run", "-s", "patience=9", "-s", "stop_when=100x") == 0
    told = capsys.readouterr()
    assert told.err == ""
    lines = told.out.splitlines()
    assert lines[0].startswith("toy: ") and "incumbent #1 no dropout at " in lines[0]
    assert lines[1].startswith("it had ended: ")
    assert any(line.startswith("next step: ") for line in lines)
    assert sum(line.startswith("   observation: ") for line in lines) == 5
    assert any(line.startswith("   change:      ") and " → " in line for line in lines)
    closing = "each as if those before it were discarded; the search ends after "
    assert any(line.startswith(closing) and line.endswith(" without a keep") for line in lines)
    assert "the study stops at its goal of 100x" in lines
    assert lines[-1] == "nothing was run; next: hotlap speedrun"
    assert sorted(path.stat().st_mtime_ns for path in project.path.rglob("*")) == before
    found = document(capsys, "speedrun", "-n", "--json", "-s", "patience=9")
    assert found["schema"] == "hotlap/preview/1" and found["incumbent"] == 1
    known = [proposal.number for proposal in read_study(project)[1].proposals]
    assert [proposal["number"] for proposal in found["proposals"]] == [len(known) + n for n in range(1, 6)]
    patches = [json.dumps(proposal["patch"]) for proposal in found["proposals"]]
    assert len(set(patches)) == 5


def test_a_dry_run_proposes_nothing_where_the_study_would_end(
    project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "speedrun", "-n", "--json")
    assert found["proposals"] == [] and found["next"].startswith("the study ends: the last proposal was not kept")
    found = document(capsys, "speedrun", "-n", "--json", "-s", "budget.total=1s")
    assert found["proposals"] == [] and "no room for another proposal" in found["next"]


def test_a_dry_run_with_a_baseline_that_misses_does_not_name_its_time(
    project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("speedrun", "-s", "name=missed", "-s", "budget.run=1s") == 124
    capsys.readouterr()
    assert call("speedrun", "-n", "-s", "name=missed", "-s", "budget.run=1s") == 0
    told = capsys.readouterr().out
    assert "incumbent the baseline at a miss" in told and "never" not in told


def test_a_dry_run_of_a_new_study_says_that_nothing_is_known(
    project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("speedrun", "-n", "-s", "name=fresh") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fresh: a new study")
    assert lines[1].startswith("next step: baseline run 1 of 2")
    assert not (project.path / "studies" / "fresh").exists()


def test_applying_keeps_a_link_and_the_mode_of_the_file(
    project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    linked = project.project / "linked.yaml"
    real = project.project / "real.yaml"
    real.write_text(CONFIG)
    real.chmod(0o600)
    linked.symlink_to(real)
    assert call("apply", "ladder", str(linked)) == 0
    assert linked.is_symlink() and real.read_text() != CONFIG
    assert real.stat().st_mode & 0o777 == 0o600
    assert "wrote #1 of toy" in capsys.readouterr().out
