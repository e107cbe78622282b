"""`hotlap apply`: write a kept change, the whole ladder or a bench's suggestion into the config file; comments stay.

hotlap apply 4
hotlap apply bench
hotlap apply ladder hotlap.yaml --dry-run
"""

import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hotlap.study.apply import Application


def apply(
    what: Annotated[
        str,
        typer.Argument(
            metavar="N|ladder|bench", help="Number of a kept change, all of them, or what the last bench suggests."
        ),
    ],
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="Config file (default: hotlap.yaml).")] = None,
    study: Annotated[str | None, typer.Option(help="Study (default: the one that the config names).")] = None,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Show the diff; write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    project: Annotated[Path, typer.Option("-p", "--project", help="Folder that holds .hotlap/.")] = Path(),
) -> None:
    """Write a kept change, or what a bench suggests, into the config file."""
    path = config or project / "hotlap.yaml"
    found = _planned(project, path, what, study)
    is_written = not dry_run and not found.is_done
    if is_written:
        _write(found, path)
    if json:
        _print_document(found, path, is_written=is_written)
        return
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    changes = ", ".join(f"#{number}" for number in found.numbers) or "the suggestion"
    if found.is_done:
        typer.echo(f"{path} has {changes} of {found.study} already")
        return
    typer.echo(found.diff(str(path)), nl=False)
    place = [str(path), *([] if project == Path() else ["-p", str(project)])]
    if dry_run:
        chosen = [] if study is None else ["--study", study]
        again = shlex.join(["hotlap", "apply", what.removeprefix("#"), *place, *chosen])
        typer.echo(f"\nnothing was written; next: {again}")
        return
    file = shlex.join(place)
    own = [str(path)] if found.after != found.before else []
    files = [*(one.name for one in found.knobs.files), *(found.code.files if found.code else ())]
    changed = ", ".join(dict.fromkeys([*own, *files]))
    typer.echo(f"\nwrote {changes} of {found.study} into {changed}")
    if found.code is not None and found.code.branch:
        typer.echo(f"the kept changes are commits on the branch {found.code.branch}, too")
    fresh = " -s name=NEW  (a study of its own starts from here)" if found.numbers else ""
    typer.echo(f"next: hotlap train {file} · hotlap speedrun {file}{fresh}")


def _planned(project: Path, path: Path, what: str, study: str | None) -> "Application":
    """Return what applying makes of the files; nothing is written."""
    from hotlap.core.errors import ConfigError
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.study.apply import plan_application
    from hotlap.study.apply_bench import is_bench, plan_bench_application

    folder = ProjectFolder(project.absolute())
    if not is_bench(what):
        return plan_application(folder, path, what, study)
    if study is not None:
        raise ConfigError("--study says whose change is meant, a bench belongs to no study; leave one of them out")
    return plan_bench_application(folder, path, what)


def _write(found: "Application", path: Path) -> None:
    """Write code, knobs and config."""
    from hotlap.core.files import write_atomic

    if found.code is not None:
        found.code.write()
    found.knobs.write()
    if found.after != found.before:
        mode = path.stat().st_mode
        write_atomic(path.resolve(), found.after)  # a link stays one
        path.chmod(stat.S_IMODE(mode))


def _print_document(found: "Application", path: Path, *, is_written: bool) -> None:
    from hotlap.cli.screen import print_json

    facts = {
        "schema": "hotlap/apply/1",
        "study": found.study,
        "file": str(path),
        "applied": found.numbers,
        "patch": found.patch,
        "diff": found.diff(str(path)),
        "knob_files": [one.name for one in found.knobs.files],
        "code_files": list(found.code.files) if found.code is not None else [],
        "branch": found.code.branch if found.code is not None else "",
        "notes": found.notes,
        "written": is_written,
    }
    print_json(facts)
