"""Checkpoints: they give back everything, survive full disks and kills, and only whole ones are ever loaded."""

import errno
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import hotlap
from hotlap.core.errors import ConfigError, StorageError
from hotlap.core.run_folder import checkpoint_state
from hotlap.train import checkpoint as checkpoint_module
from hotlap.train.checkpoint import (
    capture_rng,
    load_checkpoint,
    newest_checkpoint,
    prune_checkpoints,
    restore_rng,
    save_checkpoint,
)

CPU = torch.device("cpu")
Trained = tuple[nn.Module, torch.optim.Optimizer]


class TiedModel(nn.Module):
    """An embedding that is its own head, with dropout in between."""

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, size)
        self.middle = nn.Linear(size, size)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(size, 16, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.middle(self.embedding(ids))))
        return logits


@pytest.fixture(autouse=True)
def own_random_numbers() -> Iterator[None]:
    """Leave the generators as they were."""
    before = capture_rng(CPU)
    yield
    restore_rng(before, CPU)


def build(seed: int = 1, size: int = 8) -> Trained:
    torch.manual_seed(seed)
    model = TiedModel(size)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)


def train(trained: Trained, steps: int) -> None:
    """Take steps whose data and dropout come from the global generators."""
    model, optimizer = trained
    for _ in range(steps):
        ids = torch.tensor([random.randrange(16), np.random.randint(16), 3])
        loss = nn.functional.cross_entropy(model(ids), ids.roll(1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(trained: Trained) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trained[0].parameters()]


def save(parent: Path, step: int, trained: Trained | None = None, **state: Any) -> Path:
    model, optimizer = trained or build()
    return save_checkpoint(parent, model, optimizer, {"step": step, **state}, [capture_rng(CPU)])


def names(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


def test_a_training_goes_on_bit_by_bit(tmp_path: Path) -> None:
    straight = build()
    train(straight, 3)
    save(tmp_path, 3, straight)
    train(straight, 4)
    resumed = build(seed=99)
    random.seed(0)
    np.random.seed(0)
    for _ in range(2):  # twice from the same checkpoint: loading changes nothing in it
        state, rng_states = load_checkpoint(tmp_path / "checkpoint-3", *resumed, CPU)
        assert state["step"] == 3
        restore_rng(rng_states[0], CPU)
        train(resumed, 4)
        assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(resumed), strict=True))


def test_every_generator_comes_back(tmp_path: Path) -> None:
    def draw() -> tuple[Any, ...]:
        normal = (random.gauss(0, 1), float(np.random.standard_normal()), torch.randn(3).tolist())
        return (random.random(), float(np.random.random()), torch.rand(3).tolist(), *normal)

    random.gauss(0, 1)
    np.random.standard_normal()  # both keep a second number for the next call
    torch.save(capture_rng(CPU), tmp_path / "rng.pt")
    expected = [draw() for _ in range(700)]  # beyond the 624 words of a Mersenne twister
    restore_rng(torch.load(tmp_path / "rng.pt", weights_only=True), CPU)
    assert [draw() for _ in range(700)] == expected


def test_a_checkpoint_is_four_files_and_the_state_tells_their_sizes(tmp_path: Path) -> None:
    path = save(tmp_path, 20, tokens=5, best={"value": None, "losses": [0.1, 1 / 3]})
    assert path == tmp_path / "checkpoint-20"
    assert names(path) == ["model.safetensors", "optimizer.pt", "rng.pt", "state.json"]
    state = json.loads((path / "state.json").read_text())
    sizes = state.pop("files")
    assert sizes == {name: (path / name).stat().st_size for name in names(path) if name != "state.json"}
    best = {"value": None, "losses": [0.1, 1 / 3]}
    assert state == {"schema": "hotlap/checkpoint/1", "step": 20, "tokens": 5, "best": best}
    assert set(load_file(path / "model.safetensors")) == {"embedding.weight", "middle.weight", "middle.bias"}
    assert names(tmp_path) == ["checkpoint-20"]


def test_weights_alone_are_no_state_to_go_on_from(tmp_path: Path) -> None:
    model, optimizer = build()
    path = save_checkpoint(tmp_path, model, None, {"step": 4}, [])
    assert names(path) == ["model.safetensors", "rng.pt", "state.json"]
    other = build(seed=2)
    assert load_checkpoint(path, other[0], None, CPU)[1] == []
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other[0].parameters(), strict=True))
    with pytest.raises(ConfigError, match="weights only"):
        load_checkpoint(path, model, optimizer, CPU)


def test_there_is_one_state_for_each_rank(tmp_path: Path) -> None:
    model, optimizer = build()
    states = [capture_rng(CPU) for _ in range(2)]
    path = save_checkpoint(tmp_path, model, optimizer, {"step": 1}, states)
    assert len(load_checkpoint(path, model, optimizer, CPU)[1]) == 2


