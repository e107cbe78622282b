"""`hotlap profile` in this process, with a program of our own in the place of the one that loads torch."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hotlap.bench import profile as bench_profile
from hotlap.cli import main

FIGURES = {
    "device": "cpu",
    "device_name": "this machine",
    "threads": 2,
    "steps": 3,
    "step_seconds": [0.1, 0.1, 0.12],
    "profiled_seconds": 0.11,
    "seconds_by_part": {"waiting": 0, "data": 0.08, "forward": 0.01, "backward": 0.01, "optimizer": 0, "between": 0},
    "parts": {
        "data": {"seconds": 0.08, "gap_seconds": 0.08, "long_gap_seconds": 0.08, "device_seconds": 0, "calls": 0}
    },
    "samples_per_step": 4,
    "tokens_per_step": 100.0,
    "num_workers": 0,
    "optimizers": ["AdamW"],
    "compiled": False,
    "operators": [{"name": "aten::mm\x1b[2J", "calls": 2.0, "seconds": 0.01, "bytes": 0, "ratio": 1.0}],
    "memory": [{"name": "aten::mm", "calls": 2.0, "seconds": 0.01, "bytes": 2**20, "ratio": 1.0}],
    "families": {"matmul": 0.01},
    "calls": 2.0,
    "kernels": 2,
    "kernel_seconds": 0.01,
    "small_kernel_seconds": 0.0,
    "median_kernel_seconds": 0.005,
    "device_busy_seconds": 0.01,
    "device_idle_ratio": 0.9,
}
PROGRAM = f"""
import json, sys
request = json.load(sys.stdin)
assert request["steps"] == 3 and "config" in request
print(json.dumps({{"event": "stage", "text": "building"}}))
print(json.dumps({{"event": "profile", "figures": {FIGURES!r}}}))
"""

Start = Callable[..., int]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Call the entry point in a project, as a shell would; return the exit code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hotlap.yaml").write_text("name: small\n", encoding="utf-8")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setattr(bench_profile, "verb_command", lambda *_: [sys.executable, "-c", PROGRAM])
    monkeypatch.setattr(bench_profile, "prepare_data", lambda *_: "4 examples")

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hotlap", "profile", *words])
        try:
            main.run()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return call


def test_a_profile_is_shown(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("--steps", "3") == 0
    told = capsys.readouterr()
    assert told.err == "4 examples\nbuilding\n"
    assert "p0001: small on this machine, 2 threads" in told.out
    assert "bound by data" in told.out
    assert "1. 80% of a step goes into making its batch" in told.out
    assert "aten::mm\\x1b[2J" in told.out
    folder = tmp_path / ".hotlap" / "profiles" / "p0001"
    assert str(folder / "trace.json.gz") in told.out
    assert json.loads((folder / "profile.json").read_text())["step_seconds"] == FIGURES["step_seconds"]
    assert "per_device_train_batch_size" in (folder / "config.yaml").read_text()


def test_json_is_one_document(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("--steps", "3", "--json") == 0
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert document["schema"] == "hotlap/profile/1"
    assert document["reading"]["bound"] == "data"
    assert told.err == ""


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("missing.yaml",), 2, "missing.yaml"),
        (("--steps", "0"), 2, "--steps"),
        (("-s", "training.nonsense=1"), 2, "nonsense"),
    ],
)
def test_what_cannot_be_profiled_is_told(
    start: Start, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, text: str
) -> None:
    assert start(*words) == code
    assert text in capsys.readouterr().err


def test_a_command_of_your_own_has_its_own_loop(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hotlap.yaml").write_text("command: {run: python train.py}\n", encoding="utf-8")
    assert start() == 7
    assert "torch.profiler.profile" in capsys.readouterr().err
