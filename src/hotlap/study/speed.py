"""How fast steps are, measured before a study searches: a small bench in a small part of its budget.

measure_speed(study, says)                    # once, before the first run; goes on where it was stopped
with_predicted_pace(study.history, proposal)  # what a change of batch, precision … will make of a step, by the bench
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hotlap.bench.answers import Answers, answers_from, predicted_seconds
from hotlap.bench.axes import Axis, combinations
from hotlap.bench.cells import noise_of, summarise
from hotlap.bench.command_cell import UNTOLD
from hotlap.bench.drive import OpenBench, conclude, find_bench, open_bench, run_bench
from hotlap.bench.plan import BenchPlan, GridCell
from hotlap.config.bounds import knob_roles, knob_search
from hotlap.config.load import get_dotted
from hotlap.config.schema import RunConfig
from hotlap.core.bench_records import CellRepeat
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.records import History, Proposal
from hotlap.core.speed import setting_text
from hotlap.policies.measured_speed import step_families
from hotlap.policies.rules import candidate_config
from hotlap.search.pace import told_step_seconds, whole_step_seconds
from hotlap.study.speed_axes import CELL_SECONDS, Machine, fewest_cells, speed_axes
from hotlap.study.study import Study

_ROUNDS: Final = 3
_SAME_WORK: Final = (
    *("training.learning_rate", "training.lr_scheduler", "training.warmup", "training.weight_decay", "training.adam_"),
    *("training.max_steps", "training.num_train_epochs", "training.momentum", "training.muon_", "training.embedding_"),
    *("training.min_learning_rate", "training.cooldown_"),
)
"""How settings begin that change no step's work: a batch size often comes with some of them. Of a command's knobs what
they mean is looked up."""
_MEASURED_SECONDS: Final = 1.5


def measure_speed(study: Study, says: Callable[[str], object]) -> str:
    """Measure step times over batch size, precision and what else may matter; return `interrupted` after Ctrl-C.

    Nothing happens in a study that has runs or figures already, or where the share of the budget is too short for a
    few cells. What could not be measured is left out: the study does without it.
    """
    room = study.config.bench.budget_ratio * study.config.budget.total
    if study.history.speed is not None or study.history.runs:
        return ""
    bench = _going_on(study) or _begun(study, room, says)
    if bench is None:
        return ""
    bench_id = bench.folder.bench_id
    began = next(float(event.get("age", 0.0)) for event in _begun_events(study) if event["bench"] == bench_id)

    def seconds_left() -> float:
        return 0.0 if _refused(bench) else room - study.age_seconds

    says(f"measuring step times for {max(0.0, room - study.age_seconds):.0f} s ({bench_id}), before anything is tried")
    ending = run_bench(study.project, bench, _Lines(study, bench, says), seconds_left)
    if ending == "interrupted":
        return ending
    conclude(bench)
    measured = [cell for cell in summarise(bench.folder.repeats()) if cell.is_measured]
    noise = noise_of(measured)
    cells = [
        {
            "settings": dict(cell.settings),
            "seconds_per_step": cell.seconds_per_step,
            "uncertainty": round(noise.uncertainty(cell.num_repeats), 4),
        }
        for cell in measured
    ]
    failed = _failed(bench, [cell.settings for cell in measured])
    study.note_speed({"bench": bench_id, "seconds": study.age_seconds - began, "cells": cells, "failed": failed})
    for cell in measured:
        told = ", ".join(f"{key.rpartition('.')[2]} {setting_text(value)}" for key, value in cell.settings.items())
        says(f"   {told}: {1e3 * cell.seconds_per_step:.1f} ms a step")
    if not measured:
        says(f"   the study goes on without step times: {_refused(bench) or 'there was no time for any'}")
    return ""


def _refused(bench: OpenBench) -> str:
    """Return why the settings of the config cannot be measured; then there is nothing to compare others with."""
    for repeat in bench.folder.repeats():
        if not repeat.is_measured and repeat.repeat == 0 and repeat.settings == bench.plan.base:
            return _reason(repeat)
    return ""


def _failed(bench: OpenBench, measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return settings and outcome of the cells without figures, that of the config left out: it is tried anyway."""
    return [
        {"settings": dict(repeat.settings), "outcome": "untold" if UNTOLD in repeat.evidence else repeat.outcome}
        for repeat in bench.folder.repeats()
        if not repeat.is_measured and repeat.settings not in (*measured, bench.plan.base)
    ]


def _reason(repeat: CellRepeat) -> str:
    """Return why a repeat has no figures; a study has no option for the limit of a cell."""
    said = repeat.message.replace("with --limit", "with a larger bench.budget_ratio")
    return f"{repeat.outcome.replace('_', ' ')}: {said}"


