"""`hotlap replay`: run a study's ladder again, rung by rung with fresh seeds, and tell which gains transfer.

hotlap replay demo --runs 3
hotlap replay demo --last --json
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.train import ProjectOption, SettingOption

if TYPE_CHECKING:
    from hotlap.core.records import History, RunRecord
    from hotlap.core.run_folder import RunFolder
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.search.noise import Estimate
    from hotlap.search.transfer import Gain, Transfer
    from hotlap.study.plan import Action
    from hotlap.study.replay import ReplayPlan
    from hotlap.study.study import Study


def replay(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="Study (default: the one touched last).")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each rung, each with a seed of its own.")] = 3,
    ends: Annotated[bool, typer.Option("--ends", help="Only the baseline and the last rung.")] = False,
    settings: SettingOption = None,
    last: Annotated[bool, typer.Option("--last", help="Show the newest replay; run nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Say what would run; run nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    project: ProjectOption = Path(),
) -> None:
    """Run a study's ladder again with fresh seeds: which gains transfer to this machine?"""
    from hotlap.cli.screen import print_json
    from hotlap.config.load import parse_override
    from hotlap.core.errors import StudyError
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.study.replay import last_replay, plan_replay

    folder = ProjectFolder(project.absolute())
    if not folder.path.is_dir():
        raise StudyError(f"there is no .hotlap in {folder.project}; give the project's folder with -p")
    if last:
        plan, history = last_replay(folder, study)
        reason = history.ended or "not finished"
    else:
        patch = dict(parse_override(setting) for setting in settings or [])
        plan = plan_replay(folder, study, runs=runs, only_ends=ends, patch=patch)
        if dry_run and json:
            print_json(plan_document(plan))
        elif not json:
            typer.echo("\n".join(opening_lines(plan)))
        if dry_run:
            return
        history, reason = _drive(folder, plan, quiet=json)
    _show(plan, history, reason, as_json=json)
    has_reached = any(run.outcome == "reached" for run in history.runs)
    raise typer.Exit(130 if reason == "interrupted" else 0 if has_reached else 3)


def opening_lines(plan: "ReplayPlan") -> list[str]:
    """Return what is about to run, and what is not as it was in the study."""
    from hotlap.core.durations import format_seconds
    from hotlap.report.text import count_text

    name = plan.folder.name
    changes = ", ".join(f"#{number}" for number in plan.rungs[1:])
    size = f"the baseline and {changes}, {count_text(plan.runs, 'run')} each"
    cost = format_seconds(plan.cost_seconds)
    lines = [f"replay {name}: {size}; about {cost} at the study's times"]
    differences = sorted(plan.differences.items())
    return [
        *lines,
        *(f"  {key.removeprefix('config.')}: {there} there, {here} here" for key, (there, here) in differences),
    ]


def _drive(project: "ProjectFolder", plan: "ReplayPlan", *, quiet: bool) -> "tuple[History, str]":
    """Carry the replay out; return its history and why it ended."""
    from hotlap.cli.speedrun import StudyScreen
    from hotlap.cli.train import tell_trackers
    from hotlap.launch.locks import study_lock
    from hotlap.launch.orphans import reap_orphans
    from hotlap.launch.prepare import prepare_data
    from hotlap.study.replay import open_replay, run_replay

    screen = Silence() if quiet else StudyScreen()
    with study_lock(plan.folder.create()):
        for run_id in reap_orphans(project):
            screen.says(f"{run_id} had lost its driver and was stopped")
        screen.says(f"{plan.config.subject}: {prepare_data(project, plan.config)}")
        replay = open_replay(project, plan)
        if replay.history.runs:
            screen.says(f"going on with {plan.folder.name}: {len(replay.history.runs)} runs so far")
        reason = run_replay(replay, plan, screen)
    tell_trackers(replay.new_run_folders)
    return replay.history, reason


class Silence:
    """Watches a replay whose output is one JSON document."""

    def acts(self, action: "Action", study: "Study") -> None:
        """Say nothing."""

    def follows(self, folder: "RunFolder", points: Sequence[dict[str, Any]]) -> None:
        """Say nothing."""

    def ended(self, record: "RunRecord") -> None:
        """Say nothing."""

    def says(self, text: str) -> None:
        """Say nothing."""


def _show(plan: "ReplayPlan", history: "History", reason: str, *, as_json: bool) -> None:
    from hotlap.cli.screen import print_json
    from hotlap.search.transfer import transfers, whole_transfer

    rows = transfers(plan.original, history, plan.rungs)
    whole = whole_transfer(plan.original, history, plan.rungs)
    if as_json:
        print_json(_document(plan, history, rows, whole, reason))
    else:
        typer.echo("\n".join(["", *table_of(rows), "", *closing_lines(plan, history, whole, reason)]))