@contextmanager
def full_disk(at: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no file grow beyond a size (`writing`), or nothing reach the disk (`syncing`)."""
    if at == "syncing":
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", no_space)
            yield
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(at), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("at", ["syncing", "100000", "400000"])
def test_a_full_disk_is_one_clear_error_and_the_old_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    trained = build(size=256)  # weights of 280 kB, an optimizer of 560 kB: one limit for either
    train(trained, 1)
    save(tmp_path, 10, trained)
    before = {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-10").iterdir()}
    pattern = r"cannot save .*checkpoint-20: .*; free space .*save_total_limit.*; checkpoint-10 is still there"
    with full_disk(at, monkeypatch), pytest.raises(StorageError, match=pattern):
        save(tmp_path, 20, trained)
    assert names(tmp_path) == ["checkpoint-10"], "what was written of the new one makes room again"
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-10").iterdir()} == before
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    save(tmp_path, 20, trained)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-20"


def test_the_first_checkpoint_that_fails_has_none_before_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"No such file or directory; .*there is no earlier one"):
        save(tmp_path / "nowhere", 20)


def test_everything_is_on_the_disk_before_the_checkpoint_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    seen: list[tuple[str, set[int]]] = []
    rename = Path.rename

    def note(path: Path, target: Path) -> Path:
        seen.append((path.name, set(synced)))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(Path, "rename", note)
    path = save(tmp_path, 7)
    assert [name for name, _ in seen] == ["checkpoint-7.tmp"]
    needed = {file.stat().st_ino for file in path.iterdir()} | {path.stat().st_ino}
    assert needed <= seen[0][1]
    assert synced[-1] == tmp_path.stat().st_ino, "and then the name, too"


def test_what_a_killed_process_left_is_ignored_and_cleaned_up(tmp_path: Path) -> None:
    save(tmp_path, 10)
    whole = save(tmp_path, 20)
    whole.rename(tmp_path / "checkpoint-20.tmp")
    (tmp_path / "checkpoint-5.old.tmp").mkdir()
    (tmp_path / "checkpoint-5.old.tmp" / "state.json").touch()
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    save(tmp_path, 30)
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-30"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng.pt", "state.json"])
def test_a_checkpoint_that_was_cut_off_is_never_loaded(tmp_path: Path, name: str) -> None:
    save(tmp_path, 10)
    file = save(tmp_path, 20) / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    with pytest.raises(StorageError, match="not a complete checkpoint"):
        load_checkpoint(tmp_path / "checkpoint-20", *build(), CPU)
    save(tmp_path, 20)  # the step is taken again
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-20"


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from hotlap.train import checkpoint
parent, doomed = Path(sys.argv[1]), sys.argv[2]
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.AdamW(model.parameters())
checkpoint.save_checkpoint(parent, model, optimizer, {"step": 10}, [])
original = getattr(checkpoint, doomed)
setattr(checkpoint, doomed, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
checkpoint.save_checkpoint(parent, model, optimizer, {"step": 20}, [])
"""


@pytest.mark.parametrize("doomed", ["_save", "write_json", "_put_in_place"])
def test_a_process_killed_while_it_saves_leaves_the_checkpoint_before(tmp_path: Path, doomed: str) -> None:
    source = str(Path(hotlap.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(tmp_path), doomed]
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-20.tmp"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_the_same_step_is_saved_over(tmp_path: Path) -> None:
    save(tmp_path, 20, best=1)
    path = save(tmp_path, 20, best=2)
    state = checkpoint_state(path)
    assert state is not None
    assert state["best"] == 2
    assert names(tmp_path) == ["checkpoint-20"]


@pytest.mark.parametrize(
    ("limit", "keep", "left"),
    [
        (None, (), [10, 20, 30, 40]),
        (9, ("checkpoint-10",), [10, 20, 30, 40]),
        (4, (), [10, 20, 30, 40]),
        (2, (), [30, 40]),
        (1, (), [40]),
        (1, ("checkpoint-40",), [40]),
        (1, ("checkpoint-20",), [20, 40]),
        (2, ("checkpoint-20",), [20, 40]),
        (3, ("checkpoint-10",), [10, 30, 40]),
        (2, ("checkpoint-25",), [30, 40]),
    ],
)
def test_the_oldest_are_deleted_but_for_the_best(
    tmp_path: Path, limit: int | None, keep: tuple[str, ...], left: list[int]
) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, step)
    prune_checkpoints(tmp_path, limit, keep)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in left]


def test_a_checkpoint_loses_its_name_before_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 10)
    save(tmp_path, 20)

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_module.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            prune_checkpoints(tmp_path, 1)
    assert names(tmp_path) == ["checkpoint-10.old.tmp", "checkpoint-20"]
    save(tmp_path, 30)
    assert names(tmp_path) == ["checkpoint-20", "checkpoint-30"]


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 10)
    with pytest.raises(ConfigError, match="does not fit the model"):
        load_checkpoint(path, *build(size=4), CPU)
    with pytest.raises(ConfigError, match="does not fit the model"):
        load_checkpoint(path, nn.Linear(2, 2), None, CPU)


def test_an_optimizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 10)
    model, _ = build()
    halves = [{"params": [parameter]} for parameter in model.parameters()]
    with pytest.raises(ConfigError, match="does not fit the model and the optimizer"):
        load_checkpoint(path, model, torch.optim.AdamW(halves), CPU)


def test_a_file_that_is_damaged_without_being_shorter_is_named(tmp_path: Path) -> None:
    file = save(tmp_path, 10) / "optimizer.pt"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(StorageError, match=r"optimizer\.pt: damaged"):
        load_checkpoint(file.parent, *build(), CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_goes_on_with_its_own_random_numbers(tmp_path: Path) -> None:
    device = torch.device("cuda")
    model, _ = build()
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.tensor([1, 2], device=device)).sum().backward()
    optimizer.step()
    path = save_checkpoint(tmp_path, model, optimizer, {"step": 1}, [capture_rng(device)])
    expected = torch.rand(4, device=device)
    _, rng_states = load_checkpoint(path, model, optimizer, device)
    restore_rng(rng_states[0], device)
    assert torch.equal(torch.rand(4, device=device), expected)
    assert all(value.is_cuda for state in optimizer.state.values() for value in state.values())
