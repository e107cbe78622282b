"""`hotlap runs`: list, show, compare, annotate and export what was run.

hotlap runs ls --sort time --limit 5
hotlap runs compare @baseline @best
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hotlap.cli.samples import samples
from hotlap.cli.screen import print_json, print_table, sparkline
from hotlap.cli.stores import AsJson, Project, open_store

if TYPE_CHECKING:
    from hotlap.runs.rows import StoredRun
    from hotlap.runs.store import RunStore

app = typer.Typer(help="List, show, compare, annotate and export runs.", no_args_is_help=True)
app.command()(samples)

RunName = Annotated[str, typer.Argument(metavar="ID", help="r0042, r42, @last, @baseline or @best.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV on stdout.")]
_SPARKLINE_WIDTH = 40
_NO_RUNS = ("the defaults", "nothing")
"""What `base_of` names that is no run."""


@app.command("ls")
def list_runs(
    study: Annotated[str | None, typer.Option(help="Only runs of this study.")] = None,
    sort: Annotated[Literal["id", "time"], typer.Option(help="By id, or by time to target.")] = "id",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the newest, or the fastest, so many.")] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    project: Project = Path(),
) -> None:
    """List runs."""
    with open_store(project) as store:
        _print_runs(store.runs(study, sort, limit), as_json, as_csv)


@app.command()
def show(name: RunName, as_json: AsJson = False, project: Project = Path()) -> None:
    """Show one run: facts, where the seconds went, config, metrics, and how to run it again."""
    from hotlap.runs.views import base_of, changes_from_base, guards_text, reproduce_argv, runs_document

    with open_store(project) as store:
        run = store.get(name)
        base, base_config = base_of(run, store.runs(run.study))
        changes = changes_from_base(run, base_config)
        reproduce = None if run.imported else shlex.join(reproduce_argv(store.project, run))
        if as_json:
            print_json(runs_document([run], base=base, differences=changes, reproduce=reproduce))
        else:
            folder = store.folder(run.run_id)
            peak = (folder.read("result") or {}).get("peak_memory_bytes")
            _print_facts(run, _course(store, run), guards_text(folder.read("guards") or {}), peak)
            _print_sections(run, base, changes)
            following = f"compare {base} {run.run_id}" if base not in (*_NO_RUNS, run.run_id) else "ls --sort time"
            again = _origin(run) if run.imported else f"run it again: {reproduce}"
            typer.echo(f"\n{again}\nnext: hotlap runs {following}")


@app.command()
def check(name: RunName, as_json: AsJson = False, project: Project = Path()) -> None:
    """Evaluate a run again from its saved weights, in a process of its own; exit code 5 if that gives other metrics."""
    from hotlap.launch.evaluate import evaluate_again, wait_for_device
    from hotlap.search.trust import REPRODUCED, reproduction_problems

    def problems_of(run: Any, found: Any) -> list[str]:
        return [*reproduction_problems(run.metrics, found["eval"]), *(found.get("probes") or {}).get("problems", ())]

    with open_store(project) as store:
        run = store.get(name)
        folder = store.folder(run.run_id)
        with wait_for_device(folder, lambda text: typer.echo(text, err=True)):
            found = evaluate_again(folder)
    if as_json:
        problems = problems_of(run, found)
        print_json({"schema": "hotlap/check/1", "run": run.run_id, "problems": problems, **_without_ticket(found)})
        raise typer.Exit(5 if problems else 0)
    again, audit = found["eval"], found["audit"] or {"num_examples": 0, "metrics": {}}
    rows = [
        [key, _value(run.metrics.get(key)), _value(value), _value(audit["metrics"].get(key))]
        for key, value in again["metrics"].items()
    ]
    print_table(["metric", "in the run", "from its weights", "on audit data"], rows)
    sizes = f"{again['num_examples']} evaluation examples (hash {again['hash']}), {audit['num_examples']} for audits"
    typer.echo(f"\n{sizes}; {found['shared']} of the evaluation examples stand in the training data, too")
    if problems := problems_of(run, found):
        typer.echo(f"error: {run.run_id}: {'; '.join(problems)}", err=True)
        raise typer.Exit(5)
    typer.echo(f"{run.run_id}: its weights give its metrics again (within {REPRODUCED:g})")


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(metavar="A B [C ...]", help="Ids or aliases.")],
    as_json: AsJson = False,
    project: Project = Path(),
) -> None:
    """Compare runs: where their configs differ, then times and metrics."""
    from hotlap.runs.views import config_differences, runs_document

    with open_store(project) as store:
        runs = [store.get(name) for name in names]
        differences = config_differences([run.config for run in runs])
        if as_json:
            print_json(runs_document(runs, differences=differences))
        else:
            _print_comparison(runs, differences)


@app.command()
def note(
    name: RunName,
    text: Annotated[str, typer.Argument(help="What to remember about the run.")],
    tag: Annotated[list[str] | None, typer.Option("-t", "--tag", help="Tag to add; repeatable.")] = None,
    as_json: AsJson = False,
    project: Project = Path(),
) -> None:
    """Write a note on a run; it appears in lists, reports and SPEEDRUN.md."""
    from hotlap.runs.notes import append_note

    with open_store(project) as store:
        run = store.get(name)
        append_note(store.project, run.run_id, text, tuple(tag or ()))
    if as_json:
        print_json({"schema": "hotlap/note/1", "run": run.run_id, "text": text, "tags": tag or []})
    else:
        typer.echo(f"noted on {run.run_id}; see: hotlap runs show {run.run_id}")


@app.command()
def export(
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File to write; absent: stdout.")] = None,
    points: Annotated[bool, typer.Option("--points", help="Every point instead of a row per run.")] = False,
    study: Annotated[str | None, typer.Option(help="Only runs of this study.")] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    project: Project = Path(),
) -> None:
    """Export all runs, or all their points, as CSV (default) or JSON; nothing is ever left out."""
    _refuse_both(as_json, as_csv)
    with open_store(project) as store:
        text = _export_text(store, study, points, as_json)
        if out is None:
            typer.echo(text, nl=False)
        else:
            _write(out, text)


def _without_ticket(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("schema", "ticket")}


def _refuse_both(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")


def _print_runs(runs: Sequence["StoredRun"], as_json: bool, as_csv: bool) -> None:
    from hotlap.runs.views import csv_text, flat_row, runs_document

    _refuse_both(as_json, as_csv)
    if as_json:
        print_json(runs_document(runs))
    elif as_csv:
        typer.echo(csv_text([flat_row(run) for run in runs]), nl=False)
    elif runs:
        metrics = {_metric(run) for run in runs}
        shown = metrics.pop() if len(metrics) == 1 else "metric"
        headers = ["run", "study", "role", "outcome", "to target", "train", "wall", "steps", shown, "candidate"]
        print_table(headers, [_list_row(run, names_metric=bool(metrics)) for run in runs], left=4)
    else:
        typer.echo("no runs here yet; start one with: hotlap train", err=True)


def _metric(run: "StoredRun") -> str:
    """Return the metric that a run is told by; what another program's config says of its own is not asked."""
    from hotlap.core.targets import main_metric

    return "eval_loss" if run.imported else main_metric(run.config)


