"""Trackers of real processes: what they are given, and that none of them can hold up a run, however it misbehaves."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

import hotlap
from hotlap.config.load import config_from_values, config_text
from hotlap.core.run_folder import RUN_VARIABLE, RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import trackers, tracking
from hotlap.launch.local import Job, LaunchFacts, LocalLauncher
from hotlap.launch.trackers import settled_lines, tracker_lines

WORKER = """
import json, os, sys, time
from pathlib import Path
folder, first, last = Path(sys.argv[-1]), 1, 5
earlier = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
if earlier:
    first, last = 4, 8
with (folder / "metrics.jsonl").open("a") as file:
    for step in range(first, last + 1):
        at = {"step": step, "train_seconds": step / 10, "wall_seconds": step / 10 + 1, "tokens": 10 * step}
        file.write(json.dumps({**at, "train_loss": 3.0 / step, "learning_rate": 1e-3}) + "\\n")
        file.flush()
        time.sleep(0.02)
    file.write(json.dumps({**at, "eval_loss": 1.5, "perplexity": 4.48}) + "\\n")
sample = {"step": last, "train_seconds": 0.5, "prompt": "ab", "expected": "abab", "generated": "abba hunter2-hunter2"}
with (folder / "samples.jsonl").open("a") as file:
    file.write(json.dumps(sample) + "\\n")
result = {"outcome": "reached", "reason": "all is well", "step": last, "train_seconds": 0.5, "wall_seconds": 1.5,
          "tokens": 50, "time_to_target": {"train": 0.5, "wall": 1.5, "step": last}, "metrics": {"eval_loss": 1.5}}
(folder / "half").write_text(json.dumps(result))
(folder / "half").rename(folder / "result.json")
"""
"""Five steps, an evaluation, a sample and a result; goes on from step 4 where there is something already."""
PATIENCE_SECONDS = 60.0
HERE = Path(__file__).parent

Run = Callable[..., RunFolder]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "record.jsonl"


@pytest.fixture
def run(project: ProjectFolder, record: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Make a run that reports to a tracker of these tests; return its folder once the run has ended."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (HERE, Path(hotlap.__file__).parents[1]))))
    monkeypatch.setenv("HOTLAP_TEST_RECORD", str(record))
    monkeypatch.setattr(trackers, "FINISH_SECONDS", 3.0)

    def make(kind: str, *, name: str = "wandb", folder: RunFolder | None = None, **values: Any) -> RunFolder:
        monkeypatch.setitem(trackers.TRACKERS, name, f"evil_trackers:{kind}")
        if folder is None:
            folder = RunFolder.create(project.runs_path)
            config = config_from_values({"name": "toy", "training": {"report_to": [name]}, **values})
            folder.write_config(config_text(config), config.model_dump(mode="json"))
        launcher = LocalLauncher((sys.executable, "-c", WORKER))
        job: Job = launcher.start(folder, LaunchFacts(directory=project.project, study="s"))
        assert job.wait(PATIENCE_SECONDS)
        return folder

    return make


def calls(record: Path, name: str) -> list[list[Any]]:
    lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    return [line[1:] for line in lines if line[0] == name]


def facts_of(folder: RunFolder, name: str = "wandb") -> Mapping[str, Any]:
    found = (folder.read("trackers") or {})["trackers"][name]
    assert isinstance(found, dict)
    return found


def processes_of(folder: RunFolder) -> list[int]:
    """Return the processes that carry a mark of a run's, that of its trackers among them."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(RUN_VARIABLE, "")
            if mark.startswith(str(folder.path.resolve())) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_a_tracker_is_given_what_the_run_folder_tells(run: Run, record: Path, project: ProjectFolder) -> None:
    folder = run("Recorder")
    assert settled_lines([folder]) == [] and tracker_lines(folder) == []
    ((started,),) = calls(record, "start")
    assert (started["run_id"], started["study"], started["name"]) == ("r0001", "s", "s-r0001")
    assert started["project"] == project.project.name
    assert started["config"]["training"]["report_to"] == ["wandb"] and started["before"] == {}
    logged = calls(record, "log")
    assert [step for step, _ in logged] == [1, 2, 3, 4, 5, 5]
    assert logged[0][1] == {
        "train/loss": 3.0,
        "train/learning_rate": 1e-3,
        "train/num_input_tokens_seen": 10.0,
        "clock/train_seconds": 0.1,
        "clock/wall_seconds": 1.1,
    }
    assert logged[-1][1]["eval/loss"] == 1.5 and logged[-1][1]["eval/perplexity"] == 4.48
    assert calls(record, "show")[0][0] == 5
    ((summary,),) = calls(record, "finish")
    assert (summary["outcome"], summary["time_to_target/train"], summary["final/eval_loss"]) == ("reached", 0.5, 1.5)
    facts = facts_of(folder)
    assert (facts["state"], facts["told"]["id"], facts["position"]["step"]) == ("finished", "made-up", 5)
    assert not processes_of(folder)


def test_a_resumed_run_goes_on_in_the_same_run_of_the_tracker_and_sends_no_point_twice(run: Run, record: Path) -> None:
    folder = run("Recorder")
    settled_lines([folder])
    folder.begin_attempt(folder.config_text() or "")
    folder.drop_points_after(3)
    run("Recorder", folder=folder)
    assert settled_lines([folder]) == []
    first, second = (started for (started,) in calls(record, "start"))
    assert first["before"] == {} and second["before"]["id"] == "made-up"
    logged = calls(record, "log")
    assert [(step, "eval/loss" in metrics) for step, metrics in logged] == [
        *((step, False) for step in (1, 2, 3, 4, 5)),
        (5, True),
        *((step, False) for step in (6, 7, 8)),
        (8, True),
    ]
    assert [step for step, _ in calls(record, "show")] == [5, 8]


