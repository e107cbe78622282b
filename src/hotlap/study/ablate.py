"""An ablation: variants of a config with the same seeds, in turn; which of them are better, and is that more than luck?

    plan = plan_ablation(project, load_ablation(path, settings), seeds=3)
    with study_lock(plan.folder.create()):
        reason = run_ablation(open_ablation(project, plan), plan, watcher, write_journal)

With the first seed the variants run from first to last, with the second one from last to first, so that a drifting
machine favours none. One that was stopped, by whomever, goes on where it was. Its runs are those of any study: the
reference is candidate 0, the other variants are proposals on it.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from hotlap.config.ablation import Ablation
from hotlap.config.load import config_diff, config_from_values
from hotlap.config.parts import source_hashes
from hotlap.config.schema import RunConfig
from hotlap.core.durations import format_seconds
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.records import History, Proposal
from hotlap.core.study_folder import ProjectFolder, StudyFolder
from hotlap.runs.history import load_history
from hotlap.runs.views import setting_text
from hotlap.study.guards import check_left_over
from hotlap.study.loop import run_once
from hotlap.study.plan import End, StartRun, give_up
from hotlap.study.runner import LocalRunner, Runner, settle_runs
from hotlap.study.settings import StudySettings
from hotlap.study.study import (
    ABLATION_SCHEMA,
    Study,
    as_studied,
    begin_sitting,
    refuse_changed_protocol,
    refuse_other_kind,
    study_protocol,
)
from hotlap.study.watching import Interrupts, Watcher

COMPLETE: Final = "every variant has had its runs"
"""Why an ablation ends that has nothing left to run; one that ended otherwise is taken up again."""
NO_ROOM: Final = "budget.total of "
"""How the reason begins why one ends whose budget has no room for another run."""
BROKEN: Final = ("crashed", "out_of_memory", "invalid")
"""Outcomes that another seed would not change; a run that diverged is a result."""
EVAL_SHARE: Final = 0.02
"""Share of the steps between two evaluations where the config names none: the same steps for every variant."""
_EVALUATED: Final = ("eval_strategy", "eval_steps", "eval_delay", "eval_on_start")
_NAME_SIGNS: Final = frozenset("._-")


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationPlan:
    """What is compared, and how often each variant runs."""

    folder: StudyFolder
    config: RunConfig
    """The reference, as it is run."""
    settings: StudySettings
    titles: tuple[str, ...]
    """What each variant is called, the reference first."""
    patches: tuple[Mapping[str, Any], ...]
    """What each of them changes on the reference, by dotted keys; the first is empty."""
    seeds: int
    at_step: int | None
    """Step at which losses are compared; None for the last one that all runs reached."""
    protocol: Mapping[str, Any]
    idle: tuple[str, ...] = ()
    """Settings that are set aside, since all runs are evaluated alike."""

    @property
    def metric(self) -> str:
        """The figure that the variants are compared by."""
        return str(self.protocol["metric"])

    @property
    def subject(self) -> str:
        """What the variants are variants of: the task, or the command."""
        return self.config.task.name if self.config.command is None else self.config.command.run

    @property
    def num_runs(self) -> int:
        """Runs that count, once it is complete."""
        return self.seeds * len(self.titles)


def plan_ablation(
    project: ProjectFolder, ablation: Ablation, *, seeds: int = 3, name: str | None = None, at_step: int | None = None
) -> AblationPlan:
    """Return what an ablation runs; nothing is written.

    `name` is by default that of the config with the last word of each varied key, `run-positions`. Of one that was
    begun with more seeds these stay.
    Raises ConfigError for what cannot be compared, StudyError when the name belongs to another study.
    """
    by_steps = all(variant.config.training.schedule_by == "steps" for variant in ablation.variants)
    ablated = [as_ablated(variant.config, by_steps=by_steps) for variant in ablation.variants]
    configs = [config for config, _ in ablated]
    chosen = name or _default_name(ablation)
    reference = config_from_values({**configs[0].model_dump(mode="json"), "name": chosen})
    _refuse_unfit(reference, configs, at_step)
    base = reference.model_dump(mode="json")
    patches = [config_patch(base, {**config.model_dump(mode="json"), "name": chosen}) for config in configs]
    titles = tuple(variant_title(variant.values) for variant in ablation.variants)
    folder = project.study(chosen)
    shared = {
        **study_protocol(reference, project.project),
        "schema": ABLATION_SCHEMA,
        "metric": reference.main_metric,
        "goal": "minimize",
        "keys": list(ablation.keys),
        "variants": [{"title": title, "patch": patch} for title, patch in zip(titles, patches, strict=True)],
        "variant_sources": [source_hashes(config, project.project) for config in configs],
    }
    stored = _checked_protocol(folder, shared)
    before = int((stored or {}).get("spending", {}).get("seeds", 0))
    spending = {"seeds": max(seeds, before), "at_step": at_step}
    protocol = {**shared, "spending": spending}
    return replace(stored_plan(folder, protocol), idle=ablated[0][1])


def stored_plan(folder: StudyFolder, protocol: Mapping[str, Any]) -> AblationPlan:
    """Return the plan that an ablation's protocol tells."""
    config = config_from_values(protocol["config"])
    return AblationPlan(
        folder=folder,
        config=config,
        settings=StudySettings(
            clock=config.clock,
            total_seconds=config.budget.total,
            run_seconds=config.budget.run,
            seed_base=config.seed,
        ),
        titles=tuple(str(variant["title"]) for variant in protocol["variants"]),
        patches=tuple(variant["patch"] for variant in protocol["variants"]),
        seeds=int(protocol["spending"]["seeds"]),
        at_step=protocol["spending"].get("at_step"),
        protocol=protocol,
    )