def _list_row(run: "StoredRun", *, names_metric: bool) -> list[str]:
    outcome = f"{run.outcome}, contaminated" if run.contaminated else run.outcome
    times = [_time(run.time_to_target), _time(run.train_seconds), _time(run.wall_seconds)]
    name = _metric(run)
    value = _value(run.metrics.get(name))
    numbers = [f"{run.steps:,}", f"{name} {value}" if names_metric else value, str(run.candidate)]
    return [run.run_id, run.study or "-", run.role, outcome, *times, *numbers]


def _print_facts(run: "StoredRun", sparkline: str, guards: str, peak_bytes: int | None) -> None:
    study = f" of {run.study}, candidate {run.candidate}" if run.study else ""
    typer.echo(f"{run.run_id}  {run.role}{study}, seed {run.seed}: {run.outcome}")
    if run.reason:
        typer.echo(f"  {run.reason}".replace("\n", "\n    "))
    if run.contaminated:
        typer.echo(f"  contaminated: {run.contaminated}")
    if guards:
        typer.echo(f"  guards: {guards}")
    if run.target_step is not None:
        train, wall = _time(run.target_train_seconds), _time(run.target_wall_seconds)
        typer.echo(f"  time to target {train} (train clock), {wall} (wall clock), at step {run.target_step:,}")
    clocks = f"{_time(run.train_seconds)} of training in {_time(run.wall_seconds)}"
    spent = "no clock of hotlap's" if run.imported else clocks
    held = f", at most {peak_bytes / 2**20:,.0f} MiB of memory" if peak_bytes else ""
    typer.echo(f"  {run.steps:,} steps, {run.tokens:,} tokens, {spent}{held}")
    if sparkline:
        typer.echo(f"  {_metric(run)} {sparkline}")
    for note in run.notes:
        typer.echo(f"  note {note.at}: {note.text} {' '.join('#' + tag for tag in note.tags)}".rstrip())


