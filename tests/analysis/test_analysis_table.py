"""Runs become tables: what counts as a parameter, of which kind, and what a failed run is worth."""

import math
from dataclasses import replace
from typing import Any

import pytest
from run_tables import table

from hotlap.analysis.table import Column, RunTable, Scores, metric_scores, run_table, varying_keys
from hotlap.core.errors import ConfigError
from hotlap.core.records import RunRecord
from hotlap.runs.rows import StoredRun


def record(number: int, outcome: str = "reached", seconds: float | None = None, **training: Any) -> RunRecord:
    return RunRecord(
        run_id=f"r{number:04}",
        role="screen",
        candidate=number,
        seed=number,
        outcome=outcome,  # type: ignore[arg-type]
        time_to_target={"train": seconds, "wall": seconds + 5, "step": 10} if seconds else None,
        metrics={"eval_loss": 1.0 + number, "train_loss": 2.0 + number},
        config={"name": f"run-{number}", "training": {"seed": number, **training}},
    )


def scores(runs: list[RunRecord]) -> dict[str, float]:
    return {run.run_id: float(run.candidate) for run in runs}


def parameter(runs: list[RunRecord], key: str, **options: Any) -> Column:
    found = run_table(runs, Scores("score", scores(runs)), **options)
    return next(column for column in found.parameters if column.name == key)


def test_parameters_are_the_keys_that_differ_and_do_not_belong_to_the_measurement() -> None:
    runs = [record(n, learning_rate=1e-4 * n, optim="adamw_torch", weight_decay=0.1 * (n % 2)) for n in (1, 2, 3)]
    found = run_table(runs, Scores("score", scores(runs)))
    assert [column.name for column in found.parameters] == ["training.learning_rate", "training.weight_decay"]
    named = run_table(
        runs, Scores("score", scores(runs)), keys=["training.seed", "training.optim", "training.learning_rate"]
    )
    assert [column.name for column in named.parameters] == ["training.seed", "training.learning_rate"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4, 8, 16], Column("training.x", "number", (4.0, 8.0, 16.0))),
        ([1e-5, 1e-4, 1e-3], Column("training.x", "number", (1e-5, 1e-4, 1e-3), is_log=True)),
        ([0, 0.1, 100], Column("training.x", "number", (0.0, 0.1, 100.0))),
        ([1.0, 29.0, 2.0], Column("training.x", "number", (1.0, 29.0, 2.0))),
        ([True, False, True], Column("training.x", "category", ("true", "false", "true"))),
        (["auto", 8, 8], Column("training.x", "category", ("auto", "8", "8"))),
        ([[0.9, 0.95], [0.9, 0.99], None], Column("training.x", "category", ("[0.9, 0.95]", "[0.9, 0.99]", None))),
        ([None, 1.0, 2.0], Column("training.x", "number", (None, 1.0, 2.0))),
    ],
)
def test_kinds_and_scales(values: list[Any], expected: Column) -> None:
    assert parameter([record(n, x=value) for n, value in enumerate(values)], "training.x") == expected


def test_a_key_that_only_some_configs_have_is_none_in_the_others() -> None:
    runs = [record(1, momentum=0.9), record(2, momentum=0.95), record(3)]
    assert parameter(runs, "training.momentum").values == (0.9, 0.95, None)


def test_a_condition_takes_a_parameter_from_the_runs_that_do_not_use_it() -> None:
    settings = [("muon", 0.8), ("adamw_torch", 0.9), ("muon", 0.7)]
    runs = [record(n, optim=optim, momentum=momentum) for n, (optim, momentum) in enumerate(settings)]
    conditions = {"training.momentum": {"training.optim": ("muon",)}}
    assert parameter(runs, "training.momentum", conditions=conditions).values == (0.8, None, 0.7)
    nowhere = {"training.momentum": {"training.optim": ("lion",)}}
    names = [column.name for column in run_table(runs, Scores("score", scores(runs)), conditions=nowhere).parameters]
    assert names == ["training.optim"], "what no run uses was not varied"


def test_only_runs_with_a_score_are_in_the_table() -> None:
    runs = [record(n, x=n) for n in (1, 2, 3)]
    found = run_table(runs, Scores("score", {"r0001": 1.0, "r0003": 3.0, "r0009": 9.0}))
    assert found.run_ids == ("r0001", "r0003")
    assert found.scores == (1.0, 3.0)


def test_measures_leave_out_the_score_and_what_no_run_told() -> None:
    runs = [record(1, seconds=10.0, x=1), record(2, outcome="missed", x=2)]
    found = run_table(runs, Scores("eval_loss", scores(runs)))
    assert [column.name for column in found.measures] == ["train_loss", "time_to_target"]
    assert found.measures[1].values == (10.0, math.inf), "a miss is censored"
    assert found.names == ("training.x", "train_loss", "time_to_target", "eval_loss")


def test_a_loss_that_is_not_finite_counts_as_infinite() -> None:
    diverged = RunRecord(
        run_id="r0003", role="screen", candidate=3, seed=3, outcome="diverged", metrics={"train_loss": math.nan}
    )
    found = run_table([record(1), record(2), diverged], Scores("score", {"r0001": 1.0, "r0002": 2.0, "r0003": 3.0}))
    losses = {column.name: column.values for column in found.measures}
    assert losses["train_loss"] == (3.0, 4.0, math.inf)
    assert losses["eval_loss"] == (2.0, 3.0, None)


