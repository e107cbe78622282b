"""Imported runs: folders like any other, marked, rebuilt from their files, taken in once, never a record."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import wandb_files as wandb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotlap.core.errors import ConfigError, DataError
from hotlap.core.foreign import ForeignRun, ForeignSource
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.rerun import plan_rerun
from hotlap.launch.resume import plan_resume
from hotlap.runs import imports
from hotlap.runs.foreign_columns import Chosen
from hotlap.runs.imports import Imported, group_name, import_runs, plain, read_source
from hotlap.runs.ingest import ingest
from hotlap.runs.rows import StoredRun
from hotlap.runs.store import RunStore
from hotlap.runs.views import NOTHING, base_of, flat_row, run_document

POINTS = ({"step": 10, "train_loss": 0.1 + 0.2, "train_seconds": 4.0}, {"step": 20, "eval_loss": 2.5, "tokens": 99})


def foreign(own_id: str = "a1", **changes: Any) -> ForeignRun:
    facts: dict[str, Any] = {
        "own_id": own_id,
        "identity": f"test:{own_id}",
        "name": "glad-sun",
        "outcome": "missed",
        "reason": "imported",
        "config": {"learning_rate": 3e-4, "optim": "muon", "seed": 7},
        "metrics": {"eval_loss": 2.25},
        "points": POINTS,
        "started_at": "2026-11-13T09:48:11",
    }
    return ForeignRun(**{**facts, **changes})


def source_of(*runs: ForeignRun) -> ForeignSource:
    return ForeignSource(kind="test", place="there.csv", label="there", runs=runs)


def stored(project: ProjectFolder) -> list[StoredRun]:
    with RunStore(project) as store:
        store.refresh()
        return store.runs()


def test_an_imported_run_is_a_run_without_a_clock(project: ProjectFolder) -> None:
    done = import_runs(project, source_of(foreign()))
    assert done == Imported(group="there@import", added=("r0001",), known=0, changed=())
    (run,) = stored(project)
    assert (run.run_id, run.study, run.role, run.candidate) == ("r0001", "there@import", "manual", 0)
    assert (run.outcome, run.reason, run.steps, run.seed) == ("missed", "imported", 20, 7)
    assert (run.train_seconds, run.wall_seconds, run.tokens, run.time_to_target) == (0.0, 0.0, 0, math.inf)
    assert run.config == {"learning_rate": 3e-4, "optim": "muon", "seed": 7}
    assert run.metrics == {
        "train_loss": 0.1 + 0.2,
        "source_train_seconds": 4.0,
        "eval_loss": 2.25,
        "source_tokens": 99,
    }
    assert run.started_at == "2026-11-13T09:48:11"
    assert run.imported == {
        "kind": "test",
        "source": str(Path("there.csv").absolute()),
        "id": "a1",
        "name": "glad-sun",
    }
    folder = RunFolder(project.runs_path / "r0001")
    assert folder.points() == [
        {"step": 10, "train_loss": 0.1 + 0.2, "source_train_seconds": 4.0},
        {"step": 20, "eval_loss": 2.5, "source_tokens": 99},
    ]
    assert folder.read("command") is None and folder.read("worker") is None
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "config.json",
        "config.yaml",
        "import.json",
        "metrics.jsonl",
        "result.json",
    ]


def test_the_index_comes_back_from_the_files(project: ProjectFolder) -> None:
    import_runs(project, source_of(foreign(), foreign("b2", outcome="crashed", points=())))
    before = stored(project)
    project.index_path.unlink()
    assert stored(project) == before
    with RunStore(project) as store:
        store.reindex()
        assert store.runs() == before


def test_a_source_is_taken_in_once(project: ProjectFolder) -> None:
    assert import_runs(project, source_of(foreign(), foreign("b2"))).added == ("r0001", "r0002")
    again = import_runs(project, source_of(foreign(), foreign("b2"), foreign("c3")))
    assert (again.added, again.known, again.changed) == (("r0003",), 2, ())
    moved = import_runs(project, source_of(foreign(identity="elsewhere:a1")))
    assert (moved.added, moved.known) == ((), 1), "the same run in a copy of its file"
    changed = import_runs(project, source_of(foreign(metrics={"eval_loss": 1.0})))
    assert (changed.added, changed.known, changed.changed) == ((), 0, ("r0001",))
    assert stored(project)[0].metrics["eval_loss"] == 2.25
    shutil.rmtree(project.runs_path / "r0001")
    assert import_runs(project, source_of(foreign(metrics={"eval_loss": 1.0}))).added == ("r0004",)


def test_an_import_that_was_broken_off_is_finished(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(imports, "_yaml_text", stop)
        with pytest.raises(KeyboardInterrupt):
            import_runs(project, source_of(foreign()))
    assert import_runs(project, source_of(foreign())).added == ("r0001",)
    assert [run.outcome for run in stored(project)] == ["missed"]


def test_imported_runs_stand_beside_own_ones_and_take_no_alias(project: ProjectFolder, make_run: Any) -> None:
    make_run(20.0, role="baseline", candidate=0)
    make_run(12.0)
    import_runs(project, source_of(foreign()))
    with RunStore(project) as store:
        store.refresh()
        assert (store.get("@baseline").run_id, store.get("@best").run_id) == ("r0001", "r0002")
        assert [run.run_id for run in store.runs(study="there@import")] == ["r0003"]
        assert [bool(run.imported) for run in store.runs()] == [False, False, True]


def test_an_imported_run_is_compared_with_nothing_and_flattened_with_its_origin(project: ProjectFolder) -> None:
    import_runs(project, source_of(foreign()))
    (run,) = stored(project)
    assert base_of(run, [run]) == (NOTHING, {})
    row = flat_row(run)
    assert (row["config.optim"], row["imported.id"], row["metrics.eval_loss"]) == ("muon", "a1", 2.25)
    json.dumps(run_document(run), allow_nan=False)


def test_an_imported_run_is_not_run_again_and_does_not_go_on(project: ProjectFolder) -> None:
    import_runs(project, source_of(foreign()))
    folder = RunFolder(project.runs_path / "r0001")
    with pytest.raises(ConfigError, match=r"r0001 was imported from .*there\.csv"):
        plan_rerun(folder, project.project)
    with pytest.raises(ConfigError, match=r"r0001 cannot go on here: it was imported from"):
        plan_resume(folder)


@pytest.mark.parametrize("config", [{"training": "full"}, {"training": {"seed": "x"}}, {"text": "two\nlines\n"}, {}])
def test_settings_of_any_shape_can_be_ingested(project: ProjectFolder, config: dict[str, Any]) -> None:
    import_runs(project, source_of(foreign(config=config)))
    record = ingest(RunFolder(project.runs_path / "r0001"))
    assert record is not None and (record.config, record.seed) == (config, 0)


def test_what_is_not_finite_stays(project: ProjectFolder) -> None:
    import_runs(project, source_of(foreign(metrics={"a": math.inf, "b": math.nan}, points=())))
    metrics = stored(project)[0].metrics
    assert metrics["a"] == math.inf and math.isnan(metrics["b"])


names = st.text("abcxyz_./ -0159", min_size=1, max_size=8)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**18), 10**18),
        st.floats(allow_nan=False),
        st.text("aZ09 .:#-{}[]'\",!&*yesno~", max_size=12),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, min_size=1, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.dictionaries(names, values, max_size=4))
def test_settings_come_back_as_they_were(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(imports._yaml_text(plain(config)))
    folder.write("result", {"outcome": "missed"})
    record = ingest(folder)
    assert record is not None and record.config == plain(config)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("hub_token", "hf_abc", "***"),
        ("WANDB_API_KEY", "abc", "***"),
        ("password", "abc", "***"),
        ("keys", ["abc"], ["***"]),
        *((name, "abc", "***") for name in ("hubToken", "accessToken", "authToken", "HUBTOKEN", "APIKey", "secretKey")),
        *((name, "abc", "***") for name in ("AWS_SECRET_ACCESS_KEY", "api-key", "huggingface.hub_token", "dbPassword")),
        ("api_key", {"value": "abc"}, {"value": "***"}),
        ("hubToken", [{"value": {"text": "abc", "length": 3}}], [{"value": {"text": "***", "length": 3}}]),
        *(
            (name, "abc", "abc")
            for name in ("pad_token", "eos_token", "bosToken", "additional_special_tokens", "monkey")
        ),
        *((name, "1B", "1B") for name in ("num_tokens", "max_new_tokens", "trainTokens", "tokens_per_second")),
        ("tokens", "abc", "***"),
        ("tokenizer_name", "gpt2", "gpt2"),
        ("max_tokens", 512, 512),
        ("num_key_value_heads", 4, 4),
        ("started", Path("x"), "x"),
        ("half", "\ud800", "?"),
    ],
)
def test_secrets_and_odd_values_are_made_plain(name: str, value: object, kept: object) -> None:
    assert plain({"a": {name: value}}) == {"a": {name: kept}}


@pytest.mark.parametrize(
    ("label", "group"),
    [
        ("wandb_export_2026", "wandb_export_2026@import"),
        ("my runs/ü", "my-runs@import"),
        ("", "runs@import"),
        ("sweep@import", "sweep@import"),
    ],
)
def test_what_imported_runs_are_called_together(label: str, group: str) -> None:
    assert group_name(label) == group


def test_every_kind_of_source_is_recognized(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("id,lr,eval_loss\na,1,2\n")
    (tmp_path / "out").mkdir()
    state = tmp_path / "out" / "trainer_state.json"
    state.write_text('{"log_history": [{"loss": 1.0, "step": 1}]}')
    folder = tmp_path / "wandb" / "offline-run-20261121_101112-aaaa1111"
    folder.mkdir(parents=True)
    log = folder / "run-aaaa1111.wandb"
    log.write_bytes(wandb.framed([wandb.run("aaaa1111", {}), wandb.ended()]))
    kinds = [
        read_source(path).kind for path in (tmp_path / "runs.csv", state, state.parent, log, folder, folder.parent)
    ]
    assert kinds == ["table of runs", *["runs of the Trainer"] * 2, *["run folders of wandb"] * 3]


def test_what_is_no_source_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder; expected a table"):
        read_source(tmp_path / "gone.csv")
    (tmp_path / "runs.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot tell what this is; expected a table"):
        read_source(tmp_path / "runs.parquet")
    with pytest.raises(DataError, match="is no table, so it has no columns to choose"):
        read_source(tmp_path, Chosen(metrics=("x",)))
