"""What a config takes from other files: parts of the project's own and pretrained weights; their places and hashes.

Nothing is imported here; the training side does that (`tasks/custom.py`).
"""

import hashlib
from pathlib import Path
from typing import Final

from hotlap.config.base import is_part
from hotlap.config.models import GPTConfig, HFModelConfig
from hotlap.config.pretrained import weights_hash
from hotlap.config.schema import RunConfig
from hotlap.config.tasks import task_parts
from hotlap.core.errors import ConfigError

WEIGHTS_KEY: Final = "model.model_name_or_path"


def custom_parts(config: RunConfig) -> dict[str, str]:
    """Return the parts of the project that a config names, `module:function` by dotted key."""
    names = {
        **task_parts(config.task),
        "model.name": config.model.name,
        "training.optim": config.training.optim,
        "training.lr_scheduler_type": config.training.lr_scheduler_type,
    }
    return {key: name for key, name in names.items() if is_part(name)}


def source_of(directory: Path, part: str) -> Path:
    """Return the file of the project's folder that `module:function` stands in.

    Raises ConfigError when there is none.
    """
    module = part.partition(":")[0]
    path = module.replace(".", "/")
    places = [f"{path}.py", f"{path}/__init__.py"]
    for place in places if is_part(part) and all(module.split(".")) else []:
        if (directory / place).is_file():
            return directory / place
    raise ConfigError(
        f"{part}: there is no file {places[0]} in {directory}; code of your own is named module:function, its file "
        "standing in the project's folder"
    )


def source_names(config: RunConfig) -> dict[str, str]:
    """Return what a config takes from other files, by dotted key: its own parts, and pretrained weights."""
    model = config.model
    weights = model.model_name_or_path if isinstance(model, GPTConfig | HFModelConfig) else None
    return custom_parts(config) | ({WEIGHTS_KEY: weights} if weights is not None else {})


def source_hashes(config: RunConfig, directory: Path) -> dict[str, str]:
    """Return the start of the SHA-256 of each file that a config takes something from, by dotted key.

    Raises ConfigError when a file is missing.
    """
    return {
        key: weights_hash(name)
        if key == WEIGHTS_KEY
        else hashlib.sha256(source_of(directory, name).read_bytes()).hexdigest()[:16]
        for key, name in source_names(config).items()
    }
