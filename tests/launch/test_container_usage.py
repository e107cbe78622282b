"""What containers use, from books of the kernel that are laid out as it does, and from a stand-in for docker."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from hotlap.launch.container_usage import Answer, ContainerReader, ask_engine
from hotlap.launch.system import SystemReader, contamination

ID = "0f" * 32
MIB = 2**20


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    """Return a folder with the id of a container."""
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers" / "a").write_text(ID)
    return tmp_path / "containers"


def nobody(ids: Sequence[str]) -> Answer:
    return Answer(problem="nobody to ask")


def write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def version_2(root: Path, seconds: float) -> dict[Path, str]:
    folder = root / "system.slice" / f"docker-{ID}.scope"
    return {
        folder / "cpu.stat": f"usage_usec {seconds * 1e6:.0f}\nuser_usec 1\n",
        folder / "memory.current": str(300 * MIB),
        folder / "memory.stat": f"anon 5\ninactive_file {100 * MIB}\n",
        folder / "cgroup.procs": "11\n",
        folder / "inside" / "cgroup.procs": "12\n13\n",
    }


def version_1(root: Path, seconds: float) -> dict[Path, str]:
    cpu, memory = (root / name / "docker" / ID for name in ("cpu,cpuacct", "memory"))
    return {
        cpu / "cpuacct.usage": f"{seconds * 1e9:.0f}\n",
        cpu / "cgroup.procs": "11\n12\n13\n",
        memory / "memory.usage_in_bytes": str(300 * MIB),
        memory / "memory.stat": f"total_inactive_file {100 * MIB}\n",
    }


@pytest.mark.parametrize("layout", [version_1, version_2])
def test_the_books_of_the_kernel_are_read(layout, ids: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / "cgroup"
    reader = ContainerReader(ids, root, nobody)
    write(layout(root, 2.5))
    first = reader.read(1.0)
    assert (first.seconds, first.memory_bytes, first.how, first.problem) == (2.5, 200 * MIB, "cgroup", "")
    assert first.pids == {11, 12, 13}
    write(layout(root, 4.0))
    assert reader.read(1.0).seconds == 1.5


def test_a_container_that_has_ended_uses_nothing(ids: Path, tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    reader = ContainerReader(ids, root, nobody)
    write(version_2(root, 2.5))
    reader.read(1.0)
    for path in version_2(root, 2.5):
        path.unlink()
    ended = reader.read(1.0)
    assert (ended.seconds, ended.memory_bytes, ended.problem) == (0.0, 0, "")


def test_without_containers_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert ContainerReader(tmp_path / "none", tmp_path, nobody).read(1.0).how == ""


def test_where_the_books_are_not_visible_the_engine_is_asked(ids: Path, tmp_path: Path) -> None:
    reader = ContainerReader(ids, tmp_path / "none", lambda ids: Answer(cores=1.5, memory_bytes=7))
    assert [reader.read(1.0).problem for _ in range(2)] == ["the books of its containers are being looked for"] * 2
    assert reader.read(1.0).problem in ("", "docker stats has not answered yet")
    reader._asked._thread.join()  # type: ignore[union-attr]
    used = reader.read(2.0)
    assert (used.seconds, used.memory_bytes, used.how) == (3.0, 7, "stats")


def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


def test_what_docker_stats_prints_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = r"a\t150.5%%\t1.5GiB / 62GiB\nb\t0.50%%\t2MB / 62GB\nc\t--\t-- / --\n"
    engine(tmp_path, monkeypatch, f"printf '{rows}'")
    answer = ask_engine(["a", "b", "c"])
    assert answer.cores == pytest.approx(1.51)
    assert answer.memory_bytes == int(1.5 * 2**30) + 2_000_000


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 'permission denied while trying to connect' >&2; exit 1", "docker stats: permission denied"),
        ("echo 'something else'", "docker stats says 'something else'"),
        ("exit 3", "exit code 3"),
    ],
)
def test_an_engine_that_cannot_say_it_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str
) -> None:
    engine(tmp_path, monkeypatch, script)
    assert problem in ask_engine(["a"]).problem


def test_unknown_figures_are_null_and_the_record_says_why(ids: Path, tmp_path: Path) -> None:
    reader = SystemReader(os.getpid(), containers=ContainerReader(ids, tmp_path / "none", nobody))
    for _ in range(3):
        reader.read()
    reader._containers._asked._thread.join()  # type: ignore[union-attr]
    sample = reader.read()
    reader.close()
    assert [sample[name] for name in ("run_cores", "other_cores", "memory_bytes")] == [None, None, None]
    assert sample["containers"] == "nobody to ask"
    assert contamination([{**sample, "seconds": float(second)} for second in range(20)], threads=1) == ""


def test_what_a_container_uses_is_the_runs(ids: Path, tmp_path: Path) -> None:
    root, now = tmp_path / "cgroup", iter(range(100))
    reader = SystemReader(2**22 + 1, lambda: float(next(now)), containers=ContainerReader(ids, root, nobody))
    write(version_2(root, 2.5))
    sample = reader.read()
    reader.close()
    assert (sample["run_cores"], sample["memory_bytes"], sample["containers"]) == (2.5, 200 * MIB, "cgroup")
