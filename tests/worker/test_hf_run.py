"""A run with `backend: hf` fills the same run folder as one of hotlap's own loop."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from safetensors.torch import load_file

from hotlap.config.load import load_config
from hotlap.core.errors import ConfigError
from hotlap.core.run_folder import RunFolder
from hotlap.train.distributed import join_world
from hotlap.worker.hf import HFTrainingRun
from hotlap.worker.session import Session
from hotlap.worker.train import TrainingRun

MakeRun = Callable[..., RunFolder]
PATCH = {"training.optim": "adamw_torch", "training.max_grad_norm": 1.0, "training.per_device_eval_batch_size": 3}

pytestmark = pytest.mark.filterwarnings("default")  # other people's packages may warn


@pytest.fixture
def trainer_side() -> None:
    """Skip where the extra is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("transformers")
        pytest.importorskip("accelerate")


def run_to_its_end(folder: RunFolder) -> dict[str, Any]:
    """Run the folder in this process; return its result."""
    session = Session(folder)
    config = load_config(folder.config_path)
    world = join_world(config.training)
    run = (HFTrainingRun if config.backend == "hf" else TrainingRun)(session, config, world)
    run.finish(*run.train())
    result = folder.read("result")
    assert result is not None
    return result


@pytest.mark.usefixtures("trainer_side")
def test_both_backends_leave_the_same_run(make_run: MakeRun) -> None:
    folders = [make_run({**PATCH, "backend": backend}) for backend in ("fast", "hf")]
    own, theirs = map(run_to_its_end, folders)
    assert theirs["outcome"] == own["outcome"] == "reached"
    assert (theirs["step"], theirs["tokens"]) == (own["step"], own["tokens"])
    assert theirs["metrics"]["eval_loss"] == pytest.approx(own["metrics"]["eval_loss"], abs=1e-4)
    # Whether an evaluation lies in the last tenth of the clock, the clock says.
    assert theirs["metrics"].keys() - own["metrics"].keys() - {"eval_loss_gain_last_tenth"} == {"eval_loss_rows"}
    assert theirs["metrics"]["eval_loss_rows"] != theirs["metrics"]["eval_loss"]
    assert theirs.keys() == own.keys()
    for part, seconds in theirs["seconds"].items():
        assert seconds > 0 or part in ("saving", "waiting"), part
    weights = [load_file(folder.weights_path) for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    assert {name: tensor.shape for name, tensor in weights[0].items()} == {
        name: tensor.shape for name, tensor in weights[1].items()
    }
    environment = folders[1].read("environment")
    assert environment is not None and environment["transformers"]


@pytest.mark.usefixtures("trainer_side")
def test_points_come_at_the_same_steps(make_run: MakeRun) -> None:
    folders = [make_run({**PATCH, "backend": backend}) for backend in ("fast", "hf")]
    for folder in folders:
        run_to_its_end(folder)
    for metric in ("train_loss", "eval_loss"):
        steps = [[point["step"] for point in folder.points() if metric in point] for folder in folders]
        assert steps[0] == steps[1] != []
    evaluated = [point["step"] for point in folders[1].points() if "eval_loss" in point]
    assert [point["step"] for point in folders[1].points() if "eval_loss_rows" in point] == evaluated


@pytest.mark.usefixtures("trainer_side")
def test_a_target_ends_the_run(make_run: MakeRun) -> None:
    result = run_to_its_end(make_run({**PATCH, "backend": "hf", "targets": ["eval_loss < 99"]}))
    assert (result["outcome"], result["step"]) == ("reached", 10)
    assert result["time_to_target"]["step"] == 10


@pytest.mark.usefixtures("trainer_side")
def test_checkpoints_are_not_saved_and_that_is_said(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run({**PATCH, "backend": "hf", "training.save_strategy": "steps", "training.save_steps": 5})
    run_to_its_end(folder)
    assert "backend hf saves no checkpoints" in capsys.readouterr().out
    assert not list(folder.path.glob("checkpoint-*"))


def test_what_it_cannot_run_is_refused_before_anything_is_built(make_run: MakeRun) -> None:
    folder = make_run({"backend": "hf", "training.optim": "muon"})
    config = load_config(folder.config_path)
    with pytest.raises(ConfigError, match=r"training\.optim: muon; it takes adamw_torch"):
        HFTrainingRun(Session(folder), config, join_world(config.training))
    assert folder.read("environment") is None