def with_predicted_pace(history: History, proposal: Proposal) -> Proposal:
    """Return a proposal with the step time that the bench predicts, where it changes what was measured.

    Nothing is told of one that changes the work of a step in other ways, too. Where the parent's steps take longer than
    the bench's, what it has more is taken for a cost that stays. A change of the step time alone is expected to change
    the time to target by what it changes of all that the parent's clock counts, the start-up of a command included.
    Where its lines name no step nobody knows how many steps that is: then the steps alone are compared.
    """
    speed = history.speed
    if speed is None or not set(proposal.patch) & set(speed.keys):
        return proposal
    parent = candidate_config(history, proposal.parent)
    if any(key not in speed.keys and not _has_same_work(parent, key) for key in proposal.patch):
        return proposal
    answers = history.once("answers of the bench", lambda: _answers(history))
    before = _measured_settings(parent, speed.keys)
    after = {**before, **{key: value for key, value in proposal.patch.items() if key in speed.keys}}
    seconds = [predicted_seconds(answers, settings) for settings in (before, after)]
    if seconds[0] is None or seconds[1] is None:
        return proposal
    told = told_step_seconds(history).get(proposal.parent)
    now = seconds[0] if told is None else told
    predicted = now + seconds[1] - seconds[0] if now > seconds[0] else now * seconds[1] / seconds[0]
    proposal = replace(proposal, predicted_step_seconds=predicted)
    if set(proposal.patch) <= set(step_families(parent)):
        whole = now if told is None else max(now, whole_step_seconds(history).get(proposal.parent, now))
        proposal = replace(proposal, predicted_ratio=(whole + predicted - now) / whole)
    return proposal


def _has_same_work(config: RunConfig, key: str) -> bool:
    """Say whether a setting changes nothing of what a step has to do."""
    if config.command is None:
        return key.startswith(_SAME_WORK)
    role = knob_roles(config).get(key.removeprefix("params."))
    return role is not None and f"training.{role}".startswith(_SAME_WORK)


def _going_on(study: Study) -> OpenBench | None:
    """Return the bench that an earlier sitting began; one that was removed, or is another machine's, begins anew."""
    begun = _begun_events(study)
    try:
        return find_bench(study.project, str(begun[-1]["bench"])) if begun else None
    except (ConfigError, StudyError):
        return None


def _begun_events(study: Study) -> list[dict[str, Any]]:
    """Return the ledger's signs of life of the bench, oldest first."""
    return [event for event in study.folder.ledger() if event["event"] == "speed_begun"]


def _begun(study: Study, room: float, says: Callable[[str], object]) -> OpenBench | None:
    config = study.config
    if room < fewest_cells(config) * CELL_SECONDS or config.budget.total < config.bench.least_budget:
        return None
    machine = Machine.of(study.devices)
    axes = speed_axes(config, room - study.age_seconds, machine)
    if not axes:
        if speed_axes(config, math.inf, machine):
            says("no time to measure step times first: their share of the budget is too short (bench.budget_ratio)")
        return None
    values = config.model_dump(mode="json")
    limit = max(30.0, room) if config.command is None else room / 2  # else a slow start would leave nothing to compare
    base = {axis.key: get_dotted(values, axis.key) for axis in axes}
    plan = BenchPlan(
        axes=axes,
        repeats=_ROUNDS,
        steps=8,
        seconds=_MEASURED_SECONDS,
        limit_seconds=limit,
        base=base,
        left_out=() if config.command is None else _forbidden(config, axes, base),
    )
    opened = open_bench(study.project, config, plan, is_new=True, study=config.name)
    study.note_speed_begun(opened.folder.bench_id)
    return opened


def _forbidden(config: RunConfig, axes: Sequence[Axis], base: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the combinations, but for the config's own, that the constraints of `search` leave out."""
    search = knob_search(config)
    return tuple(one for one in combinations(axes) if one != base and not search.allows(config, one))


def _answers(history: History) -> Answers:
    """Return what the bench answers, from what the ledger keeps of it."""
    assert history.speed is not None
    repeats = [
        CellRepeat(number, 0, cell.settings, "measured", step_seconds=(cell.seconds_per_step,))
        for number, cell in enumerate(history.speed.cells)
    ]
    return answers_from(repeats, _measured_settings(candidate_config(history, 0), history.speed.keys))


def _measured_settings(config: RunConfig, keys: tuple[str, ...]) -> Mapping[str, Any]:
    values = json.loads(config.model_dump_json())
    return {key: get_dotted(values, key) for key in keys}


class _Lines:
    """Tells of a bench as a study does: failures alone, the figures come at the end.

    Each repeat is a sign of life in the study's ledger, so that its seconds count, whatever becomes of the sitting.
    """

    def __init__(self, study: Study, bench: OpenBench, says: Callable[[str], object]) -> None:
        self._study, self._bench_id, self._base = study, bench.folder.bench_id, bench.plan.base
        self._says = says

    def says(self, text: str) -> None:
        """Say it."""
        self._says(text)

    def starts(self, cell: GridCell, repeat: int, done: int, planned: int) -> None:
        """Say nothing: a cell takes some seconds."""

    def ticks(self) -> None:
        """Say nothing."""

    def ends(self, repeat: CellRepeat) -> None:
        """Say why a cell has no figures; where that is the config's own, the end of the bench says so."""
        self._study.note_speed_begun(self._bench_id)
        if repeat.settings == self._base and repeat.repeat == 0:
            return
        if not repeat.is_measured or not all(map(math.isfinite, repeat.step_seconds)):
            self._says(f"   cell {repeat.cell}: {_reason(repeat)}")
