"""Starting, following and stopping real processes."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hotlap.core.errors import HotlapError, StorageError
from hotlap.core.processes import is_alive, process_identity
from hotlap.core.run_folder import RunFolder
from hotlap.launch.environment import worker_threads
from hotlap.launch.local import TORCHRUN, WORKER, Job, LaunchError, LaunchFacts, LocalLauncher

Start = Callable[..., Job]
Ranks = Callable[[int], list[psutil.Process]]
WaitUntil = Callable[[Callable[[], bool]], None]

CHILD = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]{options})
(folder.path / "child").write_text(str(child.pid))
ready()
"""


def child_of(folder: RunFolder) -> psutil.Process:
    return psutil.Process(int((folder.path / "child").read_text()))


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_run_is_started_as_the_contract_says(start: Start, folder: RunFolder, tmp_path: Path) -> None:
    job = start("print('hello', os.getcwd())\nprint('trouble', file=sys.stderr)\nprint(repr(sys.stdin.read()))")
    assert job.wait(30)
    assert job.exit_code == 0
    assert folder.stdout_path.read_text().splitlines() == [f"hello {tmp_path}", "trouble", "''"]
    command = folder.read("command")
    assert command is not None
    assert command["argv"][-1] == str(folder.path)
    assert (command["study"], command["role"], command["candidate"], command["seed"]) == ("s", "screen", 3, 7)
    assert command["limits"] == {"train_seconds": None, "wall_seconds": None}
    assert command["launched_monotonic"] == job.launched_monotonic
    assert (command["verb"], command["directory"]) == ("train", str(tmp_path))
    assert is_alive(command["driver"])
    worker = folder.read("worker")
    assert worker is not None
    assert worker["pid"] == job.pid


def test_the_worker_lives_in_a_session_of_its_own(start: Start) -> None:
    job = start("ready()\ntime.sleep(1000)")
    assert os.getsid(job.pid) == os.getpgid(job.pid) == job.pid
    assert not job.poll()
    assert not job.wait(0)


def test_a_run_never_looks_lost_between_launch_and_first_act(folder: RunFolder, tmp_path: Path) -> None:
    launcher = LocalLauncher((sys.executable, "-c", "import time; time.sleep(1000)"))
    job = launcher.start(folder, LaunchFacts(directory=tmp_path))
    assert folder.ending() is None
    job.stop("interrupted", "enough", grace_seconds=5)
    assert folder.ending() == ("interrupted", "enough")


def test_the_reason_is_on_disk_before_the_signal(start: Start, folder: RunFolder) -> None:
    job = start(
        "def on_term(*_):\n"
        "    (folder.path / 'seen').write_text(str(folder.read('stop')['reason']))\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, on_term)\nready()\ntime.sleep(1000)"
    )
    job.stop("raced", "far behind", details={"kill": {"rule": "behind"}})
    assert (folder.path / "seen").read_text() == "far behind"
    assert folder.ending() == ("raced", "far behind")
    assert (folder.read("stop") or {})["kill"] == {"rule": "behind"}
    assert job.exit_code == 0


def test_who_stops_first_says_why(start: Start, folder: RunFolder) -> None:
    job = start("ready()\ntime.sleep(1000)")
    folder.write("stop", {"outcome": "interrupted", "reason": "the user wished so"})
    job.stop("raced", "far behind")
    assert folder.ending() == ("interrupted", "the user wished so")


def test_a_run_that_ignores_sigterm_is_killed_with_its_children(start: Start, folder: RunFolder) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"  # inherited by the child
    job = start(ignore + CHILD.format(options="") + "time.sleep(1000)")
    child = child_of(folder)
    job.stop("out_of_budget", "time is over", grace_seconds=0.1)
    assert job.exit_code == -signal.SIGKILL
    assert is_gone(child)
    assert folder.ending() == ("out_of_budget", "time is over")


@pytest.mark.parametrize("options", [", start_new_session=True", ", process_group=0"])
def test_children_that_left_the_group_are_killed_too(start: Start, folder: RunFolder, options: str) -> None:
    job = start(CHILD.format(options=options) + "time.sleep(1000)")
    child = child_of(folder)
    job.stop("interrupted", "enough", grace_seconds=5)
    assert is_gone(child)


@pytest.mark.parametrize("options", ["", ", process_group=0"])
def test_what_an_ended_worker_left_running_is_killed(start: Start, folder: RunFolder, options: str) -> None:
    job = start(CHILD.format(options=options))
    assert job.wait(30)
    assert is_gone(child_of(folder))
    assert folder.read("stop") is None


def test_a_killed_worker_is_lost(start: Start, folder: RunFolder) -> None:
    job = start("ready()\ntime.sleep(1000)")
    os.kill(job.pid, signal.SIGKILL)
    assert job.wait(30)
    assert job.exit_code == -signal.SIGKILL
    ending = folder.ending()
    assert ending is not None
    assert ending[0] == "lost"


