"""Two processes on endless data train as one does, and draw nothing twice."""

from collections.abc import Iterator

import pytest
from test_exact_resume import endless_run
from tiny_runs import make_project

from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import LaunchFacts, LocalLauncher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = {
    "training.max_steps": 12,
    "training.logging_steps": 1,
    "training.lr_scheduler_type": "constant",
    "model.embd_pdrop": 0.0,
    "model.attn_pdrop": 0.0,
    "model.resid_pdrop": 0.0,
}
SHAPES = {"one": (1, 8, 1), "two": (2, 4, 1), "accumulated": (2, 2, 2)}


@pytest.fixture(scope="module", autouse=True)
def cpu_only() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="module")
def endless_project(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    return make_project(tmp_path_factory.mktemp("endless"))


def run(project: ProjectFolder, name: str, shape: tuple[int, int, int], padding: str) -> RunFolder:
    devices, rows, accumulation = shape
    patch = {
        **SETTINGS,
        "devices": devices,
        "training.padding": padding,
        "training.per_device_train_batch_size": rows,
        "training.gradient_accumulation_steps": accumulation,
    }
    folder = endless_run(project, name, patch)
    job = LocalLauncher().start(folder, LaunchFacts(directory=project.project, devices=devices, limits={}))
    assert job.wait(200.0), folder.log_tail(40)
    assert (folder.read("result") or {})["outcome"] == "reached", folder.log_tail(40)
    return folder


def losses(folder: RunFolder, metric: str) -> list[float]:
    return [point[metric] for point in folder.points() if metric in point]


@pytest.mark.parametrize(("name", "padding"), [("generator", "longest"), ("mixture", "packed")])
def test_the_loss_curve_does_not_depend_on_the_number_of_processes(
    endless_project: ProjectFolder, name: str, padding: str
) -> None:
    found = {key: run(endless_project, name, shape, padding) for key, shape in SHAPES.items()}
    expected = losses(found["one"], "train_loss")
    assert len(expected) == 12
    metrics = ["eval_loss", *(["eval_sums_loss", "eval_words_loss"] if name == "mixture" else [])]
    for key in ("two", "accumulated"):
        assert losses(found[key], "train_loss") == pytest.approx(expected, abs=1e-5)
        for metric in metrics:
            assert losses(found[key], metric) == pytest.approx(losses(found["one"], metric), abs=1e-5)
        assert (found[key].read("result") or {})["tokens"] == (found["one"].read("result") or {})["tokens"]
