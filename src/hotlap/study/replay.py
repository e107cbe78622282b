"""A replay: the rungs of a study's ladder run again with fresh seeds, here and now; which gains transfer?

    plan = plan_replay(project, "demo", runs=3)
    with study_lock(plan.folder.create()):
        run_replay(open_replay(project, plan), plan, watcher)

Its runs lie in the project like all others, its ledger in `.hotlap/replays/demo@1/`. The rungs run in turn, upwards and
downwards, so that a drifting machine favours none. One that was stopped, by whomever, goes on where it was.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hotlap.config.load import config_from_values
from hotlap.config.schema import FREE_KEYS, RunConfig
from hotlap.core.errors import StudyError
from hotlap.core.records import Decision, History
from hotlap.core.study_folder import REPLAY_SIGN, ProjectFolder, StudyFolder
from hotlap.runs.history import load_history
from hotlap.runs.views import config_differences
from hotlap.search.cost import limit_seconds, run_cost
from hotlap.search.ladder import candidates_up_to
from hotlap.study.code import open_code
from hotlap.study.code_steps import clear_worktrees
from hotlap.study.guards import check_left_over, first_environment
from hotlap.study.loop import run_once
from hotlap.study.plan import BROKEN_OUTCOMES, End, StartRun, give_up
from hotlap.study.runner import LocalRunner, Runner, settle_runs
from hotlap.study.settings import StudySettings
from hotlap.study.study import Study, begin_sitting, read_study, study_protocol
from hotlap.study.watching import Interrupts, Watcher

REPLAY_SCHEMA: Final = "hotlap/replay/1"
_SEEDS_APART: Final = 1000
"""Replays of one study have seeds of their own, as far apart as no replay has runs."""
_OF_THE_REPLAY: Final = ("schema", "study", "rungs", "runs", "seed_base")
DATA: Final = "data"
"""Key of a difference in the hash of the prepared data."""
COMPLETE: Final = "every rung has had its runs"
"""Why a replay ends that has nothing left to run; one that ended otherwise is taken up again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """What is run again, and with what it is compared."""

    study: str
    folder: StudyFolder
    original: History
    """The study's own history."""
    config: RunConfig
    settings: StudySettings
    rungs: tuple[int, ...]
    """Candidates from the baseline (0) to the incumbent."""
    runs: int
    """Runs of each rung."""
    protocol: Mapping[str, Any]
    """What makes this replay's runs comparable."""
    differences: Mapping[str, tuple[Any, ...]]
    """Where that is not the study's protocol: dotted key, there and here."""

    @property
    def cost_seconds(self) -> float:
        """Wall seconds that all runs would take at the study's times."""
        return self.runs * sum(run_cost(self.original, number, self.settings.run_seconds) for number in self.rungs)


def plan_replay(
    project: ProjectFolder,
    name: str | None = None,
    *,
    runs: int = 3,
    only_ends: bool = False,
    patch: Mapping[str, Any] | None = None,
) -> ReplayPlan:
    """Return how a study's ladder is run again (default: the study touched last); nothing is written.

    `patch` changes the config that all rungs start from, for what has to be otherwise here. A replay that was begun
    with the same plan on the same machine, and is not complete, goes on.
    Raises StudyError when there is no such study or nothing was kept, ConfigError when the patch does not fit.
    """
    base, original, stored = read_study(project, name)
    study = base.name
    chain = candidates_up_to(original, original.incumbent)
    if len(chain) == 1:
        raise StudyError(f"nothing was kept in the study {study!r}, so there is no ladder to replay")
    rungs = (chain[0], chain[-1]) if only_ends else tuple(chain)
    config = config_from_values(base.model_dump(mode="json"), patch)
    here = study_protocol(config, project.project)
    wanted = {**here, "schema": REPLAY_SCHEMA, "study": study, "rungs": list(rungs), "runs": runs}
    folder, seed_base = _folder_for(project, study, wanted, original)
    differences = _differences(base, stored, here)
    return ReplayPlan(
        study=study,
        folder=folder,
        original=original,
        config=config,
        settings=replace(StudySettings.from_config(config), total_seconds=math.inf, seed_base=seed_base),
        rungs=rungs,
        runs=runs,
        protocol={**wanted, "seed_base": seed_base},
        differences=differences,
    )


def last_replay(project: ProjectFolder, name: str | None = None) -> tuple[ReplayPlan, History]:
    """Return plan and history of a study's newest replay, for reading only; raises StudyError when there is none."""
    base, original, stored = read_study(project, name)
    study = base.name
    folders = _replays_of(project, study)
    if not folders:
        raise StudyError(f"the study {study!r} was not replayed yet; run: hotlap replay {study}")
    folder = folders[-1]
    protocol = folder.protocol() or {}
    config = config_from_values(protocol["config"])
    differences = _differences(base, stored, protocol)
    plan = ReplayPlan(
        study=study,
        folder=folder,
        original=original,
        config=config,
        settings=StudySettings.from_config(config),
        rungs=tuple(protocol["rungs"]),
        runs=int(protocol["runs"]),
        protocol=protocol,
        differences=differences,
    )
    return plan, _history(project, plan)


