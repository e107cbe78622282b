"""Attacks on the measurement, through whole studies and on single runs; without its guard each of them would pass."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.load import config_from_values, config_text
from hotlap.core.errors import RunFailedError, StudyError
from hotlap.core.files import write_json
from hotlap.core.processes import process_identity
from hotlap.core.records import History, Proposal, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.evaluate import NotEvaluatedError
from hotlap.launch.local import LocalLauncher
from hotlap.runs.history import load_history
from hotlap.runs.ingest import ingest
from hotlap.study import runner
from hotlap.study.guards import Guards, RunGuard, calibrated_gaps, check_left_over
from hotlap.study.loop import run_study
from hotlap.study.manifest import digest
from hotlap.study.runner import LocalRunner
from hotlap.study.study import Study, open_study

PROGRAM = (sys.executable, str(Path(__file__).with_name("cheating_worker.py")))

TOY: dict[str, Any] = {
    "name": "toy",
    "model": {"embd_pdrop": 0.1, "num_hidden_layers": 1},
    "training": {"learning_rate": 3e-3, "max_grad_norm": 0.0, "max_steps": 100_000},
    "targets": ["eval_loss < 0.76", "eval_byte_accuracy > 0.75"],
    "budget": {"run": "1h", "total": "1000h"},
    "calibrate": {"runs": 2},
    "record": {"runs": 2, "alpha": 0.5},
    "patience": 3,
}
METRICS = {"eval_loss": 0.75, "perplexity": math.exp(0.75), "eval_byte_accuracy": 0.76}
EVAL = {"hash": "fedcba9876543210", "num_examples": 64, "num_targets": 2000, "num_bytes": 1936}
DATA = {"hash": "0123456789abcdef", "num_train": 100, "num_eval": 64, "source": "thin air", "files": [], "eval": EVAL}


# ---- whole studies with a dishonest worker


class OneIdea:
    """Proposes nearly the same change until it is told to stop."""

    def __init__(self, patch: dict[str, Any], most: int = 1) -> None:
        self._patch = patch
        self._most = most

    def propose(self, history: History, *, is_ablation: bool = False) -> Proposal | None:
        if is_ablation or len(history.proposals) >= self._most:
            return None
        texts = dict.fromkeys(("family", "title", "observation", "hypothesis"), "x")
        number = len(history.proposals) + 1
        patch = {**self._patch, "training.weight_decay": number / 1000}  # no change is tried twice
        return Proposal(number=number, parent=history.incumbent, patch=patch, predicted_ratio=0.5, **texts)


@dataclass
class Silent:
    """Watches, and says nothing."""

    records: list[RunRecord] = field(default_factory=list)

    def acts(self, *_: object) -> None:
        pass

    def follows(self, *_: object) -> None:
        pass

    def says(self, _: str) -> None:
        pass

    def ended(self, record: RunRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "locks"))
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "contamination", lambda *_: "")


def play(project: ProjectFolder, cheat: str, proposals: int = 1) -> Study:
    """Drive a study whose screens cheat, with a change that halves the time."""
    (project.project / "cheat").write_text(cheat)
    if not (project.project / "data.bytes").exists():
        (project.project / "data.bytes").write_text("what is evaluated")
    study = open_study(project, config_from_values(TOY))
    idea = OneIdea({"model.embd_pdrop": 0.0, "model.attn_pdrop": 0.0, "model.resid_pdrop": 0.0}, proposals)
    run_study(study, Silent(), lambda _: None, LocalRunner(LocalLauncher(PROGRAM)), idea)
    return study


def test_an_honest_change_is_kept(project: ProjectFolder) -> None:
    study = play(project, "")
    assert study.history.kept() == (1,)
    assert {run.guards["state"] for run in study.history.runs} == {"passed"}
    again = load_history(project, study.folder, study.config.model_dump(mode="json"), "train")
    assert again.runs == study.history.runs


@pytest.mark.parametrize(
    ("cheat", "told"),
    [
        ("nan", "eval_loss is nan in a result that says reached"),
        ("time", "the point at that step says"),
        ("slow clock", "its clock lost"),
        ("shorter", "evaluation examples: 32, the study's first run had 64"),
        ("fewer tokens", "the last evaluation counted 1000 target tokens, the evaluation data have 2000"),
        ("other data", "evaluation data, hash: 0000000000000000"),
        ("config", "its config.yaml was changed while it ran"),
    ],
)
def test_a_run_that_cheats_is_invalid_and_its_change_is_not_kept(project: ProjectFolder, cheat: str, told: str) -> None:
    study = play(project, cheat)
    screen = study.history.runs[2]
    assert (screen.role, screen.outcome) == ("screen", "invalid")
    assert told in screen.reason
    assert math.isinf(screen.clock_to_target("train"))
    assert study.history.kept() == ()
    decision = study.history.verdict(1)
    assert decision is not None
    assert decision.verdict == "discard" and told in decision.reason, "the journal says which guard it was"
    again = load_history(project, study.folder, study.config.model_dump(mode="json"), "train")
    assert [run.outcome for run in again.runs] == [run.outcome for run in study.history.runs]


def test_a_changed_evaluation_file_stops_the_study(project: ProjectFolder) -> None:
    """The run that changed it is invalid; what would come after it could not be compared with what was before."""
    with pytest.raises(StudyError, match=r"data\.bytes: changed since the study 'toy' began"):
        play(project, "evaluation file", proposals=2)
    study = open_study(project, config_from_values(TOY))
    assert [run.outcome for run in study.history.runs] == ["reached", "reached", "invalid"]
    assert "data.bytes was changed while it ran" in study.history.runs[2].reason
    ended = study.folder.ledger()[-2]["reason"]
    assert "data.bytes: changed since the study 'toy' began" in ended, "the journal says so"
    with pytest.raises(StudyError, match=r"data\.bytes: changed since the study 'toy' began"):
        play(project, "evaluation file", proposals=2)
    assert len(list(project.runs_path.iterdir())) == 3, "no run was begun"
    (project.project / "data.bytes").unlink()  # what is prepared anew is what it was
    assert [run.outcome for run in play(project, "").history.runs][:4] == ["reached", "reached", "invalid", "reached"]


def test_data_that_change_between_two_sittings_are_told_at_the_start_of_the_next(project: ProjectFolder) -> None:
    play(project, "")
    moved = project.project.with_name("moved")
    project.project.rename(moved)
    project = ProjectFolder(moved)
    count = len(play(project, "", proposals=2).history.runs)
    (moved / "data.bytes").write_text("what is easier")
    with pytest.raises(StudyError, match=r"moved/data\.bytes: changed since the study 'toy' began"):
        play(project, "", proposals=3)
    assert len(list(project.runs_path.iterdir())) == count


def test_a_proposal_that_names_the_protocol_never_reaches_a_run(project: ProjectFolder) -> None:
    """The policy's own check stands in test_loop; this is the second one, on the config that the run is given."""
    study = open_study(project, config_from_values(TOY))
    base, folder = study.config.model_dump(mode="json"), RunFolder.create(project.runs_path)
    for patch in ({"targets": ["eval_loss < 9"]}, {"training.data_seed": 1}, {"clock": "wall"}):
        folder.write_config(config_text(config_from_values(base, patch)))
        with pytest.raises(StudyError, match=f"may not change {next(iter(patch))}, by which"):
            Guards(study).open(folder)
    folder.write_config(config_text(config_from_values(base, {"training.seed": 7, "training.learning_rate": 1.0})))
    Guards(study).open(folder)
    folder.write_config("targets: [\n")
    with pytest.raises(StudyError, match="may not change all of it"):
        Guards(study).open(folder)


