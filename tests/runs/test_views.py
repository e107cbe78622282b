"""What is shown of runs, as plain values."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs import views
from hotlap.runs.rows import StoredRun
from hotlap.runs.store import RunStore

MakeRun = Callable[..., RunFolder]

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.text("abc", min_size=1, max_size=3), json_values, max_size=4)


def stored(project: ProjectFolder) -> list[StoredRun]:
    with RunStore(project) as store:
        store.refresh()
        return store.runs()


@given(json_values)
def test_documents_are_strict_json(value: Any) -> None:
    json.dumps(views.finite(value), allow_nan=False)


@given(mappings)
def test_a_config_does_not_differ_from_itself(config: dict[str, Any]) -> None:
    assert views.config_differences([config, config, config]) == {}


def test_only_differences_are_told() -> None:
    configs = [{"a": {"b": 1, "c": 2}, "d": {}}, {"a": {"b": 1, "c": 3}}]
    assert views.config_differences(configs) == {"a.c": (2, 3), "d": ({}, None)}
    assert views.config_differences([]) == {}


def test_a_run_is_compared_with_its_baseline_else_with_the_defaults(project: ProjectFolder, make_run: MakeRun) -> None:
    make_run(20.0, role="baseline", patch={"training.optim": "muon", "training.seed": 1})
    make_run(12.0, patch={"training.optim": "muon", "training.learning_rate": 1e-3, "training.seed": 2})
    make_run(9.0, study="", patch={"training.optim": "muon"})
    runs = stored(project)
    name, base = views.base_of(runs[1], runs)
    assert name == "r0001"
    assert views.changes_from_base(runs[1], base) == {"training.learning_rate": (5e-5, 1e-3)}
    name, base = views.base_of(runs[2], runs)
    assert name == "the defaults"
    assert views.changes_from_base(runs[2], base) == {
        "name": ("run", "s"),
        "training.optim": ("adamw_torch_fused", "muon"),
    }


def test_the_seconds_add_up(project: ProjectFolder, make_run: MakeRun) -> None:
    make_run(12.0)
    (run,) = stored(project)
    parts = views.time_parts(run)
    assert [part.name for part in parts] == ["setup", "steps", "data", "forward", "evaluation", "other"]
    assert math.isclose(sum(part.share for part in parts if not part.is_inside_steps), 1.0)
    assert math.isclose(sum(part.seconds for part in parts if not part.is_inside_steps), run.wall_seconds)


def test_the_command_to_run_it_again(
    make_run: MakeRun, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(12.0)
    (run,) = stored(project)
    monkeypatch.chdir(project.project)
    argv = views.reproduce_argv(ProjectFolder(Path()), run)
    assert argv == ["hotlap", "rerun", "r0001"]
    assert views.reproduce_argv(project, run)[-2:] == ["-p", str(project.project)]


@given(st.lists(st.dictionaries(st.text("abc", min_size=1, max_size=2), st.text(), max_size=3), max_size=5))
def test_csv_loses_nothing(values: list[dict[str, str]]) -> None:
    rows = [{"run_id": f"r{number:04}", **found} for number, found in enumerate(values)]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    found = list(csv.DictReader(io.StringIO(views.csv_text(rows), newline="")))
    assert found == [{key: row.get(key, "") for key in columns} for row in rows]


def test_flat_rows_have_every_fact(project: ProjectFolder, make_run: MakeRun) -> None:
    make_run(12.0)
    row = views.flat_row(stored(project)[0])
    assert row["metrics.eval_loss"] == 0.75
    assert row["config.training.learning_rate"] == 5e-5
    assert row["target_train_seconds"] == 12.0


@pytest.mark.parametrize(
    ("guards", "told"),
    [
        ({}, ""),
        ({"state": "pending"}, "in quarantine until it was checked"),
        ({"state": "skipped"}, "not checked, since the run is repeated"),
        ({"state": "failed", "problems": ["x"]}, "failed: the run does not count"),
        ({"state": "passed"}, "passed"),
        ({"state": "passed", "evaluated_again": "calibration", "audit_gap": None}, "again from its saved weights (cal"),
        (
            {"state": "passed", "evaluated_again": "x", "eval_loss_again": 0.75, "audit_gap": 0.02},
            "0.75, audit loss +2.0",
        ),
    ],
)
def test_what_guards_found_is_told_in_words(guards: dict[str, Any], told: str) -> None:
    assert told in views.guards_text(guards)
    assert bool(views.guards_text(guards)) == bool(guards)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (False, "false"),
        (50.0, "50"),
        (0.0003, "0.0003"),
        (12, "12"),
        ("adamw", "adamw"),
        ([0.9, None], "[0.9, null]"),
        ({"a": True}, '{"a": true}'),
    ],
)
def test_a_setting_reads_the_same_wherever_it_is_shown(value: object, text: str) -> None:
    assert views.setting_text(value) == text