def table_of(rows: "Sequence[Transfer]") -> list[str]:
    """Return the rungs as a table: times on both sides, gains with their 90 % intervals, and the answer."""
    from hotlap.cli.screen import table_lines

    headers = ["#", "change", "there", "here", "n", "faster there", "faster here", "steps", "transfers"]
    cells = [
        [
            str(row.number),
            row.title,
            _seconds(row.there),
            _seconds(row.here),
            f"{row.here.reached} of {row.here.runs}",
            gain_text(row.gain_there),
            gain_text(row.gain_here),
            _steps(row),
            row.answer or "",
        ]
        for row in rows
    ]
    return table_lines(headers, cells, left=2)


def closing_lines(plan: "ReplayPlan", history: "History", whole: "Transfer", reason: str) -> list[str]:
    """Return the ladder as a whole, its steps, whether the data are others, why it ended, and what to type next."""
    from hotlap.search.transfer import STEPS_TOLERANCE
    from hotlap.study.replay import COMPLETE, DATA, differences_of

    lines = [f"whole ladder: {gain_text(whole.gain_there)} faster there, {gain_text(whole.gain_here)} here"]
    lines[0] += _standing(whole)
    if math.isfinite(whole.steps_ratio):
        is_near = abs(whole.steps_ratio - 1) <= STEPS_TOLERANCE
        word = "within" if is_near else "not within"
        steps = f"{whole.there.steps:.4g} there, {whole.here.steps:.4g} here"
        lines.append(f"steps to target: {steps} ({_steps(whole)}), {word} {100 * STEPS_TOLERANCE:.0f} % of each other")
    if hashes := differences_of(plan, history).get(DATA):
        lines.append(f"the data are others (hash {hashes[0]} there, {hashes[1]} here), so the gains may be, too")
    lines.append(f"ended: {reason}")
    following = "hotlap apply ladder" if reason == COMPLETE else "the same command goes on"
    return [*lines, f"next: {following} · hotlap runs ls --study {plan.folder.name}"]


def _standing(whole: "Transfer") -> str:
    """Say where the ratio from here stands to the interval from there, as far as that is known."""
    there, here = whole.gain_there, whole.gain_here
    if there is None or here is None or not (math.isfinite(there.ratio) and math.isfinite(here.ratio)):
        return ""
    if whole.is_as_claimed is not None:
        return f": {'inside' if whole.is_as_claimed else 'outside'} the 90 % interval from there"
    if not there.has_interval:
        return "; there is no interval from there to hold it against"
    return "; a lower bound, which the 90 % interval from there neither holds nor rules out"


def gain_text(gain: "Gain | None") -> str:
    """Return a ratio with its interval: `2.11× (1.93 to 2.30)`, `2.11× (at least 1.93)`, or `≥ 4.56×`."""
    from hotlap.report.text import NOTHING, interval_text, ratio_text

    if gain is None or not math.isfinite(gain.ratio):
        return "" if gain is None else NOTHING
    if gain.is_lower_bound:
        return ratio_text(gain.ratio, is_lower_bound=True)
    interval = interval_text((gain.low, gain.high)).replace("×", "")
    return f"{ratio_text(gain.ratio)} ({interval})" if interval else ratio_text(gain.ratio)


def _seconds(found: "Estimate") -> str:
    from hotlap.report.text import NOTHING, seconds_text

    return seconds_text(found.median_seconds) if found.runs else NOTHING


def _steps(row: "Transfer") -> str:
    from hotlap.report.text import NOTHING

    return f"{100 * row.steps_ratio - 100:+.0f} %" if math.isfinite(row.steps_ratio) else NOTHING


def _document(
    plan: "ReplayPlan", history: "History", rows: "Sequence[Transfer]", whole: "Transfer", reason: str
) -> dict[str, Any]:
    from dataclasses import asdict

    from hotlap.study.replay import REPLAY_SCHEMA, differences_of

    return {
        "schema": REPLAY_SCHEMA,
        "study": plan.study,
        "replay": plan.folder.name,
        "runs_per_rung": plan.runs,
        "runs": [run.run_id for run in history.runs],
        "differences": differences_of(plan, history),
        "rungs": [{**asdict(row), "steps_ratio": row.steps_ratio, "as_claimed": row.is_as_claimed} for row in rows],
        "whole": {**asdict(whole), "steps_ratio": whole.steps_ratio, "as_claimed": whole.is_as_claimed},
        "ended": reason,
    }


def plan_document(plan: "ReplayPlan") -> dict[str, Any]:
    """Return what would run as one JSON document."""
    return {
        "schema": "hotlap/replay-plan/1",
        "study": plan.study,
        "replay": plan.folder.name,
        "rungs": plan.rungs,
        "runs_per_rung": plan.runs,
        "cost_seconds": plan.cost_seconds,
        "differences": plan.differences,
    }
