"""Whole studies in real processes, but without training: the fake worker ends at once, in virtual seconds."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_worker import true_seconds

from hotlap.config.load import config_from_values, config_text
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.files import read_json_lines
from hotlap.core.processes import is_alive
from hotlap.core.records import History, Proposal, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import LocalLauncher
from hotlap.launch.locks import device_lock
from hotlap.launch.orphans import reap_orphans
from hotlap.policies.rules import AblationPolicy, RulesPolicy, candidate_config
from hotlap.runs.history import load_history
from hotlap.runs.store import RunStore
from hotlap.search.noise import estimate
from hotlap.study import runner
from hotlap.study.loop import run_study
from hotlap.study.plan import Action, Propose, StartRun
from hotlap.study.runner import LocalRunner
from hotlap.study.study import Study, open_study, read_study
from hotlap.study.view import write_journal_of

PROGRAM = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))

TOY: dict[str, Any] = {
    "name": "toy",
    "model": {
        **{"positions": "rope", "norm": "rms_norm", "qk_norm": True, "hidden_act": "relu_squared", "use_bias": False},
        **{"zero_init_projections": True, "tie_word_embeddings": False, "smear": True, "num_hidden_layers": 1},
        "embd_pdrop": 0.1,
    },
    "training": {
        **{"learning_rate": 3e-3, "per_device_train_batch_size": 32, "adam_beta2": 0.95, "max_grad_norm": 0.0},
        **{"lr_scheduler_type": "constant", "max_steps": 100_000, "padding": "bucketed"},
    },
    "targets": ["eval_loss < 0.76", "eval_byte_accuracy > 0.75", "eval_sacrebleu > 0.3"],
    "budget": {"run": "1h", "total": "1000h"},
    "calibrate": {"runs": 2},
    "record": {"runs": 2, "alpha": 0.5},
    "patience": 3,
}
"""A recipe with two faults that the rules know well, dropout and AdamW, and little else to try."""


@dataclass
class Recorder:
    """Remembers what a study tells; `during` may act while a run goes on."""

    during: Callable[[RunFolder, Sequence[dict[str, Any]]], object] = lambda folder, points: None
    stops_after: int = 10**6
    """Runs after which it presses Ctrl-C."""
    actions: list[Action] = field(default_factory=list)
    records: list[RunRecord] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def acts(self, action: Action, study: Study) -> None:
        self.actions.append(action)

    def follows(self, folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        self.during(folder, points)

    def ended(self, record: RunRecord) -> None:
        self.records.append(record)
        if len(self.records) == self.stops_after:
            signal.raise_signal(signal.SIGINT)

    def says(self, text: str) -> None:
        self.said.append(text)


class OneByOne:
    """Rules without bundles, then ablation: every fault of the toy recipe is a rung of its own."""

    def propose(self, history: History, *, is_ablation: bool = False) -> Proposal | None:
        """Return the next proposal."""
        proposal = None if is_ablation else RulesPolicy().propose(history)
        return proposal or AblationPolicy().propose(history)


def write_plain_journal(study: Study) -> Path:
    """Write SPEEDRUN.md without its picture, which takes matplotlib a while."""
    return write_journal_of(study.project, study.history, study.folder.protocol() or {}, draws=False)


def go_on(project: ProjectFolder, watcher: Recorder | None = None, **changes: Any) -> tuple[Study, str]:
    """Take the toy study up, or begin it, and follow it to its end."""
    study = open_study(project, config_from_values({**TOY, **changes}))
    return study, run_study(
        study, watcher or Recorder(), write_plain_journal, LocalRunner(LocalLauncher(PROGRAM)), OneByOne()
    )


def fake(project: ProjectFolder, *cases: dict[str, Any]) -> None:
    """Tell the fake worker what to do in some runs: `does`, `factor` and `hash`; the rest says when."""
    effects = ("does", "factor", "hash")
    told = [
        {
            **{key: value for key, value in case.items() if key in effects},
            "when": {key: value for key, value in case.items() if key not in effects},
        }
        for case in cases
    ]
    (project.project / "fake.json").write_text(json.dumps({"cases": told}))


def outcomes(study: Study) -> list[str]:
    return [run.outcome for run in study.history.runs]


def titles(history: History) -> list[tuple[str, str]]:
    """Return what was tried, and with what verdict in the end."""
    return [(p.title, d.verdict if (d := history.verdict(p.number)) else "open") for p in history.proposals]


def facts(history: History) -> list[tuple[Any, ...]]:
    return [(run.run_id, run.role, run.candidate, run.seed, run.outcome) for run in history.runs]


def wait_until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look often, on a device that is ours alone, and take a busy machine for a quiet one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
        patch.setattr(runner, "POLL_SECONDS", 0.01)
        patch.setattr(runner, "contamination", lambda *_: "")
        yield


# ---- a study from beginning to end


@dataclass
class Finished:
    """A study that has ended, and how its journal looked after each writing."""

    study: Study
    reason: str
    watcher: Recorder
    journals: list[tuple[int, int, str]]
    """Decisions and claims so far, and the text of SPEEDRUN.md."""

    @property
    def history(self) -> History:
        return self.study.history


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, quick: None) -> Finished:
    project = ProjectFolder(tmp_path_factory.mktemp("finished")).create()
    study = open_study(project, config_from_values(TOY))
    watcher, journals = Recorder(), list[tuple[int, int, str]]()

    def write(study: Study) -> None:
        text = write_plain_journal(study).read_text()
        journals.append((len(study.history.decisions), len(study.history.claims), text))

    reason = run_study(study, watcher, write, LocalRunner(LocalLauncher(PROGRAM)), OneByOne())
    return Finished(study, reason, watcher, journals)


def truth(history: History, candidate: int) -> float:
    return true_seconds(candidate_config(history, candidate).model_dump())


def test_the_baseline_is_run_as_often_as_asked_with_a_seed_each(finished: Finished) -> None:
    baselines = finished.history.runs_of(0, "baseline")
    assert [run.run_id for run in baselines] == ["r0001", "r0002"]
    assert {run.outcome for run in baselines} == {"reached"}
    assert len({run.seed for run in baselines}) == 2
    assert all(run.clock_to_target("train") == pytest.approx(200.0, rel=0.2) for run in baselines)


def test_the_real_gains_are_kept_and_nothing_else(finished: Finished) -> None:
    history = finished.history
    best = candidate_config(history, history.incumbent)
    assert (best.model.embd_pdrop, best.training.optim) == (0.0, "muon")
    for proposal in history.proposals:
        ratio = truth(history, proposal.number) / truth(history, proposal.parent)
        assert (proposal.number in history.kept()) == (ratio < 0.9), f"{proposal.title}: {ratio:.2f} of the time"


def test_every_rung_of_the_ladder_is_faster_and_the_last_one_is_a_record(finished: Finished) -> None:
    history = finished.history
    times = [estimate(history, number).median_seconds for number in (0, *history.kept())]
    assert len(times) >= 3
    assert all(after < 0.9 * before for before, after in pairwise(times))
    (claim,) = history.claims
    assert claim.confirmed and claim.candidate == history.incumbent
    assert claim.median_seconds == pytest.approx(truth(history, history.incumbent), rel=0.1)
    assert "the last 3 proposals were not kept" in finished.reason
    assert finished.reason.endswith("is a record")
    assert history.ended == finished.reason


def test_a_keep_took_a_screen_and_a_fresh_run(finished: Finished) -> None:
    history = finished.history
    for number in history.kept():
        roles = [run.role for run in history.runs if run.candidate == number]
        assert [role for role in roles if role != "confirm"][:2] == ["screen", "incumbent"]
    best = history.incumbent
    assert [run.candidate for run in history.runs if run.role == "record"] == [best, 0, 0, best]


def test_the_journal_is_written_after_every_decision_and_claim_and_at_the_end(finished: Finished) -> None:
    history = finished.history
    counts = [(decisions, claims) for decisions, claims, _ in finished.journals]
    assert [decisions for decisions, claims in counts if not claims] == list(range(1, len(history.decisions) + 1))
    assert counts[-2:] == [(len(history.decisions), 1)] * 2
    assert f"ended: {finished.reason}" in finished.journals[-1][2]


def test_the_journal_tells_every_proposal_and_run(finished: Finished) -> None:
    history, text = finished.history, finished.journals[-1][2]
    for proposal in history.proposals:
        start = text.index(f"{proposal.number} · {proposal.title}")
        told = text[start : text.find("**Diff** against", start + 1) + len(proposal.diff) + 200]
        decision = history.verdict(proposal.number)
        assert decision is not None
        assert f"**Observation** {' '.join(proposal.observation.split())}" in told
        assert f"**Hypothesis** {' '.join(proposal.hypothesis.split())}" in told
        assert f"```diff\n{proposal.diff.rstrip()}\n```" in told
        assert f"**Verdict** {decision.verdict}: {decision.reason.splitlines()[0]}" in text[start:]
    assert all(run.run_id in text for run in history.runs)


def test_the_ledger_replays_to_the_same_history(finished: Finished) -> None:
    study, history = finished.study, finished.history
    again = load_history(study.project, study.folder, study.config.model_dump(mode="json"), "train")
    assert again.runs == history.runs
    assert again.proposals == history.proposals
    assert again.decisions == history.decisions
    assert again.claims == history.claims
    assert again.ended == history.ended
    assert again.base_config == history.base_config


def test_a_run_folder_holds_what_was_tried(finished: Finished) -> None:
    study = finished.study
    events = [event for event in study.folder.ledger() if event["event"] == "run"]
    assert [event["phase"] for event in events] == ["started", "ended"] * len(finished.history.runs)
    assert [run.run_id for run in finished.history.runs] == [
        f"r{number:04}" for number in range(1, len(finished.history.runs) + 1)
    ]
    for run in finished.history.runs:
        folder = RunFolder(study.project.runs_path / run.run_id)
        command, proposal = folder.read("command"), folder.read("proposal")
        assert command is not None
        assert (command["study"], command["role"], command["candidate"]) == ("toy", run.role, run.candidate)
        assert command["limits"]["train_seconds"] <= 3600.0
        expected = candidate_config(finished.history, run.candidate)
        training = expected.training.model_copy(update={"seed": run.seed})
        assert folder.config_path.read_text() == config_text(expected.model_copy(update={"training": training}))
        assert (proposal is None) == (run.candidate == 0)
        if proposal is not None:
            told = finished.history.proposal(run.candidate)
            assert (proposal["title"], folder.diff_path.read_text()) == (told.title, told.diff)


def test_a_second_sitting_of_an_ended_study_repeats_nothing(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.study.project.project, tmp_path / "copy")
    study, reason = go_on(ProjectFolder(tmp_path / "copy"))
    assert reason == finished.reason
    before, after = finished.history, study.history
    assert (after.runs, after.proposals, after.decisions) == (before.runs, before.proposals, before.decisions)
    assert after.claims == before.claims
    assert after.seconds_spent > 0


def test_a_study_in_many_sittings_is_the_same_study(finished: Finished, project: ProjectFolder) -> None:
    reason, sittings = "interrupted", 0
    while reason == "interrupted":
        watcher = Recorder(stops_after=5)
        study, reason = go_on(project, watcher)
        sittings += 1
        assert len(watcher.records) <= 5
    assert sittings >= 4
    assert reason == finished.reason
    assert titles(study.history) == titles(finished.history)
    assert facts(study.history) == facts(finished.history)


def test_the_index_can_be_deleted_and_the_journal_comes_out_the_same(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.study.project.project, tmp_path / "copy")
    project = ProjectFolder(tmp_path / "copy")
    written = (project.project / "SPEEDRUN.md").read_bytes()

    def render() -> bytes:
        (project.project / "SPEEDRUN.md").unlink()
        _, history, protocol = read_study(project)
        # Virtual seconds in the folders, real ones in the ledger: only here do they not add up to the same time.
        history = replace(history, seconds_spent=finished.history.seconds_spent)
        return write_journal_of(project, history, protocol, draws=False).read_bytes()

    with RunStore(project) as store:
        store.refresh()
        indexed = store.runs()
    assert render() == written
    project.index_path.unlink()
    assert render() == written
    with RunStore(project) as store:
        store.reindex()
        assert store.runs() == indexed
    assert len(indexed) == len(finished.history.runs)


# ---- runs that go wrong


def test_crashing_and_diverging_proposals_are_decided_and_the_study_goes_on(project: ProjectFolder) -> None:
    cases = ({"candidate": number, "does": does} for number, does in enumerate(("crash", "exit", "diverge"), start=1))
    fake(project, *cases)
    study, reason = go_on(project, Recorder(stops_after=6), patience=9)
    assert reason == "interrupted"
    assert outcomes(study)[:5] == ["reached", "reached", "crashed", "crashed", "diverged"]
    assert [(d.proposal, d.verdict) for d in study.history.decisions] == [(1, "crash"), (2, "crash"), (3, "discard")]
    crash, broken, divergence = study.history.decisions
    assert "RuntimeError: toy trouble" in crash.reason and "Traceback" in crash.reason
    assert "exit code 7" in broken.reason and "RuntimeError: toy trouble" in broken.reason
    assert "diverged" in divergence.reason
    assert study.history.runs[5].candidate == 4, "the next proposal has its turn"
    assert len({str(proposal.patch) for proposal in study.history.proposals}) == 4, "no idea comes twice"
    text = (project.project / "SPEEDRUN.md").read_text()
    assert "</b>: crash" in text and "RuntimeError: toy trouble" in text


def test_a_baseline_that_crashes_ends_the_study_with_its_reason(project: ProjectFolder) -> None:
    mine = project.project / "SPEEDRUN.md"
    mine.write_text("# My own notes\n")
    fake(project, {"role": "baseline", "does": "crash"})
    study, reason = go_on(project)
    assert outcomes(study) == ["crashed"]
    assert reason.startswith("the baseline run r0001 crashed: RuntimeError: toy trouble")
    assert study.history.ended == reason
    assert mine.read_text() == "# My own notes\n", "a journal that hotlap did not write is left alone"
    assert "toy trouble" in (project.project / "SPEEDRUN.hotlap.md").read_text()


def test_runs_that_vanish_end_the_sitting_but_not_the_study(project: ProjectFolder) -> None:
    fake(project, {"role": "baseline", "does": "vanish"})
    study, reason = go_on(project)
    assert outcomes(study) == ["lost"] * 4
    assert reason.startswith("4 runs in a row were spoiled by the machine (the last one, r0004: ")
    assert not study.history.runs_of(0)
    fake(project)
    study, reason = go_on(project, Recorder(stops_after=2))
    assert outcomes(study) == ["lost"] * 4 + ["reached"] * 2
    assert [run.seed for run in study.history.runs] == [42] * 5 + [43], "what is made again keeps its seed"


def test_a_killed_worker_is_lost_and_its_run_is_made_again(project: ProjectFolder) -> None:
    fake(project, {"run": "r0002", "does": "hang"})

    def kill(folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        if folder.run_id == "r0002" and points:
            os.kill(folder.read("worker")["pid"], signal.SIGKILL)  # type: ignore[index]

    study, _ = go_on(project, Recorder(kill, stops_after=3))
    assert [(run.role, run.outcome) for run in study.history.runs] == [
        ("baseline", "reached"),
        ("baseline", "lost"),
        ("baseline", "reached"),
    ]
    assert [run.seed for run in study.history.runs] == [42, 43, 43]


def test_a_run_that_falls_silent_is_stopped_as_invalid(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(project, {"run": "r0003", "does": "hang"})

    def lose_patience(folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        is_silent = folder.run_id == "r0003" and points
        monkeypatch.setattr(runner, "HANG_SECONDS", 1.0 if is_silent else 120.0)
        monkeypatch.setattr(runner, "HANG_SHARE", 0.0)

    study, _ = go_on(project, Recorder(lose_patience, stops_after=4))
    hung = study.history.runs[2]
    assert (hung.outcome, hung.reason) == ("invalid", "no sign of life for 1 s")
    decision = study.history.verdict(1)
    assert decision is not None
    assert decision.verdict == "discard" and "no sign of life" in decision.reason


def test_a_run_that_never_begins_is_stopped_and_a_baseline_like_that_ends_the_study(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "START_SECONDS", 0.3)
    fake(project, {"run": "r0001", "does": "wait"})
    study, reason = go_on(project)
    assert outcomes(study) == ["invalid"]
    assert reason.startswith(
        "the baseline run r0001 is invalid: no sign of life for 0 s; repair the config and start it under another name"
    )


def test_a_hopeless_screen_is_raced_out(project: ProjectFolder) -> None:
    fake(project, {"role": "screen", "does": "hang", "factor": 4.0})
    study, _ = go_on(project, Recorder(stops_after=3))
    run = study.history.runs[2]
    assert (run.role, run.outcome) == ("screen", "raced")
    assert "it can no longer beat the incumbent's" in run.reason or "far behind" in run.reason
    stop = RunFolder(project.runs_path / run.run_id).read("stop")
    assert stop is not None
    assert (stop["outcome"], stop["reason"]) == ("raced", run.reason)
    assert run.kill is not None and (run.kill.reason, stop["kill"]["rule"]) == (run.reason, run.kill.rule)
    assert run.kill.saved_seconds > 0 and "gap" in run.kill.evidence
    assert "\n## Racing\n\n1 of 1 raced screen was stopped early" in (project.project / "SPEEDRUN.md").read_text()
    study, _ = go_on(project, Recorder(stops_after=1))
    decision = study.history.verdict(1)
    assert decision is not None
    assert decision.verdict == "discard" and run.reason in decision.reason


def test_only_screens_are_raced(project: ProjectFolder) -> None:
    """A baseline that is twice as slow as the first one is a fact about the noise."""
    fake(project, {"run": "r0002", "factor": 4.0, "does": "wait"})

    def release(folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        (project.project / "go").touch()

    study, _ = go_on(project, Recorder(release, stops_after=2))
    assert outcomes(study) == ["reached", "reached"]
    assert study.history.runs[1].train_seconds > 2 * study.history.runs[0].train_seconds


def test_a_disturbed_run_is_made_again(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    disturbed = iter(["others were busy"])
    monkeypatch.setattr(runner, "contamination", lambda *_: next(disturbed, ""))
    study, _ = go_on(project, Recorder(stops_after=4))
    assert [(run.candidate, run.role, run.contaminated) for run in study.history.runs[2:]] == [
        (1, "screen", "others were busy"),
        (1, "screen", ""),
    ]
    _, history, _ = read_study(project)
    assert history.runs == study.history.runs, "the ledger remembers what the folder cannot know"


def test_runs_on_a_changed_corpus_do_not_count(project: ProjectFolder) -> None:
    study, _ = go_on(project, Recorder(stops_after=2))
    fake(project, {"role": "screen", "hash": "fedcba9876543210"})
    for most in (3, 4):  # each time that it is taken up it looks whether the corpus was put back
        with pytest.raises(StudyError, match="hash 0123456789abcdef before, fedcba9876543210 now"):
            go_on(project)
        _, history, _ = read_study(project)
        assert [run.candidate for run in history.runs] == [0, 0, 1, 1][:most]
        assert not history.runs_of(1) and not history.decisions
        assert "the corpus has changed during the study" in history.ended
    fake(project, {})
    study, _ = go_on(project)
    assert study.history.runs_of(1)


def test_a_budget_that_ends_during_a_run_stops_it(project: ProjectFolder) -> None:
    fake(project, {"run": "r0001", "does": "hang"})
    study, reason = go_on(project, budget={"run": "1h", "total": "0.5s"})
    (run,) = study.history.runs
    assert (run.outcome, run.reason) == ("interrupted", "the study's budget was used up")
    assert reason.startswith("the budget of 0.50 s is used up before: baseline run 1 of 2")


def test_a_proposal_that_touches_the_measurement_is_refused(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cheat(self: RulesPolicy, history: History) -> Proposal:
        texts = dict.fromkeys(("family", "title", "observation", "hypothesis"), "x")
        return Proposal(number=1, parent=0, patch={"task.max_length_bytes": 9}, predicted_ratio=0.1, **texts)

    monkeypatch.setattr(RulesPolicy, "propose", cheat)
    with pytest.raises(ConfigError, match=r"may not change task\.max_length_bytes"):
        go_on(project)
    assert read_study(project)[1].proposals == ()


# ---- Ctrl-C, SIGTERM, kill -9


@pytest.mark.parametrize("sent", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_twice_ctrl_c_and_sigterm_stop_at_once(project: ProjectFolder, sent: tuple[signal.Signals, ...]) -> None:
    fake(project, {"run": "r0002", "does": "hang"})

    to_send = list(sent)

    def interrupt(folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        while folder.run_id == "r0002" and points and to_send:
            signal.raise_signal(to_send.pop())

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    study, reason = go_on(project, Recorder(interrupt))
    assert reason == "interrupted"
    assert outcomes(study) == ["reached", "interrupted"]
    assert study.history.runs[1].reason == "stopped by the user"
    assert not RunFolder(project.runs_path / "r0002").is_running()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert not study.history.ended, "an interrupted study has not ended"
    study, _ = go_on(project, Recorder(stops_after=1))
    assert [run.run_id for run in study.history.runs_of(0, "baseline")] == ["r0001", "r0003"]


def test_once_ctrl_c_finishes_the_run(project: ProjectFolder) -> None:
    fake(project, {"run": "r0002", "does": "wait"})
    watcher = Recorder()

    def interrupt(folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        if folder.run_id == "r0002" and not watcher.said:
            signal.raise_signal(signal.SIGINT)
            (project.project / "go").touch()

    watcher.during = interrupt
    study, reason = go_on(project, watcher)
    assert reason == "interrupted"
    assert outcomes(study) == ["reached", "reached"]
    assert watcher.said == ["finishing the current run, then stopping; Ctrl-C again stops now"]
    assert (project.project / "SPEEDRUN.md").exists()


def test_ctrl_c_while_waiting_for_the_device_starts_nothing(project: ProjectFolder) -> None:
    """There is no current run to finish, so it stops at once and does not wait for somebody else's."""
    study = open_study(project, config_from_values(TOY))
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with device_lock(study.devices):
            is_held.set()
            may_end.wait(20)

    class Impatient(Recorder):
        def says(self, text: str) -> None:
            super().says(text)
            if text.startswith("waiting for "):
                signal.raise_signal(signal.SIGINT)

    other, watcher = threading.Thread(target=hold), Impatient()
    other.start()
    try:
        assert is_held.wait(20)
        assert (
            run_study(study, watcher, write_plain_journal, LocalRunner(LocalLauncher(PROGRAM)), OneByOne())
            == "interrupted"
        )
        assert not may_end.is_set() and other.is_alive()
    finally:
        may_end.set()
        other.join()
    assert len(watcher.said) == 1
    assert study.history.runs == ()
    assert not project.runs_path.exists() or not list(project.runs_path.iterdir()), "no run id is wasted"
    assert (
        run_study(study, Recorder(stops_after=1), write_plain_journal, LocalRunner(LocalLauncher(PROGRAM)), OneByOne())
        == "interrupted"
    )
    assert outcomes(study) == ["reached"]


