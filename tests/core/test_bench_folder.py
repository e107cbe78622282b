"""The folder of a bench: ids that are taken once, lines that survive a kill."""

from pathlib import Path

import pytest

from hotlap.core.bench_folder import BenchFolder, bench_folders
from hotlap.core.bench_records import CellRepeat
from hotlap.core.errors import StudyError

REPEAT = CellRepeat(cell=0, repeat=0, settings={"training.optim": "muon"}, outcome="measured", step_seconds=(0.1,))


def test_ids_are_counted_and_foreign_folders_left_alone(tmp_path: Path) -> None:
    assert bench_folders(tmp_path / "benches") == []
    first = BenchFolder.create(tmp_path / "benches")
    (tmp_path / "benches" / "old").mkdir()
    (tmp_path / "benches" / "b0009").mkdir()
    second = BenchFolder.create(tmp_path / "benches")
    assert [first.bench_id, second.bench_id] == ["b0001", "b0010"]
    assert [each.bench_id for each in bench_folders(tmp_path / "benches")] == ["b0001", "b0009", "b0010"]


def test_what_is_appended_is_read_back_and_a_cut_line_is_not_there(tmp_path: Path) -> None:
    folder = BenchFolder.create(tmp_path)
    assert folder.repeats() == ()
    folder.append(REPEAT)
    with folder.cells_path.open("a") as file:
        file.write('{"cell": 1, "repeat": 0, "sett')  # what kill -9 leaves
    assert folder.repeats() == (REPEAT,)
    folder.append(REPEAT)
    assert folder.repeats() == (REPEAT, REPEAT)


def test_a_folder_without_a_plan_is_no_bench(tmp_path: Path) -> None:
    folder = BenchFolder.create(tmp_path)
    with pytest.raises(StudyError, match=r"holds no bench: it has no bench\.json"):
        folder.plan()
    folder.write_plan({"axes": {}})
    assert folder.plan() == {"axes": {}}
