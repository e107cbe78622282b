"""Bring a config file into the form of the schema: other names of the Trainer's settings, and flat Trainer YAMLs.

A plain Trainer YAML has its settings at the top level (`learning_rate: 3e-4`). They are put into `training` together
with Hugging Face's defaults, so that the file means what it means to the Trainer; hotlap's own sections may stand
beside them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hotlap.config.huggingface import FATES, TRAINER_DEFAULTS, Translation, translate
from hotlap.config.training import TrainingConfig

KeyPath = tuple[Any, ...]

TRAINING_NAMES: Final = frozenset([*TrainingConfig.model_fields, *FATES])
"""What may stand in `training`, or at the top level of a flat file."""
_TRAINER_NAMES: Final = frozenset([*TRAINER_DEFAULTS, *FATES])
_TASK_NAMES: Final = frozenset({"max_eval_samples"})
"""Settings that the example scripts of transformers have at the top level, and that belong to the task here."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Values in the form of the schema, where they were written, and what is to be said about them."""

    values: Any
    origins: dict[KeyPath, KeyPath] = field(default_factory=dict)
    """The key that was written, by the setting it became, where the two differ."""
    notices: list[tuple[KeyPath, str]] = field(default_factory=list)
    problems: list[tuple[KeyPath, str]] = field(default_factory=list)

    def note(self, translation: Translation, place: Callable[[str], KeyPath]) -> None:
        """Take over what a translation says; `place` gives where a name was written."""
        self.notices.extend((place(remark.key), remark.text) for remark in translation.notices)
        self.problems.extend((place(remark.key), remark.text) for remark in translation.problems)


def is_trainer_yaml(values: Mapping[Any, Any]) -> bool:
    """Say whether a file is a flat one: no section `training`, but settings of it at the top level."""
    return "training" not in values and any(key in _TRAINER_NAMES for key in values)


def resolve_sections(values: Mapping[Any, Any]) -> Resolved:
    """Translate the names in the section `training`."""
    training = values.get("training")
    if not isinstance(training, Mapping):
        return Resolved(values)
    translation = translate(training)
    resolved = Resolved({**values, "training": translation.values})
    resolved.note(translation, lambda name: ("training", name))
    resolved.origins.update({("training", new): ("training", old) for new, old in translation.sources.items()})
    return resolved


def resolve_trainer_yaml(values: Mapping[Any, Any]) -> Resolved:
    """Put flat settings into their sections, with Hugging Face's defaults for those that are left out.

    A section `training` is what the command line added, and goes before what the file says.
    """
    flat = {key: value for key, value in values.items() if key in TRAINING_NAMES}
    added = values.get("training", {})
    if not isinstance(added, Mapping):
        return Resolved(values)  # no section at all: the schema says so
    task = values.get("task") or {}
    is_taken = isinstance(task, Mapping) and "max_eval_samples" not in task
    elsewhere = {"training", *TRAINING_NAMES, *(_TASK_NAMES if is_taken else ())}
    rest = {key: value for key, value in values.items() if key not in elsewhere}
    translation = translate({**flat, **added})
    training = {**_defaults({**rest, **flat, **added}), **translation.values}
    resolved = Resolved({**rest, "training": training})
    resolved.notices.append(((), "read as a Trainer YAML: flat settings, with Hugging Face's defaults"))
    resolved.note(translation, lambda name: ("training", name) if name in added else (name,))
    for key in translation.values:
        written = translation.sources.get(key, key)
        if written not in added:
            resolved.origins["training", key] = (written,)
    for key in _TASK_NAMES & values.keys():
        if is_taken and values[key] is not None:
            resolved.values["task"] = {**task, key: values[key]}
            resolved.origins["task", key] = (key,)
    return resolved


def _defaults(given: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the Trainer's defaults, without those that what is given makes pointless here."""
    left_out: set[str] = set()
    if given.get("targets") or given.get("do_eval") is True:
        left_out.add("eval_strategy")  # hotlap looks at the targets on the clock's grid, and at the end in any case
    if given.get("save_strategy", "steps") != "steps":
        left_out.add("save_steps")
    if given.get("schedule_by", "steps") != "steps":
        left_out |= {"max_steps", "num_train_epochs", "eval_steps"}  # it ends by tokens or seconds
    return {key: value for key, value in TRAINER_DEFAULTS.items() if key not in left_out}
