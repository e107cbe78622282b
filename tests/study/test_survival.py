"""Studies that are killed again and again: with -9 at any moment, by a full disk, by a restart, by a clock that is set.

A killed study has to end as the one that ran through: the same journal but for run ids and the time it took, each
finished run counted once, and no process left behind. HOTLAP_KILLS says how often a study of toy runs is killed (50
times; one of real runs a tenth of that), HOTLAP_KILL_SEED where: a failure prints the seed that it came with.
"""

import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

from hotlap.config.load import config_from_values
from hotlap.core import processes
from hotlap.core.errors import StorageError
from hotlap.core.records import RunRecord
from hotlap.core.run_folder import RUN_VARIABLE, RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import LocalLauncher
from hotlap.launch.orphans import reap_orphans
from hotlap.runs.history import load_history
from hotlap.runs.store import RunStore
from hotlap.study import guards, runner
from hotlap.study.loop import run_study
from hotlap.study.runner import LocalRunner
from hotlap.study.study import Study, open_study, read_study

KILLS = int(os.environ.get("HOTLAP_KILLS", "50"))
KILL_SEED = int(os.environ.get("HOTLAP_KILL_SEED", "1"))
DOOMED = Path(__file__).with_name("doomed.py")
FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
WORDS = ("a", "the", "cat", "dog", "sat", "ran", "on", "under", "red", "mat", "hill", "é", "über", "why", "not")
PATIENCE_SECONDS = 300.0
"""For what comes in seconds on a machine that is not overloaded."""
AHEAD = 0.8
"""Of the kills' share of all that is wanted, the share of its runs that a study may have made."""

ONE_FAULT: dict[str, Any] = {
    "name": "toy",
    "model": {
        **{"positions": "rope", "norm": "rms_norm", "qk_norm": True, "hidden_act": "relu_squared", "use_bias": False},
        **{"zero_init_projections": True, "tie_word_embeddings": False, "smear": True, "num_hidden_layers": 1},
        "embd_pdrop": 0.1,
    },
    "training": {
        **{"learning_rate": 3e-3, "optim": "muon", "per_device_train_batch_size": 16, "adam_beta2": 0.95},
        **{"max_grad_norm": 0.0, "lr_scheduler_type": "constant", "max_steps": 100_000, "padding": "bucketed"},
    },
    "targets": ["eval_loss < 0.76", "eval_byte_accuracy > 0.75", "eval_sacrebleu > 0.3"],
    "budget": {"run": "1h", "total": "1000h"},
    "bench": {"budget_ratio": 0},
    "calibrate": {"runs": 2},
    "record": {"runs": 2, "alpha": 0.5},
    "patience": 1,
}
"""For the fake worker: only its dropout is a fault; step times are no matter of the machine, so none are measured."""

MANY_RUNS = {**ONE_FAULT, "calibrate": {"runs": 3}, "record": {"runs": 3, "alpha": 0.5}, "patience": 4}

TINY: dict[str, Any] = {
    "name": "tiny",
    "task": {"name": "string_repetition", "max_length_bytes": 24},
    "model": {
        **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 72},
        **{"positions": "rope", "norm": "rms_norm", "qk_norm": True, "smear": True, "embd_pdrop": 0.0},
    },
    "training": {
        **{"learning_rate": 3e-3, "max_steps": 400, "per_device_train_batch_size": 4, "logging_steps": 5},
        **{"lr_scheduler_type": "constant", "use_cpu": True, "padding": "bucketed"},
    },
    "targets": ["eval_loss < 3.6"],
    "budget": {"run": "1h", "total": "1000h"},
    "bench": {"budget_ratio": 0},
    "calibrate": {"runs": 2},
    "record": {"runs": 2, "alpha": 0.5},
    "patience": 1,
}
"""For the real worker: some tens of steps of a tiny model."""


# ---- killing


class Driver:
    """A driver that the nest has forked off; until the next one is, its pid belongs to nobody else."""

    def __init__(self, nest: "subprocess.Popen[bytes]", options: Mapping[str, Any]) -> None:
        assert nest.stdin is not None
        assert nest.stdout is not None
        nest.stdin.write(f"{json.dumps(options)}\n".encode())
        self._answers = nest.stdout
        self._code: int | None = None
        self.pid = int(self._answers.readline())

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int | None:
        """Return the exit code (negative: the signal), None when the time is over first."""
        if self._code is None and select.select([self._answers], [], [], seconds)[0]:
            self._code = int(self._answers.readline())
        return self._code

    def is_running(self) -> bool:
        return self.wait(0) is None


