"""How many processes a launcher in a command line starts: `torchrun`, `accelerate launch` and their like.

with_devices("torchrun --nproc_per_node=1 train.py", 2)  ->  "torchrun --nproc_per_node=2 train.py"
"""

from collections.abc import Mapping, Sequence
from typing import Final

from hotlap.core.errors import ConfigError
from hotlap.knobs.shell_words import Word, replaced, simple_commands

_FLAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "torchrun": ("--nproc_per_node", "--nproc-per-node"),
    "torch.distributed.run": ("--nproc_per_node", "--nproc-per-node"),
    "torch.distributed.launch": ("--nproc_per_node", "--nproc-per-node"),
    "accelerate": ("--num_processes", "--num-processes", "-n"),
    "deepspeed": ("--num_gpus",),
}
"""Launchers and the options for their processes; the first is written where there is none."""


def with_devices(command: str, devices: int) -> str:
    """Return a command line whose launchers start so many processes.

    Raises ConfigError where there is no launcher that is known here.
    """
    changes: dict[Word, str] = {}
    for words in simple_commands(command):
        place = _launcher(words)
        if place is not None:
            changes |= _change(words, place, devices)
    if not changes:
        raise ConfigError(
            f"--devices: no launcher in the command ({', '.join(_FLAGS)}); write {{devices}} where the number belongs, "
            "and params: {devices: 1}"
        )
    return replaced(command, changes)


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


def _change(words: Sequence[Word], place: int, devices: int) -> dict[Word, str]:
    """Return the words to exchange so that the launcher at a place starts so many processes."""
    name = "accelerate" if words[place].value == "launch" else words[place].value.rpartition("/")[2]
    flags = _FLAGS[name]
    for number in range(place + 1, len(words)):
        word = words[number]
        flag, sign, _ = word.value.partition("=")
        if flag in flags and sign:
            return {word: f"{flag}={devices}"}
        if flag in flags and number + 1 < len(words):
            return {words[number + 1]: str(devices)}
        if not word.value.startswith("-") and word.value.endswith(".py"):
            break
    return {words[place]: f"{words[place].value} {flags[0]}={devices}"}
