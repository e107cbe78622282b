"""`hotlap ablate` in this process, with the fake worker in the place of the trainer."""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hotlap.cli import main, speedrun
from hotlap.core.errors import ConfigError, RunFailedError, StudyError
from hotlap.core.records import RunRecord
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import prepare
from hotlap.launch.local import LocalLauncher
from hotlap.launch.locks import study_lock
from hotlap.report.journal import MARKER
from hotlap.study import runner
from hotlap.study.study import read_study
from hotlap.study.view import journal_of, read_summary

FAKE_WORKER = Path(__file__).parents[1] / "study" / "fake_worker.py"
CONFIG = """\
name: toy
model: {embd_pdrop: 0.1}
training: {learning_rate: 3.0e-3, lr_scheduler_type: constant, max_steps: 100000}
budget: {run: 60s, total: 1000h}
"""
"""With its dropout the fake worker reaches nothing in a minute, so each run ends with a loss of its own."""
OPTIM = ("-s", "training.optim=adamw_torch,muon")
THREE = ("-s", "training.learning_rate=3e-3,1e-3,2.9e-3")

Start = Callable[..., int]


@pytest.fixture
def start(project: ProjectFolder, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Call the entry point in a project with a config, as a shell would; return the exit code."""
    (project.project / "hotlap.yaml").write_text(CONFIG)
    monkeypatch.chdir(project.project)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(LocalLauncher.__init__, "__defaults__", ((sys.executable, str(FAKE_WORKER)),))
    monkeypatch.setattr(prepare, "prepare_data", lambda folder, config: "40 training examples")
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "contamination", lambda *_: "")

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hotlap", *words])
        with pytest.raises(SystemExit) as ended:
            main.run()
        return int(ended.value.code or 0)

    return call


def fake(*cases: dict[str, Any], sigma: float = 0.02) -> None:
    Path("fake.json").write_text(json.dumps({"sigma": sigma, "cases": cases}))


def runs_of(project: ProjectFolder) -> tuple[RunRecord, ...]:
    return read_study(project)[1].runs


def order(project: ProjectFolder) -> list[tuple[int, int]]:
    return [(run.candidate, run.seed) for run in runs_of(project) if not run.is_infrastructure_failure]


def test_the_variants_run_in_turn_with_the_same_seeds_and_the_table_tells_the_difference(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("ablate", *OPTIM) == 0
    assert order(project) == [(0, 42), (1, 42), (1, 43), (0, 43), (0, 44), (1, 44)]
    assert [run.role for run in runs_of(project)] == ["baseline", *["ablation"] * 5]
    told = capsys.readouterr()
    assert told.err == ""
    lines = told.out.splitlines()
    assert lines[0] == "task string_repetition: 40 training examples"
    assert lines[1] == "ablation toy-optim: 6 runs, 3 seeds in turn, each at most 60.0 s on the train clock"
    assert lines[2:4] == ["  reference: optim adamw_torch", "  variant 1: optim muon"]
    assert "   run 1 of 6: optim adamw_torch, seed 42" in lines
    headline = next(line for line in lines if line.startswith("toy-optim, against optim adamw_torch: at step 1,200 "))
    assert "optim muon is better (−" in headline and "at 60.0 s (train clock) optim muon is better" in headline
    rows = [line.split() for line in lines if line.startswith("  optim muon")]
    assert any("yes," in row and "better" in row and "(95" in row for row in rows)
    assert f"journal {project.project / 'ablation-toy-optim.md'}" in told.out
    assert "next: hotlap report toy-optim --format md" in lines[-1]


def test_the_journal_tells_everything_and_stands_beside_a_speedruns(start: Start, project: ProjectFolder) -> None:
    Path("SPEEDRUN.md").write_text("by hand\n")
    assert start("ablate", *OPTIM) == 0
    text = Path("ablation-toy-optim.md").read_text()
    assert Path("SPEEDRUN.md").read_text() == "by hand\n"
    assert text.startswith(f"{MARKER}\n\n# Ablation: toy-optim\n\n**toy-optim, against optim adamw_torch")
    assert "## Variants" in text and "## Differences" in text and "## Runs" in text
    assert "eval_loss at step 1,200" in text and "tokens/s" in text and "| yes, better |" in text
    assert text.count("| r000") == 6
    assert "- optim muon: training.optim: muon" in text
    again = journal_of(project).splitlines()
    differing = [pair for pair in zip(again, text.splitlines(), strict=True) if pair[0] != pair[1]]
    assert all(line.startswith("- **Cost**") for pair in differing for line in pair)


def test_a_journal_that_somebody_wrote_is_left_alone(start: Start) -> None:
    Path("ablation-toy-optim.md").write_text("by hand\n")
    assert start("ablate", *OPTIM, "--seeds", "1") == 0
    assert Path("ablation-toy-optim.md").read_text() == "by hand\n"
    assert Path("ablation-toy-optim.hotlap.md").read_text().startswith(MARKER)


def test_with_one_seed_nothing_is_told_apart(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("ablate", *OPTIM, "--seeds", "1") == 0
    out = capsys.readouterr().out
    assert "nothing can be told apart; at 60.0 s (train clock) nothing can be told apart" in out
    assert "no: 1 seed on both sides: nothing can be told apart with fewer than 2" in out


def test_the_same_command_makes_no_run_twice_and_more_seeds_add_theirs(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("ablate", *OPTIM, "--seeds", "2") == 0
    assert start("ablate", *OPTIM, "--seeds", "2") == 0
    assert "going on with toy-optim: 4 runs so far" in capsys.readouterr().out
    assert len(runs_of(project)) == 4
    assert start("ablate", *OPTIM, "--seeds", "3") == 0
    assert order(project)[4:] == [(0, 44), (1, 44)]
    assert start("ablate", *OPTIM, "--seeds", "1") == 0
    assert len(runs_of(project)) == 6 and "3 seeds of each variant, in turn" in capsys.readouterr().out


def test_json_is_one_document_with_a_schema(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("ablate", *THREE, "--seeds", "2", "--name", "rates", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "hotlap/ablation-summary/1" and document["name"] == "rates"
    assert (document["alpha"], document["correction"]) == (0.05, "holm")
    assert [variant["title"] for variant in document["variants"]] == [
        "learning_rate 0.003",
        "learning_rate 0.001",
        "learning_rate 0.0029",
    ]
    by_key = {quantity["key"]: quantity for quantity in document["quantities"]}
    assert list(by_key) == ["steps", "clock", "final", "speed"]
    assert [each["variant"] for each in by_key["steps"]["comparisons"]] == [1, 2]
    assert set(by_key["final"]["figures"][0]["values"]) == {"42", "43"}
    assert [run["run"] for run in document["runs"]] == [f"r000{number}" for number in range(1, 7)]
    assert start("status", "rates", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert {**again, "seconds_spent": 0} == {**document, "seconds_spent": 0}


def test_targets_end_runs_and_their_times_are_compared(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    plain = ("-s", "model.embd_pdrop=0.0", "-s", "budget.run=10m")
    targets = ("-s", "targets=[eval_loss < 0.76, eval_byte_accuracy > 0.75]")
    assert start("ablate", *OPTIM, *plain, *targets, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    target = next(quantity for quantity in document["quantities"] if quantity["key"] == "target")
    (found,) = target["comparisons"]
    assert found["is_distinguishable"] and found["is_better"] and found["difference"] == pytest.approx(-0.5, abs=1e-6)
    assert document["targets"] == ["eval_loss < 0.76", "eval_byte_accuracy > 0.75"]


def test_any_key_can_be_varied_and_several_at_once(start: Start, project: ProjectFolder) -> None:
    words = ("-s", "model.norm=layer_norm,rms_norm", "-s", "training.adam_beta2=0.95,0.999", "--seeds", "1")
    assert start("ablate", *words) == 0
    config, history, protocol = read_study(project)
    assert config.name == "toy-norm-adam_beta2"
    assert [variant["title"] for variant in protocol["variants"]] == [
        "norm layer_norm, adam_beta2 0.95",
        "norm layer_norm, adam_beta2 0.999",
        "norm rms_norm, adam_beta2 0.95",
        "norm rms_norm, adam_beta2 0.999",
    ]
    settings = [(run.config["model"]["norm"], run.config["training"]["adam_beta2"]) for run in history.runs]
    assert settings == [("layer_norm", 0.95), ("layer_norm", 0.999), ("rms_norm", 0.95), ("rms_norm", 0.999)]
    assert history.proposal(3).diff.count("\n+") == 3, "the setting, and nothing else"


def test_a_variant_that_breaks_is_told_and_not_tried_with_other_seeds(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    fake({"when": {"training.optim": "muon"}, "does": "crash"})
    assert start("ablate", *OPTIM) == 0
    assert order(project) == [(0, 42), (1, 42), (0, 43), (0, 44)]
    out = capsys.readouterr().out
    assert (
        "no: 1 of 1 of this variant: crashed" in out
        and "RuntimeError: toy trouble" in Path("ablation-toy-optim.md").read_text()
    )


def test_a_reference_that_breaks_ends_it(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    fake({"when": {"training.optim": "adamw_torch"}, "does": "crash"})
    assert start("ablate", *OPTIM) == RunFailedError.exit_code
    assert "the reference, optim adamw_torch, crashed in r0001: RuntimeError: toy trouble" in capsys.readouterr().out


def test_a_variant_that_diverges_with_one_seed_runs_with_all_of_them(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    fake({"when": {"training.optim": "muon", "seed": 43}, "does": "diverge"})
    assert start("ablate", *OPTIM) == 0
    assert len(order(project)) == 6
    out = capsys.readouterr().out
    assert "no: 1 of 3 of this variant: diverged" in out and "1 diverged, 2 out of budget" in out


def test_disturbed_runs_are_made_again_with_their_seed(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one of the reference shows what is normal; any other one is looked at, the reference's too."""
    answers = iter(["", "others were busy"])
    monkeypatch.setattr(runner, "contamination", lambda *_: next(answers, ""))
    assert start("ablate", *OPTIM, "--seeds", "2") == 0
    assert [(run.candidate, run.seed, bool(run.contaminated)) for run in runs_of(project)] == [
        (0, 42, False),
        (1, 42, False),
        (1, 43, True),
        (1, 43, False),
        (0, 43, False),
    ]
    assert "[repeated: others were busy]" in capsys.readouterr().out
    monkeypatch.setattr(runner, "contamination", lambda *_: "always busy")
    assert start("ablate", *OPTIM, "--seeds", "2", "--name", "other") == RunFailedError.exit_code
    assert "4 runs in a row were spoiled by the machine" in capsys.readouterr().out


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake({"when": {"run": "r0002"}, "does": "hang"})

    def press(screen: object, folder: Any, points: Any) -> None:
        if folder.run_id == "r0002" and points:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(speedrun.StudyScreen, "follows", press)
        assert start("ablate", *OPTIM) == 130
    out = capsys.readouterr().out
    assert "ended: interrupted" in out and out.endswith("next: the same command goes on where it was\n")
    assert Path("ablation-toy-optim.md").exists()
    assert start("ablate", *OPTIM) == 0
    assert runs_of(project)[1].outcome == "interrupted"
    assert order(project) == [(0, 42), (1, 42), (1, 43), (0, 43), (0, 44), (1, 44)]


def test_a_budget_without_room_ends_it_and_may_be_raised(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("ablate", *OPTIM, "-s", "budget.total=61s") == 0
    out = capsys.readouterr().out
    assert "budget.total ends it after 61.0 s at the latest" in out
    assert "budget.total of 61.0 s has no room for another run after 1 of 6 runs" in out
    assert out.endswith("next: the same command goes on where it was\n")
    assert start("ablate", *OPTIM) == 0
    assert len(order(project)) == 6


def test_losses_are_compared_where_it_is_asked_for(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("ablate", *OPTIM, "--at-step", "600", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    steps = document["quantities"][0]
    assert (steps["key"], steps["place"], steps["used"], document["at_step"]) == ("steps", 600, [600, 600], 600)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), ConfigError.exit_code, "there is nothing to compare"),
        (("-s", "model.position=learned,rope"), 2, "did you mean 'positions'?"),
        (("-s", "model.positions=learned,roop"), 2, "model.positions: Input should be 'learned' or 'rope', got 'roop'"),
        (("-s", "training.seed=1,2"), 2, "training.seed belongs to the measurement"),
        (("-s", "task={name: string_repetition},{name: language_model}"), 2, "task belongs to the measurement"),
        ((*OPTIM, "-s", "backend=hf"), 2, "hotlap's own training loop"),
        ((*OPTIM, "--at-step", "100001"), 2, "--at-step 100001: not all variants train so long"),
        ((*OPTIM, "--name", "a b"), 2, "name"),
        ((*OPTIM, "-s", "training.report_to=nobody"), 2, "unknown tracker 'nobody'"),
    ],
)
def test_what_cannot_be_compared_is_one_message_before_anything_runs(
    start: Start,
    project: ProjectFolder,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    assert start("ablate", *words) == code
    told = capsys.readouterr()
    assert message in told.err and told.err.startswith("hotlap: error: ") and told.out == ""
    assert not project.runs_path.exists() and not project.studies()


def test_other_variants_or_another_study_of_the_name_are_refused(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("ablate", *OPTIM, "--seeds", "1") == 0
    assert start("ablate", "-s", "training.optim=muon,adamw_torch", "--seeds", "1") == StudyError.exit_code
    assert "was begun with other variants (optim adamw_torch, optim muon)" in capsys.readouterr().err
    assert start("ablate", *OPTIM, "-s", "training.max_steps=5") == StudyError.exit_code
    assert "training.max_steps: 100000 → 5" in capsys.readouterr().err
    sweep = ("-s", "name=toy-optim", "-s", "targets=[eval_loss < 0.76]")
    assert start("speedrun", *sweep) == StudyError.exit_code
    assert "'toy-optim' is the name of an ablation; give the speedrun another one" in capsys.readouterr().err
    assert start("replay", "toy-optim") == StudyError.exit_code
    capsys.readouterr()


def test_only_one_at_a_time_drives_it(start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with study_lock(project.study("toy-optim").create()):
        assert start("ablate", *OPTIM) == StudyError.exit_code
    assert "is already being driven" in capsys.readouterr().err


def test_other_commands_know_an_ablation(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("ablate", *OPTIM) == 0
    capsys.readouterr()
    assert start("status") == 0
    assert capsys.readouterr().out.startswith(
        "toy-optim, against optim adamw_torch: at step 1,200 optim muon is better"
    )
    assert start("runs", "ls", "--study", "toy-optim") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 6
    assert start("runs", "compare", "@baseline", "@last") == 0
    assert "optim" in capsys.readouterr().out
    name, _, summary = read_summary(project)
    assert name == "toy-optim" and summary.document()["schema"] == "hotlap/ablation-summary/1"
    for form in ("md", "json"):
        assert start("report", "toy-optim", "--format", form) == 0
    text = Path("report-toy-optim.md").read_text()
    assert "# toy-optim: ablation" in text and "## Variants" in text and "## Differences" in text
    assert "yes, better" in text and "optim muon, against the baseline" in text
    assert "compares its runs seed by seed" in text and "## Importance" not in text
    document: Mapping[str, Any] = json.loads(Path("report-toy-optim.json").read_text())
    assert document["kind"] == "ablation" and document["more_tables"][0][0] == "Differences"
