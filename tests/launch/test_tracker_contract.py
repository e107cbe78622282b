"""What every tracker has to do, held against a stand-in of its package that keeps all in memory; and the real ones."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import hotlap
from hotlap.core.errors import MissingExtraError
from hotlap.launch.to_tensorboard import TensorboardTracker
from hotlap.launch.to_trackio import TrackioTracker
from hotlap.launch.to_wandb import WandbTracker
from hotlap.launch.trackers import TRACKERS, TrackedRun, Tracker

POINTS = ((1, {"train/loss": 2.5}), (2, {"train/loss": 1.25}), (2, {"eval/loss": 1.5}))
SAMPLES = ({"prompt": "ab", "expected": "abab", "generated": "abba"},)
SUMMARY = {"outcome": "reached", "reason": "all is well", "step": 2, "final/eval_loss": 1.5}


@dataclass
class Memory:
    """What reached the package of a tracker."""

    opened: list[dict[str, Any]] = field(default_factory=list)
    figures: list[tuple[int, str, float]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    is_closed: bool = False

    def keep(self, step: int, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, int | float):
                self.figures.append((step, key, float(value)))
            else:
                self.texts.append(str(value))


def wandb_in(memory: Memory) -> dict[str, ModuleType]:
    class Settings:
        model_fields = {"silent": None, "console": None, "x_disable_meta": None}  # noqa: RUF012

        def __init__(self, **values: Any) -> None:
            self.values = values

    def init(**values: Any) -> Any:
        memory.opened.append({**values, "settings": values["settings"].values})

        def log(figures: Mapping[str, Any]) -> None:
            values = dict(figures)
            memory.keep(values.pop("train/global_step"), values)

        summary = SimpleNamespace(update=lambda values: memory.keep(values["step"], values))

        def finish(exit_code: int) -> None:
            assert exit_code == 0
            memory.is_closed = True

        define = SimpleNamespace(define_metric=lambda *_, **__: None)
        return SimpleNamespace(log=log, summary=summary, finish=finish, url="https://here", **vars(define))

    package = ModuleType("wandb")
    package.Settings, package.init = Settings, init  # type: ignore[attr-defined]
    package.Table = lambda columns, data: {"columns": columns, "data": data}  # type: ignore[attr-defined]
    return {"wandb": package}


def trackio_in(memory: Memory) -> dict[str, ModuleType]:
    def init(**values: Any) -> Any:
        memory.opened.append(values)

        def close() -> None:
            memory.is_closed = True

        return SimpleNamespace(name=values["name"], log=lambda figures, step: memory.keep(step, figures), finish=close)

    package = ModuleType("trackio")
    package.init, package.Markdown = init, str  # type: ignore[attr-defined]
    return {"trackio": package}


def tensorboard_in(memory: Memory) -> dict[str, ModuleType]:
    class Bag(SimpleNamespace):
        pass

    class Summary(Bag):
        Value = Bag

    class Metadata(Bag):
        PluginData = Bag

    class Shape(Bag):
        Dim = Bag

    class Writer:
        def __init__(self, logdir: str, flush_secs: int) -> None:
            memory.opened.append({"logdir": logdir})

        def add_event(self, event: Any) -> None:
            for value in event.summary.value:
                if hasattr(value, "simple_value"):
                    memory.figures.append((event.step, value.tag, value.simple_value))
                else:
                    memory.texts.append(value.tensor.string_val[0].decode())

        def flush(self) -> None:
            pass

        def close(self) -> None:
            memory.is_closed = True

    parts = {
        "tensorboard.compat.proto.event_pb2": {"Event": Bag},
        "tensorboard.compat.proto.summary_pb2": {"Summary": Summary, "SummaryMetadata": Metadata},
        "tensorboard.compat.proto.tensor_pb2": {"TensorProto": Bag},
        "tensorboard.compat.proto.tensor_shape_pb2": {"TensorShapeProto": Shape},
        "tensorboard.compat.proto.types_pb2": {"DT_STRING": 7},
        "tensorboard.summary.writer.event_file_writer": {"EventFileWriter": Writer},
    }
    modules = {}
    for name, values in parts.items():
        modules[name] = ModuleType(name)
        vars(modules[name]).update(values)
    return modules


STAND_INS: dict[str, tuple[type[Any], Callable[[Memory], dict[str, ModuleType]]]] = {
    "wandb": (WandbTracker, wandb_in),
    "trackio": (TrackioTracker, trackio_in),
    "tensorboard": (TensorboardTracker, tensorboard_in),
}


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def run(tmp_path: Path) -> TrackedRun:
    (tmp_path / "run").mkdir()
    return TrackedRun(
        run_id="r0001",
        name="toy-r0001",
        project="mine",
        study="toy",
        config={"name": "toy", "training": {"learning_rate": 0.5}},
        directory=tmp_path / "run",
        home=tmp_path,
        before={},
    )


@pytest.fixture(params=sorted(TRACKERS))
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], Tracker], Memory]:
    """Return what makes a tracker, and the memory of its stand-in."""
    memory = Memory()
    kind, stand_in = STAND_INS[request.param]
    for name, module in stand_in(memory).items():
        monkeypatch.setitem(sys.modules, name, module)
    return kind, memory


def mirror_all(tracker: Tracker, run: TrackedRun) -> Mapping[str, str]:
    told = tracker.start(run)
    for step, metrics in POINTS:
        tracker.log(step, metrics)
    tracker.show(2, SAMPLES)
    tracker.finish(SUMMARY)
    return told


def test_every_tracker_of_the_table_has_a_stand_in_here() -> None:
    assert {name: factory.rpartition(":")[2] for name, factory in TRACKERS.items()} == {
        name: kind.__name__ for name, (kind, _) in STAND_INS.items()
    }


def test_every_figure_arrives_with_its_step(made: tuple[Callable[[], Tracker], Memory], run: TrackedRun) -> None:
    make, memory = made
    mirror_all(make(), run)
    assert memory.figures[:3] == [(1, "train/loss", 2.5), (2, "train/loss", 1.25), (2, "eval/loss", 1.5)]
    assert memory.is_closed


def test_config_and_samples_arrive(made: tuple[Callable[[], Tracker], Memory], run: TrackedRun) -> None:
    make, memory = made
    mirror_all(make(), run)
    told = json.dumps(memory.opened, default=str) + "".join(memory.texts)
    assert "learning_rate" in told and "abba" in told and "abab" in told


def test_what_names_the_run_is_text_and_opens_it_again(
    made: tuple[Callable[[], Tracker], Memory], run: TrackedRun
) -> None:
    make, memory = made
    told = mirror_all(make(), run)
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in told.items()) and told
    again = mirror_all(make(), replace(run, before=told))
    assert {key: again[key] for key in told} == dict(told)
    assert len(memory.opened) == 2


def test_a_figure_that_is_not_finite_stops_nothing(made: tuple[Callable[[], Tracker], Memory], run: TrackedRun) -> None:
    tracker = made[0]()
    tracker.start(run)
    tracker.log(1, {"train/loss": math.inf, "train/grad_norm": math.nan})
    tracker.finish({"outcome": "reached", "reason": "", "step": 1})


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_a_package_that_is_missing_is_told_with_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("wandb", "trackio", "tensorboard.compat.proto.event_pb2"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{name} is not installed; run: pip install 'hotlap\[{name}\]'"):
        STAND_INS[name][0]()


def test_wandb_is_kept_from_looking_around(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    monkeypatch.setitem(sys.modules, "wandb", wandb_in(memory)["wandb"])
    mirror_all(WandbTracker(), run)
    (opened,) = memory.opened
    assert opened["settings"] == {"silent": True, "console": "off", "x_disable_meta": True}
    assert (opened["mode"], opened["resume"], opened["dir"]) == ("offline", None, str(run.home))
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_PROJECT", "another")
    told = WandbTracker().start(run)
    WandbTracker().start(replace(run, before=told))
    assert [(each["mode"], each["resume"], each["project"]) for each in memory.opened[1:]] == [
        ("online", None, "another"),
        ("online", "allow", "another"),
    ]


# ---- the real packages, in processes of their own: they leave threads and settings behind

PROGRAM = """
import json, sys
from dataclasses import replace
from pathlib import Path
from hotlap.launch.trackers import TrackedRun
from importlib import import_module
name, where = sys.argv[1:]
module, _, kind = name.partition(":")
home = Path(where)
run = TrackedRun(run_id="r0001", name="toy-r0001", project="mine", study="toy", directory=home / "run", home=home,
                 config={"name": "toy", "training": {"learning_rate": 0.5}}, before={})
