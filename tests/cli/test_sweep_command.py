"""`hotlap sweep` in this process, with the fake worker in the place of the trainer."""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hotlap.cli import main, sweep_screen
from hotlap.core.errors import RunFailedError, StudyError
from hotlap.core.records import RunRecord
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import LocalLauncher
from hotlap.launch.locks import device_lock
from hotlap.study import runner, sweep_drive, sweep_loop
from hotlap.study.study import read_study
from hotlap.study.view import journal_of, view_study

FAKE_WORKER = Path(__file__).parents[1] / "study" / "fake_worker.py"
PASTED = """\
method: random
metric: {name: final_eval_loss, goal: minimize}
run_cap: 4
parameters:
  learning_rate: {distribution: log_uniform_values, min: 1e-4, max: 1e-2}
  optim: {values: [adamw_torch, muon]}
"""
"""A sweep file as wandb has them."""
GRID = """\
name: mine
training: {max_steps: 100000}
search:
  method: grid
  metric: eval_loss
  training.learning_rate: {values: [1.0e-3, 4.0e-3]}
  training.optim: {values: [adamw_torch, muon]}
"""
SPENDING = (
    *("-s", "model.embd_pdrop=0.1", "-s", "budget.run=60s", "-s", "budget.total=1000h"),
    *("--top", "2", "--seeds", "2"),
)
"""With its dropout the fake worker reaches nothing in a minute, so no two points end alike."""

Start = Callable[..., int]


