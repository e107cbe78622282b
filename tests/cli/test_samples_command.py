"""`hotlap runs samples`: side by side where there is room, and one under the other where there is none."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hotlap.cli.runs import app
from hotlap.config.load import config_from_values, config_text
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder

ENDS = {"r0001": 500, "r0002": 480}


@pytest.fixture
def with_samples(project: ProjectFolder) -> Path:
    """Two runs with the same prompts, and one without any."""
    for run_id, last in ENDS.items():
        folder = RunFolder.create(project.runs_path)
        folder.write_config(config_text(config_from_values({})))
        for step in (0, 100, last):
            for number, prompt in enumerate(("In the beginning", "Жил-был")):
                text = f"{run_id} said at {step}:\n\x1b[31mand so it was told by them all"
                sample = {"step": step, "train_seconds": 0.5, "prompt": prompt, "generated": text, "expected": ""}
                folder.append_sample({**sample, "prompt_index": number})
    RunFolder.create(project.runs_path).write_config(config_text(config_from_values({})))
    return project.project


def run(project: Path, *words: str, width: int = 120) -> Result:
    environment = {"COLUMNS": str(width)}
    return CliRunner().invoke(app, ["samples", *words, "-p", str(project)], env=environment, catch_exceptions=False)


def test_answers_stand_side_by_side(with_samples: Path) -> None:
    blocks = run(with_samples, "r1", "r2").stdout.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["In the beginning", "Жил-был"]
    _, header, *rows = blocks[0].splitlines()
    assert header.split() == ["r0001", "r0002"]
    column = header.index("r0002")
    assert rows[0].startswith("untrained  r0001 said at 0:") and rows[0][column:] == "r0002 said at 0:"
    trained = rows.index(next(row for row in rows if row.startswith("trained")))
    assert "(step 500)" in rows[trained] and rows[trained][column:] == "(step 480)"
    assert rows[trained + 1][column:] == "r0002 said at 480:"
    assert "\x1b" not in blocks[0] and "\\x1b[31mand" in blocks[0]
    assert all(len(row) <= 120 for row in rows)


def test_a_step_that_all_have_is_named_once(with_samples: Path) -> None:
    text = run(with_samples, "r1", "r2", "--step", "200").stdout
    assert text.count("step 100") == 2 and "(step" not in text
    assert "at 500" not in text and "said at 0" in text


@pytest.mark.parametrize("width", [59, 40, 20, 3, 1])
def test_on_a_narrow_terminal_they_stand_one_under_the_other(with_samples: Path, width: int) -> None:
    lines = run(with_samples, "r1", "r2", width=width).stdout.splitlines()
    told = [line for line in lines if line.startswith("r000")]
    assert told[:4] == ["r0001, untrained:", "r0002, untrained:", "r0001, step 500:", "r0002, step 480:"]
    assert all(len(line) <= max(4, width) for line in lines if line.startswith("  "))


def test_a_run_without_samples_has_an_empty_column(with_samples: Path) -> None:
    rows = run(with_samples, "r1", "r3").stdout.splitlines()
    column = rows[1].index("r0003")
    assert rows[2][column:] == "-"
    assert "r0003" not in run(with_samples, "r1", "r3", width=40).stdout


def test_json_has_every_answer(with_samples: Path) -> None:
    found: dict[str, Any] = json.loads(run(with_samples, "r1", "r3", "--json").stdout)
    assert (found["schema"], found["runs"]) == ("hotlap/samples/1", ["r0001", "r0003"])
    first = found["prompts"][0]
    assert first["prompt"] == "In the beginning" and first["expected"] == ""
    assert first["untrained"][0]["step"] == 0 and first["untrained"][1] is None
    assert first["trained"][0] == {
        "step": 500,
        "generated": "r0001 said at 500:\n\x1b[31mand so it was told by them all",
        "train_seconds": 0.5,
    }


def test_no_samples_at_all_is_one_clear_message(with_samples: Path) -> None:
    result = run(with_samples, "r3")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: no samples of r0003: prompts to be answered during training stand in the ")
    assert run(with_samples, "r9").exit_code == 2