def test_the_source_of_the_evaluator_is_protected(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    source = project.project / "evaluate.py"
    source.write_text("eval_loss = 2.0")
    monkeypatch.setattr("hotlap.study.guards.evaluator_files", lambda: [source])
    guards = Guards(open_study(project, config_from_values(TOY)))
    guards.refuse_changes()
    source.write_text("eval_loss = 0.1")
    with pytest.raises(StudyError, match=r"evaluate\.py: changed since the study"):
        guards.refuse_changes()


# ---- single runs with an honest face, and what their weights say


@dataclass
class Again:
    """Stands for the second look: says what it was told to, and remembers whom it looked at."""

    found: dict[str, Any]
    error: Exception | None = None
    seen: list[str] = field(default_factory=list)

    def __call__(self, folder: RunFolder, is_stopped: Callable[[], bool]) -> dict[str, Any]:
        self.seen.append(folder.run_id)
        if self.error is not None:
            raise self.error
        return self.found


def found(loss: float = 0.75, audit_loss: float | None = 0.77, shared: int = 0, **facts: Any) -> dict[str, Any]:
    audit = None if audit_loss is None else {**EVAL, "metrics": {"eval_loss": audit_loss}}
    metrics = {**METRICS, "eval_loss": loss, "perplexity": math.exp(loss)}
    return {"eval": {**EVAL, "metrics": metrics, **facts}, "audit": audit, "shared": shared}


@pytest.fixture
def study(project: ProjectFolder) -> Iterator[Study]:
    """A study with two baseline runs of 100 s, whose audit loss is 2 to 3 % above their evaluation loss."""
    study = open_study(project, config_from_values(TOY))
    for seconds, audit_loss in ((100.0, 0.766), (101.0, 0.77)):
        close(study, Again(found(audit_loss=audit_loss)), seconds, "baseline")
    study.append(OneIdea({"training.learning_rate": 1.0}).propose(study.history))  # type: ignore[arg-type]
    yield study


def opened(study: Study, again: Again, seconds: float, role: str) -> tuple[RunGuard, RunFolder]:
    """Make the folder of a run that reached after some seconds; its guard is still open."""
    folder = RunFolder.create(study.project.runs_path)
    folder.write_config(config_text(study.config))
    guard = Guards(study, again).open(folder)
    argv = [sys.executable, "-P", "-m", "hotlap.worker", str(folder.path)]
    candidate = 0 if role == "baseline" else 1
    folder.write("command", {"argv": argv, "role": role, "candidate": candidate, "seed": int(folder.run_id[1:])})
    folder.write("worker", {**process_identity(), "start_seconds": 1.0})
    folder.write("environment", {"data": DATA})
    position = {"step": 1000, "train_seconds": seconds, "wall_seconds": seconds + 4, "tokens": 1}
    folder.append_point({**position, **METRICS})
    times = {"train": seconds, "wall": seconds + 4, "step": 1000}
    rest = {"outcome": "reached", "evaluated_tokens": 2000, "time_to_target": times, "metrics": METRICS}
    folder.write("result", {**position, **rest, "seconds": {}})
    return guard, folder


def close(study: Study, again: Again, seconds: float, role: str) -> RunRecord:
    """Make such a run, close its guard, and add it to the history."""
    guard, folder = opened(study, again, seconds, role)
    contaminated = guard.close(folder, "")
    run = ingest(folder, contaminated)
    assert run is not None
    facts = {"run": run.run_id, "role": role, "candidate": run.candidate, "seed": run.seed}
    study.append_run({**facts, "phase": "ended", "contaminated": contaminated}, run)
    return run


@pytest.mark.parametrize("role", ["timing", "screen"])
def test_a_run_that_is_timed_for_its_steps_has_to_prove_its_clock(study: Study, role: str) -> None:
    """It ends long before the targets; a screen that ends so claims no time."""
    guard, folder = opened(study, Again({}, AssertionError("nobody asked for it")), 60.0, role)
    parts = {"setup": 3.0, "steps": 60.0, "evaluation": 0.5, "saving": 0.4}
    rest = {"outcome": "out_of_budget", "time_to_target": None, "wall_seconds": 90.0, "seconds": parts}
    folder.write("result", {**(folder.read("result") or {}), **rest})
    assert guard.close(folder, "") == ""
    run = ingest(folder)
    assert run is not None
    assert run.outcome == ("invalid" if role == "timing" else "out_of_budget")
    assert ("its training clock has left something out" in run.reason) == (role == "timing")
    folder.write("result", {**(folder.read("result") or {}), "wall_seconds": 64.0})
    assert guard.close(folder, "") == ""
    assert (folder.read("guards") or {})["state"] == "passed"


def test_calibration_tells_how_far_audit_and_evaluation_lie_apart(study: Study) -> None:
    assert calibrated_gaps(study.history) == pytest.approx([math.log(0.766 / 0.75), math.log(0.77 / 0.75)])
    assert [run.guards["evaluated_again"] for run in study.history.runs] == ["calibration"] * 2


def test_a_run_that_holds_what_it_promised_passes(study: Study) -> None:
    again = Again(found())
    run = close(study, again, 60.0, "confirm")
    assert (run.outcome, run.guards["state"], run.guards["problems"]) == ("reached", "passed", [])
    assert run.guards["evaluated_again"] == "a keep rests on it"
    assert again.seen == [run.run_id]


def test_a_run_that_nothing_rests_on_costs_no_second_look(study: Study) -> None:
    again = Again({}, AssertionError("nobody asked for it"))
    assert close(study, again, 97.0, "screen").outcome == "reached"
    assert close(study, again, 150.0, "confirm").outcome == "reached"
    assert again.seen == []


def test_a_screen_too_good_to_be_true_is_quarantined(study: Study) -> None:
    """It counts only if its weights keep the promise."""
    honest, dishonest = Again(found()), Again(found(loss=1.9))
    run = close(study, honest, 20.0, "screen")
    assert (run.outcome, honest.seen) == ("reached", [run.run_id])
    run = close(study, dishonest, 10.0, "screen")
    assert (run.outcome, dishonest.seen) == ("invalid", [run.run_id])
    assert "eval_loss was 0.75, its saved weights give 1.9" in run.reason


def test_a_swapped_checkpoint_is_found(study: Study) -> None:
    """The weights are those of another run: better or worse, they are not the ones that were measured."""
    for loss in (0.7502, 0.7498, 0.2, math.nan):
        run = close(study, Again(found(loss=loss)), 60.0, "confirm")
        assert run.outcome == "invalid" and "its saved weights give" in run.reason
    assert close(study, Again(found(loss=0.75005)), 60.0, "confirm").outcome == "reached"


def test_weights_that_are_gone_or_do_not_fit_are_no_way_out(study: Study) -> None:
    run = close(study, Again({}, RunFailedError("model.safetensors: cannot be read")), 60.0, "confirm")
    assert run.outcome == "invalid"
    assert run.reason == "its weights cannot be evaluated again: model.safetensors: cannot be read"


def test_training_on_evaluation_data_shows_on_the_audit_data(study: Study) -> None:
    run = close(study, Again(found(audit_loss=1.6)), 60.0, "confirm")
    assert run.outcome == "invalid"
    assert "113.3% higher on audit data that no run is judged by" in run.reason
    assert close(study, Again(found(audit_loss=0.78)), 60.0, "confirm").outcome == "reached"


def test_without_audit_data_the_other_guards_remain(study: Study) -> None:
    run = close(study, Again(found(audit_loss=None)), 60.0, "confirm")
    assert (run.outcome, run.guards["audit_gap"]) == ("reached", None)
    assert close(study, Again(found(loss=0.9, audit_loss=None)), 60.0, "confirm").outcome == "invalid"


def test_evaluation_examples_among_the_training_data_end_the_baseline(project: ProjectFolder) -> None:
    study = open_study(project, config_from_values(TOY))
    run = close(study, Again(found(shared=3)), 100.0, "baseline")
    assert run.outcome == "invalid"
    assert run.reason.startswith("3 of 64 evaluation examples stand in the training data, too; take them out")


@pytest.mark.parametrize("fact", ["hash", "num_examples", "num_targets", "num_bytes"])
def test_a_run_that_was_evaluated_on_other_data_than_its_weights_are_now_is_found(study: Study, fact: str) -> None:
    run = close(study, Again(found(**{fact: 0})), 60.0, "confirm")
    assert run.outcome == "invalid" and f"evaluation data, {fact}: " in run.reason


def test_a_second_look_that_the_machine_broke_off_means_to_run_again(study: Study) -> None:
    run = close(study, Again({}, NotEvaluatedError("killed")), 60.0, "confirm")
    assert (run.outcome, run.contaminated) == ("reached", "its weights could not be evaluated again: killed")
    assert run.is_infrastructure_failure


def test_the_run_of_a_foreign_program_has_no_weights_that_could_be_looked_at(study: Study) -> None:
    again = Again({}, AssertionError("nobody can"))
    guard, folder = opened(study, again, 20.0, "screen")
    folder.write("command", {**(folder.read("command") or {}), "argv": ["bash", "train.sh"]})
    assert guard.close(folder, "") == ""
    assert (folder.read("guards") or {})["state"] == "passed"


def test_without_saved_weights_the_other_guards_remain(study: Study) -> None:
    training = study.config.training.model_copy(update={"save_model": False})
    study.config = study.config.model_copy(update={"training": training})
    again = Again({}, AssertionError("there is nothing to look at"))
    assert close(study, again, 20.0, "screen").guards["state"] == "passed"


def test_a_run_that_is_repeated_anyway_is_not_looked_at(study: Study) -> None:
    again = Again({}, AssertionError("nobody asked for it"))
    guard, folder = opened(study, again, 20.0, "screen")
    assert guard.close(folder, "others were busy") == "others were busy"
    assert (folder.read("guards") or {})["state"] == "skipped"


# ---- a driver that is killed between a result and its check


def test_a_result_that_nobody_checked_is_checked_before_anything_is_decided(study: Study) -> None:
    _, folder = opened(study, Again({}), 60.0, "confirm")
    unchecked = ingest(folder)
    assert unchecked is not None and unchecked.outcome == "reached"
    assert unchecked.guards["state"] == "pending"
    study.append_run({"run": folder.run_id, "phase": "started"}, unchecked)
    before = study.history.runs[:-1]
    check_left_over(study, Again(found(loss=1.9)))
    assert study.history.runs[:-1] == before
    assert study.history.runs[-1].outcome == "invalid"
    check_left_over(study, Again({}, AssertionError("it was checked already")))


def test_data_that_changed_since_are_not_held_against_a_run_that_nobody_checked(study: Study) -> None:
    _, folder = opened(study, Again({}), 60.0, "confirm")
    unchecked = ingest(folder)
    assert unchecked is not None
    study.append_run({"run": folder.run_id, "phase": "started"}, unchecked)
    (study.project.project / "data.bytes").write_text("what is evaluated")
    study.protect({"data.bytes": digest(study.project.project / "data.bytes")})
    (study.project.project / "data.bytes").write_text("what is easier")
    with pytest.raises(StudyError, match=r"data\.bytes: changed since"):
        check_left_over(study, Again(found(hash="0")))
    assert (folder.read("guards") or {})["state"] == "pending"


def test_a_check_that_the_user_broke_off_is_made_up_for(study: Study) -> None:
    guard, folder = opened(study, Again({}, NotEvaluatedError("stopped by the user")), 60.0, "confirm")
    assert guard.close(folder, "", lambda: True) == ""
    run = ingest(folder)
    assert run is not None and run.guards["state"] == "pending"
    study.append_run({"run": folder.run_id, "phase": "ended"}, run)
    check_left_over(study, Again(found()))
    assert (study.history.runs[-1].outcome, study.history.runs[-1].guards["state"]) == ("reached", "passed")


def test_a_check_that_was_skipped_is_made_up_for_once_the_run_counts(study: Study) -> None:
    """The driver was killed after it had written guards.json, and before the ledger knew why to repeat the run."""
    guard, folder = opened(study, Again({}, NotEvaluatedError("killed")), 60.0, "confirm")
    assert guard.close(folder, "") == "its weights could not be evaluated again: killed"
    run = ingest(folder)
    assert run is not None and run.guards["state"] == "skipped" and not run.is_infrastructure_failure
    study.append_run({"run": folder.run_id, "phase": "ended"}, run)
    check_left_over(study, Again({}, NotEvaluatedError("killed")))
    assert study.history.runs[-1].contaminated == "its weights could not be evaluated again: killed"
    check_left_over(study, Again({}, AssertionError("it is made again")))
    study.history = replace(study.history, runs=(*study.history.runs[:-1], run))
    check_left_over(study, Again(found(loss=1.9)))
    assert study.history.runs[-1].outcome == "invalid"


def test_what_the_run_was_given_is_remembered_across_a_killed_driver(study: Study) -> None:
    _, folder = opened(study, Again({}), 60.0, "confirm")
    folder.write_config(config_text(study.config) + "# changed\n")
    run = ingest(folder)
    assert run is not None
    study.append_run({"run": folder.run_id, "phase": "started"}, run)
    check_left_over(study, Again(found()))
    assert study.history.runs[-1].reason.startswith("its config.yaml was changed while it ran")


def test_runs_from_before_there_were_guards_are_left_alone(study: Study) -> None:
    runs = tuple(replace(run, guards={}) for run in study.history.runs)
    study.history = replace(study.history, runs=runs)
    check_left_over(study, Again({}, AssertionError("nobody asked for it")))
    assert study.history.runs == runs


def test_a_failed_guard_is_believed_before_a_result(study: Study) -> None:
    _, folder = opened(study, Again({}), 60.0, "confirm")
    assert folder.ending() == ("reached", "")
    write_json(folder.path / "guards.json", {"state": "failed", "problems": ["one", "two"]})
    assert folder.ending() == ("invalid", "one; two")
    assert json.loads((folder.path / "guards.json").read_text())["problems"] == ["one", "two"]
    assert folder.read("result") is not None
