"""A sweep as a study: its folder, what must stay as it is while it goes on, and what may grow.

Its runs are those of any study, so `hotlap runs`, `status` and the reports know them. The space may be widened and the
budget raised while it goes on; metric, base config, task, run budget and slots may not: runs could not be compared any
more.
"""

from collections.abc import Mapping
from typing import Any, Final

from hotlap.config.load import config_diff, config_from_values, refuse_protocol_keys
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError, NotSupportedError
from hotlap.core.records import History, Proposal
from hotlap.core.scores import FAILURES, TIME_TO_TARGET
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.devices import visible_gpus
from hotlap.runs.history import load_history
from hotlap.runs.views import setting_text
from hotlap.study.settings import StudySettings
from hotlap.study.study import (
    SWEEP_SCHEMA,
    Study,
    as_studied,
    begin_sitting,
    devices_of,
    refuse_changed_protocol,
    refuse_other_kind,
    study_protocol,
)
from hotlap.study.sweep_plan import RETRY, SweepSettings

_MAY_GROW: Final = ("space", "spending")
"""Parts of the protocol that later sittings may change."""
TIMED_METRICS: Final = (TIME_TO_TARGET, "tokens_per_second")
"""Metrics that are told of the machine as much as of the config: only a run that was alone has them."""
_SPENDING: Final = ("run_cap", "total_seconds", "top", "seeds", "target")


def open_sweep(project: ProjectFolder, config: RunConfig, settings: SweepSettings, space: Mapping[str, Any]) -> Study:
    """Open the sweep that the config names, new or begun earlier; the caller holds its lock.

    `space` is what may vary, as plain values: it is kept with the protocol, for whoever reads the sweep later.
    Raises as `check_sweep` does.
    """
    protocol = check_sweep(project, config, settings)
    config = as_swept(config, settings.metric)
    folder = project.study(config.name).create()
    spending = {name: getattr(settings, name) for name in _SPENDING}
    folder.write_protocol({**protocol, "space": dict(space), "spending": spending})
    history = load_history(project, folder, config.model_dump(mode="json"), config.clock)
    as_study = StudySettings(
        clock=config.clock,
        total_seconds=settings.total_seconds,
        run_seconds=settings.run_seconds,
        seed_base=settings.seed_base,
    )
    return begin_sitting(project, folder, config, as_study, history)


def check_sweep(project: ProjectFolder, config: RunConfig, settings: SweepSettings) -> dict[str, Any]:
    """Return what the runs of a sweep share; nothing is written.

    Raises StudyError when the name belongs to a speedrun, or when what its runs share has changed; ConfigError for what
    cannot be swept; NotSupportedError on a machine with too few GPUs.
    """
    config = as_swept(config, settings.metric)
    _refuse_unfit(config, settings)
    shared = {"schema": SWEEP_SCHEMA, "metric": settings.metric, "goal": settings.goal, "slots": settings.slots}
    protocol = {**study_protocol(config, project.project), **shared}
    stored = project.study(config.name).protocol()
    if stored is not None:
        refuse_other_kind(config.name, stored, SWEEP_SCHEMA, "give the sweep another one: -s name=...")
        values = config_from_values(stored["config"]).model_dump(mode="json")  # new settings have their defaults
        before = {key: value for key, value in stored.items() if key not in _MAY_GROW}
        refuse_changed_protocol(config.name, {**before, "config": values}, protocol)
    return protocol


def as_swept(config: RunConfig, metric: str) -> RunConfig:
    """Return the config as a sweep runs it: looked at on the clock, and never from a checkpoint.

    Targets end runs, so they count only where the sweep is for the time to them: of runs that all end at the same loss,
    none has the best one.
    """
    config, _ = as_studied(config)
    targets = config.targets if metric == TIME_TO_TARGET else ()
    if config.command is not None:
        return config.model_copy(update={"targets": targets})
    training = config.training.model_copy(update={"eval_strategy": "clock"})
    return config.model_copy(update={"training": training, "targets": targets})


def stored_settings(config: RunConfig, protocol: Mapping[str, Any]) -> SweepSettings:
    """Return the settings that a sweep was last driven with, from its config and protocol."""
    known = protocol.get("spending") or {}
    return SweepSettings(
        metric=protocol["metric"],
        goal=protocol["goal"],
        slots=protocol["slots"],
        clock=config.clock,
        run_seconds=config.budget.run,
        seed_base=config.seed,
        **{name: known[name] for name in _SPENDING if name in known},
    )


def slot_devices(config: RunConfig, slots: int) -> tuple[str, ...]:
    """Return the devices that all slots together use: a GPU each, or the CPU that they share.

    Raises NotSupportedError when there are GPUs, but too few.
    """
    gpus = 0 if config.training.use_cpu else visible_gpus()
    if slots == 1 or not gpus:
        return devices_of(config)
    if slots > gpus:
        raise NotSupportedError(
            f"--slots {slots} needs {slots} GPUs, a GPU each, and this machine shows {gpus}; take fewer slots, or set "
            "training.use_cpu: true to let them share the CPU"
        )
    return tuple(f"cuda:{number}" for number in range(slots))


def _refuse_unfit(config: RunConfig, settings: SweepSettings) -> None:
    """Raise ConfigError, or NotSupportedError on a machine with too few GPUs, for what cannot be swept."""
    slot_devices(config, settings.slots)
    if config.backend == "hf":
        raise ConfigError("a sweep searches with hotlap's own training loop; backend: hf is for hotlap train")
    if settings.slots > 1 and config.devices > 1:
        raise ConfigError(
            f"devices: {config.devices} and --slots {settings.slots}: a run on several devices has the machine to "
            "itself; leave one of the two out"
        )
    if settings.slots > 1 and settings.metric in TIMED_METRICS:
        raise ConfigError(
            f"{settings.metric} with --slots {settings.slots}: runs that disturb each other have no times that could "
            "be compared; use one slot, or a metric such as eval_loss"
        )


def retry_failures(study: Study) -> int:
    """Add each point that failed once more, as a point of its own; return how many."""
    history = study.history
    latest = {str(proposal.patch): proposal for proposal in history.proposals}  # a retry stands for what it repeats
    failed = [
        proposal
        for proposal in latest.values()
        if (runs := history.runs_of(proposal.number)) and all(run.outcome in FAILURES for run in runs)
    ]
    for proposal in failed:
        study.append(point_proposal(study.history, proposal.patch, RETRY))
    return len(failed)


def repeated_later(history: History) -> set[int]:
    """Return the points that failed and were tried again since: what came of them is said by the later ones."""
    retries = {str(proposal.patch): proposal.number for proposal in history.proposals if proposal.proposer == RETRY}
    return {each.number for each in history.proposals if each.number < retries.get(str(each.patch), 0)}


def point_proposal(history: History, patch: Mapping[str, Any], proposer: str) -> Proposal:
    """Return a point of the space as a proposal on the baseline.

    Raises ConfigError when the patch touches what the runs of a sweep share, or does not fit the schema.
    """
    refuse_protocol_keys(patch)
    base = config_from_values(history.base_config)
    changed = config_from_values(history.base_config, patch)
    return Proposal(
        number=len(history.proposals) + 1,
        parent=0,
        family="sweep",
        title=", ".join(f"{key.rpartition('.')[2]} {setting_text(value)}" for key, value in patch.items()),
        observation="",
        hypothesis="",
        patch=dict(patch),
        predicted_ratio=1.0,
        proposer=proposer,
        diff=config_diff(base, changed),
    )