def test_runs_of_the_index_are_read_alike() -> None:
    stored = [
        StoredRun(
            run_id=f"r{number:04}",
            study="s",
            role="screen",
            candidate=number,
            seed=0,
            outcome="reached",
            reason="",
            clock="wall",
            steps=10,
            tokens=100,
            train_seconds=5.0,
            wall_seconds=8.0,
            target_train_seconds=5.0,
            target_wall_seconds=8.0 * number,
            target_step=10,
            started_at="",
            contaminated="",
            config={"training": {"x": number}},
            metrics={"eval_loss": float(number)},
            seconds={},
            environment={},
        )
        for number in (1, 2)
    ]
    found = metric_scores(stored, "eval_loss", "minimize")
    read = run_table(stored, found)
    assert read.parameters == (Column("training.x", "number", (1.0, 2.0)),)
    assert read.measures == (Column("time_to_target", "number", (8.0, 16.0)),)
    assert read.scores == (1.0, 2.0)


def test_failed_runs_are_worse_than_the_worst_and_lost_ones_say_nothing() -> None:
    runs = [record(1), record(3), record(9, outcome="diverged"), record(2, outcome="lost")]
    found = metric_scores(runs, "eval_loss", "minimize")
    assert found == Scores("eval_loss", {"r0001": 2.0, "r0003": 4.0, "r0009": 5.0}, {"r0009"})
    read = run_table(runs, found)
    assert read.is_measured == (True, True, False)
    assert read.outcomes().values == (2.0, 4.0, math.inf)


def test_a_metric_that_is_maximised_counts_with_its_sign_turned() -> None:
    runs = [record(1), record(3), record(9, outcome="crashed")]
    found = metric_scores(runs, "eval_loss", "maximize")
    assert found == Scores("-eval_loss", {"r0001": -2.0, "r0003": -4.0, "r0009": -1.0}, {"r0009"})
    read = run_table(runs, found)
    assert "eval_loss" not in [column.name for column in read.measures]
    assert read.outcomes() == Column("eval_loss", "number", (2.0, 4.0, -math.inf))


def test_where_all_runs_failed_their_outcomes_are_told() -> None:
    runs = [record(1, outcome="crashed"), record(2, outcome="crashed"), record(3, outcome="out_of_memory")]
    with pytest.raises(ConfigError, match="no run ended well with a finite eval_loss: 2 crashed, 1 out of memory"):
        metric_scores(runs, "eval_loss", "minimize")


def test_a_parameter_that_is_called_like_a_measure_stands_for_itself() -> None:
    runs = [replace(record(n), config={"train_loss": n}, metrics={"train_loss": 0.5 * n}) for n in (1, 2)]
    found = run_table(runs, Scores("score", scores(runs)))
    assert found.names == ("train_loss", "score")


def test_an_unknown_metric_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'eval_loss'"):
        metric_scores([record(1)], "eval_los", "minimize")
    with pytest.raises(ConfigError, match="no finished run"):
        metric_scores([], "eval_loss", "minimize")


def test_named_keys_keep_their_order() -> None:
    configs = [{"b": 1, "a": 1, "c": 0}, {"b": 2, "a": 2, "c": 0}]
    assert list(varying_keys(configs, ["a", "c", "b"])) == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "values", "is_log"),
    [
        ("number", ("a",), False),
        ("number", (True,), False),
        ("number", (math.nan,), False),
        ("category", (1.0,), False),
        ("number", (0.0, 1.0), True),
        ("category", ("a",), True),
    ],
)
def test_columns_refuse_what_they_cannot_hold(kind: Any, values: tuple[Any, ...], is_log: bool) -> None:
    with pytest.raises(ValueError, match="column x"):
        Column("x", kind, values, is_log)


def test_tables_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="one value a run"):
        table([1.0, 2.0], x=[1.0])
    with pytest.raises(ValueError, match="finite score"):
        table([1.0, math.inf], x=[1.0, 2.0])
    with pytest.raises(ValueError, match="parameters are finite"):
        table([1.0, 2.0], x=[1.0, math.inf])
    with pytest.raises(ValueError, match="'eval_loss' twice"):
        table([1.0, 2.0], eval_loss=[1.0, 2.0])
    with pytest.raises(ValueError, match="one value a run"):
        RunTable(("r0001",), (), (), (1.0, 2.0), "eval_loss")


def test_other_programs_settings_are_read_alike_and_names_of_runs_are_none() -> None:
    def foreign(number: int) -> RunRecord:
        config = {"seed": number, "logging_steps": number, "output_dir": f"out/{number}", "lr": 1e-3 * (number % 4 + 1)}
        return RunRecord(
            run_id=f"r{number:04}", role="manual", candidate=number, seed=0, outcome="missed", config=config
        )

    runs = [foreign(number) for number in range(12)]
    assert [column.name for column in run_table(runs, Scores("score", scores(runs))).parameters] == ["lr"]
    named = run_table(runs, Scores("score", scores(runs)), keys=["output_dir"])
    assert [column.name for column in named.parameters] == ["output_dir"], "what was asked for is there"
    few = run_table(runs[:3], Scores("score", scores(runs)))
    assert [column.name for column in few.parameters] == ["output_dir", "lr"]