@dataclass
class Reaper:
    """Drives a study to its end in many sittings, and kills in each."""

    project: ProjectFolder
    config: dict[str, Any]
    nest: "subprocess.Popen[bytes]"
    worker: str = "fake"
    """`real` or `fake`."""
    draw: random.Random = field(default_factory=lambda: random.Random(KILL_SEED))
    worker_changes: int = 7
    """Files that a worker changes."""
    run_seconds: float = 0.2
    """What a run takes, roughly."""
    hits: list[str] = field(default_factory=list)
    """What was killed from outside; what killed itself stands in the file `kills`."""
    driver: Driver | None = None
    doom: str = ""
    """What becomes of the next driver's first worker."""

    def finish(self, kills: int = 0, num_runs: int = 1) -> None:
        """Kill so often while the study makes its runs, then let it come to its end."""
        print(f"HOTLAP_KILLS={KILLS} HOTLAP_KILL_SEED={KILL_SEED}")
        (self.project.project / "boot").write_text("first boot")
        while (done := len(self.kills())) < kills:
            self._sit(is_ahead=self._num_runs() / num_runs > AHEAD * done / kills)
        assert kills == 0 or "ended" not in self._events(), "there was nothing left to kill"
        assert self.start().wait() == 0, self.log()

    def kills(self) -> list[str]:
        """Return what was killed so far."""
        path = self.project.project / "kills"
        return self.hits + (path.read_text().splitlines() if path.exists() else [])

    def start(self, **options: int) -> Driver:
        """Start a driver; the options say when it is killed."""
        words = {"project": str(self.project.project), "config": self.config, "worker": self.worker}
        self.driver = Driver(self.nest, {**words, "doom": self.doom, **options})
        self.doom = ""
        return self.driver

    def end(self) -> None:
        """Leave nothing running, also after a test that failed."""
        if self.driver is not None and self.driver.is_running():
            os.kill(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
        self._kill_processes()

    def log(self) -> str:
        """Return the end of what the drivers said."""
        return (self.project.project / "driver.log").read_text(errors="replace")[-4000:]

    def _sit(self, *, is_ahead: bool) -> None:
        """Kill in one sitting; one that is ahead of the kills ends no run."""
        ways = (self._at_a_change, self._in_a_line, self._worker_first, self._frozen, self._restart, self._at_a_moment)
        if not is_ahead and self.draw.random() < 0.4:
            self._doom("die")
        self.draw.choice(ways[: 5 if is_ahead else 6])(is_ahead)
        with RunStore(self.project) as store:
            store.refresh()

    def _at_a_change(self, is_ahead: bool) -> None:
        self._expect_end(self.start(at=self.draw.randint(1, 16 if is_ahead else 45)))

    def _in_a_line(self, is_ahead: bool) -> None:
        self._expect_end(
            self.start(at=self.draw.randint(1, 2 if is_ahead else 4), missing=self.draw.choice((1, 2, 20)))
        )

    def _worker_first(self, _: bool) -> None:
        """Kill the worker, and the driver at once after it."""
        self._freeze()
        if self._kill_processes():
            self.hits.append("worker frozen")
        self._kill("driver after its worker")

    def _frozen(self, _: bool) -> None:
        """Kill the driver of a worker that cannot notice it, and that does not end when it is asked to."""
        self._freeze()
        self._kill("driver of a frozen worker")

    def _restart(self, is_ahead: bool) -> None:
        """Kill everything at once, and give the machine another boot."""
        self._freeze() if is_ahead else self._wait_a_moment()
        self._kill("machine")
        self._kill_processes()
        wait_until(lambda: not processes_of(self.project))
        (self.project.project / "boot").write_text(f"boot after {len(self.hits)} kills")

    def _at_a_moment(self, _: bool) -> None:
        self._wait_a_moment()
        self._kill("driver at a moment")

    def _doom(self, how: str) -> None:
        self.doom = f"{how} {self.draw.randint(1, self.worker_changes)}"

    def _freeze(self) -> None:
        self._doom("freeze")
        before, driver = self._num_runs(), self.start()
        wait_until(
            lambda: (
                any(map(is_stopped, processes_of(self.project))) or not driver.is_running() or self._num_runs() > before
            )  # the worker had fewer files to change
        )

    def _wait_a_moment(self) -> None:
        driver, wanted = self.start(), len(self._events()) + self.draw.randint(1, 3)
        wait_until(lambda: len(self._events()) >= wanted or not driver.is_running())
        time.sleep(self.draw.uniform(0, self.run_seconds))

    def _kill_processes(self) -> int:
        found = processes_of(self.project)
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        return len(found)

    def _kill(self, what: str) -> None:
        assert self.driver is not None
        if self.driver.is_running():
            os.kill(self.driver.pid, signal.SIGKILL)
            self.hits.append(what)
        self._expect_end(self.driver)

    def _expect_end(self, driver: Driver) -> None:
        assert driver.wait() in (0, -signal.SIGKILL), self.log()

    def _events(self) -> list[str]:
        return [event["event"] for study in self.project.studies() for event in study.ledger()]

    def _num_runs(self) -> int:
        events = [event for study in self.project.studies() for event in study.ledger()]
        return sum(event.get("outcome") not in (None, "lost", "interrupted") for event in events)


def processes_of(project: ProjectFolder) -> list[psutil.Process]:
    """Return what runs for a project, drivers apart: processes of its runs, and what prepares its corpus."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            mark = process.environ().get(RUN_VARIABLE, "")
            is_ours = mark.startswith(f"{project.path}{os.sep}") or str(project.cache_path) in process.cmdline()
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_stopped(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() == psutil.STATUS_STOPPED)
    return False


def wait_until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


# ---- comparing


def counted(project: ProjectFolder) -> list[RunRecord]:
    return [run for run in read_study(project)[1].runs if not run.is_infrastructure_failure]


def comparable(project: ProjectFolder) -> list[str]:
    """Return everything that a study learned, with its runs called by their place among those that count."""
    history, runs = read_study(project)[1], counted(project)
    names = {run.run_id: f"run {number}" for number, run in enumerate(runs, start=1)}
    passing = {"load_average": None, "git_commit": None}
    alike = [replace(run, environment={**run.environment, **passing}, guards={}) for run in runs]
    told = (*alike, *history.proposals, *history.decisions, *history.claims, history.ended)
    return [renamed(repr(fact), names).replace(str(project.project), "PROJECT") for fact in told]


def journal(project: ProjectFolder) -> list[str]:
    """Return the lines of SPEEDRUN.md, without those of runs that were killed and without the time that all took."""
    names = {run.run_id: f"run {number}" for number, run in enumerate(counted(project), start=1)}
    lost = {run.run_id for run in read_study(project)[1].runs} - names.keys()
    lines = (project.project / "SPEEDRUN.md").read_text().splitlines()
    kept = [line for line in lines if not lost & set(re.findall(r"\br\d{4,}\b", line))]
    spent = re.compile(r"(\*\*\w+\*\*).* used by \d+ runs?")
    return [spent.sub(r"\1", renamed(line, names)) for line in kept]


def renamed(text: str, names: dict[str, str]) -> str:
    return re.sub(r"\br\d{4,}\b", lambda match: names.get(match[0], match[0]), text)


def check(killed: ProjectFolder, through: ProjectFolder) -> None:
    """Compare a killed study with one that ran through, and look for what must not be."""
    assert not [run for run in read_study(through)[1].runs if run.is_infrastructure_failure]
    assert comparable(killed) == comparable(through)
    assert journal(killed) == journal(through)
    check_ledger(killed)
    check_index(killed)
    wait_until(lambda: not processes_of(killed))
    assert not [path for path in killed.project.rglob("*.tmp") if killed.runs_path not in path.parents]


def has_finished(folder: RunFolder) -> bool:
    """Say whether a run ended by itself; one that reached while it was being stopped has reached."""
    result = folder.read("result")
    return result is not None and (result["outcome"] == "reached" or folder.read("stop") is None)


def check_ledger(project: ProjectFolder) -> None:
    """See that no finished run is lost or counted twice, and that nothing but marked pieces cannot be read."""
    study, runs = project.studies()[0], read_study(project)[1].runs
    folders = [RunFolder(path) for path in sorted(project.runs_path.iterdir())]
    assert sorted(run.run_id for run in counted(project)) == [f.run_id for f in folders if has_finished(f)]
    ended = [event["run"] for event in study.ledger() if event["event"] == "run" and event["phase"] == "ended"]
    assert sorted(ended) == sorted(run.run_id for run in runs)
    lines = study.ledger_path.read_bytes().splitlines()
    pieces = [line for line in lines if line.endswith(b" ... cut off")]
    assert len(lines) == len(pieces) + len(study.ledger())


def check_index(project: ProjectFolder) -> None:
    """See that an index which has followed the study equals one that is made from the files now."""
    with RunStore(project) as store:
        store.refresh()
        followed = store.runs()
        store.reindex()
        assert followed == store.runs()
    assert not [run for run in followed if run.outcome == "running"]
    states = {run.run_id: run.outcome for run in read_study(project)[1].runs}
    assert states.items() <= {run.run_id: run.outcome for run in followed}.items()


def make_project(path: Path) -> ProjectFolder:
    path.mkdir()
    return ProjectFolder(path).create()


def make_corpus(path: Path) -> dict[str, Any]:
    """Write a corpus of 400 sentences and return the config of the real runs, which read it."""
    draw = random.Random(5)
    sentences = [" ".join(draw.choices(WORDS, k=draw.randint(2, 6))) for _ in range(400)]
    path.write_text("\n\n".join(sentences), encoding="utf-8")
    return {**TINY, "task": {**TINY["task"], "text": str(path)}}


@pytest.fixture(scope="module")
def nest() -> Iterator["subprocess.Popen[bytes]"]:
    """Start what forks the drivers."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(DOOMED), "nest"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0, env=environment) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()  # ends it


@pytest.fixture(scope="module")
def toys_through(tmp_path_factory: pytest.TempPathFactory, nest: "subprocess.Popen[bytes]") -> Iterator[ProjectFolder]:
    """Make a study of toy runs that runs through."""
    reaper = Reaper(make_project(tmp_path_factory.mktemp("toys") / "through"), MANY_RUNS, nest)
    try:
        reaper.finish()
        yield reaper.project
    finally:
        reaper.end()


@pytest.fixture
def begin(tmp_path: Path, nest: "subprocess.Popen[bytes]") -> Iterator[Callable[..., Reaper]]:
    """Make a project of a name, and what drives a study in it."""
    reapers: list[Reaper] = []

    def make(name: str, config: dict[str, Any], **facts: Any) -> Reaper:
        reapers.append(Reaper(make_project(tmp_path / name), config, nest, **facts))
        return reapers[-1]

    yield make
    for reaper in reapers:
        reaper.end()


@pytest.mark.timeout(300 + 10 * KILLS)
def test_a_study_that_is_killed_again_and_again_ends_like_one_that_ran_through(
    begin: Callable[..., Reaper], toys_through: ProjectFolder
) -> None:
    reaper = begin("killed", MANY_RUNS)
    reaper.finish(KILLS, num_runs=len(counted(toys_through)))
    check(reaper.project, toys_through)
    kills = reaper.kills()
    print(*kills, sep="\n")
    assert {kill.split()[0] for kill in kills} == {"driver", "worker", "machine"}


@pytest.mark.slow
@pytest.mark.timeout(600 + 10 * KILLS)
def test_a_study_of_real_runs_that_is_killed_ends_like_one_that_ran_through(
    tmp_path: Path, begin: Callable[..., Reaper]
) -> None:
    config = make_corpus(tmp_path / "corpus.txt")
    through = begin("through", config, worker="real")
    through.finish()
    reaper = begin("killed", config, worker="real", worker_changes=12, run_seconds=4.0)
    reaper.finish(KILLS // 10, num_runs=1)  # all but the first kills come before another run has ended
    check(reaper.project, through.project)


# ---- the moments that a loop may miss


def go_on(project: ProjectFolder, during: Callable[[RunFolder], object] | None = None) -> tuple[Study, str]:
    """Take the toy study up and follow it to its end, with the fake worker."""
    watcher = Mock()
    if during is not None:
        watcher.follows = lambda folder, points: during(folder)
    study = open_study(project, config_from_values(ONE_FAULT))
    return study, run_study(study, watcher, Mock(), LocalRunner(LocalLauncher(FAKE)))


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, on a device that is ours alone, and take a busy machine for a quiet one."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "contamination", lambda *_: "")


class Killed(BaseException):
    """The driver is gone."""


def kill_at(monkeypatch: pytest.MonkeyPatch, phase: str, number: int) -> None:
    """End the driver just before it notes the start or the end of its run with this number."""
    append_run, seen = Study.append_run, [0]

    def note(study: Study, facts: dict[str, Any], record: RunRecord | None = None) -> None:
        seen[0] += facts["phase"] == phase
        if facts["phase"] == phase and seen[0] == number:
            raise Killed
        append_run(study, facts, record)

    monkeypatch.setattr(Study, "append_run", note)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("is_quiet", [True, False])
def test_a_run_that_ended_unseen_counts_only_if_the_machine_was_quiet(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, is_quiet: bool
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, "ended", 3)
        with pytest.raises(Killed):
            go_on(project)
    system = RunFolder(project.runs_path / "r0003").system_path
    system.write_text("".join(f'{{"seconds": {second}, "other_cores": 9.0}}\n' for second in range(9)))

    def judged(samples: list[dict[str, Any]], *_: Any) -> str:
        return "" if is_quiet or not samples else "others were busy"

    monkeypatch.setattr(runner, "contamination", judged)
    study, _ = go_on(project)
    run, *later = study.history.runs[2:]
    assert (run.run_id, run.outcome) == ("r0003", "reached")
    assert run.contaminated == ("" if is_quiet else "others were busy")
    repeats = [other for other in later if (other.role, other.candidate) == (run.role, run.candidate)]
    assert len(repeats) == (0 if is_quiet else 1)
    assert all(other.seed == run.seed for other in repeats)
    assert read_study(project)[1].runs == study.history.runs
    events = [event for event in study.folder.ledger() if event.get("run") == "r0003"]
    assert [event["phase"] for event in events] == ["started", "ended"]
    go_on(project)
    assert [event for event in study.folder.ledger() if event.get("run") == "r0003"] == events


@pytest.mark.usefixtures("quick")
def test_a_run_that_ended_unseen_on_other_data_does_not_count(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.project / "fake.json").write_text('{"cases": [{"when": {"run": "r0003"}, "hash": "another"}]}')
    with monkeypatch.context() as patch:
        kill_at(patch, "ended", 3)
        with pytest.raises(Killed):
            go_on(project)
    study, _ = go_on(project)
    assert "the corpus has changed during the study" in study.history.runs[2].contaminated


@pytest.mark.usefixtures("quick")
def test_a_claim_that_lacked_only_its_line_break_is_made_once(project: ProjectFolder) -> None:
    study, reason = go_on(project)
    lines = study.folder.ledger_path.read_bytes().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if json.loads(line)["event"] == "claim")
    study.folder.ledger_path.write_bytes(b"".join(lines[: place + 1])[:-1])
    again, reason_again = go_on(project)
    assert (len(again.history.claims), reason_again) == (1, reason)
    assert read_study(project)[1].claims == again.history.claims == study.history.claims
    assert [run.run_id for run in again.history.runs] == [run.run_id for run in study.history.runs]


@pytest.mark.usefixtures("quick")
def test_a_driver_that_fails_takes_its_run_along(project: ProjectFolder) -> None:
    (project.project / "fake.json").write_text('{"cases": [{"when": {"run": "r0002"}, "does": "orphan"}]}')

    def fail(folder: RunFolder) -> None:
        if folder.run_id == "r0002" and folder.points():
            raise StorageError("the disk is full")

    with pytest.raises(StorageError, match="the disk is full"):
        go_on(project, fail)
    assert not processes_of(project)
    assert RunFolder(project.runs_path / "r0002").ending() == ("interrupted", "its driver failed")


@pytest.mark.usefixtures("quick")
def test_a_driver_that_was_held_does_not_take_its_run_for_hung(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that was frozen, a process that was stopped: afterwards both go on."""
    (project.project / "fake.json").write_text('{"cases": [{"when": {"run": "r0001"}, "does": "wait"}]}')
    monkeypatch.setattr(runner, "START_SECONDS", 60.0)
    monkeypatch.setattr(runner, "stood_still", lambda *_: "")
    monkeypatch.setattr(guards, "clock_problems", lambda *_: ())  # the worker is not held here
    real, held, looks = time.monotonic, [0.0], [0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + held[0])

    def hold(folder: RunFolder) -> None:
        looks[0] += folder.run_id == "r0001"
        if looks[0] == 3:
            held[0] = 600.0
        if looks[0] == 6:
            (project.project / "go").touch()

    study, _ = go_on(project, hold)
    assert held[0]
    assert study.history.runs[0].outcome == "reached"


# ---- a full disk


def test_a_study_whose_files_may_not_grow_goes_on_once_they_may(
    begin: Callable[..., Reaper], toys_through: ProjectFolder
) -> None:
    reaper = begin("full", MANY_RUNS)
    (reaper.project.project / "boot").write_text("first boot")
    codes = []
    for most_bytes in range(8_000, 20_000, 3_000):
        (reaper.project.project / "driver.log").unlink(missing_ok=True)
        codes.append(reaper.start(most_bytes=most_bytes).wait())
        assert not processes_of(reaper.project)
        if codes[-1]:
            assert re.search("hotlap: error: cannot .*File too large", reaper.log()), reaper.log()
    assert codes[0] == 125
    assert set(codes) <= {0, 125}
    reaper.finish()
    check(reaper.project, toys_through)


TMPFS = """
set -e
mount -t tmpfs -o size=300k tmpfs "$1"
cp -r "$1.start/." "$1"
code=0; "$2" "$3" drive "$4" > "$1.log" 2>&1 || code=$?
df "$1" >> "$1.log"
mount -o remount,size=50m "$1"
"$2" "$3" drive "$4" > "$1.log.2" 2>&1
cp -r "$1" "$1.end"
echo "$code"
"""
ALONE = ("unshare", "--user", "--map-root-user", "--mount")


def test_a_study_on_a_disk_that_is_full_goes_on_once_there_is_room(tmp_path: Path, toys_through: ProjectFolder) -> None:
    probe = [*ALONE, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be made here")
    make_project(tmp_path / "full.start")
    (tmp_path / "full.start" / "boot").write_text("first boot")
    (tmp_path / "full").mkdir()
    words = json.dumps({"project": str(tmp_path / "full"), "config": MANY_RUNS, "worker": "fake"})
    command = [*ALONE, "sh", "-c", TMPFS, "sh", str(tmp_path / "full"), sys.executable, str(DOOMED), words]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    told = (tmp_path / "full.log").read_text()
    assert (ended.returncode, ended.stdout.strip()) == (0, "125"), f"{ended.stderr}\n{told}"
    assert "No space left on device" in told
    check(ProjectFolder(tmp_path / "full.end"), toys_through)


# ---- a restart, a clock that is set


@pytest.mark.usefixtures("quick")
def test_after_a_restart_nobody_is_taken_for_the_worker(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pid of the run's worker belongs to somebody else by now."""
    kill_at(monkeypatch, "ended", 2)
    with pytest.raises(Killed):
        go_on(project)
    monkeypatch.undo()
    folder = RunFolder(project.runs_path / "r0002")
    (folder.path / "result.json").unlink()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        folder.write("worker", {**processes.process_identity(bystander.pid), "boot_id": "the boot before"})
        driver = {**processes.process_identity(), "boot_id": "the boot before"}
        folder.write("command", {**(folder.read("command") or {}), "driver": driver})
        assert folder.ending() == ("lost", "the process is gone and left no result")
        assert reap_orphans(project) == []
        assert bystander.poll() is None
        bystander.communicate(b"\n")
    history = read_study(project)[1]
    assert [run.outcome for run in history.runs] == ["reached", "lost"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("jump_seconds", [-(10**9), 10**9])
def test_a_clock_that_is_set_costs_no_budget(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, jump_seconds: int
) -> None:
    """Its budget is 1000 hours; in the middle the system's clock jumps by thirty years."""
    real, jumped = time.time, [0]
    monkeypatch.setattr(time, "time", lambda: real() + jumped[0])

    def jump(folder: RunFolder) -> None:
        if folder.run_id > "r0001":
            jumped[0] = jump_seconds

    study, reason = go_on(project, jump)
    assert jumped[0] == jump_seconds
    assert "nothing" not in reason and reason.endswith("is a record")
    assert 0 < study.history.seconds_spent < 10**6
    again, _ = go_on(project)
    assert study.history.seconds_spent <= again.history.seconds_spent < 10**6
    config = again.config.model_dump(mode="json")
    assert load_history(project, again.folder, config, "train").seconds_spent == again.history.seconds_spent