DRIVER = """
import json, sys
from pathlib import Path
from unittest.mock import Mock
from hotlap.config.load import config_from_values
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import LocalLauncher
from hotlap.study import runner
from hotlap.study.loop import run_study
from hotlap.study.study import open_study
path, values, program = json.loads(sys.argv[1])
runner.POLL_SECONDS, runner.contamination = 0.01, lambda *_: ""
study = open_study(ProjectFolder(Path(path)), config_from_values(values))
run_study(study, Mock(), Mock(), runner.LocalRunner(LocalLauncher(program)))
"""


def kill_driver_during(project: ProjectFolder, run_id: str) -> dict[str, Any]:
    """Start a driver, kill it with -9 once a run has points, and return who the run's worker is."""
    words = json.dumps([str(project.project), TOY, PROGRAM])
    with subprocess.Popen([sys.executable, "-c", DRIVER, words]) as driver:
        try:
            folder = RunFolder(project.runs_path / run_id)
            wait_until(lambda: folder.points() or driver.poll() is not None)
            assert driver.poll() is None, "the driver failed"
            assert folder.ending() is None
        finally:
            driver.kill()
    worker = folder.read("worker")
    assert worker is not None
    return worker


def test_a_killed_driver_loses_only_the_run_that_it_was_making(project: ProjectFolder) -> None:
    fake(project, {"run": "r0003", "does": "hang"})
    worker = kill_driver_during(project, "r0003")
    wait_until(lambda: not is_alive(worker))
    assert reap_orphans(project) == [], "the worker went with its driver"
    before = read_study(project)[1]
    assert [run.outcome for run in before.runs] == ["reached", "reached", "lost"]
    assert len(before.proposals) == 1
    watcher = Recorder(stops_after=1)
    study, _ = go_on(project, watcher)
    assert study.history.runs[:3] == before.runs
    assert study.history.proposals == before.proposals
    (again,) = watcher.records
    assert (again.run_id, again.role, again.candidate) == ("r0004", "screen", 1)
    assert again.seed == before.runs[-1].seed
    assert not any(isinstance(action, Propose) for action in watcher.actions)