@pytest.mark.parametrize(
    ("kind", "state", "problem"),
    [
        ("RaisesInStart", "failed", "RuntimeError: no such server"),
        ("RaisesInLog", "failed", "ValueError: step 1 is not to my taste"),
        ("RaisesInFinish", "failed", "KeyboardInterrupt: even this"),
        ("Dies", "failed", "its process ended with exit code 3"),
        ("NotThere", "failed", "AttributeError"),
        ("SleepsInStart", "stopped", "it had not finished 3 s after the end of the run"),
        ("SleepsInLog", "stopped", "it had not finished 3 s after the end of the run"),
        ("SleepsInFinish", "stopped", "it had not finished 3 s after the end of the run"),
        ("Spins", "stopped", "it had not finished 3 s after the end of the run"),
    ],
)
def test_a_tracker_that_misbehaves_is_told_in_one_line_and_leaves_the_run_alone(
    run: Run, kind: str, state: str, problem: str
) -> None:
    began = time.monotonic()
    folder = run(kind)
    assert time.monotonic() - began < 15, "the run itself takes a moment, and waits for nobody"
    assert folder.ending() == ("reached", "all is well")
    (line,) = settled_lines([folder])
    assert line.startswith("wandb did not mirror r0001 to the end: ") and problem in line and "\n" not in line
    facts = facts_of(folder)
    assert facts["state"] == state and problem in facts["problem"]
    (line,) = tracker_lines(folder)
    assert line.startswith(f"r0001: wandb {state}: ") and line.endswith("the run itself is not affected")
    assert not processes_of(folder)


def test_a_tracker_that_keeps_a_processor_busy_is_ended_while_the_run_goes_on(
    run: Run, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create(project.runs_path)
    config = config_from_values({"training": {"report_to": "wandb"}})
    folder.write_config(config_text(config), config.model_dump(mode="json"))
    folder.append_point({"step": 1, "train_seconds": 0.1, "wall_seconds": 0.2, "tokens": 5, "train_loss": 1.0})
    monkeypatch.setattr(RunFolder, "ending", lambda self: None)  # it goes on
    monkeypatch.setattr(tracking, "START_PROCESSOR_SECONDS", 0.5)
    began = time.monotonic()
    tracking.supervise(folder, {"wandb": "evil_trackers:Spins"}, 3.0)
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert facts_of(folder)["state"] == "stopped" and "kept a processor busy" in facts_of(folder)["problem"]
    assert not processes_of(folder)


def test_two_trackers_do_not_know_of_each_other(
    run: Run, record: Path, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "trackio", "evil_trackers:RaisesInStart")
    folder = run("Recorder", training={"report_to": ["trackio", "wandb"]})
    (line,) = settled_lines([folder])
    assert "trackio did not mirror r0001" in line
    assert facts_of(folder)["state"] == "finished" and len(calls(record, "log")) == 6


def test_a_secret_never_reaches_a_tracker(run: Run, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the config by its name, in the config and in samples by its value, and in the environment."""
    monkeypatch.setenv("SOME_PASSWORD", "hunter2-hunter2")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789-the-key")
    task = {"name": "mine:task", "api_key": "hunter2", "source": "https://me:hunter2-hunter2@example.org", "n": 3}
    folder = run("Recorder", task=task)
    assert settled_lines([folder]) == []
    ((started,),) = calls(record, "start")
    environment = started.pop("environment")
    assert "SOME_PASSWORD" not in environment and environment["WANDB_API_KEY"] == "0123456789-the-key"
    assert "hunter2" not in json.dumps([started, *calls(record, "show"), *calls(record, "finish")])
    assert started["config"]["task"] == {
        "name": "mine:task",
        "api_key": "***",
        "source": "https://me:***@example.org",
        "n": 3,
    }
    ((_, (sample,)),) = calls(record, "show")
    assert sample == {"prompt": "ab", "expected": "abab", "generated": "abba ***"}
    assert "hunter2" not in json.dumps(folder.read("trackers"))


def test_a_secret_in_the_problem_of_a_tracker_is_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PASSWORD", "hunter2-hunter2")
    folder = run("TellsASecret")
    (line,) = settled_lines([folder])
    assert "refused https://me:***@tracker.example" in line


def test_a_run_that_is_lost_ends_its_trackers(run: Run, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "WORKER", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    folder = run("Recorder")
    assert settled_lines([folder]) == []
    ((summary,),) = calls(record, "finish")
    assert summary["outcome"] == "lost"


def test_without_report_to_nothing_is_started(run: Run, record: Path) -> None:
    folder = run("Recorder", training={"report_to": "none"})
    assert settled_lines([folder]) == []
    assert folder.read("trackers") is None and not record.exists() and not folder.trackers_log_path.exists()


def test_what_cannot_be_started_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "SUPERVISOR", (str(Path(os.devnull) / "python"),))
    folder = run("Recorder")
    (line,) = settled_lines([folder])
    assert "wandb did not mirror r0001 to the end: cannot be started" in line