def _origin(run: "StoredRun") -> str:
    """Return where an imported run comes from."""
    name = run.imported.get("name")
    called = f"{run.imported.get('id')} ({name})" if name else run.imported.get("id")
    return f"imported: {called} of {run.imported.get('source')} ({run.imported.get('kind')})"


def _print_sections(run: "StoredRun", base: str, changes: dict[str, tuple[Any, ...]]) -> None:
    from hotlap.runs.views import time_parts

    parts = [
        [("  " if part.is_inside_steps else "") + part.name, _time(part.seconds), f"{part.share:.0%}"]
        for part in time_parts(run)
    ]
    _print_section("where the seconds went", ["part", "seconds", "share"], parts)
    rows = [[key, _value(old), _value(new)] for key, (old, new) in changes.items()]
    _print_section(f"config, against {base}", ["key", "base", run.run_id], rows)
    _print_section("metrics", ["metric", "last"], [[key, _value(value)] for key, value in run.metrics.items()])


def _print_comparison(runs: Sequence["StoredRun"], differences: dict[str, tuple[Any, ...]]) -> None:
    ids = [run.run_id for run in runs]
    rows = [[key, *(_value(value) for value in values)] for key, values in differences.items()]
    _print_section("config, where they differ", ["key", *ids], rows or [["(equal)", *("" for _ in runs)]])
    facts = [
        ["outcome", *(run.outcome for run in runs)],
        ["time to target", *(_time(run.time_to_target) for run in runs)],
        ["train", *(_time(run.train_seconds) for run in runs)],
        ["wall", *(_time(run.wall_seconds) for run in runs)],
        ["steps", *(f"{run.steps:,}" for run in runs)],
        ["seconds per step", *(_value(run.train_seconds / run.steps if run.steps else None) for run in runs)],
    ]
    metrics = dict.fromkeys(name for run in runs for name in run.metrics)
    facts += [[name, *(_value(run.metrics.get(name)) for run in runs)] for name in metrics]
    _print_section("times and metrics", ["", *ids], facts)


def _print_section(title: str, headers: list[str], rows: list[list[str]]) -> None:
    if rows:
        typer.echo(f"\n{title}")
        print_table(headers, rows)


def _course(store: "RunStore", run: "StoredRun") -> str:
    """Return the course of the run's metric in one line, with its first and last value."""
    from hotlap.runs.views import finite

    name = _metric(run)
    values = [value for point in store.points(run.run_id) if (value := finite(point.get(name))) is not None]
    if len(values) < 2:
        return ""
    return f"{sparkline(values, _SPARKLINE_WIDTH)}  {values[0]:.4g} to {values[-1]:.4g}"


def _export_text(store: "RunStore", study: str | None, points: bool, as_json: bool) -> str:
    from hotlap.runs.views import SCHEMA, csv_text, finite, flat_row, runs_document

    runs = store.runs(study)
    if points:
        rows = [{"run_id": run.run_id, **finite(point)} for run in runs for point in store.points(run.run_id)]
        return json.dumps({"schema": SCHEMA, "points": rows}, allow_nan=False) + "\n" if as_json else csv_text(rows)
    if as_json:
        return json.dumps(runs_document(runs), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return csv_text([flat_row(run) for run in runs])


def _write(path: Path, text: str) -> None:
    from hotlap.core.files import write_atomic

    write_atomic(path, text)
    typer.echo(f"wrote {path}", err=True)


def _time(seconds: float | None) -> str:
    from hotlap.core.durations import format_seconds

    return "-" if seconds is None or seconds == float("inf") else format_seconds(seconds)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return "-" if value is None else str(value)
