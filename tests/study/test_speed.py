"""What a study measures of step times before it searches, and what its proposals say of them."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotlap.bench.axes import BATCH_KEY
from hotlap.bench.command_cell import UNTOLD
from hotlap.bench.drive import OpenBench, find_bench
from hotlap.bench.plan import BenchPlan, next_repeat
from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.bench_records import CellRepeat
from hotlap.core.errors import StudyError
from hotlap.core.records import History, Proposal, RunRecord
from hotlap.core.speed import FailedCell, MeasuredSpeed, SpeedCell
from hotlap.core.study_folder import ProjectFolder
from hotlap.policies.ideas import Idea, make_proposal
from hotlap.policies.measured_failures import is_known_to_fail
from hotlap.policies.rules import untried_ideas
from hotlap.report.speed import speed_section
from hotlap.study import speed as speed_module
from hotlap.study import speed_axes
from hotlap.study.apply_bench import find_bench as find_bench_to_apply
from hotlap.study.speed import measure_speed, with_predicted_pace
from hotlap.study.study import Study, open_study

BF16 = "training.bf16"
VALUES = {
    "name": "toy",
    "model": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    "training": {"per_device_train_batch_size": 16},
    "targets": ["eval_loss < 0.76"],
    "budget": {"total": "1h"},
}
CELLS = tuple(
    SpeedCell({BF16: bf16, BATCH_KEY: rows}, (0.6 if bf16 else 1.0) * (0.002 + 0.0005 * rows))
    for bf16 in (False, True)
    for rows in (8, 16, 32)
)


def config(**changes: Any) -> RunConfig:
    return config_from_values(VALUES, {key.replace("__", "."): value for key, value in changes.items()})


def run(candidate: int, seconds_per_step: float) -> RunRecord:
    return RunRecord(
        run_id=f"r{candidate:04d}",
        role="baseline" if not candidate else "screen",
        candidate=candidate,
        seed=42,
        outcome="reached",
        steps=1000,
        train_seconds=1000 * seconds_per_step,
        wall_seconds=1000 * seconds_per_step + 5,
        tokens=100_000,
        time_to_target={"train": 1000 * seconds_per_step, "wall": 1000 * seconds_per_step + 5, "step": 1000},
        metrics={"eval_loss": 0.7, "eval_loss_gain_last_tenth": 0.1, "padding_ratio": 0.0},
        seconds={"forward": 1.0, "backward": 1.0, "optimizer": 1.0},
        environment={"bf16_is_fast": True, "max_steps": 5000, "data": {"num_train": 1000}, "num_parameters": 1000},
    )


def proposal(patch: dict[str, Any], number: int = 1) -> Proposal:
    return Proposal(
        number=number,
        parent=0,
        family="toy",
        title="toy",
        observation="seen",
        hypothesis="faster",
        patch=patch,
        predicted_ratio=0.9,
    )


def history(speed: MeasuredSpeed | None, *runs: RunRecord) -> History:
    return History(clock="train", base_config=config().model_dump(mode="json"), runs=runs, speed=speed)


MEASURED = MeasuredSpeed("b0001", 60.0, CELLS)


def test_the_ratio_is_that_of_two_measured_cells() -> None:
    now = {BF16: False, BATCH_KEY: 16}
    assert MEASURED.keys == (BF16, BATCH_KEY)
    assert MEASURED.ratio(now, {**now, BF16: True}) == pytest.approx(0.6)
    assert MEASURED.ratio(now, {**now, BATCH_KEY: 12}) is None
    assert MeasuredSpeed("b0001").keys == ()


def test_a_change_of_the_step_time_alone_is_expected_to_shorten_the_run_by_as_much() -> None:
    told = with_predicted_pace(history(MEASURED, run(0, 0.008)), proposal({BF16: True}))
    assert told.predicted_step_seconds == pytest.approx(0.6 * 0.008)  # of what the baseline's steps really took
    assert told.predicted_ratio == pytest.approx(0.6)


def test_what_a_step_takes_longer_than_in_the_bench_stays() -> None:
    told = with_predicted_pace(history(MEASURED, run(0, 0.02)), proposal({BF16: True}))
    assert told.predicted_step_seconds == pytest.approx(0.02 - 0.4 * 0.01)
    assert told.predicted_ratio == pytest.approx(0.8)


def test_other_batch_sizes_are_predicted_and_their_effect_on_the_loss_is_left_to_whoever_proposes() -> None:
    told = with_predicted_pace(history(MEASURED), proposal({BATCH_KEY: 24, "training.learning_rate": 1e-3}))
    assert told.predicted_step_seconds == pytest.approx(0.002 + 0.0005 * 24, rel=0.1)
    assert told.predicted_ratio == 0.9


@pytest.mark.parametrize(
    "patch", [{"training.learning_rate": 1e-3}, {"model.smear": True}, {BF16: True, "training.optim": "muon"}], ids=str
)
def test_of_other_changes_the_bench_says_nothing(patch: dict[str, Any]) -> None:
    asked = proposal(patch)
    assert with_predicted_pace(history(MEASURED), asked) == asked
    assert with_predicted_pace(history(None), asked) == asked
    assert with_predicted_pace(history(MeasuredSpeed("b0001")), replace(asked, patch={BF16: True})).patch == {
        BF16: True
    }


def test_what_was_measured_to_be_faster_is_proposed_with_its_figures() -> None:
    ideas = [idea for idea in untried_ideas(history(MEASURED, run(0, 0.02)))[1] if BF16 in idea.patch]
    assert [idea.predicted_ratio for idea in ideas] == [pytest.approx(0.6)]
    assert "0.60 times as long in b0001" in ideas[0].observation
    slower = MeasuredSpeed("b0001", 60.0, tuple(replace(cell, seconds_per_step=1.0) for cell in CELLS))
    assert not [idea for idea in untried_ideas(history(slower, run(0, 0.02)))[1] if BF16 in idea.patch]
    guessed = [idea for idea in untried_ideas(history(None, run(0, 0.02)))[1] if BF16 in idea.patch]
    assert [idea.predicted_ratio for idea in guessed] == [0.7]


COMMAND = {
    "name": "toy",
    "command": {"run": "train {batch_size} {lr} {bf16?--bf16} {width}"},
    "params": {"batch_size": 8, "lr": 0.1, "bf16": False, "width": 4},
    "targets": ["loss < 1"],
    "budget": {"total": "1h"},
}
ROWS = "params.batch_size"
KNOB_CELLS = tuple(SpeedCell({ROWS: rows, "params.bf16": False}, 0.02 + 0.01 * rows) for rows in (4, 8, 16))
KNOBS_MEASURED = MeasuredSpeed("b0001", 60.0, (*KNOB_CELLS, SpeedCell({ROWS: 8, "params.bf16": True}, 0.05)))


def command_history(*runs: RunRecord) -> History:
    values = config_from_values(COMMAND).model_dump(mode="json")
    return History(clock="wall", base_config=values, runs=runs, speed=KNOBS_MEASURED)


def command_run(candidate: int, seconds_per_step: float, **told: float) -> RunRecord:
    return replace(run(candidate, seconds_per_step), config=COMMAND, environment=told)


def test_steps_of_a_command_are_compared_without_its_start_up() -> None:
    # 150 s, 50 of which are no steps
    history = command_history(command_run(0, 0.15, told_step_seconds=0.1, has_told_steps=True))
    told = with_predicted_pace(history, proposal({"params.bf16": True}))
    assert told.predicted_step_seconds == pytest.approx(0.05)
    assert told.predicted_ratio == pytest.approx(100 / 150)
    smaller = with_predicted_pace(history, proposal({ROWS: 4, "params.lr": 0.05}))
    assert (smaller.predicted_step_seconds, smaller.predicted_ratio) == (pytest.approx(0.06), 0.9)
    other = proposal({ROWS: 4, "params.width": 8})
    assert with_predicted_pace(history, other) == other


def test_a_command_whose_lines_name_no_step_is_not_held_against_them() -> None:
    """Its bench took the rate that it tells at its end; what its runs count are lines."""
    before, after = command_run(0, 2.0), command_run(1, 1.5)
    told = with_predicted_pace(command_history(before), proposal({"params.bf16": True}))
    assert (told.predicted_step_seconds, told.predicted_ratio) == (pytest.approx(0.05), pytest.approx(0.5))
    text = speed_section(replace(command_history(before, after), proposals=(told,)))
    assert "| 1 | toy | 50.0 | – | – |" in text and "Median error" not in text
    rated = command_history(command_run(0, 2.0, told_step_seconds=0.1, has_told_steps=False))  # twenty steps a line
    told = with_predicted_pace(rated, proposal({"params.bf16": True}))
    assert (told.predicted_step_seconds, told.predicted_ratio) == (pytest.approx(0.05), pytest.approx(0.5))
    after = command_run(1, 1.5, told_step_seconds=0.04)
    assert "| 1 | toy | 50.0 | 40.0 | 1.25 |" in speed_section(
        replace(command_history(before, after), proposals=(told,))
    )


NO_ROOM = FailedCell({BF16: False, BATCH_KEY: 32}, "out_of_memory")


@pytest.mark.parametrize(
    ("failed", "patch", "is_proposed"),
    [
        (NO_ROOM, {BATCH_KEY: 32}, False),
        (NO_ROOM, {BATCH_KEY: 48, "training.learning_rate": 1e-3}, False),
        (NO_ROOM, {BATCH_KEY: 24}, True),
        (NO_ROOM, {BATCH_KEY: 32, BF16: True}, True),
        (NO_ROOM, {BATCH_KEY: 32, "model.num_hidden_layers": 2}, True),
        (NO_ROOM, {"training.learning_rate": 1e-3}, True),
        (FailedCell({BF16: False, BATCH_KEY: 32}, "failed"), {BATCH_KEY: 48}, True),
        (FailedCell({BF16: False, BATCH_KEY: 32}, "timed_out"), {BATCH_KEY: 32}, True),
        (FailedCell({BF16: False, BATCH_KEY: 32}, "untold"), {BATCH_KEY: 32}, True),
    ],
    ids=str,
)
def test_what_the_bench_saw_fail_is_not_proposed(failed: FailedCell, patch: dict[str, Any], is_proposed: bool) -> None:
    known = history(replace(MEASURED, failed=(failed,)), run(0, 0.02))
    idea = Idea(
        family="toy",
        title="toy",
        observation="seen",
        hypothesis="faster",
        patch=patch,
        predicted_ratio=0.9,
        confidence=0.5,
    )
    assert (make_proposal(known, config(), idea) is not None) is is_proposed
    assert make_proposal(known, config(), idea, "ablation") is not None
    assert "bf16 False" in speed_section(known) and failed.outcome.replace("_", " ") in speed_section(known)


def test_no_rule_has_an_idea_that_the_bench_saw_crash() -> None:
    crashed = MeasuredSpeed("b0001", 60.0, CELLS[:3], (FailedCell({BF16: True, BATCH_KEY: 16}, "failed"),))
    assert not [idea for idea in untried_ideas(history(crashed, run(0, 0.02)))[1] if BF16 in idea.patch]
    knobs = FailedCell({ROWS: 16, "params.bf16": False}, "out_of_memory")
    values = config_from_values(COMMAND)
    known = replace(command_history(), speed=replace(KNOBS_MEASURED, failed=(knobs,)))
    for patch, is_lost in (({ROWS: 16}, True), ({ROWS: 32}, True), ({ROWS: 8}, False), ({"params.bf16": True}, False)):
        assert is_known_to_fail(known, values, patch) is is_lost


def test_cells_that_failed_are_in_the_ledger_and_older_ledgers_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endings: dict[Any, tuple[str, dict[str, float]]] = {
        (True, 16): ("out_of_memory", {}),
        (True, 8): ("failed", {UNTOLD: 1.0}),
    }

    def measure(project: ProjectFolder, bench: OpenBench, screen: Any, seconds_left: Any) -> str:
        while (following := next_repeat(bench.plan, bench.folder.repeats())) is not None:
            cell, number = following
            outcome, facts = endings.get((cell.settings[BF16], cell.settings[BATCH_KEY]), ("measured", {}))
            steps = (0.01,) if outcome == "measured" else ()
            repeat = CellRepeat(cell.number, number, cell.settings, "measured", step_seconds=steps, evidence=facts)
            bench.folder.append(replace(repeat, outcome=outcome))  # type: ignore[arg-type]
        return "done"

    fake_bench(monkeypatch)
    monkeypatch.setattr(speed_module, "run_bench", measure)
    study = opened(tmp_path, config())
    measure_speed(study, lambda text: None)
    (event,) = [event for event in study.folder.ledger() if event["event"] == "speed"]
    found = {(cell["settings"][BATCH_KEY], cell["outcome"]) for cell in event["failed"]}
    assert found == {(16, "out_of_memory"), (8, "untold")}
    again = opened(tmp_path, config())
    assert again.history.speed == study.history.speed and again.history.speed is not None
    assert {cell.outcome for cell in again.history.speed.failed} == {"out_of_memory", "untold"}
    older = {name: value for name, value in event.items() if name != "failed"}
    assert MeasuredSpeed.from_event(older) == replace(again.history.speed, failed=())


def test_combinations_that_the_study_may_not_try_are_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[BenchPlan] = []

    def measure(project: ProjectFolder, bench: OpenBench, screen: Any, seconds_left: Any) -> str:
        plans.append(bench.plan)
        return "interrupted"

    fake_bench(monkeypatch)
    monkeypatch.setattr(speed_module, "run_bench", measure)
    limits = {
        "batch_size": {"values": [4, 8, 16]},
        "dataloader_num_workers": {"values": [1, 2]},
        "constraints": ["batch_size * dataloader_num_workers < 32"],
    }
    knobs = {"batch_size": 8, "dataloader_num_workers": 1}
    run = {"command": {"run": "train {batch_size} {dataloader_num_workers}"}, "params": knobs, "search": limits}
    monkeypatch.setattr(speed_axes, "usable_cores", lambda: 4)
    for _ in range(2):  # the second one goes on with what the first one planned
        measure_speed(opened(tmp_path, config_from_values({**COMMAND, **run})), lambda text: None)
    assert plans[0] == plans[1]
    cells = [tuple(settings.values()) for settings in plans[0].ladders]
    assert cells == [(4, 1), (4, 2), (8, 1), (8, 2), (16, 1)]


def fake_bench(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[int]:
    """Let `run_bench` write figures without a process; return the numbers of repeats that each call made."""
    made: list[int] = []

    def measure(project: ProjectFolder, bench: OpenBench, screen: object, seconds_left: Any) -> str:
        made.append(0)
        while (following := next_repeat(bench.plan, bench.folder.repeats())) is not None and seconds_left() > 0:
            if made[-1] == stop_after:
                return "interrupted"
            cell, number = following
            seconds = (0.6 if cell.settings[BF16] else 1.0) * 0.01
            bench.folder.append(CellRepeat(cell.number, number, cell.settings, "measured", step_seconds=(seconds,)))
            made[-1] += 1
        return "done"

    monkeypatch.setattr(speed_module, "run_bench", measure)
    monkeypatch.setattr(speed_module, "conclude", lambda bench: None)
    monkeypatch.setattr(speed_axes, "_cpu_has_bf16", lambda: True)
    return made


def opened(tmp_path: Path, asked: RunConfig) -> Study:
    project = ProjectFolder(tmp_path).create()
    project.study(asked.name).create()
    return open_study(project, asked)


def test_figures_are_in_the_ledger_and_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fake_bench(monkeypatch)
    study = opened(tmp_path, config())
    assert measure_speed(study, lambda text: None) == ""
    assert study.history.speed is not None and len(study.history.speed.cells) == 6
    again = opened(tmp_path, config())
    assert again.history.speed == study.history.speed
    assert measure_speed(again, lambda text: None) == ""
    assert made == [18]


def test_a_stopped_bench_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fake_bench(monkeypatch, stop_after=4)
    study = opened(tmp_path, config())
    assert measure_speed(study, lambda text: None) == "interrupted"
    assert study.history.speed is None
    made = fake_bench(monkeypatch)
    again = opened(tmp_path, config())
    assert measure_speed(again, lambda text: None) == ""
    assert made == [14]
    folders = sorted(ProjectFolder(tmp_path).benches_path.iterdir())
    assert [folder.name for folder in folders] == ["b0001"]
    assert again.history.speed is not None and again.history.speed.bench == "b0001"


def test_the_seconds_of_a_stopped_bench_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_bench(monkeypatch, stop_after=4)
    now = [1000.0]

    def ticking(project: ProjectFolder, bench: OpenBench, screen: Any, seconds_left: Any) -> str:
        ending = fake(project, bench, screen, seconds_left)
        for repeat in bench.folder.repeats()[-4:]:
            now[0] += 10.0
            screen.ends(repeat)
        return str(ending)

    fake = speed_module.run_bench
    monkeypatch.setattr(speed_module, "run_bench", ticking)
    project = ProjectFolder(tmp_path).create()
    project.study("toy").create()
    assert measure_speed(open_study(project, config(), lambda: now[0]), lambda text: None) == "interrupted"
    now[0] += 1000.0  # nobody was there
    fake_bench(monkeypatch)
    again = open_study(project, config(), lambda: now[0])
    assert again.age_seconds == pytest.approx(40.0)
    assert measure_speed(again, lambda text: None) == ""
    assert again.history.speed is not None and again.history.speed.seconds == pytest.approx(40.0)


def test_a_command_that_cannot_be_measured_is_left_at_its_first_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Any] = []

    def measure(project: ProjectFolder, bench: OpenBench, screen: Any, seconds_left: Any) -> str:
        plans.append(bench.plan)
        while (following := next_repeat(bench.plan, bench.folder.repeats())) is not None and seconds_left() > 0:
            message = "r0001: told no two steps within 36 s; give it longer with --limit"
            bench.folder.append(CellRepeat(following[0].number, 0, following[0].settings, "timed_out", message))
            screen.ends(bench.folder.repeats()[-1])
        return "done"

    fake_bench(monkeypatch)
    monkeypatch.setattr(speed_module, "run_bench", measure)
    said: list[str] = []
    study = opened(tmp_path, config_from_values(COMMAND))
    assert measure_speed(study, said.append) == ""
    assert study.history.speed is not None and study.history.speed.cells == ()
    assert len(find_bench(study.project, "b0001").folder.repeats()) == 1
    assert plans[0].limit_seconds == 36.0 and plans[0].base == {ROWS: 8, "params.bf16": False}
    assert said[1:] == [
        "   the study goes on without step times: timed out: r0001: told no two steps within 36 s; "
        "give it longer with a larger bench.budget_ratio"
    ]


def test_a_bench_that_was_removed_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_bench(monkeypatch, stop_after=4)
    assert measure_speed(opened(tmp_path, config()), lambda text: None) == "interrupted"
    shutil.rmtree(ProjectFolder(tmp_path).benches_path)
    made = fake_bench(monkeypatch)
    assert measure_speed(opened(tmp_path, config()), lambda text: None) == ""
    assert made == [18]


def test_a_bench_of_a_study_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_bench(monkeypatch, stop_after=4)
    study = opened(tmp_path, config())
    measure_speed(study, lambda text: None)
    with pytest.raises(StudyError, match="no bench that could go on"):
        find_bench(study.project, None)
    with pytest.raises(StudyError, match="no bench"):
        find_bench_to_apply(study.project, "bench")
    assert find_bench(study.project, "b0001").folder.bench_id == "b0001"
    assert find_bench_to_apply(study.project, "b0001").bench_id == "b0001"


def test_a_bench_that_was_cut_short_leaves_the_rule_for_bf16_as_it_is() -> None:
    some = MeasuredSpeed("b0001", 60.0, tuple(cell for cell in CELLS if cell.settings != {BF16: False, BATCH_KEY: 16}))
    ideas = [idea for idea in untried_ideas(history(some, run(0, 0.02)))[1] if BF16 in idea.patch]
    assert [idea.predicted_ratio for idea in ideas] == [0.7]


@pytest.mark.parametrize(
    "changes", [{"bench__budget_ratio": 0.0}, {"budget__total": "30m"}, {"bench__least_budget": "2h"}]
)
def test_it_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    made = fake_bench(monkeypatch)
    study = opened(tmp_path, config(**changes))
    assert measure_speed(study, lambda text: None) == ""
    assert study.history.speed is None and made == []
    assert "speed" not in {event["event"] for event in study.folder.ledger()}


def test_what_noise_may_have_made_is_not_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def about(uncertainty: float, seconds: float) -> list[float]:
        cells = (SpeedCell({BF16: False}, 0.02, uncertainty), SpeedCell({BF16: True}, seconds, uncertainty))
        known = history(MeasuredSpeed("b0001", 60.0, cells), run(0, 0.02))
        return [idea.predicted_ratio for idea in untried_ideas(known)[1] if BF16 in idea.patch]

    assert about(0.02, 0.018) == [pytest.approx(0.9)]
    assert about(0.08, 0.0185) == [0.7], "too loud to tell, so the rule's guess stands"
    assert about(0.02, 0.0198) == [], "it is known to bring next to nothing"
    assert about(0.05, 0.019) == [0.7], "a gain of 5 % within a noise of 7 %: nobody knows"
    assert about(0.3, 0.01) == [pytest.approx(0.5)], "more than even such noise makes"
    fake_bench(monkeypatch)
    study = opened(tmp_path, config())
    measure_speed(study, lambda text: None)
    assert study.history.speed is not None and 0 < study.history.speed.cells[0].uncertainty < 0.1
    assert "They are good to ± " in speed_section(study.history)


def test_a_setting_that_is_left_to_hotlap_is_called_auto() -> None:
    key = "model.attn_implementation"
    cells = (SpeedCell({key: None}, 0.02), SpeedCell({key: "sdpa"}, 0.01))
    known = history(MeasuredSpeed("b0001", 60.0, cells), run(0, 0.02))
    assert "| auto | 20.0 |" in speed_section(known)
    (idea,) = [idea for idea in untried_ideas(known)[1] if key in idea.patch]
    assert idea.title == "attn_implementation auto → sdpa" and "in place of auto" in idea.observation


def test_the_journal_compares_predictions_with_what_happened() -> None:
    told = with_predicted_pace(history(MEASURED, run(0, 0.02)), proposal({BF16: True}))
    told = replace(told, predicted_step_seconds=0.012)
    after = replace(history(MEASURED, run(0, 0.02), run(1, 0.0125)), proposals=(told,))
    text = speed_section(after)
    assert "Measured in b0001 before the first run" in text
    assert "| 12.0 " in text and "| 12.5 " in text and "0.96" in text
    assert "Median error of 1 predicted step times: 4.0 %" in text
    assert speed_section(history(None)) == ""
