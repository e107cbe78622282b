"""The options of `hotlap bench` that are refused, before anything is measured or written."""

from pathlib import Path

import pytest

from hotlap.cli.bench import bench
from hotlap.core.errors import ConfigError, NotSupportedError
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import devices


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 20}, "--steps"),
        ({"seed": 0, "warmup": 3}, "--warmup, --seed"),
        ({"repeats": 3, "seconds": 3.0}, "--repeats, --seconds"),
        ({"batch": "1,2", "axis": ["a=1"], "new": True}, "--batch, --axis, --new"),
        ({"settings": ["a=1"]}, "--set"),
    ],
)
def test_a_bench_that_goes_on_is_as_it_was_planned(
    project: ProjectFolder, options: dict[str, object], named: str
) -> None:
    message = rf"--resume goes on with a bench as it was planned: leave out {named} \(only --limit may change\)"
    with pytest.raises(ConfigError, match=message):
        bench(resume=True, project=project.project, **options)  # type: ignore[arg-type]


def test_devices_that_are_not_there_leave_no_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "visible_gpus", lambda: 1)
    path = tmp_path / "hotlap.yaml"
    path.write_text("name: toy\n", encoding="utf-8")
    with pytest.raises(NotSupportedError, match="devices: 2 needs 2 GPUs, this machine shows 1"):
        bench(str(path), devices="1,2", project=tmp_path)
    assert not (tmp_path / ".hotlap").exists()


def test_a_limit_that_is_no_time_is_told(project: ProjectFolder) -> None:
    with pytest.raises(ConfigError, match="--limit 'soon'"):
        bench(resume=True, limit="soon", project=project.project)
