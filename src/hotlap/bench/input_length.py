"""What the length of the inputs is called in a config, and what a longer one asks of the model."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hotlap.config.knob_ranges import LENGTH_NAMES
from hotlap.config.models import is_free_gpt
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError

_POSITIONS: Final = "model.max_position_embeddings"


def length_key(config: RunConfig) -> str:
    """Return the setting that says how long the inputs of a task are.

    Raises ConfigError for a task that has none, or several.
    """
    known = {*type(config.task).model_fields, *(config.task.model_extra or ())}
    for name in LENGTH_NAMES:
        if name in known:
            return f"task.{name}"
    raise ConfigError(
        f"--seq: the task {config.task.name} has no length of its own (such as block_size or max_length); name the "
        "setting that makes its examples longer, such as --axis task.KEY=64,128"
    )


def room_for(config: RunConfig, lengths: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the settings that all cells need so that the longest inputs fit the model's positions; mostly none.

    Every cell gets them, so that the model is the same in all. `lengths` are the values of axes by their keys.
    """
    wanted = max((_tokens(key, value) for key, values in lengths.items() for value in values), default=0)
    if not is_free_gpt(config.model) or wanted <= config.model.max_position_embeddings:
        return {}
    return {_POSITIONS: wanted}


def _tokens(key: str, value: Any) -> int:
    """Return the tokens that an input of a length may have; 0 for what is no length."""
    name = key.removeprefix("task.")
    if not isinstance(value, int):
        return 0
    if name == "max_length_bytes":
        return 2 * value + 32  # a sentence twice, and the words around it
    return value if key.startswith("task.") and name in LENGTH_NAMES else 0
