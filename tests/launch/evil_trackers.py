"""Trackers for tests: one that writes down all that it is given, and many that misbehave in every way there is.

They are loaded by name in a process of their own, which finds this file by PYTHONPATH.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hotlap.launch.trackers import TrackedRun


class Recorder:
    """Writes a JSON line for each call into the file that HOTLAP_TEST_RECORD names."""

    def note(self, call: str, *given: Any) -> None:
        with Path(os.environ["HOTLAP_TEST_RECORD"]).open("a") as file:
            file.write(json.dumps([call, *given]) + "\n")

    def start(self, run: TrackedRun) -> Mapping[str, str]:
        facts = {name: getattr(run, name) for name in ("run_id", "name", "project", "study", "config", "before")}
        self.note("start", {**facts, "environment": dict(os.environ)})
        return {"id": run.before.get("id") or "made-up", "url": "https://tracker.example/run"}

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.note("log", step, dict(metrics))

    def show(self, step: int, samples: Sequence[Mapping[str, str]]) -> None:
        self.note("show", step, [dict(sample) for sample in samples])

    def finish(self, summary: Mapping[str, Any]) -> None:
        self.note("finish", dict(summary))


class RaisesInStart(Recorder):
    def start(self, run: TrackedRun) -> Mapping[str, str]:
        raise RuntimeError("no such server")


class RaisesInLog(Recorder):
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        raise ValueError(f"step {step} is not to my taste")


class RaisesInFinish(Recorder):
    def finish(self, summary: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt("even this")


class TellsASecret(Recorder):
    def start(self, run: TrackedRun) -> Mapping[str, str]:
        raise RuntimeError("refused https://me:hunter2-hunter2@tracker.example")


class SleepsInStart(Recorder):
    def start(self, run: TrackedRun) -> Mapping[str, str]:
        return sleep_for_ever()


class SleepsInLog(Recorder):
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        sleep_for_ever()


class SleepsInFinish(Recorder):
    """Cannot be asked to end, and has started a process in a session of its own that cannot either."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
        sleep_for_ever()


class Dies(Recorder):
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        os._exit(3)


class Spins(Recorder):
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        while True:
            pass


def sleep_for_ever() -> Any:
    while True:
        time.sleep(60)
