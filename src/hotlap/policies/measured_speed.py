"""What the small bench before a study says of ideas: which settings make steps faster, and by how much.

Hotlap's own trainer and commands of the user's own alike: the settings are told apart by what they change.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from hotlap.config.bounds import knob_roles, total_batch_knob
from hotlap.config.load import get_dotted
from hotlap.config.schema import RunConfig
from hotlap.core.speed import setting_text
from hotlap.policies.evidence import Evidence
from hotlap.policies.ideas import Idea

STEP_KEYS: Final[Mapping[str, str]] = {
    "training.bf16": "precision",
    "training.torch_compile": "compile",
    "training.dataloader_num_workers": "data_loading",
    "model.attn_implementation": "attention",
}
"""Settings that change the time of a step and next to nothing else, and the families of their proposals."""
STEP_ROLES: Final[Mapping[str, str]] = {
    **{key.rpartition(".")[2]: family for key, family in STEP_KEYS.items()},
    "tf32": "precision",
    "mixed_precision": "precision",
    "attention": "attention",
    "gradient_checkpointing": "memory",
}
"""The same for the knobs of a command, by their meaning."""
_BATCH: Final = "per_device_train_batch_size"
_WORTH_TRYING: Final = 0.97
"""Step time, relative to now, up to which a measured setting is proposed."""
_LOUD: Final = 0.1
"""Noise of a comparison from which on it takes a difference that is larger to believe it."""


def step_families(config: RunConfig) -> Mapping[str, str]:
    """Return the settings of a config that change the time of a step and next to nothing else, with their families.

    Rows per device are one of them where a command has the whole step's batch in another knob.
    """
    if config.command is None:
        return STEP_KEYS
    roles = STEP_ROLES if total_batch_knob(config) is None else {**STEP_ROLES, _BATCH: "passes"}
    found = {name: role or name for name, role in knob_roles(config).items()}
    return {f"params.{name}": roles[role] for name, role in found.items() if role in roles}


def measured_steps(evidence: Evidence) -> Iterator[Idea]:
    """What the bench before the study found to be faster, all else equal."""
    speed = evidence.speed
    if speed is None:
        return
    now, families = _now(evidence), step_families(evidence.config)
    for key in (key for key in speed.keys if key in families):
        for value in dict.fromkeys(cell.settings[key] for cell in speed.cells):
            ratio = speed.ratio(now, {**now, key: value})
            if ratio is None or ratio > min(_WORTH_TRYING, 1 - speed.noise(now, {**now, key: value})):
                continue
            name, before, after = key.rpartition(".")[2], setting_text(now[key]), setting_text(value)
            yield Idea(
                family=families[key],
                title=f"{name} {before} → {after}",
                observation=(
                    f"With {name} {after} in place of {before} and all else equal a step took {ratio:.2f} times as "
                    f"long in {speed.bench}, which measured step times before the first run."
                ),
                hypothesis=f"The same steps, each {1 - ratio:.0%} shorter.",
                patch={key: value},
                predicted_ratio=ratio,
                confidence=0.8,
            )


def measured_ratio(evidence: Evidence, key: str, value: object) -> float | None:
    """Return the step time with a value relative to now.

    None where the bench did not measure both, and where it was too loud to tell them apart: of the same steps, too, a
    gain that would be worth a run but may be noise. Else neither a figure nor a guess would speak for it.
    """
    speed = evidence.speed
    if speed is None or key not in speed.keys:
        return None
    now = _now(evidence)
    ratio, noise = speed.ratio(now, {**now, key: value}), speed.noise(now, {**now, key: value})
    if ratio is None or (noise > _LOUD and abs(ratio - 1) < noise):
        return None
    is_doubtful = 1 - noise < ratio <= _WORTH_TRYING and key in step_families(evidence.config)
    return None if is_doubtful else ratio


def is_slower(evidence: Evidence, key: str, value: object) -> bool:
    """Say whether the bench knows that a value makes the same steps slower than they are now."""
    ratio = measured_ratio(evidence, key, value)
    if evidence.speed is None or ratio is None or key not in step_families(evidence.config):
        return False
    now = _now(evidence)
    return ratio > 1 + evidence.speed.noise(now, {**now, key: value})


def _now(evidence: Evidence) -> dict[str, object]:
    """Return what the incumbent has of the settings that were measured."""
    assert evidence.speed is not None
    values = evidence.config.model_dump(mode="json")
    return {key: get_dotted(values, key) for key in evidence.speed.keys}
