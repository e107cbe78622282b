"""How many processes a launcher in a command line starts: `torchrun`, `accelerate launch` and their like.

with_devices("torchrun --nproc_per_node=1 train.py", 2)  ->  "torchrun --nproc_per_node=2 train.py"
launched_devices("accelerate launch --num_processes {gpus} train.py", {"gpus": 4})  ->  4
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hotlap.bench.setting_names import short_name
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.knobs.placeholders import filled_plain
from hotlap.knobs.shell_words import Word, replaced, simple_commands
from hotlap.launch.devices import visible_gpus

_FLAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "torchrun": ("--nproc_per_node", "--nproc-per-node"),
    "torch.distributed.run": ("--nproc_per_node", "--nproc-per-node"),
    "torch.distributed.launch": ("--nproc_per_node", "--nproc-per-node"),
    "accelerate": ("--num_processes", "--num-processes", "-n"),
    "deepspeed": ("--num_gpus",),
}
"""Launchers and the options for their processes; the first is written where there is none."""
_ALL_GPUS: Final = ("auto", "gpu")
"""What torchrun takes for a process on each GPU."""


def with_devices(command: str, devices: int) -> str:
    """Return a command line whose launchers start so many processes.

    Raises ConfigError where there is no launcher that is known here.
    """
    changes: dict[Word, str] = {}
    for words in simple_commands(command):
        place = _launcher(words)
        if place is None:
            continue
        written = _written(words, place)
        if written is None:
            changes[words[place]] = f"{words[place].value} {_flags(words[place])[0]}={devices}"
        else:
            word, before, _ = written
            changes[word] = f"{before}{devices}"
    if not changes:
        raise ConfigError(
            f"--devices: no launcher in the command ({', '.join(_FLAGS)}); write {{devices}} where the number belongs, "
            "and params: {devices: 1}"
        )
    return replaced(command, changes)


def launched_devices(command: str, params: Mapping[str, Any]) -> int | None:
    """Return how many processes the launcher of a command line starts; None where it does not say.

    `params` are the values of the knobs that may stand in it. Raises ConfigError for a knob without a value.
    """
    for words in simple_commands(command):
        place = _launcher(words)
        written = None if place is None else _written(words, place)
        if written is None:
            continue
        text = filled_plain(written[2], params)
        if text in _ALL_GPUS:
            return visible_gpus() or None
        if text.isdecimal() and int(text) > 0:
            return int(text)
    return None


def devices_of(config: RunConfig) -> int:
    """Return the devices that a command uses: those of its launcher, else of a knob of that meaning, else one.

    Of a knob that is `auto` or -1 nobody here knows how many it is.
    """
    assert config.command is not None, "only a command has a launcher of its own"
    if launched := launched_devices(config.command.run, config.params):
        return launched
    counts = [value for name, value in config.params.items() if short_name(name) == "devices"]
    return next((count for count in counts if isinstance(count, int) and count > 0), 1)


def _launcher(words: Sequence[Word]) -> int | None:
    """Return the place of the word that names a launcher, or ends its name (`accelerate launch`)."""
    for place, word in enumerate(words):
        name = word.value.rpartition("/")[2]
        if name == "accelerate":
            following = words[place + 1].value if place + 1 < len(words) else ""
            return place + 1 if following == "launch" else None
        if name in _FLAGS:
            return place
        if name.endswith(".py"):
            return None
    return None


def _flags(launcher: Word) -> tuple[str, ...]:
    return _FLAGS["accelerate" if launcher.value == "launch" else launcher.value.rpartition("/")[2]]


def _written(words: Sequence[Word], place: int) -> tuple[Word, str, str] | None:
    """Return the word in which the number of processes stands, what stands before it there, and the number."""
    flags = _flags(words[place])
    for number in range(place + 1, len(words)):
        word = words[number]
        flag, sign, value = word.value.partition("=")
        if flag in flags and sign:
            return word, f"{flag}=", value
        if flag in flags and number + 1 < len(words):
            return words[number + 1], "", words[number + 1].value
        if not word.value.startswith("-") and word.value.endswith(".py"):
            break
    return None
