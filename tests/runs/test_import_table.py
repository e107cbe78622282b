"""From a table to runs: a row a run, or a row a point; ids that stay the same from one export to the next."""

from pathlib import Path

import pytest

from hotlap.core.errors import DataError
from hotlap.core.foreign import ForeignRun
from hotlap.runs.foreign_columns import Chosen
from hotlap.runs.import_table import outcome_of, read_table

WANDB = (
    "Name,State,Created,Runtime,Tags,lr,optim,eval_loss\n"
    "glad-sun-7,finished,2026-11-13T09:48:11.000Z,60,hot,0.1,muon,3.5\n"
    "glad-sun-7,crashed,2026-11-13T09:49:11.000Z,6,,0.2,muon,\n"
    "dark-sea-8,running,2026-11-13T09:50:11.000Z,6,,0.3,muon,4\n"
)


def read(folder: Path, text: str, name: str = "runs.csv") -> tuple[ForeignRun, ...]:
    path = folder / name
    path.write_text(text)
    return read_table(path, Chosen()).runs


def test_a_row_is_a_run(tmp_path: Path) -> None:
    first, second = read(tmp_path, "id,name,state,step,lr,eval_loss\na,sun,done,500,0.1,3.5\nb,sea,OOM,,0.2,\n")
    assert (first.own_id, first.name, first.outcome, first.steps) == ("a", "sun", "missed", 500)
    assert (first.config, first.metrics, first.points) == ({"lr": 0.1}, {"eval_loss": 3.5}, ())
    assert first.identity == f"{tmp_path.resolve()}/runs.csv#a"
    assert first.reason == "imported: done there"
    assert (second.outcome, second.steps, second.metrics) == ("out_of_memory", 0, {})


def test_an_export_of_wandb(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(WANDB)
    source = read_table(path, Chosen())
    first, second = source.runs
    assert (source.kind, source.label) == ("wandb export", "export")
    assert first.identity == "wandb:glad-sun-7 2026-11-13T09:48:11.000Z"
    assert (first.outcome, second.outcome) == ("missed", "crashed")
    assert first.metrics == {"eval_loss": 3.5, "source_seconds": 60}
    assert first.facts == {"Tags": "hot"}
    assert first.started_at == "2026-11-13T09:48:11.000Z"
    assert "settings: lr, optim; metrics: eval_loss" in source.notices[0]
    assert "1 of 3 runs left out" in source.notices[1]


def test_an_export_of_wandb_with_ids_keeps_its_identity_in_any_file(tmp_path: Path) -> None:
    text = "ID,Name,State,Created,Runtime,lr\n1234e567,x,finished,2026-11-13T09:48:11.000Z,60,0.1\n"
    assert read(tmp_path, text, "one.csv")[0].identity == "wandb:1234e567"
    assert read(tmp_path, text, "two.csv")[0].identity == "wandb:1234e567"


def test_names_of_the_trainer_are_translated(tmp_path: Path) -> None:
    text = "id,train/global_step,train/loss,eval/loss,config.learning_rate\na,50,1.5,2.5,3e-4\n"
    (run,) = read(tmp_path, text)
    assert run.metrics == {"train_loss": 1.5, "eval_loss": 2.5}
    assert (run.config, run.steps) == ({"learning_rate": 3e-4}, 50)


def test_a_frame_of_optuna(tmp_path: Path) -> None:
    text = (
        ",number,value,datetime_start,datetime_complete,duration,params_lr,params_optim,state\n"
        "0,0,3.5,2026-11-13 09:48:11,2026-11-13 09:49:11,0 days 00:01:00,0.1,muon,COMPLETE\n"
        "1,1,,2026-11-13 09:48:11,2026-11-13 09:49:11,0 days 00:01:00,0.2,sgd,FAIL\n"
    )
    first, second = read(tmp_path, text)
    assert (first.own_id, first.config, first.metrics) == ("0", {"lr": 0.1, "optim": "muon"}, {"value": 3.5})
    assert (first.outcome, second.outcome) == ("missed", "crashed")


def test_rows_without_ids_are_known_by_their_content(tmp_path: Path) -> None:
    text = "lr,eval_loss\n0.1,3.5\n0.2,3\n0.1,3.5\n"
    ids = [run.own_id for run in read(tmp_path, text)]
    assert len(set(ids)) == 3
    assert ids[2] == f"{ids[0]}-2", "two runs may well be alike"
    turned = [run.own_id for run in read(tmp_path, "lr,eval_loss\n0.2,3\n0.1,3.5\n0.3,2\n")]
    assert turned[:2] == [ids[1], ids[0]]


def test_points_of_several_runs(tmp_path: Path) -> None:
    text = (
        "run_id,step,config.lr,train_loss,eval_loss,optim\n"
        "a,20,0.1,2.5,,muon\n"
        "b,10,0.2,3.5,,sgd\n"
        "a,10,0.1,3.0,,muon\n"
        "a,20,,,2.75,\n"
    )
    first, second = read(tmp_path, text)
    assert first.points == (
        {"step": 10, "train_loss": 3.0},
        {"step": 20, "train_loss": 2.5},
        {"step": 20, "eval_loss": 2.75},
    )
    assert (first.own_id, first.config, first.steps, first.metrics) == ("a", {"lr": 0.1, "optim": "muon"}, 20, {})
    assert (second.own_id, second.config) == ("b", {"lr": 0.2, "optim": "sgd"})
    assert second.points == ({"step": 10, "train_loss": 3.5},)


def test_points_without_an_id_are_one_run(tmp_path: Path) -> None:
    (run,) = read(tmp_path, '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n', "curve.jsonl")
    assert (run.own_id, len(run.points), run.steps) == ("curve", 2, 2)


def test_names_are_no_ids(tmp_path: Path) -> None:
    runs = read(tmp_path, "name,_step,loss\nx,10,1\nx,20,2\n")
    assert [(run.name, run.steps, run.points) for run in runs] == [("x", 10, ()), ("x", 20, ())]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,lr\na,1\nb,2\na,3\n", r"runs\.csv:4: the id 'a' stands at .*runs\.csv:2, too"),
        ("id,lr\na,1\n,2\n", r"runs\.csv:3: column id is empty; every run needs its id"),
        ("id,step,loss\na,1,2\n,2,2\na,3,2\n", r"runs\.csv:3: column id is empty; every point needs the id"),
        ("id,step,loss\na,1.5,2\na,2,2\n", r"runs\.csv:2: column step: expected a whole number of steps, got 1\.5"),
        ("step,loss\n-1,2\n", r"runs\.csv:2: column step: .* got -1"),
        ("step,loss\nnan,2\n", r"runs\.csv:2: column step: .* got nan"),
        ("step,loss\nx,2\n", r"runs\.csv:2: column step: .* got 'x'"),
        ("step,config.lr,loss\n1,0.1,2\n2,0.2,2\n", r"runs\.csv:3: column config\.lr: a setting stays the same"),
        ("id,state\na,asleep\n", r"runs\.csv:2: unknown state 'asleep'; expected one of .*crashed"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("", "missed"),
        ("Finished", "missed"),
        ("TrialState.PRUNED", "raced"),
        ("out of memory", "out_of_memory"),
        ("killed", "interrupted"),
        ("reached", "missed"),
        ("running", None),
        ("WAITING", None),
    ],
)
def test_states(state: str, outcome: str | None) -> None:
    assert outcome_of(state, "runs.csv:2") == outcome
