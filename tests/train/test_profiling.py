"""A few steps of a tiny training, watched by the profiler."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hotlap.core.errors import StorageError
from hotlap.train.parts import Parts
from hotlap.train.profiling import RegionTimer, profile_steps

MakeParts = Callable[..., Parts]


def test_a_profile_tells_the_parts_of_the_step(make_parts: MakeParts, tmp_path: Path) -> None:
    parts = make_parts({"training.gradient_accumulation_steps": 2, "training.max_steps": 4})
    trace = tmp_path / "trace.json.gz"
    figures = profile_steps(parts, num_steps=3, num_warmup=1, trace_path=trace)
    assert set(figures["parts"]) == {"waiting", "data", "forward", "backward", "optimizer"}
    assert len(figures["step_seconds"]) == 3, "also past the end of the schedule"
    assert figures["samples_per_step"] == 8
    assert figures["parts"]["forward"]["calls"] > 10
    assert figures["parts"]["optimizer"]["calls"] >= 1
    assert {"aten::mm", "aten::addmm"} & {each["name"] for each in figures["operators"]}
    assert figures["families"]["matmul"] > 0
    assert 0 <= figures["device_idle_ratio"] < 1
    assert figures["memory"][0]["bytes"] > 0
    names = [event.get("name") for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]]
    assert names.count("hotlap.forward") == 6
    assert names.count("hotlap.optimizer") == 3
    json.dumps(figures, allow_nan=False)


def test_a_trace_that_cannot_be_written_is_told(make_parts: MakeParts, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write the trace"):
        profile_steps(make_parts(), num_steps=1, num_warmup=0, trace_path=tmp_path / "missing" / "trace.json")


def test_a_timer_marks_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(torch.autograd.profiler.record_function, "__enter__", lambda self: opened.append(self.name))
    monkeypatch.setattr(torch.autograd.profiler.record_function, "__exit__", lambda *_: None)
    timer = RegionTimer(2)
    for marks in (False, True):
        timer.marks = marks
        timer.start()
        for part in ("waiting", "data", "forward", "backward", "forward", "backward", "optimizer"):
            timer.book(part)
    order = ["waiting", "data", "forward", "backward", "forward", "backward", "optimizer"]
    assert opened == [f"hotlap.{part}" for part in order]
    assert timer.seconds["forward"] > 0
