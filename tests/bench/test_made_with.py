"""What the figures of a bench were made with: files of the project's own code, and torch."""

from pathlib import Path

import pytest

from hotlap.bench.axes import Axis
from hotlap.bench.made_with import changes, made_with
from hotlap.bench.plan import BenchPlan
from hotlap.config.load import config_from_values
from hotlap.core.errors import ConfigError

PLAN = BenchPlan(axes=())
FILES = {
    "train.py": "import model\nfrom pack import inner, nothing\nimport torch\n",
    "model.py": "from pack.deep import thing\n",
    "pack/__init__.py": "",
    "pack/inner.py": "from . import beside\nfrom .. import model\n",
    "pack/beside.py": "",
    "pack/deep.py": "def broken(:\n",
    "other.py": "",
    "settings.yaml": "a: 1",
    "mine.py": "import other\n",
    "log.txt": "",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "run",
    [
        "python train.py --config settings.yaml --batch {n} > log.txt",
        "torchrun -m train --config=settings.yaml {n}",
    ],
)
def test_a_commands_scripts_and_what_they_import_are_known(directory: Path, run: str) -> None:
    config = config_from_values({"command": {"run": run}, "params": {"n": 1}})
    found = made_with(config, PLAN, directory)
    packed = {f"pack/{name}.py" for name in ("__init__", "inner", "beside", "deep")}
    assert found.keys() - {"torch"} == {"train.py", "model.py", "settings.yaml", *packed}


def test_parts_of_the_config_and_of_axes_are_known(directory: Path) -> None:
    config = config_from_values({"task": {"name": "generator", "function": "mine:samples"}})
    assert made_with(config, PLAN, directory).keys() == {"torch", "mine.py", "other.py"}
    plan = BenchPlan(axes=(Axis("training.optim", ("adamw_torch", "train:optimizer", "absent:one")),))
    assert "train.py" in made_with(config_from_values({}), plan, directory)
    (directory / "mine.py").unlink()
    with pytest.raises(ConfigError, match=r"mine:samples: there is no file mine\.py"):
        made_with(config, PLAN, directory)


def test_what_changed_is_told(directory: Path) -> None:
    config = config_from_values({"command": {"run": "python train.py {n}"}, "params": {"n": 1}})
    before = made_with(config, PLAN, directory)
    assert changes(before, made_with(config, PLAN, directory)) == []
    (directory / "other.py").write_text("changed = True")
    (directory / "model.py").write_text("import other")
    gone = "pack/deep.py is gone"  # nobody imports it any more
    assert changes(before, made_with(config, PLAN, directory)) == ["model.py is not what it was", gone]
    assert changes({"torch": "2.0", "a.py": "1"}, {"torch": "2.1"}) == ["torch was 2.0, is 2.1", "a.py is gone"]