def open_ablation(project: ProjectFolder, plan: AblationPlan) -> Study:
    """Open the ablation, new or begun earlier; the caller holds its lock."""
    plan.folder.create().write_protocol(plan.protocol)
    base = plan.config.model_dump(mode="json")
    history = load_history(project, plan.folder, base, plan.config.clock)
    study = begin_sitting(project, plan.folder, plan.config, plan.settings, history)
    for number in range(len(history.proposals) + 1, len(plan.titles)):
        study.append(_proposal(plan, number))
    return study


def run_ablation(
    study: Study,
    plan: AblationPlan,
    watcher: Watcher,
    write_journal: Callable[[Study], object],
    runner: Runner | None = None,
) -> str:
    """Run every variant with every seed; return why it ended. It can be taken up again at any time.

    Raises StudyError, noted in ledger and journal, too, when a guard refuses to go on.
    """
    try:
        return _drive(study, plan, watcher, write_journal, runner or LocalRunner())
    except StudyError as error:
        study.end(str(error))
        write_journal(study)
        raise


def _drive(
    study: Study, plan: AblationPlan, watcher: Watcher, write_journal: Callable[[Study], object], runner: Runner
) -> str:
    settle_runs(study)
    check_left_over(study)
    with Interrupts(watcher).caught() as interrupts:
        while not interrupts.count:
            action = next_ablation_run(study.history, plan, study.first_run)
            watcher.acts(action, study)
            if isinstance(action, End):
                study.end(action.reason)
                write_journal(study)
                return action.reason
            run_once(study, action, runner, watcher, interrupts)
            write_journal(study)
    write_journal(study)
    return "interrupted"


def next_ablation_run(history: History, plan: AblationPlan, sitting_start: int = 0) -> StartRun | End:
    """Return the next run, a pure function of the history; a variant that breaks is not tried with other seeds."""
    if ended := give_up(history, sitting_start):
        return ended
    broken = next((run for run in history.runs_of(0) if run.outcome in BROKEN), None)
    if broken is not None:
        why = broken.reason.strip().splitlines() or [""]
        return End(f"the reference, {plan.titles[0]}, {broken.outcome.replace('_', ' ')} in {broken.run_id}: {why[0]}")
    for turn in range(plan.seeds):
        seed = plan.settings.seed_base + turn
        numbers = range(len(plan.titles))
        for number in numbers if turn % 2 == 0 else reversed(numbers):
            runs = history.runs_of(number)
            if not any(run.seed == seed or run.outcome in BROKEN for run in runs):
                return _start(history, plan, number, seed)
    return End(COMPLETE)


def _start(history: History, plan: AblationPlan, number: int, seed: int) -> StartRun | End:
    """Start a run where the budget has room for it; the first one of the reference shows what is normal here."""
    counted = [run for run in history.runs if not run.is_infrastructure_failure]
    longest = median(run.wall_seconds for run in counted) if counted else 0.0
    total = plan.settings.total_seconds
    if history.seconds_spent + longest >= total:
        done = f"{len(counted)} of {plan.num_runs} runs"
        return End(
            f"{NO_ROOM}{format_seconds(total)} has no room for another run after {done}; with a larger one, "
            "-s budget.total=…, the same command goes on"
        )
    return StartRun(
        role="ablation" if history.runs_of(0) or number else "baseline",
        candidate=number,
        seed=seed,
        limit_seconds=plan.settings.run_seconds,
        is_raced=False,
        why=f"run {len(counted) + 1} of {plan.num_runs}: {plan.titles[number]}, seed {seed}",
    )


