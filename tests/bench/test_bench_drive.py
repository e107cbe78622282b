"""The driver of a bench: what it writes before it starts, how it goes on, and who may drive it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from hotlap.bench import drive
from hotlap.bench.axes import BATCH_KEY, Axis
from hotlap.bench.command_cell import CUT_STEPS
from hotlap.bench.drive import OpenBench, conclude, find_bench, open_bench, run_bench
from hotlap.bench.plan import BenchPlan, GridCell
from hotlap.bench.request import plan_bench
from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.bench_records import CellRepeat
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.study_folder import ProjectFolder

CONFIG = config_from_values({"name": "tiny", "training": {"use_cpu": True}})
COMMAND = config_from_values({"command": {"run": "python train.py"}})
PLAN = BenchPlan(axes=(Axis(BATCH_KEY, (1, 2)), Axis("training.bf16", (False, True))), repeats=2)


class Quiet:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counts: list[tuple[int, int]] = []

    def says(self, text: str) -> None:
        self.lines.append(text)

    def starts(self, cell: GridCell, repeat: int, done: int, planned: int) -> None:
        self.counts.append((done, planned))

    def ticks(self) -> None:
        pass

    def ends(self, repeat: CellRepeat) -> None:
        self.lines.append(repeat.outcome)


Answer = Callable[[RunConfig, Mapping[str, Any]], CellRepeat]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Measure nothing: note each cell's config; batch 2 with bf16 does not fit."""
    configs: list[RunConfig] = []

    def measure(folder: Any, config: RunConfig, where: Any, plan: Any, project: Any, tick: Any) -> CellRepeat:
        cell, number = where
        configs.append(config)
        rows = config.training.per_device_train_batch_size
        if rows == 2 and config.training.bf16:
            return CellRepeat(cell.number, number, cell.settings, "out_of_memory", "no room")
        return CellRepeat(
            cell.number,
            number,
            cell.settings,
            "measured",
            step_seconds=(0.1, 0.1),
            samples_per_step=float(rows),
            evidence={"device_memory_bytes": 2.0**30},
        )

    monkeypatch.setattr(drive, "measure_cell", measure)
    monkeypatch.setattr(drive, "prepare_data", lambda project, config: "ready")
    return configs


def test_every_cell_is_measured_with_its_settings_and_all_is_written_down(
    project: ProjectFolder, measured: list[RunConfig]
) -> None:
    bench, screen = open_bench(project, CONFIG, PLAN), Quiet()
    assert run_bench(project, bench, screen) == "done"
    plan = bench.folder.plan()
    assert plan["cells"][3] == {"cell": 3, "settings": {BATCH_KEY: 2, "training.bf16": True}}
    assert len(plan["order"]) == 8 and plan["name"] == "tiny"
    repeats = bench.folder.repeats()
    assert [each.outcome for each in repeats].count("out_of_memory") == 1
    assert len(repeats) == 7
    for config, repeat in zip(measured, repeats, strict=True):
        assert config.training.per_device_train_batch_size == repeat.settings[BATCH_KEY]
        assert config.training.bf16 is repeat.settings["training.bf16"]
    assert screen.counts[0] == (0, 8) and screen.counts[-1] == (6, 7)
    written = conclude(bench)
    assert written.answers.is_complete
    assert bench.folder.plan()["memory_bytes"] == 2**30
    assert bench.folder.markdown_path.exists() and bench.folder.summary_path.exists()