def open_replay(project: ProjectFolder, plan: ReplayPlan) -> Study:
    """Open the replay, new or begun earlier; the caller holds its lock."""
    if plan.folder.create().protocol() is None:
        plan.folder.write_protocol(plan.protocol)
    replay = begin_sitting(project, plan.folder, plan.config, plan.settings, _history(project, plan))
    replay.code = open_code(project, project.study(plan.study), plan.config)
    return replay


def run_replay(replay: Study, plan: ReplayPlan, watcher: Watcher, runner: Runner | None = None) -> str:
    """Run every rung as often as planned; return why it ended. It can be taken up again at any time."""
    runner = runner or LocalRunner()
    settle_runs(replay)
    check_left_over(replay)
    clear_worktrees(replay)
    with Interrupts(watcher).caught() as interrupts:
        while not interrupts.count:
            action = next_run(replay.history, plan, replay.first_run)
            watcher.acts(action, replay)
            if isinstance(action, End):
                replay.end(action.reason)
                return action.reason
            run_once(replay, action, runner, watcher, interrupts)
    return "interrupted"


def differences_of(plan: ReplayPlan, history: History) -> dict[str, tuple[Any, ...]]:
    """Return where a replay differs from its study, its data included: those are known once it has run."""
    hashes = tuple((first_environment(found).get("data") or {}).get("hash") for found in (plan.original, history))
    is_other = None not in hashes and hashes[0] != hashes[1]
    return {**plan.differences, DATA: hashes} if is_other else dict(plan.differences)


def next_run(history: History, plan: ReplayPlan, sitting_start: int = 0) -> StartRun | End:
    """Return the next run, a pure function of the history; a rung that breaks is not tried again."""
    if ended := give_up(history, sitting_start):
        return ended
    for turn in range(plan.runs):
        for number in plan.rungs if turn % 2 == 0 else plan.rungs[::-1]:
            runs = history.runs_of(number)
            if len(runs) <= turn and not any(run.outcome in BROKEN_OUTCOMES for run in runs):
                return _start(history, plan, number, turn)
    return End(COMPLETE)


def _start(history: History, plan: ReplayPlan, number: int, turn: int) -> StartRun:
    """Start a run of a rung, for at most twice the time that the rung before it needs here."""
    place = plan.rungs.index(number)
    longest = plan.settings.run_seconds
    title = plan.original.proposal(number).title if number else "the baseline"
    counted = sum(not run.is_infrastructure_failure for run in history.runs)  # a spoiled run keeps its seed
    return StartRun(
        role="incumbent" if number else "baseline",
        candidate=number,
        seed=plan.settings.seed_base + counted,
        limit_seconds=limit_seconds(history, plan.rungs[place - 1], longest) if place else longest,
        is_raced=False,
        why=f"#{number} {title}, run {turn + 1} of {plan.runs}",
    )


def _history(project: ProjectFolder, plan: ReplayPlan) -> History:
    """Return the replay's own runs with the study's proposals and verdicts, whose figures stay there."""
    base = plan.config.model_dump(mode="json")
    runs = load_history(project, plan.folder, base, plan.config.clock)
    kept = [Decision(proposal=number, verdict="keep", reason="kept in the study") for number in plan.rungs if number]
    return replace(runs, proposals=plan.original.proposals, decisions=tuple(kept))


def _folder_for(
    project: ProjectFolder, study: str, wanted: Mapping[str, Any], original: History
) -> tuple[StudyFolder, int]:
    """Return the folder of the replay and its first seed: the newest one's if that can go on, else a new one's."""
    folders = _replays_of(project, study)
    if folders:
        stored = folders[-1].protocol() or {}
        is_complete = any(event.get("reason") == COMPLETE for event in folders[-1].ledger())
        if not is_complete and {**stored, "seed_base": None} == {**wanted, "seed_base": None}:
            return folders[-1], int(stored["seed_base"])
    number = _number(folders[-1]) + 1 if folders else 1
    seeds = [run.seed for run in original.runs]
    return project.replay(study, number), max(seeds, default=0) + number * _SEEDS_APART


def _replays_of(project: ProjectFolder, study: str) -> list[StudyFolder]:
    """Return the replays of a study, oldest first."""
    found = [folder for folder in project.replays() if folder.name.rpartition(REPLAY_SIGN)[0] == study]
    return sorted((folder for folder in found if folder.protocol() is not None), key=_number)


def _number(folder: StudyFolder) -> int:
    return int(folder.name.rpartition(REPLAY_SIGN)[2])


def _differences(base: RunConfig, stored: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return where machine and config are not the study's; what a newer hotlap added is taken as equal."""
    there = {**here, **stored, "config": base.model_dump(mode="json")}
    told = [{key: value for key, value in facts.items() if key not in _OF_THE_REPLAY} for facts in (there, here)]
    return {
        key: values for key, values in config_differences(told).items() if key.removeprefix("config.") not in FREE_KEYS
    }
