"""A sweep as a study: its folder, what must stay as it is while it goes on, and what may grow.

Its runs are those of any study, so `hotlap runs`, `status` and the reports know them. The space may be widened and the
budget raised while it goes on; metric, base config, task and run budget may not: runs could not be compared any more.
"""

from collections.abc import Mapping
from typing import Any, Final

from hotlap.config.load import config_diff, config_from_values, refuse_protocol_keys
from hotlap.config.schema import RunConfig
from hotlap.core.errors import StudyError
from hotlap.core.records import History, Proposal
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.history import load_history
from hotlap.search.sweep_score import FAILURES
from hotlap.study.settings import StudySettings
from hotlap.study.study import Study, as_studied, begin_sitting, refuse_changed_protocol, study_protocol
from hotlap.study.sweep_plan import SweepSettings

SCHEMA: Final = "hotlap/sweep/1"
_MAY_GROW: Final = ("space", "spending")
"""Parts of the protocol that later sittings may change."""


def open_sweep(project: ProjectFolder, config: RunConfig, settings: SweepSettings, space: Mapping[str, Any]) -> Study:
    """Open the sweep that the config names, new or begun earlier; the caller holds its lock.

    `space` is what may vary, as plain values: it is kept with the protocol, for whoever reads the sweep later.
    Raises StudyError when the name belongs to a speedrun, or when what its runs share has changed.
    """
    config = as_swept(config)
    folder = project.study(config.name).create()
    shared = {"schema": SCHEMA, "metric": settings.metric, "goal": settings.goal}
    protocol = {**study_protocol(config, project.project), **shared}
    stored = folder.protocol()
    if stored is not None:
        if stored.get("schema") != SCHEMA:
            raise StudyError(f"{config.name!r} is the name of a speedrun; give the sweep another one: -s name=...")
        values = config_from_values(stored["config"]).model_dump(mode="json")  # new settings have their defaults
        before = {key: value for key, value in stored.items() if key not in _MAY_GROW}
        refuse_changed_protocol(config.name, {**before, "config": values}, protocol)
    spending = {
        name: getattr(settings, name) for name in ("run_cap", "total_seconds", "slots", "top", "seeds", "target")
    }
    folder.write_protocol({**protocol, "space": dict(space), "spending": spending})
    history = load_history(project, folder, config.model_dump(mode="json"), config.clock)
    as_study = StudySettings(
        clock=config.clock,
        total_seconds=settings.total_seconds,
        run_seconds=settings.run_seconds,
        seed_base=settings.seed_base,
    )
    return begin_sitting(project, folder, config, as_study, history)


def as_swept(config: RunConfig) -> RunConfig:
    """Return the config as a sweep runs it: looked at on the clock, and never from a checkpoint."""
    config, _ = as_studied(config)
    return config.model_copy(update={"training": config.training.model_copy(update={"eval_strategy": "clock"})})


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
        study.append(point_proposal(study.history, proposal.patch, "retry"))
    return len(failed)


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
        title=", ".join(f"{key.rpartition('.')[2]} {_text(value)}" for key, value in patch.items()),
        observation="",
        hypothesis="",
        patch=dict(patch),
        predicted_ratio=1.0,
        proposer=proposer,
        diff=config_diff(base, changed),
    )


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