for attempt in (1, 2):
    tracker = getattr(import_module(module), kind)()
    told = tracker.start(run)
    tracker.log(2 * attempt - 1, {"train/loss": 2.5})
    tracker.log(2 * attempt, {"train/loss": 1.25, "eval/loss": 1.5})
    tracker.show(2 * attempt, [{"prompt": "ab", "expected": "abab", "generated": "abba"}])
    tracker.finish({"outcome": "reached", "reason": "all is well", "step": 2 * attempt, "final/eval_loss": 1.5})
    run = replace(run, before=dict(told))
print("told:", json.dumps(dict(told)))
"""


def mirrored(name: str, home: Path) -> Mapping[str, str]:
    (home / "run").mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", PROGRAM, TRACKERS[name], str(home)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=110)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, str] = json.loads(ended.stdout.rpartition("told:")[2].partition("\n")[0])
    return told


@pytest.mark.slow
def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    told = mirrored("tensorboard", tmp_path)
    reader = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1], size_guidance={"tensors": 0, "scalars": 0})
found.Reload()
scalars = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
plugin = found.SummaryMetadata("config/text_summary").plugin_data.plugin_name
print("found:", json.dumps([scalars, texts, plugin]))
"""
    command = [sys.executable, "-c", reader, told["logdir"]]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert ended.returncode == 0, ended.stderr
    scalars, texts, plugin = json.loads(ended.stdout.rpartition("found:")[2])
    assert scalars == {
        "train/loss": [[1, 2.5], [2, 1.25], [3, 2.5], [4, 1.25]],
        "eval/loss": [[2, 1.5], [4, 1.5]],
    }
    assert plugin == "text" and "learning_rate" in texts["config/text_summary"]
    assert "abba" in texts["samples/0/text_summary"] and "all is well" in texts["summary/text_summary"]


@pytest.mark.slow
def test_wandb_keeps_a_run_offline_that_can_be_read_back(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from hotlap.runs.wandb_log import read_log

    told = mirrored("wandb", tmp_path)
    assert told["mode"] == "offline"
    logs = sorted(tmp_path.glob(f"wandb/offline-run-*/run-{told['id']}.wandb"))
    assert len(logs) >= 1
    log = read_log(logs[0])
    assert (log.run_id, log.name, log.project) == (told["id"], "toy-r0001", "mine")
    assert [line["train/loss"] for line in log.history if "train/loss" in line][:2] == [2.5, 1.25]
    assert log.config["name"] == "toy" or log.config["training.learning_rate"] == 0.5
    assert log.summary["outcome"] == "reached"
    assert not list(tmp_path.rglob("requirements.txt")) and not list(tmp_path.rglob("diff.patch"))


@pytest.mark.slow
def test_trackio_keeps_a_run_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    told = mirrored("trackio", tmp_path)
    assert told["name"] == "toy-r0001"
    assert [path for path in (tmp_path / "trackio").rglob("*") if path.is_file()]
