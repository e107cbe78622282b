"""The evaluator of a command: what it is started with, also in a container."""

import json
import os
import sys
from pathlib import Path

import pytest

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.core.run_folder import RunFolder
from hotlap.study.evaluator import Verification, evaluate_by_command

STAND_INS = Path(__file__).parents[1] / "stand_ins"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return a run folder of a command that has ended, with seed 7."""
    run = RunFolder.create(tmp_path / "runs")
    run.write("command", {"seed": 7})
    for path in (run.shared_path, tmp_path / "project"):
        path.mkdir()
    return run


def config(evaluator: str, **command: object) -> RunConfig:
    values = {
        "command": {"run": "train.py --lr {lr}", "evaluator": evaluator, **command},
        "params": {"lr": 0.5},
        "targets": ["val_loss < 1"],
    }
    return config_from_values(values)


def verified(folder: RunFolder, config: RunConfig) -> Verification:
    return evaluate_by_command(folder, config, folder.path.parents[1] / "project", {"val_loss": 0.5})


def test_it_knows_the_knobs_the_seed_and_the_run(folder: RunFolder) -> None:
    shows = 'echo "val_loss: 0.{seed}25 lr: {lr}"; test "$HOTLAP_RUN_DIR" = '
    found = verified(folder, config(f"{shows}{folder.shared_path}"))
    assert found.problems == ()
    assert found.metrics["val_loss"] == 0.725


def test_a_secret_variable_has_its_value(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLAP_SECRET_WANDB_API_KEY", "abcdef123")
    asks = 'test "$WANDB_API_KEY" = abcdef123 && echo "val_loss: 0.5000"'
    found = verified(folder, config(asks, env={"WANDB_API_KEY": "${HOTLAP_SECRET_WANDB_API_KEY}"}))
    assert found.metrics == {"val_loss": 0.5}


def test_in_a_container_it_finds_the_runs_folder_and_is_ended_by_its_id(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-it` goes, the folder is mounted, variables are passed, and an id is there to stop it by."""
    script = (
        f"exec \"{sys.executable}\" -c \"import os; print(open(os.environ['HOTLAP_RUN_DIR'] + '/score').read())\"\n"
    )
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "img").write_text(script)
    for name, value in (("STAND_IN_IMAGES", str(tmp_path / "images")), ("STAND_IN_STATE", str(tmp_path))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{STAND_INS}:{os.environ['PATH']}")
    (folder.shared_path / "score").write_text(json.dumps({"val_loss": 0.25}))
    found = verified(folder, config("docker run -it --rm img"))
    assert found.problems == ()
    assert found.metrics == {"val_loss": 0.25}
    assert len(list(folder.containers_path.iterdir())) == 1


def test_a_container_in_the_background_is_refused(folder: RunFolder) -> None:
    with pytest.raises(ConfigError, match="take the d out"):
        verified(folder, config("docker run -d img"))


def test_the_trainers_block_is_read_to_its_end(folder: RunFolder) -> None:
    prints = "printf '***** eval metrics *****\\n  epoch     =  1.0\\n  eval_loss =  0.4321\\n'"
    found = verified(folder, config(prints).model_copy(update={"targets": ("eval_loss < 1",)}))
    assert found.metrics["eval_loss"] == 0.4321
    assert found.problems == ()
