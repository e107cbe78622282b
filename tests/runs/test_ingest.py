"""From a run folder to a record, whatever state the folder is in."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotlap.core.processes import process_identity
from hotlap.core.records import Kill
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.ingest import ingest, last_metrics, snapshot

MakeRun = Callable[..., RunFolder]


def test_a_run_that_reached(make_run: MakeRun) -> None:
    folder = make_run(12.0)
    folder.write("environment", {"threads": 2})
    record = ingest(folder, contaminated="a browser")
    assert record is not None
    assert (record.run_id, record.role, record.candidate, record.seed) == ("r0001", "screen", 1, 7)
    assert (record.outcome, record.reason) == ("reached", "it reached")
    assert (record.steps, record.train_seconds, record.wall_seconds, record.tokens) == (900, 12.0, 20.0, 1000)
    assert record.clock_to_target("wall") == 17.0
    assert record.metrics == {"eval_loss": 0.75, "train_loss": 0.8}
    assert record.seconds["setup"] == 3.0
    assert record.config["training"]["learning_rate"] == 5e-5
    assert record.environment == {"threads": 2}
    assert record.contaminated == "a browser"


def test_a_run_brings_the_start_of_its_training_loss(make_run: MakeRun) -> None:
    record = ingest(make_run(12.0))
    assert record is not None and record.trace == ((100, 2.5),)


def test_a_raced_run_tells_how_far_it_came(make_run: MakeRun) -> None:
    folder = make_run(None)
    folder.write("stop", {"outcome": "raced", "reason": "far behind", "at_seconds": 8.0})
    with folder.metrics_path.open("a") as file:
        file.write('{"step": 300, "train_seco')  # killed while writing
    record = ingest(folder)
    assert record is not None
    assert (record.outcome, record.reason) == ("raced", "far behind")
    assert (record.steps, record.train_seconds, record.wall_seconds, record.tokens) == (200, 4.0, 7.0, 100)
    assert record.metrics == {"train_loss": 2.5, "eval_loss": 2.0}
    assert record.time_to_target is None


def test_a_raced_run_has_the_verdict_with_its_numbers(make_run: MakeRun) -> None:
    folder = make_run(None)
    kill = Kill(rule="cap", reason="too late", at_seconds=4.0, saved_seconds=9.5, evidence={"gap": 0.25})
    folder.write("stop", {"outcome": "raced", "reason": "too late", "at_seconds": 8.0, "kill": asdict(kill)})
    record = ingest(folder)
    assert record is not None and record.kill == kill
    folder.write("stop", {"outcome": "raced", "reason": "too late"})
    before = ingest(folder)
    assert before is not None and before.kill is None, "from before rules were written down"


def test_a_stop_is_believed_before_a_result_but_its_numbers_are_used(make_run: MakeRun) -> None:
    folder = make_run(9.0, "interrupted")
    folder.write("stop", {"outcome": "raced", "reason": "far behind"})
    record = ingest(folder)
    assert record is not None
    assert (record.outcome, record.steps) == ("raced", 900)


@pytest.mark.parametrize("outcome", ["crashed", "lost"])
def test_a_failure_brings_the_last_lines_of_its_log(make_run: MakeRun, outcome: str) -> None:
    folder = make_run(1.0 if outcome == "crashed" else None, outcome)
    folder.stdout_path.write_text("".join(f"line {i}\n" for i in range(100)))
    record = ingest(folder)
    assert record is not None
    assert record.outcome == outcome
    assert record.reason.splitlines()[-1] == "line 99"
    assert "line 80\n" not in record.reason


def test_a_run_that_goes_on_is_no_record(make_run: MakeRun) -> None:
    folder = make_run(None)
    folder.write("worker", process_identity())
    assert ingest(folder) is None
    assert snapshot(folder).steps == 200


def test_a_run_between_launch_and_first_act_goes_on(make_run: MakeRun) -> None:
    folder = make_run(None, driver=process_identity())
    (folder.path / "worker.json").unlink()
    assert ingest(folder) is None


def test_a_folder_that_was_only_made_is_no_record(project: ProjectFolder) -> None:
    assert ingest(RunFolder.create(project.runs_path)) is None


def test_a_result_written_between_two_looks_counts(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(None)
    is_running = folder.is_running

    def ends_now() -> bool:
        folder.write("result", {"outcome": "missed", "reason": "just now"})
        return is_running()

    monkeypatch.setattr(folder, "is_running", ends_now)
    record = ingest(folder)
    assert record is not None
    assert record.outcome == "missed"


def test_somebody_elses_folder_is_a_run(project: ProjectFolder) -> None:
    folder = RunFolder.create(project.runs_path)
    folder.write("result", {"outcome": "missed", "metrics": {"val_loss": 3.2}})
    record = ingest(folder)
    assert record is not None
    assert (record.role, record.seed, record.metrics, record.config) == ("manual", 0, {"val_loss": 3.2}, {})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(cut=st.integers(0, 500))
def test_points_cut_anywhere_can_be_read(make_run: MakeRun, cut: int) -> None:
    folder = make_run(None)
    whole = folder.metrics_path.read_bytes()
    folder.metrics_path.write_bytes(whole[:cut])
    record = ingest(folder)
    assert record is not None
    assert record.steps == 100 * whole[:cut].count(b"\n")


points = st.dictionaries(
    st.sampled_from(["step", "tokens", "eval_loss", "train_loss", "name"]),
    st.one_of(st.floats(), st.text(), st.none(), st.booleans()),
)


@given(st.lists(points))
def test_last_metrics_are_the_last_numbers(found: list[dict[str, Any]]) -> None:
    merged = last_metrics(found)
    assert not {"step", "tokens"} & set(merged)
    for key, value in merged.items():
        numbers = [point[key] for point in found if isinstance(point.get(key), float)]
        assert str(value) == str(numbers[-1])


def test_how_busy_the_machine_was_in_a_run_of_a_command(make_run: MakeRun) -> None:
    folder = make_run(12.0)
    samples = [
        {"seconds": 1.0, "cores": 8, "run_cores": 1.0, "gpu_percent": [0, 50]},
        {"seconds": 2.0, "cores": 8, "run_cores": 2.0, "gpu_percent": [0, 100]},
    ]
    folder.system_path.write_text("".join(f"{json.dumps(sample)}\n" for sample in samples))
    record = ingest(folder)
    assert record is not None and "usage" not in record.environment, "hotlap's own training tells more itself"
    folder.write_config("command: {run: train}\ntargets: [loss < 1]\n")
    folder.write("environment", {"threads": 2})
    record = ingest(folder)
    assert record is not None and record.environment["threads"] == 2, "what the worker wrote down stays"
    assert record.environment["usage"] == {"cores": 8.0, "run_cores": 1.5, "gpu_percent": 75.0}
    folder.system_path.write_text('{"cores": 8, "run_cores": 1.0, "gpu_percent": [0]}\n')
    record = ingest(folder)
    assert record is not None and record.environment["usage"] == {"cores": 8.0, "run_cores": 1.0}
