"""`hotlap exec` with real commands: what is measured, how it ends, and what it leaves behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import hotlap
from hotlap.core.files import read_json_lines

STAND_INS = Path(__file__).parents[1] / "stand_ins"
SECRET = "hf_planted0Secret9"
TRAINING = """
import argparse, json, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.3)
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--pause", type=float, default=0.02)
parser.add_argument("--digits", type=int, default=6)
options = parser.parse_args()
loss = 2.0
for step in range(1, options.steps + 1):
    time.sleep(options.pause)
    loss *= 1 - options.lr / 2
    print(json.dumps({"step": step, "loss": round(loss, 4)}))
    if step % 2 == 0:
        print(f'{{"step": {step}, "val_loss": {loss:.{options.digits}f}}}')
"""

Exec = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def execute(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Exec:
    """Call `hotlap exec` in a project with a training script, in a process of its own."""
    (tmp_path / "train.py").write_text(TRAINING)
    locks = str(tmp_path_factory.mktemp("locks"))
    base = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1]), "XDG_RUNTIME_DIR": locks}

    def call(*words: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "hotlap", "exec", *words],
            cwd=tmp_path,
            env={**base, **(env or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )

    return call


def result_of(project: Path, run: str = "r0001") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / ".hotlap" / "runs" / run / "result.json").read_text())
    return found


def python(text: str) -> str:
    return shlex.join([sys.executable, "-c", textwrap.dedent(text)])


def test_it_stops_at_the_target(execute: Exec, tmp_path: Path) -> None:
    ended = execute("--target", "val_loss < 0.5", "--", sys.executable, "train.py")
    assert ended.returncode == 0, ended.stderr
    result = result_of(tmp_path)
    assert result["outcome"] == "reached"
    assert result["time_to_target"]["step"] == 10
    assert result["metrics"]["val_loss"] == pytest.approx(2 * 0.85**10, abs=1e-6)
    assert 0.15 < result["time_to_target"]["train"] < 5.0
    assert '{"step": 10' in ended.stdout
    assert '{"step": 30' not in ended.stdout
    points = read_json_lines(tmp_path / ".hotlap" / "runs" / "r0001" / "metrics.jsonl")
    evaluated = [point["step"] for point in points if "val_loss" in point]
    assert evaluated == [2, 4, 6, 8, 10]
    walls = [point["wall_seconds"] for point in points]
    assert walls == sorted(walls)


@pytest.mark.parametrize(
    ("words", "code", "outcome"),
    [
        (("--", "sh", "-c", "exit 7"), 7, "crashed"),
        (("--", "true"), 0, "reached"),
        (("--", "no_such_program_here"), 127, "crashed"),
        (("--", "sh", "-c", "kill -9 $$"), 137, "crashed"),
        (("-t", "val_loss < 9", "--", "sh", "-c", "exit 7"), 5, "crashed"),
        (("-t", "val_loss < 0.1", "--", "echo", "val_loss: 0.5000"), 3, "missed"),
        (("-t", "val_loss < 1", "--", "sh", "-c", "echo 'val_loss: nan'; sleep 20"), 4, "diverged"),
        (("--limit", "1.5s", "--", "sleep", "20"), 124, "out_of_budget"),
        (("-t", "a < 1", "--", "sh", "-c", "echo torch.OutOfMemoryError: CUDA; exit 1"), 5, "out_of_memory"),
    ],
)
def test_exit_codes(execute: Exec, tmp_path: Path, words: tuple[str, ...], code: int, outcome: str) -> None:
    ended = execute(*words)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert result_of(tmp_path)["outcome"] == outcome


def test_what_was_missed_is_said(execute: Exec) -> None:
    assert (
        "val_los was never seen; it told: val_loss"
        in execute("-t", "val_los < 1", "--", "echo", "val_loss: 0.5").stdout
    )
    rounded = execute("-t", "val_loss < 0.5", "--", "echo", "val_loss: 0.50").stdout
    assert "val_loss 0.50 has too few digits" in rounded
    assert "no metrics were found" in execute("--", "true").stderr
    assert "no metrics were found" not in execute("--", "false").stderr, "a crash has another reason"


def test_json_alone_is_on_stdout(execute: Exec) -> None:
    ended = execute("--json", "-t", "val_loss < 1", "--", "echo", "val_loss: 0.5000")
    document = json.loads(ended.stdout)
    assert (document["schema"], document["outcome"], document["run"]) == ("hotlap/run/1", "reached", "r0001")
    assert "val_loss: 0.5000" in ended.stderr


def test_block_buffered_output_is_seen_and_not_timed(execute: Exec, tmp_path: Path) -> None:
    blocks = python(
        """
        import sys, time
        lines = [f'{{"step": {step}, "val_loss": {2 / (step + 1):.6f}}}' for step in range(40)]
        for part in (lines[:20], lines[20:]):
            time.sleep(0.6)
            sys.stdout.write("\\n".join(part) + "\\n")
            sys.stdout.flush()
        """
    )
    for attempt in range(1, 7):  # where the reader had to wait for a core, it holds nothing against the command
        ended = execute("-t", "val_loss < 0.08", "--", blocks)
        assert ended.returncode == 0
        result = result_of(tmp_path, f"r{attempt:04}")
        if result["capture"]["is_buffered"]:
            break
    assert result["capture"]["is_buffered"]
    assert result["time_to_target"] is None
    assert "came in blocks" in ended.stdout


def test_a_terminal_makes_c_programs_write_each_line(execute: Exec, tmp_path: Path) -> None:
    """What buffers behind a pipe does not on the pseudo-terminal."""
    checks = python("import sys; print(f'val_loss: {1.0 if sys.stdout.isatty() else 2.0:.4f}')")
    execute("--", checks)
    execute("--no-pty", "--", checks)
    assert [result_of(tmp_path, run)["metrics"]["val_loss"] for run in ("r0001", "r0002")] == [1.0, 2.0]


def test_a_clock_of_its_own_is_judged_by(execute: Exec, tmp_path: Path) -> None:
    prints = (
        "for i in 1 2 3; do echo '{\"step\": '$i', \"val_loss\": 0.'$((9-i))'001, \"spent\": '$i'0.5}'; done; sleep 9"
    )
    ended = execute("-s", "command.clock_key=spent", "-s", "clock=train", "-t", "val_loss < 0.65", "--", prints)
    assert ended.returncode == 0, ended.stdout
    assert result_of(tmp_path)["time_to_target"]["train"] == 30.5
    assert result_of(tmp_path)["capture"]["clock"] == "own"


def test_a_clock_that_goes_back_makes_the_run_invalid(execute: Exec, tmp_path: Path) -> None:
    prints = 'echo \'{"step": 1, "val_loss": 2, "spent": 9}\'; echo \'{"step": 2, "val_loss": 0.5, "spent": 3}\''
    ended = execute("-s", "command.clock_key=spent", "-s", "clock=train", "-t", "val_loss < 1", "--", prints)
    assert ended.returncode == 5, ended.stdout
    assert result_of(tmp_path)["outcome"] == "invalid"


def test_children_of_the_command_are_ended(execute: Exec, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    child = f"(trap '' TERM; echo $BASHPID >> {pids}; sleep 50)"
    family = f"for i in 1 2; do {child} & done; sleep 0.5; echo val_loss: 0.1000; wait"
    execute("-t", "val_loss < 1", "--", family)
    assert len(pids.read_text().split()) == 2
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(int(pid)) for pid in pids.read_text().split()):
        assert time.monotonic() < deadline, "a child lives on"
        time.sleep(0.05)


def test_ctrl_c_ends_the_command(execute: Exec, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1]), "XDG_RUNTIME_DIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "hotlap", "exec", "--", "sh", "-c", "echo ready; sleep 50"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_no_secret_stays_in_the_project(execute: Exec, tmp_path: Path) -> None:
    """One in the environment, one in a flag, one in a variable of the command; all of them printed."""
    planted = {"MY_API_KEY": f"{SECRET}A"}
    show = (
        "import os,sys; print(sys.argv, os.environ['MY_API_KEY'], os.environ['OTHER_TOKEN']); print('val_loss: 0.5000')"
    )
    command = f"OTHER_TOKEN={SECRET}B {sys.executable} -c {shlex.quote(show)} --hub_token {SECRET}C"
    command = f"{command} --password='{SECRET}D' && false"
    ended = execute("--", command, env=planted)
    assert ended.returncode == 1
    assert ended.stdout.count("***") >= 4
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"val_loss: 0.5000" in everything
    assert SECRET.encode() not in everything
    assert SECRET not in ended.stdout + ended.stderr


def test_metrics_of_hotlap_log(execute: Exec, tmp_path: Path) -> None:
    logs = python(
        """
        import time, hotlap
        for step in range(30):
            time.sleep(0.05)
            hotlap.log({"val_loss": 1 / (step + 1)}, step=step)
        """
    )
    ended = execute("-t", "val_loss < 0.2", "--", logs)
    assert ended.returncode == 0, ended.stdout
    assert result_of(tmp_path)["time_to_target"]["step"] == 5


def test_bad_options_are_told_in_one_message(execute: Exec) -> None:
    wrong = {
        ("-t", "val_loss", "--", "true"): "cannot read the target 'val_loss'",
        ("-m", "val_loss", "--", "true"): "write NAME=REGEX",
        ("-m", "val_loss=a", "--", "true"): "needs one group",
        ("--limit", "soon", "--", "true"): "--limit 'soon'",
        (): "no such config; give a command: hotlap exec -- python train.py",
        ("-s", "training.max_steps=3", "--", "true"): "training: for hotlap's own trainer",
    }
    for words, expected in wrong.items():
        ended = execute(*words)
        assert ended.returncode == 2, ended.stderr
        assert expected in ended.stderr
        assert "Traceback" not in ended.stderr


def test_docker_run_is_measured_and_ended(execute: Exec, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "welt").write_text(f"exec {sys.executable} $CONTAINER_ROOT/app/welt/run.py\n")
    (tmp_path / "welt").mkdir()
    (tmp_path / "welt" / "run.py").write_text(
        "import os, json, time\n"
        "open(os.environ['HOTLAP_METRICS_FILE'], 'a').close()\n"
        "print({'loss': '1.5', 'epoch': '0.1'}, flush=True)\n"
        "time.sleep(0.3)\n"
        "print({'eval_loss': '0.4321', 'epoch': '1.0'}, flush=True)\n"
        "time.sleep(60)\n"
    )
    line = 'docker build -t welt . && docker run -it --rm --gpus all --ipc=host -v "$(pwd)/welt:/app/welt" -e A=1 welt'
    environment = {
        "PATH": f"{STAND_INS}:{os.environ['PATH']}",
        "STAND_IN_IMAGES": str(images),
        "STAND_IN_STATE": str(tmp_path),
    }
    start = time.monotonic()
    ended = execute("-t", "eval_loss < 0.5", "--", line, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert time.monotonic() - start < 40
    assert result_of(tmp_path)["metrics"]["eval_loss"] == 0.4321
    run = tmp_path / ".hotlap" / "runs" / "r0001"
    assert (run / "shared" / "metrics.jsonl").exists()
    (identity,) = (path.read_text() for path in (run / "containers").iterdir())
    living = [
        process for process in psutil.process_iter(["cmdline"]) if "run.py" in " ".join(process.info["cmdline"] or [])
    ]
    assert not [process for process in living if str(tmp_path) in " ".join(process.info["cmdline"])]
    assert identity


def test_a_child_that_prints_on_after_the_end_does_not_hold_the_run(execute: Exec, tmp_path: Path) -> None:
    chatter = f"(while true; do echo more; sleep 0.02; done) & echo $! > {tmp_path}/pid; echo val_loss: 0.5000"
    ended = execute("--", "bash", "-c", chatter)
    assert ended.returncode == 0
    assert result_of(tmp_path)["metrics"] == {"val_loss": 0.5}
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int((tmp_path / "pid").read_text())):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.05)


def test_bytes_of_any_kind_and_lines_of_any_length_do_no_harm(execute: Exec, tmp_path: Path) -> None:
    prints = python(
        """
        import os, sys
        out = sys.stdout.buffer
        out.write(bytes(range(256)) * 2000 + b"\\n")
        out.write(b"x" * 5_000_000 + b"\\n" + b"{" * 100_000 + b"\\n" + b"=1," * 100_000)
        out.write("\\nval_loss: 0.2500 \\u2713".encode()[:-1] + b"\\n")
        out.flush()
        """
    )
    ended = execute("-t", "val_loss < 0.3", "--json", "--", f"{prints} && sleep 9")
    assert ended.returncode == 0, ended.stdout
    assert result_of(tmp_path)["outcome"] == "reached"
    assert (tmp_path / ".hotlap" / "runs" / "r0001" / "stdout.log").stat().st_size > 5_800_000


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_killing_what_measures_ends_the_command(tmp_path: Path, victim: str) -> None:
    """Whichever of the two is killed, nothing of the command lives on, a child in a session of its own included."""
    environment = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1]), "XDG_RUNTIME_DIR": str(tmp_path)}
    family = "setsid sleep 60 & echo $! $$; sleep 60"
    process = subprocess.Popen(
        [sys.executable, "-m", "hotlap", "exec", "--", "bash", "-c", family],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    worker = json.loads((tmp_path / ".hotlap" / "runs" / "r0001" / "worker.json").read_text())["pid"]
    os.kill(process.pid if victim == "driver" else worker, signal.SIGKILL)
    process.communicate(timeout=30)
    deadline = time.monotonic() + 15
    while any(psutil.pid_exists(pid) for pid in [*pids, worker]):
        assert time.monotonic() < deadline, "something lives on"
        time.sleep(0.05)
    if victim == "worker":
        assert process.returncode == 5