def test_the_same_bench_goes_on_and_a_finished_or_other_one_begins_anew(
    project: ProjectFolder, measured: list[RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_bench(project, CONFIG, PLAN)
    screen = Quiet()
    screen.ends = lambda repeat: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign,assignment]
    assert run_bench(project, first, screen) == "interrupted"
    assert len(first.folder.repeats()) == 1
    assert not conclude(first).answers.is_complete
    again = open_bench(project, CONFIG, PLAN)
    assert again.folder.bench_id == first.folder.bench_id == find_bench(project, None).folder.bench_id
    assert open_bench(project, CONFIG, PLAN, is_new=True).folder.bench_id == "b0002"
    assert find_bench(project, "b0001").plan == PLAN
    assert run_bench(project, find_bench(project, "b0001"), Quiet()) == "done"
    assert [config.training.bf16 for config in measured].count(True) == 3
    other = config_from_values({"name": "tiny", "training": {"use_cpu": True, "max_steps": 3}})
    assert open_bench(project, other, PLAN).folder.bench_id == "b0003"


def test_a_repeat_has_no_more_time_than_is_left_and_one_that_is_broken_off_leaves_no_trace(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def measure(folder: Any, config: RunConfig, where: Any, plan: BenchPlan, project: Any, tick: Any) -> CellRepeat:
        cell, number = where
        limits.append(plan.limit_seconds)
        outcome = "timed_out" if plan.limit_seconds < 30 or cell.number == 0 else "measured"
        steps = (0.1,) * 10
        return CellRepeat(cell.number, number, cell.settings, outcome, step_seconds=steps)  # type: ignore[arg-type]

    monkeypatch.setattr(drive, "measure_cell", measure)
    monkeypatch.setattr(drive, "prepare_data", lambda project, config: "ready")
    left = iter([400.0, 300.0, 40.0, 20.0])
    bench = open_bench(project, CONFIG, replace(PLAN, base={BATCH_KEY: 1, "training.bf16": False}))
    assert run_bench(project, bench, Quiet(), lambda: next(left)) == "done"
    assert limits == [300.0, 300.0, 40.0, 20.0]
    assert [repeat.outcome for repeat in bench.folder.repeats()] == ["timed_out", "measured", "measured"]
    assert run_bench(project, bench, Quiet(), lambda: 0.0) == "done"
    assert len(limits) == 4


@pytest.mark.parametrize(
    ("config", "taken", "facts", "left", "is_kept"),
    [
        (CONFIG, 2, {}, 40.0, False),
        (CONFIG, 10, {}, 40.0, True),
        (CONFIG, 2, {}, 400.0, True),
        (COMMAND, 1, {CUT_STEPS: 4.0}, 40.0, False),
        (COMMAND, 1, {CUT_STEPS: 20.0}, 40.0, True),
        (COMMAND, 1, {}, 40.0, True),
        (COMMAND, 1, {CUT_STEPS: 4.0}, 400.0, True),
    ],
    ids=[
        *("few steps", "enough steps", "the bench's own limit", "few steps of a command"),
        *("a line of many steps", "it came to its end", "the bench's own limit for a command"),
    ],
)
def test_a_repeat_that_the_end_of_the_time_cut_short_is_no_measurement(
    project: ProjectFolder,
    monkeypatch: pytest.MonkeyPatch,
    config: RunConfig,
    taken: int,
    facts: dict[str, float],
    left: float,
    is_kept: bool,
) -> None:
    def measure(folder: Any, config: RunConfig, where: Any, plan: BenchPlan, project: Any, tick: Any) -> CellRepeat:
        cell, number = where
        steps = (0.1,) * taken
        return CellRepeat(cell.number, number, cell.settings, "measured", step_seconds=steps, evidence=facts)

    monkeypatch.setattr(drive, "measure_cell", measure)
    monkeypatch.setattr(drive, "measure_command", measure)
    monkeypatch.setattr(drive, "prepare_data", lambda project, config: "ready")
    bench = open_bench(project, config, BenchPlan(axes=(), repeats=1))
    assert run_bench(project, bench, Quiet(), lambda: left) == "done"
    assert len(bench.folder.repeats()) == is_kept


def test_a_bench_without_a_measurement_has_answers_too_and_a_finished_one_is_told_again(
    project: ProjectFolder, measured: list[RunConfig]
) -> None:
    bench = open_bench(project, CONFIG, PLAN)
    written = conclude(bench)
    assert not written.answers.measured and not written.answers.is_complete
    assert bench.folder.markdown_path.exists()
    run_bench(project, bench, Quiet())
    count = len(measured)
    again = find_bench(project, "b0001")
    assert run_bench(project, again, Quiet()) == "done"
    assert len(measured) == count
    assert conclude(again).answers.is_complete


def test_a_bench_of_another_machine_does_not_go_on(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    open_bench(project, CONFIG, PLAN)
    monkeypatch.setattr(drive, "processor_name", lambda: "another")
    for go_on in (lambda: open_bench(project, CONFIG, PLAN), lambda: find_bench(project, None)):
        with pytest.raises(StudyError, match=r"b0001 was begun elsewhere \(processor .* is now 'another'\).*--new"):
            go_on()


def test_a_bench_of_other_code_does_not_go_on(project: ProjectFolder, measured: list[RunConfig]) -> None:
    script = project.project / "train.py"
    script.write_text("first = True\n", encoding="utf-8")
    command = config_from_values({"command": {"run": "python train.py {batch_size}"}, "params": {"batch_size": 1}})
    plan = BenchPlan(axes=(Axis("params.batch_size", (1, 2)),), repeats=1)
    assert not open_bench(project, command, plan).notice
    assert not open_bench(project, command, plan).notice
    script.write_text("second = True\n", encoding="utf-8")
    told = "b0001 .*its figures would be mixed with others: train.py is not what it was"
    with pytest.raises(StudyError, match=rf"{told}; undo that, or begin anew: the same command without --resume"):
        find_bench(project, None)
    anew = open_bench(project, command, plan)
    assert anew.folder.bench_id == "b0002"
    screen = Quiet()
    assert run_bench(project, anew, screen, lambda: 0.0) == "done"
    assert re.fullmatch(rf"note: {told}\. b0002 begins anew", screen.lines[0])
    assert find_bench(project, None).folder.bench_id == "b0002"


def test_a_bench_of_another_torch_does_not_go_on(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    open_bench(project, CONFIG, PLAN)
    monkeypatch.setattr(drive, "made_with", lambda *_: {"torch": "0.1"})
    with pytest.raises(StudyError, match=r"b0001 cannot go on.*torch was .*, is 0\.1"):
        find_bench(project, None)
    assert "torch was" in open_bench(project, CONFIG, PLAN).notice


@pytest.mark.parametrize(("name", "message"), [(None, "no bench that could go on"), ("b0007", "no bench b0007")])
def test_what_cannot_go_on_is_told(project: ProjectFolder, name: str | None, message: str) -> None:
    with pytest.raises(StudyError, match=rf"{message} \(there: none\); start one with hotlap bench"):
        find_bench(project, name)


def test_a_bench_has_one_driver(project: ProjectFolder, measured: list[RunConfig]) -> None:
    bench = open_bench(project, CONFIG, PLAN)
    with (
        FileLock(bench.folder.lock_path),
        pytest.raises(StudyError, match="b0001 is already being measured by"),
    ):
        run_bench(project, bench, Quiet())


def test_settings_that_do_not_fit_are_told_before_anything_is_made(project: ProjectFolder) -> None:
    plan = BenchPlan(axes=(Axis("model.num_attention_heads", (4, 3)),))
    with pytest.raises(ConfigError, match=r"the cell model\.num_attention_heads 3.*does not divide hidden_size"):
        open_bench(project, CONFIG, plan)
    with pytest.raises(ConfigError, match=r"model\.hiden_size.*did you mean 'hidden_size'"):
        open_bench(project, CONFIG, BenchPlan(axes=(Axis("model.hiden_size", (8,)),)))
    assert not project.benches_path.exists()


def test_without_axes_batch_sizes_are_found_and_the_command_is_one_cell() -> None:
    assert plan_bench(CONFIG, {}, (), BenchPlan(axes=()), [])[1].axes == (Axis(BATCH_KEY, ()),)
    command = config_from_values({"command": {"run": "python train.py"}})
    assert plan_bench(command, {}, (), BenchPlan(axes=()), [])[1].axes == ()


def test_without_axes_the_batch_of_a_command_is_found_by_its_knob_and_without_one_it_is_said() -> None:
    notices: list[str] = []
    known = config_from_values({"command": {"run": "python train.py {bs}"}, "params": {"bs": 8}})
    assert plan_bench(known, {}, (), BenchPlan(axes=()), notices)[1].axes == (Axis("params.bs", ()),)
    assert notices == []
    unknown = config_from_values({"command": {"run": "python train.py {n}"}, "params": {"n": 8}})
    assert plan_bench(unknown, {}, (), BenchPlan(axes=()), notices)[1].axes == ()
    assert "no knob for its batch" in notices[0] and "--axis params.NAME=VALUES" in notices[0]


def test_batches_of_a_command_divide_the_step_that_a_knob_holds() -> None:
    params = {"batch_size": 4, "total_batch_size": 48}
    run = "python train.py {batch_size} {total_batch_size}"
    config = config_from_values({"command": {"run": run}, "params": params})
    assert plan_bench(config, {}, (), BenchPlan(axes=()), [])[1].most_rows == 16
    assert plan_bench(config, {"batch": "8,24,48"}, (), BenchPlan(axes=()), [])[1].most_rows == 16
    for sizes in ("8,32", "96"):
        with pytest.raises(ConfigError, match=r"params.batch_size (32|96) does not divide params.total_batch_size, 48"):
            plan_bench(config, {"batch": sizes}, (), BenchPlan(axes=()), [])
    free = plan_bench(config, {"batch": "8,32"}, ["params.total_batch_size=32,64"], BenchPlan(axes=()), [])
    assert free[1].most_rows is None
    assert plan_bench(CONFIG, {}, (), BenchPlan(axes=()), [])[1].most_rows is None


def test_longer_inputs_get_positions_in_every_cell_and_a_note_says_so() -> None:
    config = config_from_values({"task": {"name": "language_model"}, "model": {"max_position_embeddings": 64}})
    notices: list[str] = []
    base, _ = plan_bench(config, {"seq": "32,512"}, (), BenchPlan(axes=()), notices)
    assert base.model.max_position_embeddings == 512  # type: ignore[union-attr]
    assert "model.max_position_embeddings is 512 in all cells" in notices[0]
    assert plan_bench(base, {"seq": "32,512"}, (), BenchPlan(axes=()), notices)[0] == base


def test_other_axes_ask_for_no_positions() -> None:
    axes = ["training.padding=longest,packed", "task.block_size=null", "training.tf32=null,true"]
    config = config_from_values({"task": {"name": "language_model"}})
    assert plan_bench(config, {"attention": "auto,sdpa"}, axes, BenchPlan(axes=()), [])[0] == config


def test_a_total_batch_gives_way_to_the_axis() -> None:
    training = {"per_device_train_batch_size": "auto", "total_batch_size": 64}
    notices: list[str] = []
    base, plan = plan_bench(
        config_from_values({"training": training}), {"batch": "1,3"}, (), BenchPlan(axes=()), notices
    )
    assert base.training.total_batch_size is None
    assert "training.total_batch_size is left out" in notices[0]
    assert plan.own == {"training.total_batch_size": 64, BATCH_KEY: "auto"}, "what the user's config has"


def test_a_cell_without_workers_refuses_no_bench() -> None:
    training = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 4}
    config, notices = config_from_values({"training": training}), list[str]()
    base, plan = plan_bench(config, {"workers": "0,2"}, (), BenchPlan(axes=()), notices)
    assert not base.training.dataloader_persistent_workers and base.training.dataloader_prefetch_factor is None
    assert len(notices) == 2 and all("left out in all cells" in notice for notice in notices)
    assert plan.own["training.dataloader_prefetch_factor"] == 4
    bench = OpenBench(BenchFolder(Path()), base, plan)
    assert bench.config_of({"training.dataloader_num_workers": 0}).training.dataloader_num_workers == 0
    assert plan_bench(config, {"workers": "1,2"}, (), BenchPlan(axes=()), notices)[0] == config


def test_on_and_off_are_switches_where_the_setting_is_one() -> None:
    _, plan = plan_bench(CONFIG, {}, ["training.gradient_checkpointing=on,off"], BenchPlan(axes=()), [])
    assert plan.axes == (Axis("training.gradient_checkpointing", (True, False)),)


def test_the_trainer_of_transformers_is_measured_as_a_command() -> None:
    with pytest.raises(ConfigError, match="backend: hf is measured as a command"):
        plan_bench(config_from_values({"backend": "hf"}), {}, (), BenchPlan(axes=()), [])


def test_devices_of_a_command_go_to_its_launcher(project: ProjectFolder) -> None:
    command = config_from_values({"command": {"run": "torchrun train.py"}})
    _, plan = plan_bench(command, {"devices": "1,2"}, (), BenchPlan(axes=()), [])
    bench = open_bench(project, command, plan)
    assert isinstance(bench, OpenBench)
    config = bench.config_of({"devices": 2})
    assert config.command is not None and config.command.run == "torchrun --nproc_per_node=2 train.py"
    assert config.devices == 1
    with pytest.raises(ConfigError, match="no launcher in the command"):
        open_bench(project, config_from_values({"command": {"run": "python train.py"}}), plan)


def test_suggested_devices_of_a_command_are_written_where_its_launcher_reads_them(project: ProjectFolder) -> None:
    command = config_from_values({"command": {"run": "torchrun train.py"}})
    _, plan = plan_bench(command, {"devices": "1,2"}, (), BenchPlan(axes=(), repeats=1), [])
    bench = open_bench(project, command, plan)
    for number, devices in enumerate((1, 2)):
        bench.folder.append(
            CellRepeat(number, 0, {"devices": devices}, "measured", step_seconds=(0.1,), samples_per_step=8.0 * devices)
        )
    suggestion = conclude(bench).answers.suggestion
    assert suggestion is not None
    assert suggestion.patch == {"command.run": "torchrun --nproc_per_node=2 train.py"}