@pytest.fixture
def start(project: ProjectFolder, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Call the entry point in a project with two configs, as a shell would; return the exit code."""
    (project.project / "sweep.yaml").write_text(PASTED)
    (project.project / "grid.yaml").write_text(GRID)
    monkeypatch.chdir(project.project)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(LocalLauncher.__init__, "__defaults__", ((sys.executable, str(FAKE_WORKER)),))
    monkeypatch.setattr(sweep_drive, "prepare_data", lambda folder, config: "40 training examples")
    monkeypatch.setattr(sweep_loop, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "contamination", lambda *_: "")

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hotlap", *words])
        with pytest.raises(SystemExit) as ended:
            main.run()
        return int(ended.value.code or 0)

    return call


def fake(*cases: dict[str, Any]) -> None:
    Path("fake.json").write_text(json.dumps({"cases": cases}))


def counted(project: ProjectFolder) -> list[RunRecord]:
    return [run for run in read_study(project)[1].runs if not run.is_infrastructure_failure]


def test_a_pasted_sweep_tells_its_way_and_ends_with_its_best(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("sweep", "sweep.yaml", *SPENDING) == 0
    told = capsys.readouterr()
    assert "final_eval_loss is called eval_loss here" in told.err
    lines = told.out.splitlines()
    history = read_study(project)[1]
    assert [run.role for run in history.runs] == ["baseline", *["screen"] * 4, *["confirm"] * 2]
    assert lines[0] == "task string_repetition: 40 training examples"
    assert lines[1] == "r0001 the baseline"
    assert lines[2].startswith("   r0001 eval_loss ")
    assert lines[3] == f"r0002 {history.proposal(1).title}"
    assert any(line.startswith("sweep: best eval_loss ") and "(median of 2)" in line for line in lines)
    assert any(line.split()[:1] == ["Ended"] and line.endswith("all 4 points have run") for line in lines)
    assert lines[-1] == "next: hotlap analyze sweep · hotlap report sweep"
    assert start("sweep", "sweep.yaml", *SPENDING) == 0
    assert "going on with sweep: 7 runs so far" in capsys.readouterr().out
    assert len(read_study(project)[1].runs) == 7


def test_other_commands_know_a_sweep(start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("sweep", "sweep.yaml", *SPENDING, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "hotlap/sweep-summary/1"
    assert (document["points"][0]["number"], len(document["points"])) == (document["best"], 4)
    assert start("status", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert {**again, "seconds_spent": 0.0} == {**document, "seconds_spent": 0.0}
    assert start("status") == 0
    told = capsys.readouterr().out
    assert told.startswith("sweep: best eval_loss ") and "next: hotlap analyze sweep" in told
    assert start("runs", "ls") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 7
    assert start("analyze", "--json") == 0
    assert json.loads(capsys.readouterr().out)["study"] == "sweep"
    assert view_study(project)[1].num_runs == 7
    with pytest.raises(StudyError, match="is a sweep"):
        journal_of(project)


def test_what_is_to_grow_is_ranked_from_above(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    metric = "search.metric={name: eval_byte_accuracy, goal: maximize}"
    assert start("sweep", "sweep.yaml", *SPENDING, "--top", "0", "-s", metric, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    values = [point["value"] for point in document["points"]]
    assert values == sorted(values, reverse=True) and len(set(values)) == 4


def test_a_grid_ends_with_its_last_point_and_failures_are_tried_again(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    fake({"when": {"training.optim": "muon"}, "does": "crash"})
    assert start("sweep", "grid.yaml", *SPENDING) == 0
    assert "the space is exhausted" in capsys.readouterr().out
    assert [run.outcome for run in counted(project)].count("crashed") == 2
    Path("fake.json").unlink()
    assert start("sweep", "grid.yaml", *SPENDING, "--retry-failed") == 0
    assert "tried again: 2 points that failed" in capsys.readouterr().out
    history = read_study(project)[1]
    assert [proposal.proposer for proposal in history.proposals] == [*["grid"] * 4, "retry", "retry"]
    assert start("status", "--json") == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert history.proposal(best).patch["training.optim"] == "muon"


def test_ctrl_c_ends_with_130_and_the_sweep_can_go_on(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake({"when": {"run": "r0001"}, "does": "hang"})

    def press(screen: object, running: Mapping[str, Any], study: object) -> None:
        if any(running.values()):
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(sweep_screen.SweepScreen, "follows", press)
        assert start("sweep", "sweep.yaml", *SPENDING) == 130
    out = capsys.readouterr().out
    assert out.count("finishing the current run, then stopping") == 1
    assert "stopped by the user" in out and "ended: interrupted" in out
    assert out.endswith("next: the same command goes on where it was\n")
    assert start("sweep", "sweep.yaml", *SPENDING) == 0
    assert "going on with sweep: 1 runs so far" in capsys.readouterr().out
    assert read_study(project)[1].runs[0].outcome == "interrupted"
    assert len(counted(project)) == 7


def test_a_budget_that_ends_in_the_middle_of_a_run_may_be_raised(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    fake({"when": {"run": "r0001"}, "does": "hang"})
    assert start("sweep", "sweep.yaml", *SPENDING, "-s", "budget.total=1s") == 3
    out = capsys.readouterr().out
    assert "the sweep's budget was used up" in out and "the budget of 1.00 s is used up" in out
    assert start("sweep", "sweep.yaml", *SPENDING) == 0
    assert len(counted(project)) == 7


def test_a_metric_that_no_run_tells_ends_a_sweep_at_once(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("sweep", "sweep.yaml", *SPENDING, "-s", "search.metric=recent_train_loss") == 3
    told = capsys.readouterr().out
    assert "r0001 ended by itself and told no recent_train_loss; it told " in told
    assert "sweep: no point came to a value" in told
    assert len(read_study(project)[1].runs) == 1


def test_a_space_without_a_point_is_told_of_before_anything_runs(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("sweep", "sweep.yaml", "-s", "search.constraints=[learning_rate > 1]") == StudyError.exit_code
    assert "none of 100000 points drawn from the search space can be run" in capsys.readouterr().err
    assert not project.runs_path.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sweep", "command.yaml"), "remove program and command to sweep hotlap's own training"),
        (("sweep", "sweep.yaml", "-s", "backend=hf"), "hotlap's own training loop"),
        (("sweep", "sweep.yaml", "-s", "devices=2", "--slots", "2"), "leave one of the two out"),
        (
            (
                "sweep",
                "sweep.yaml",
                "--slots",
                "2",
                "-s",
                "targets=[eval_loss < 1]",
                "-s",
                "search.metric=time_to_target",
            ),
            "have no times that could be compared",
        ),
        (
            ("sweep", "sweep.yaml", "--slots", "2", "-s", "search.metric={name: tokens_per_second, goal: maximize}"),
            "tokens_per_second with --slots 2: runs that disturb each other have no times",
        ),
    ],
    ids=["command", "hf", "devices", "times", "speed"],
)
def test_what_cannot_be_swept_is_one_message_before_anything_is_made(
    start: Start,
    project: ProjectFolder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(sweep_drive, "prepare_data", lambda *_: pytest.fail("the data were made"))
    Path("command.yaml").write_text(f"program: train.py\n{PASTED}")
    assert start(*words) != 0
    told = capsys.readouterr()
    assert message in told.err
    assert not project.runs_path.exists()


def test_a_machine_that_spoils_its_runs_does_not_end_a_sweep(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    fake({"when": {"role": "screen"}, "does": "vanish"})
    assert start("sweep", "sweep.yaml", *SPENDING) == RunFailedError.exit_code
    out = capsys.readouterr().out
    assert "ended: 4 runs in a row were spoiled by the machine" in out
    assert out.endswith("next: the same command goes on where it was\n")
    assert not read_study(project)[1].ended
    Path("fake.json").unlink()
    assert start("sweep", "sweep.yaml", *SPENDING) == 0
    assert len(counted(project)) == 7


def test_the_clock_of_a_sweep_begins_once_it_has_its_device(
    start: Start, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, waited = ExitStack(), []

    def says(screen: object, text: str) -> None:
        if text.startswith("waiting for cpu"):
            waited.append(list(project.study("sweep").ledger()))
            other.close()

    monkeypatch.setattr(sweep_screen.SweepScreen, "says", says)
    with other:
        other.enter_context(device_lock("cpu"))
        assert start("sweep", "sweep.yaml", *SPENDING) == 0
    assert waited == [[]], "nothing of its budget is used up by waiting"


def test_ctrl_c_while_a_device_is_waited_for_ends_with_130(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def says(screen: object, text: str) -> None:
        if text.startswith("waiting for cpu"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sweep_screen.SweepScreen, "says", says)
    with device_lock("cpu"):
        assert start("sweep", "sweep.yaml", *SPENDING) == 130


def test_settings_that_a_sweep_sets_aside_are_told(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("-s", "training.eval_steps=50", "-s", "training.save_steps=100", "-s", "targets=[eval_loss < 0.1]")
    assert start("sweep", "sweep.yaml", *SPENDING, "-s", "search.run_cap=1", *words) == 0
    out = capsys.readouterr().out
    assert "not used in a sweep, whose runs are all evaluated on the clock's grid: eval_steps, save_steps" in out
    assert "not used in a sweep for eval_loss: targets" in out


def test_the_baseline_has_the_constants_of_a_sweep(start: Start, project: ProjectFolder) -> None:
    lines = ("method: grid", "metric: {name: eval_loss, goal: minimize}", "parameters:")
    values = ("  optim: {value: muon}", "  learning_rate: {values: [5e-5, 1e-3]}")
    Path("constant.yaml").write_text("\n".join([*lines, *values]))
    assert start("sweep", "constant.yaml", *SPENDING, "--top", "0") == 0
    history = read_study(project)[1]
    assert history.base_config["training"]["optim"] == "muon"
    assert [proposal.patch for proposal in history.proposals] == [
        {"training.learning_rate": 5e-5},
        {"training.learning_rate": 1e-3},
    ]


def test_runs_that_are_not_alike_are_refused(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start("sweep", "sweep.yaml", *SPENDING) == 0
    capsys.readouterr()
    monkeypatch.setattr(sweep_drive, "prepare_data", lambda *_: pytest.fail("the data were made"))
    assert start("sweep", "sweep.yaml", *SPENDING, "--slots", "2") == StudyError.exit_code
    assert "  slots: 1 → 2" in capsys.readouterr().err
    assert start("sweep", "sweep.yaml", *SPENDING, "-s", "budget.run=90s") == StudyError.exit_code
    assert "  budget.run: 60.0 → 90.0" in capsys.readouterr().err
    Path("hotlap.yaml").write_text("name: sweep\ntargets: [eval_loss < 0.76]\n")
    assert start("speedrun") == StudyError.exit_code
    assert "'sweep' is the name of a sweep" in capsys.readouterr().err