def as_ablated(config: RunConfig, *, by_steps: bool = True) -> tuple[RunConfig, tuple[str, ...]]:
    """Return a config as an ablation runs it, and the settings that it sets aside.

    All variants are evaluated alike: with targets on the clock's grid, else at the steps that the config names, or at
    every fiftieth part of a schedule `by_steps`. None goes on from a checkpoint.
    """
    studied, idle = as_studied(config)
    if config.command is not None:
        return studied, idle
    training = config.training
    is_named = training.eval_strategy in ("steps", "epoch", "clock") or training.eval_steps is not None
    if config.targets or not (by_steps or is_named):
        update: dict[str, Any] = {"eval_strategy": "clock"}
    elif is_named:
        update = {key: getattr(training, key) for key in _EVALUATED}
        idle = tuple(key for key in idle if key not in _EVALUATED)
    else:
        update = {"eval_strategy": "steps", "eval_steps": EVAL_SHARE}
    ablated = studied.training.model_copy(update=update)
    return studied.model_copy(update={"training": ablated}), idle


def config_patch(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dotted keys that make one config of another; a section with other keys is replaced as a whole."""
    patch: dict[str, Any] = {}
    for key, value in other.items():
        before = base[key]
        if value == before:
            continue
        if isinstance(value, Mapping) and isinstance(before, Mapping) and value.keys() == before.keys():
            patch |= {f"{key}.{inner}": changed for inner, changed in config_patch(before, value).items()}
        else:
            patch[key] = value
    return patch


def variant_title(values: Mapping[str, Any]) -> str:
    """Return what a variant is called: `positions rope`; keys are written in full where their last words are equal."""
    words = [key.rpartition(".")[2] for key in values]
    names = words if len(set(words)) == len(words) else list(values)
    return ", ".join(f"{name} {setting_text(value)}" for name, value in zip(names, values.values(), strict=True))


def _default_name(ablation: Ablation) -> str:
    words = [ablation.variants[0].config.name, *(key.rpartition(".")[2] for key in ablation.keys)]
    return "".join(sign if sign.isalnum() or sign in _NAME_SIGNS else "-" for sign in "-".join(words))


def _proposal(plan: AblationPlan, number: int) -> Proposal:
    """Return a variant as a change of the reference."""
    changed = config_from_values(plan.config.model_dump(mode="json"), plan.patches[number])
    return Proposal(
        number=number,
        parent=0,
        family="ablation",
        title=plan.titles[number],
        observation="",
        hypothesis="",
        patch=dict(plan.patches[number]),
        predicted_ratio=1.0,
        proposer="ablate",
        diff=config_diff(plan.config, changed),
    )


def _refuse_unfit(config: RunConfig, configs: Sequence[RunConfig], at_step: int | None) -> None:
    """Raise ConfigError for what cannot be compared here."""
    if config.backend == "hf":
        raise ConfigError("an ablation compares by hotlap's own training loop; backend: hf is for hotlap train")
    if config.command is not None:
        if any(target.comparison not in ("<", "<=") for target in config.parsed_targets()[:1]):
            raise ConfigError("an ablation compares losses; put a target such as val_loss < 3.3 first")
        return
    steps = [each.training.max_steps for each in configs if each.training.schedule_by == "steps"]
    shortest = min((count for count in steps if count > 0), default=math.inf)
    if at_step is not None and at_step > shortest:
        raise ConfigError(f"--at-step {at_step}: not all variants train so long; the shortest one has {shortest} steps")


def _checked_protocol(folder: StudyFolder, shared: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the protocol that an ablation was begun under, None for a new one.

    Raises StudyError when it cannot go on as asked.
    """
    stored = folder.protocol()
    if stored is None:
        return None
    refuse_other_kind(folder.name, stored, ABLATION_SCHEMA, "give the ablation another one: --name NAME")
    if _plain(stored["variants"]) != _plain(shared["variants"]):
        told = ", ".join(str(variant["title"]) for variant in stored["variants"])
        raise StudyError(
            f"the ablation {folder.name!r} was begun with other variants ({told}), or other settings beside them; give "
            "this one another name: --name NAME"
        )
    values = config_from_values(stored["config"]).model_dump(mode="json")  # new settings have their defaults
    before = {key: value for key, value in stored.items() if key != "spending"}
    refuse_changed_protocol(folder.name, {**before, "config": values}, shared)
    return stored


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
