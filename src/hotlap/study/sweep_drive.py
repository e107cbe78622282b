"""A sweep from its file to its end: what it may spend, who proposes, who is stopped early, in which order it starts.

study, end = drive_sweep(space, ProjectFolder(path).create(), settings_of(space, slots=1, top=3, seeds=3), watcher)
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hotlap.config.schema import RunConfig
from hotlap.config.sweep import SweepConfig
from hotlap.core.records import History, Proposal
from hotlap.core.scores import TIME_TO_TARGET
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.locks import device_lock, study_lock
from hotlap.launch.orphans import reap_orphans
from hotlap.launch.prepare import prepare_data
from hotlap.report.text import count_text
from hotlap.search.rungs import RungRules
from hotlap.search.sweep_sampler import Told, suggest
from hotlap.search.sweep_score import sweep_scores
from hotlap.study.study import Study, as_studied
from hotlap.study.sweep import check_sweep, open_sweep, point_proposal, repeated_later, retry_failures, slot_devices
from hotlap.study.sweep_loop import Suggest, SweepDriver, SweepWatcher
from hotlap.study.sweep_plan import Start, Stop, SweepSettings


def drive_sweep(
    space: SweepConfig,
    folder: ProjectFolder,
    settings: SweepSettings,
    watcher: SweepWatcher,
    *,
    retry_failed: bool = False,
) -> tuple[Study, Stop]:
    """Run or go on with a sweep; return it, and why it stopped.

    Whatever cannot be swept is refused before the data are made and before a device is waited for, and the sweep's
    own clock begins once it has its devices.
    """
    base = space.base
    assert base is not None, "a command of somebody else's was refused"
    suggest(space, [], [], 0, settings.seed_base)  # a space without a point is told of before anything runs
    with study_lock(folder.study(base.name).create()):
        check_sweep(folder, base, settings)
        for run_id in reap_orphans(folder):
            watcher.says(f"{run_id} had lost its driver and was stopped")
        watcher.says(f"{base.subject}: {prepare_data(folder, base)}")
        with device_lock(slot_devices(base, settings.slots), watcher.says):
            study = open_sweep(folder, base, settings, space_values(space))
            _say_unused(base, settings, watcher)
            if study.history.runs:
                watcher.says(f"going on with {base.name}: {len(study.history.runs)} runs so far")
            if retry_failed:
                watcher.says(f"tried again: {count_text(retry_failures(study), 'point')} that failed")
            driver = SweepDriver(study, settings, suggester(space, settings), rung_rules(space, settings), watcher)
            return study, driver.run()


def settings_of(space: SweepConfig, *, slots: int, top: int, seeds: int) -> SweepSettings:
    """Return what a sweep may spend, from its config and the command line."""
    base = space.base
    assert base is not None
    return SweepSettings(
        metric=space.metric,
        goal=space.goal,
        target=space.target,
        clock=base.clock,
        run_cap=space.run_cap,
        total_seconds=base.budget.total,
        run_seconds=base.budget.run,
        slots=slots,
        top=top,
        seeds=seeds,
        seed_base=base.seed,
    )


def suggester(space: SweepConfig, settings: SweepSettings) -> Suggest:
    """Return the function that proposes the next point of a sweep from its history."""

    def next_point(history: History, running: Sequence[Start]) -> Proposal | None:
        scores = sweep_scores(history, settings.metric, settings.goal)
        outdated = repeated_later(history)
        told = [Told(history.config_of(number), score) for number, score in scores.items() if number not in outdated]
        pending = [history.config_of(start.candidate) for start in running if start.candidate not in scores]
        point = suggest(space, told, pending, len(history.proposals), settings.seed_base)
        return None if point is None else point_proposal(history, point, space.method)

    return next_point


def rung_rules(space: SweepConfig, settings: SweepSettings) -> RungRules | None:
    """Return when runs are stopped early, None where the sweep does not ask for it."""
    early = space.early_terminate
    if early is None:
        return None
    is_timed = settings.metric == TIME_TO_TARGET
    return RungRules(
        clock=settings.clock,
        metric=_curve_metric(space) if is_timed else settings.metric,
        is_minimized=is_timed or settings.goal == "minimize",
        eta=early.eta,
        readings=tuple(share * settings.run_seconds for share in early.shares),
        limit_seconds=settings.run_seconds,
        is_strict=early.is_strict,
    )


def _curve_metric(space: SweepConfig) -> str:
    """Return the metric by which runs to a target are compared on their way."""
    return space.base.main_metric if space.base is not None else "eval_loss"


def space_values(space: SweepConfig) -> dict[str, Any]:
    """Return what may vary as plain values, as it is kept with the sweep."""
    known: dict[str, Any] = {
        "method": space.method,
        "constraints": list(space.constraints),
        "parameters": [_known(asdict(parameter)) for parameter in space.parameters],
    }
    if space.early_terminate is not None:
        known["early_terminate"] = asdict(space.early_terminate)
    return known


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a parameter; 0 is a bound like any other."""
    return {name: value for name, value in values.items() if value is not None and value != () and value != {}}


def _say_unused(base: RunConfig, settings: SweepSettings, watcher: SweepWatcher) -> None:
    """Tell which settings of the config a sweep sets aside."""
    if idle := as_studied(base)[1]:
        watcher.says(f"not used in a sweep, whose runs are all evaluated on the clock's grid: {', '.join(idle)}")
    if base.targets and settings.metric != TIME_TO_TARGET:
        watcher.says(f"not used in a sweep for {settings.metric}: targets; runs go to their end")
