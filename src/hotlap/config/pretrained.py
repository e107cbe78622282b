"""The files that `model.model_name_or_path` names: where they are, what names their content, and the shape they have.

Nothing here loads a weight. A name on the Hugging Face hub is downloaded once and read from its cache from then on.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from hotlap.config.gpt2 import contradictions, shape_of
from hotlap.config.models import GPTConfig, HFModelConfig, ModelConfig
from hotlap.core.errors import ConfigError, DataError, import_optional

CONFIG_NAME: Final = "config.json"
SINGLE_NAME: Final = "model.safetensors"
INDEX_NAME: Final = "model.safetensors.index.json"

_HUB_NAME: Final = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_DOWNLOADED: Final = ("*.json", "*.safetensors")
_BLOCK: Final = 1 << 22
T = TypeVar("T")


def resolve_model(model: ModelConfig, base: Path) -> ModelConfig:
    """Return a section `model` whose folder of weights is absolute, and whose shape is that of the weights.

    `base` is the folder that a relative path starts from. Raises ConfigError when there is no such folder or hub name,
    or when written keys contradict the weights, and MissingExtraError for a hub name without the extra.
    """
    if not isinstance(model, GPTConfig | HFModelConfig) or model.model_name_or_path is None:
        return model
    place = _absolute(model.model_name_or_path, base)
    update: dict[str, Any] = {"model_name_or_path": place}
    if isinstance(model, GPTConfig):
        source = f"{place}/{CONFIG_NAME}"
        shape = shape_of(pretrained_config(place), source)
        given = {key: getattr(model, key) for key in model.model_fields_set}
        if problems := list(contradictions(shape, given)):
            rows = "".join(f"\n  {problem}" for problem in problems)
            raise ConfigError(f"model does not fit the weights of {place}; leave out what their shape says:{rows}")
        update |= {key: value for key, value in shape.items() if key not in given}
    try:
        return type(model).model_validate({**model.model_dump(mode="json"), **update})
    except ValidationError as error:
        found = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise ConfigError(f"model: {found} (with the shape of {place})") from error


def _absolute(name_or_path: str, base: Path) -> str:
    folder = base / Path(name_or_path).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    if Path(name_or_path).is_absolute() or not _HUB_NAME.fullmatch(name_or_path):
        raise ConfigError(f"model.model_name_or_path: there is no folder {folder}, and that is no name on the hub")
    return name_or_path


def pretrained_config(name_or_path: str) -> Mapping[str, Any]:
    """Return what config.json of a folder or hub name says; raises ConfigError when there is none."""
    path = Path(name_or_path)
    path = path / CONFIG_NAME if path.is_dir() else _downloaded_config(name_or_path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: not there; expected a folder that save_pretrained wrote") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping, got {type(values).__name__}")
    return values


def pretrained_folder(name_or_path: str) -> Path:
    """Return the folder with the files of a folder or hub name; raises ConfigError when it has no weights."""
    path = Path(name_or_path)
    if not path.is_dir():
        path = _downloaded_folder(name_or_path)
    weight_files(path)
    return path


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder, one or several; raises ConfigError when one is missing."""
    if (folder / SINGLE_NAME).is_file():
        return [folder / SINGLE_NAME]
    if not (folder / INDEX_NAME).is_file():
        raise ConfigError(
            f"{folder}: there is neither {SINGLE_NAME} nor {INDEX_NAME}; other formats are not read, save_pretrained "
            "of transformers writes these"
        )
    files = [folder / name for name in sorted(set(weight_map(folder).values()))]
    if missing := [path.name for path in files if not path.is_file()]:
        raise ConfigError(f"{folder}: {INDEX_NAME} names {', '.join(missing)}, which is not there")
    return files


def weight_map(folder: Path) -> dict[str, str]:
    """Return the file of each tensor by a folder's index; raises DataError when that cannot be read."""
    path = folder / INDEX_NAME
    try:
        return {
            str(name): str(file) for name, file in json.loads(path.read_text(encoding="utf-8"))["weight_map"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read: {type(error).__name__}: {error}") from error


def weights_hash(name_or_path: str) -> str:
    """Return what names the content of pretrained weights: the start of a SHA-256 over config and weights."""
    folder = pretrained_folder(name_or_path)
    digest = hashlib.sha256()
    for path in (folder / CONFIG_NAME, *weight_files(folder)):
        facts = path.stat()
        digest.update(f"{path.name} {_file_hash(path, facts.st_size, facts.st_mtime_ns)}\n".encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=64)  # a study asks again and again, and the files are large
def _file_hash(path: Path, size: int, changed_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _downloaded_config(name: str) -> Path:
    hub: Any = import_optional("huggingface_hub", "hf")
    return Path(_from_hub(name, lambda is_offline: hub.hf_hub_download(name, CONFIG_NAME, local_files_only=is_offline)))


def _downloaded_folder(name: str) -> Path:
    hub: Any = import_optional("huggingface_hub", "hf")

    def fetch(is_offline: bool) -> Path:
        folder = Path(hub.snapshot_download(name, allow_patterns=list(_DOWNLOADED), local_files_only=is_offline))
        if is_offline:
            weight_files(folder)  # it may hold config.json alone, from before
        return folder

    return _from_hub(name, fetch)


def _from_hub(name: str, fetch: Callable[[bool], T]) -> T:
    """Return what is in the hub's cache, else what a download gives."""
    try:
        return fetch(True)
    except (OSError, ValueError, ConfigError):
        pass
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each of its tries
    try:
        return fetch(False)
    except Exception as error:  # the client, and the one for HTTP below it, have many kinds of errors
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(
            f"model.model_name_or_path: there is no folder {name!r}, and as a name on the Hugging Face hub it cannot "
            f"be downloaded: {first}"
        ) from error