def test_stopping_a_run_that_has_ended_changes_nothing(start: Start, folder: RunFolder) -> None:
    job = start("folder.write('result', {'outcome': 'missed', 'reason': 'the schedule ended'})")
    assert job.wait(30)
    job.stop("raced", "too late")
    assert folder.ending() == ("missed", "the schedule ended")


@pytest.mark.parametrize("program", ["/nowhere/python", "/dev/null"])
def test_what_cannot_be_started_says_so(folder: RunFolder, tmp_path: Path, program: str) -> None:
    with pytest.raises(LaunchError, match=f"cannot start r0001: {program}") as caught:
        LocalLauncher((program,)).start(folder, LaunchFacts(directory=tmp_path))
    assert caught.value.exit_code == 125


def test_a_missing_project_folder_is_named(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(HotlapError, match="gone is not there"):
        LocalLauncher().start(folder, LaunchFacts(directory=tmp_path / "gone"))


def test_secrets_reach_the_worker_but_no_file(start: Start, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOTLAP_API_KEY", "HOTLAP_notify_password", "MY_SECRET", "UNRELATED"):
        monkeypatch.setenv(name, "hush")
    job = start("(folder.path / 'got').write_text(os.environ['HOTLAP_API_KEY'])")
    assert job.wait(30)
    assert (folder.path / "got").read_text() == "hush"
    text = (folder.path / "command.json").read_text()
    assert "hush" not in text
    assert '"HOTLAP_API_KEY": "***"' in text
    assert "UNRELATED" not in text


def test_the_default_program_is_the_worker_module() -> None:
    assert WORKER[0] == sys.executable
    assert WORKER[-2:] == ("-m", "hotlap.worker")


@pytest.mark.parametrize(("body", "reason"), [("sys.exit(9)", "exit code 9"), ("os.abort()", "SIGABRT")])
def test_a_process_that_breaks_without_a_result_is_crashed_not_lost(
    start: Start, folder: RunFolder, body: str, reason: str
) -> None:
    job = start(f"ready()\n{body}")
    assert job.wait(30)
    ending = folder.ending()
    assert ending is not None
    assert ending[0] == "crashed"
    assert reason in ending[1]


def test_a_process_that_was_killed_from_outside_is_lost(start: Start, folder: RunFolder) -> None:
    job = start("ready()\nos.kill(os.getpid(), signal.SIGKILL)")
    assert job.wait(30)
    assert folder.ending() == ("lost", "the process is gone and left no result")


RANKS = "be_rank()\nready()\ntime.sleep(1000)"
LEAVES_A_CHILD = """
if os.environ["RANK"] == "1":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    note("child", child.pid)
ready()
"""


@pytest.mark.usefixtures("fake_torchrun")
def test_several_devices_are_started_through_torchrun(start: Start, folder: RunFolder, ranks: Ranks) -> None:
    environment = "note('threads' + os.environ['RANK'], os.environ['OMP_NUM_THREADS'])\n"
    job = start(environment + RANKS, devices=2)
    command = folder.read("command")
    assert command is not None
    argv = command["argv"]
    assert tuple(argv[: len(TORCHRUN)]) == TORCHRUN
    assert {"--standalone", "--nnodes=1", "--nproc-per-node=2", "--max-restarts=0"} < set(argv)
    assert argv[argv.index("--no-python") + 1] == sys.executable
    assert argv[-1] == str(folder.path)
    assert command["devices"] == 2
    processes = ranks(2)
    assert {process.ppid() for process in processes} == {job.pid}
    assert len({os.getsid(process.pid) for process in processes} | {job.pid}) == 3, "each leads its own session"
    expected = max(1, worker_threads() // 2)
    assert [(folder.path / f"threads{rank}").read_text() for rank in range(2)] == [str(expected)] * 2


@pytest.mark.usefixtures("fake_torchrun")
def test_a_run_of_several_goes_on_for_as_long_as_its_torchrun(start: Start, folder: RunFolder, ranks: Ranks) -> None:
    job = start(RANKS, devices=2)
    worker = folder.read("worker")
    assert worker is not None
    assert worker["pid"] == job.pid
    first, _ = ranks(2)
    first.kill()
    assert folder.ending() is None


@pytest.mark.usefixtures("fake_torchrun")
def test_a_stop_reaches_every_process_of_a_run(start: Start, folder: RunFolder, ranks: Ranks) -> None:
    job = start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + RANKS, devices=3)
    processes = ranks(3)
    job.stop("raced", "far behind", grace_seconds=0.1)
    assert all(is_gone(process) for process in processes)
    assert folder.ending() == ("raced", "far behind")


@pytest.mark.usefixtures("fake_torchrun")
def test_processes_whose_torchrun_was_killed_end_with_it(start: Start, folder: RunFolder, ranks: Ranks) -> None:
    job = start(RANKS, devices=2)
    processes = ranks(2)
    os.kill(job.pid, signal.SIGKILL)
    assert job.wait(30)
    assert all(is_gone(process) for process in processes)
    assert folder.ending() == ("lost", "the process is gone and left no result")


@pytest.mark.usefixtures("fake_torchrun")
def test_what_a_rank_left_running_is_killed(start: Start, folder: RunFolder) -> None:
    """Its parent is gone and it leads a session of its own: only the run's mark is left to know it by."""
    job = start(LEAVES_A_CHILD, devices=2)
    assert job.wait(30)
    assert job.exit_code == 0
    assert is_gone(child_of(folder))


@pytest.mark.usefixtures("fake_torchrun")
def test_ranks_that_fail_without_a_result_are_a_crash(start: Start, folder: RunFolder) -> None:
    job = start("ready()\nsys.exit(3)", devices=2)
    assert job.wait(30)
    ending = folder.ending()
    assert ending is not None
    assert ending[0] == "crashed"
    assert "exit code 1" in ending[1]


def test_a_resumed_run_says_from_where(folder: RunFolder, tmp_path: Path) -> None:
    folder.write("worker", {**process_identity(), "start_seconds": 0.0})  # of the attempt before
    facts = LaunchFacts(directory=tmp_path, resume="checkpoint-20", wall_before_seconds=12.5)
    job = LocalLauncher((sys.executable, "-c", "import time; time.sleep(1000)")).start(folder, facts)
    command = folder.read("command")
    assert command is not None
    assert (command["resume"], command["wall_before_seconds"], command["devices"]) == ("checkpoint-20", 12.5, 1)
    assert folder.is_running(), "not taken for the attempt before, which is gone"
    job.stop("interrupted", "enough", grace_seconds=5)


def test_a_run_from_the_start_says_so(start: Start, folder: RunFolder) -> None:
    start("ready()")
    command = folder.read("command")
    assert command is not None
    assert (command["resume"], command["wall_before_seconds"], command["devices"]) == ("", 0.0, 1)


def test_a_run_in_a_slot_is_kept_there(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import os, time
deadline = time.monotonic() + 20
while len(os.sched_getaffinity(0)) > 1 and time.monotonic() < deadline:
    time.sleep(0.01)
print(sorted(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"], os.environ["CUDA_VISIBLE_DEVICES"])
"""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    core = max(os.sched_getaffinity(0))
    facts = LaunchFacts(directory=tmp_path, slots=2, cores=(core,), gpu=1)
    assert LocalLauncher((sys.executable, "-c", program)).start(folder, facts).wait(30)
    assert folder.stdout_path.read_text() == f"[{core}] 1 5\n"
    command = folder.read("command")
    assert command is not None
    assert (command["slots"], command["cores"]) == (2, [core])


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what fills the disk: from then on no JSON file of a run folder can be written by this process."""

    def fails(path: Path, value: object) -> None:
        raise StorageError(f"cannot write {path}: No space left on device")

    return lambda: monkeypatch.setattr("hotlap.core.run_folder.write_json", fails)


def test_a_stop_that_cannot_be_written_down_kills_all_the_same(
    start: Start, folder: RunFolder, full_disk: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start(CHILD.format(options="") + "time.sleep(1000)")
    child = child_of(folder)
    full_disk()
    with pytest.raises(StorageError, match="No space left on device"):
        job.stop("raced", "far behind")
    assert job.exit_code is not None
    assert is_gone(child)
    assert folder.ending() == ("lost", "the process is gone and left no result")


def test_a_run_that_cannot_be_written_down_is_not_left_running(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, started = RunFolder.write, list[int]()

    def is_full_after_the_start(self: RunFolder, name: str, value: dict[str, object]) -> None:
        if name != "command":
            started.extend(pid for pid in psutil.pids() if _belongs(pid, folder))
            raise StorageError("No space left on device")
        write(self, name, value)

    monkeypatch.setattr(RunFolder, "write", is_full_after_the_start)
    with pytest.raises(StorageError, match="No space left on device"):
        LocalLauncher((sys.executable, "-c", "import time; time.sleep(1000)")).start(
            folder, LaunchFacts(directory=tmp_path)
        )
    assert started
    assert not any(_belongs(pid, folder) for pid in psutil.pids())


def _belongs(pid: int, folder: RunFolder) -> bool:
    try:
        process = psutil.Process(pid)
        return process.cmdline()[-1:] == [str(folder.path)] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.mark.parametrize("code", [120, 125])
def test_a_process_that_could_not_write_is_lost_not_crashed(start: Start, folder: RunFolder, code: int) -> None:
    job = start(f"ready()\nsys.stdout.flush()\nos._exit({code})")
    assert job.wait(30)
    assert folder.ending() == ("lost", "the process is gone and left no result")


def test_nothing_crashes_by_its_own_fault_on_a_disk_without_room(
    start: Start, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start("ready()\ntime.sleep(0.3)\nsys.exit(9)")
    monkeypatch.setattr("hotlap.launch.local._LEAST_FREE_BYTES", 2**63)
    assert job.wait(30)
    assert folder.ending() == ("lost", "the process is gone and left no result")


def test_a_crash_that_cannot_be_written_down_is_lost(
    start: Start, folder: RunFolder, full_disk: Callable[[], None]
) -> None:
    job = start("ready()\ntime.sleep(0.3)\nsys.exit(9)")
    full_disk()
    assert job.wait(30)
    assert folder.ending() == ("lost", "the process is gone and left no result")
