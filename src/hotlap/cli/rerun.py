"""`hotlap rerun`: repeat a run exactly, and say how far the repetition agrees.

hotlap rerun r0042
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.train import ProjectOption

if TYPE_CHECKING:
    from hotlap.core.records import RunRecord
    from hotlap.core.run_folder import RunFolder

_TRACES = ("train_loss", "eval_loss")


def rerun(
    run: Annotated[str, typer.Argument(metavar="RUN", help="r0042, r42, @last, @baseline or @best.")],
    project: ProjectOption = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Repeat a run exactly: same config, seed, devices and limits."""
    from hotlap.cli.train import closing_summary, run_training, tell_trackers
    from hotlap.core.records import EXIT_CODES
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.prepare import prepare_data
    from hotlap.launch.rerun import plan_rerun
    from hotlap.runs.notes import append_note

    folder = ProjectFolder(project.absolute())
    first, first_record = _find(folder, run)
    plan = plan_rerun(first, folder.project)
    for notice in plan.notices:
        typer.echo(f"note: {notice}", err=True)
    prepare_data(folder, plan.config)
    record, second = run_training(plan.config, folder.project, folder.runs_path, quiet=json, facts=plan.facts)
    append_note(folder, record.run_id, f"rerun of {first.run_id}", ("rerun",))
    if json:
        _print_document(first_record, record, first, second)
    else:
        typer.echo(closing_summary(record, second))
        typer.echo("\n".join(["", *comparison_lines(first_record, record, first, second)]))
    tell_trackers([second])
    raise typer.Exit(EXIT_CODES[record.outcome])


def _find(project: Any, name: str) -> "tuple[RunFolder, RunRecord]":
    """Return folder and record of a run; raises ConfigError when there is none, or when it has not ended."""
    from hotlap.core.errors import ConfigError
    from hotlap.core.run_folder import RunFolder
    from hotlap.runs.ingest import ingest
    from hotlap.runs.store import RunStore

    if not project.path.is_dir():
        raise ConfigError(f"there is no .hotlap in {project.project}; give the project's folder with -p")
    with RunStore(project) as store:
        store.refresh()
        folder = RunFolder(project.runs_path / store.get(name).run_id)
    record = ingest(folder)
    if record is None:
        raise ConfigError(f"{folder.run_id} has not ended; wait for it, then run it again")
    return folder, record


def comparison_lines(first: "RunRecord", second: "RunRecord", before: "RunFolder", after: "RunFolder") -> list[str]:
    """Return both runs side by side, whether their losses agree, and what differed around them."""
    from hotlap.cli.screen import table_lines
    from hotlap.core.durations import format_seconds
    from hotlap.core.targets import CHEAP_METRICS, GENERATION_METRICS
    from hotlap.runs.repeats import compare_traces, environment_differences

    def time(record: "RunRecord", clock: str) -> str:
        return format_seconds(record.time_to_target[clock]) if record.time_to_target else "-"

    rows = [
        ["outcome", *(record.outcome.replace("_", " ") for record in (first, second))],
        ["train to target", *(time(record, "train") for record in (first, second))],
        ["wall to target", *(time(record, "wall") for record in (first, second))],
        ["steps", *(f"{record.steps:,}" for record in (first, second))],
        ["ms per step", *(f"{1000 * record.seconds_per_step:.3g}" for record in (first, second))],
    ]
    for name in (*CHEAP_METRICS, *GENERATION_METRICS):
        if name in first.metrics and name in second.metrics:
            rows.append([name, *(f"{record.metrics[name]:.5g}" for record in (first, second))])
    lines = table_lines(["", first.run_id, second.run_id], rows)
    lines += [str(compare_traces(before.points(), after.points(), name)) for name in _TRACES]
    differences = environment_differences(first.environment, second.environment)
    lines += [f"{key}: {old} → {new}" for key, (old, new) in differences.items()]
    return lines


def _print_document(first: "RunRecord", second: "RunRecord", before: "RunFolder", after: "RunFolder") -> None:
    from dataclasses import asdict

    from hotlap.cli.screen import print_json
    from hotlap.runs.repeats import compare_traces, environment_differences

    def facts(record: "RunRecord") -> dict[str, Any]:
        names = ("run_id", "seed", "outcome", "reason", "steps", "train_seconds", "wall_seconds", "time_to_target")
        return {**{name: getattr(record, name) for name in names}, "metrics": record.metrics}

    document = {
        "schema": "hotlap/rerun/1",
        "first": facts(first),
        "rerun": facts(second),
        "traces": [asdict(compare_traces(before.points(), after.points(), name)) for name in _TRACES],
        "differences": environment_differences(first.environment, second.environment),
    }
    print_json(document)