def test_an_orphan_is_stopped_before_the_study_goes_on(project: ProjectFolder) -> None:
    fake(project, {"run": "r0002", "does": "orphan"})
    worker = kill_driver_during(project, "r0002")
    assert is_alive(worker)
    assert read_study(project)[1].runs[1:] == (), "it still goes on"
    assert reap_orphans(project) == ["r0002"]
    assert not is_alive(worker)
    assert reap_orphans(project) == []
    watcher = Recorder(stops_after=1)
    study, _ = go_on(project, watcher)
    assert outcomes(study) == ["reached", "interrupted", "reached"]
    assert "is gone" in study.history.runs[1].reason
    assert [run.run_id for run in study.history.runs] == ["r0001", "r0002", "r0003"]
    assert [run.seed for run in study.history.runs] == [42, 43, 43]
    (start,) = [action for action in watcher.actions if isinstance(action, StartRun)]
    assert (start.role, start.candidate) == ("baseline", 0)


def test_a_ledger_that_was_cut_in_the_middle_of_a_line_is_read_on(project: ProjectFolder) -> None:
    """A full disk may do that: what stands before the cut counts, and what follows does not run into it."""
    study, _ = go_on(project, Recorder(stops_after=3))
    lines = study.folder.ledger_path.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["phase"] == "ended"
    study.folder.ledger_path.write_bytes(b"".join(lines)[: -len(lines[-1]) // 2])
    assert read_study(project)[1].runs == study.history.runs, "the run has ended, whatever the ledger says"
    again, _ = go_on(project, Recorder(stops_after=1))
    assert again.history.runs[:3] == study.history.runs
    assert len(read_json_lines(study.folder.ledger_path)) > len(lines) - 1
    assert read_study(project)[1].runs == again.history.runs
