"""Checkpoints: everything that a training needs to go on as if it had never stopped.

    save_checkpoint(folder.path, model, optimizers, {"step": 20, ...}, [capture_rng(device)])
    state, rng_states = load_checkpoint(newest_checkpoint(folder.path), model, optimizers, device)

A checkpoint is written beside its final place, brought to the disk and renamed, so a folder named `checkpoint-20` is
whole or was damaged later; `state.json` holds the size of every file, so the second case is noticed, too.
"""

import os
import random
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, Final, Protocol, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from hotlap.core.errors import ConfigError, StorageError
from hotlap.core.files import sync, write_json
from hotlap.core.run_folder import (
    OPTIMIZER_NAME,
    RNG_NAME,
    STATE_NAME,
    WEIGHTS_NAME,
    RunFolder,
    checkpoint_state,
    checkpoints_in,
)

_SCHEMA: Final = "hotlap/checkpoint/1"
_TEMPORARY: Final = "checkpoint-*.tmp"


class HasState(Protocol):
    """Optimizers: whatever gives its state away as plain values and tensors, and takes it back."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any, /) -> object:
        """Take a state back."""


def save_checkpoint(
    parent: Path, model: nn.Module, optimizers: HasState | None, state: dict[str, Any], rng_states: Sequence[Any]
) -> Path:
    """Write `checkpoint-<step>` and return it; `state` is plain JSON with the key `step`.

    Without optimizers it holds weights only, and no run can go on from it. `rng_states` has one item for each process.

    Raises StorageError when it cannot be written; the checkpoints before it then stay as they are.
    """
    final = RunFolder(parent).checkpoint_path(int(state["step"]))
    temporary = final.with_name(f"{final.name}.tmp")
    try:
        _remove_leftovers(parent)
        temporary.mkdir()
        _fill(temporary, model, optimizers, state, rng_states)
        _put_in_place(temporary, final)
    except (OSError, SafetensorError, StorageError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        before = newest_checkpoint(parent)
        raise StorageError(
            f"cannot save {final}: {_reason(error)}; free space on that disk or keep fewer checkpoints "
            f"(training.save_total_limit); {f'{before.name} is still there' if before else 'there is no earlier one'}"
        ) from error
    return final


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights alone, atomically; raises StorageError when they cannot be written."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        save_model(model, str(temporary))
        sync(temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"cannot save the weights to {path}: {_reason(error)}; free space on that disk, or do without them "
            "(training.save_model: false)"
        ) from error


def load_weights(model: nn.Module, path: Path, device: torch.device) -> None:
    """Load weights that `save_weights` wrote.

    Raises StorageError when they are missing or damaged and ConfigError when they do not fit the model.
    """
    try:
        load_model(model, str(path), device=str(device))
    except torch.OutOfMemoryError:
        raise
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path}: cannot be read: {_reason(error)}") from error
    except (RuntimeError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: does not fit the model of the config: {error}") from error


def load_checkpoint(
    path: Path, model: nn.Module, optimizers: HasState | None, device: torch.device
) -> tuple[dict[str, Any], list[Any]]:
    """Load weights and, unless it is None, the optimizers' state; return the state and the RNG states by rank.

    Raises StorageError when the checkpoint is incomplete and ConfigError when it does not fit.
    """
    state = checkpoint_state(path)
    if state is None:
        raise StorageError(f"{path}: not a complete checkpoint, files are missing or cut off; use an earlier one")
    if optimizers is not None and OPTIMIZER_NAME not in state["files"]:
        raise ConfigError(f"{path}: holds weights only (training.save_only_model), so the run cannot go on from it")
    try:
        load_model(model, str(path / WEIGHTS_NAME), device=str(device))
        if optimizers is not None:
            optimizers.load_state_dict(_load(path / OPTIMIZER_NAME))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise ConfigError(f"{path}: does not fit the model and the optimizer of the config: {error}") from error
    return state, list(_load(path / RNG_NAME))


def newest_checkpoint(parent: Path) -> Path | None:
    """Return the complete checkpoint with the highest step, or None."""
    found = checkpoints_in(parent)
    return found[-1][1] if found else None


def prune_checkpoints(parent: Path, limit: int | None, keep: Collection[str] = ()) -> None:
    """Delete the oldest checkpoints until `limit` are left; the newest and those named in `keep` stay.

    As in the Trainer those in `keep` count, so 3 are the best one and the last two; 1 may leave the best and the last.
    Raises StorageError when one cannot be deleted.
    """
    found = checkpoints_in(parent)
    if not limit or not found:
        return
    protected = {found[-1][1].name, *keep}
    others = [path for _, path in found if path.name not in protected]
    room = max(0, limit - (len(found) - len(others)))
    for path in others[: max(0, len(others) - room)]:
        try:
            _remove(path)
        except OSError as error:
            raise StorageError(f"cannot delete {path}: {error.strerror or error}") from error


def capture_rng(device: torch.device) -> dict[str, Any]:
    """Return the state of every random generator of this process, as tensors and plain numbers."""
    version, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    numpy["state"]["key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    captured: dict[str, Any] = {
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss},
        "numpy": numpy,
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        captured["cuda"] = torch.cuda.get_rng_state(device)
    return captured


def restore_rng(state: dict[str, Any], device: torch.device) -> None:
    """Put every random generator of this process back to a captured state."""
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    words = {**numpy["state"], "key": numpy["state"]["key"].numpy().astype(np.uint32)}
    np.random.set_state({**numpy, "state": words})
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _fill(
    folder: Path, model: nn.Module, optimizers: HasState | None, state: dict[str, Any], rng_states: Sequence[Any]
) -> None:
    """Write the files of a checkpoint and bring them to the disk, `state.json` last."""
    save_model(model, str(folder / WEIGHTS_NAME))
    sync(folder / WEIGHTS_NAME)
    if optimizers is not None:
        _save(folder / OPTIMIZER_NAME, optimizers.state_dict())
    _save(folder / RNG_NAME, list(rng_states))
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    write_json(folder / STATE_NAME, {"schema": _SCHEMA, **state, "files": sizes})
    sync(folder)


def _put_in_place(temporary: Path, final: Path) -> None:
    """Give a filled folder its name, in the place of an older one of the same step."""
    older = final.with_name(f"{final.name}.old.tmp")
    if final.exists():
        final.rename(older)
    temporary.rename(final)
    sync(final.parent)
    shutil.rmtree(older, ignore_errors=True)


def _remove(path: Path) -> None:
    """Delete a checkpoint; it loses its name first, so that nobody ever loads what is left of it."""
    doomed = path.with_name(f"{path.name}.old.tmp")
    path.rename(doomed)
    shutil.rmtree(doomed)


def _remove_leftovers(parent: Path) -> None:
    """Delete what killed processes were writing or deleting."""
    for path in parent.glob(_TEMPORARY):
        shutil.rmtree(path)


class _PatientFile:
    """A file for `torch.save`, whose writer in C++ does not get over an exception: the first error waits here."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write unless something went wrong before; claim to have written everything."""
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        return len(data)

    def flush(self) -> None:
        """Do nothing: `finish` does."""

    def finish(self) -> None:
        """Bring everything to the disk; raises OSError when any of it could not be written."""
        with self._file as file:
            if self._error is not None:
                raise self._error
            file.flush()
            os.fsync(file.fileno())


def _save(path: Path, value: Any) -> None:
    file = _PatientFile(path)
    try:
        torch.save(value, cast("IO[bytes]", file))
    finally:
        file.finish()


def _load(path: Path) -> Any:
    """Load to the CPU: an optimizer puts on its parameters' device what belongs there, and not its step counts."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(f"{path}: damaged ({what}); delete its folder and use an earlier checkpoint") from error


def _reason(error: Exception) -> str:
    if isinstance(error, StorageError) and isinstance(error.__cause__, OSError):
        error = error.__cause__
    return (isinstance(error, OSError) and error.strerror) or str(error)
