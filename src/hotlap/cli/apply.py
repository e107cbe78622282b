"""`hotlap apply`: write a kept change, or the whole ladder, into the config file; its comments stay.

hotlap apply 4
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
    what: Annotated[str, typer.Argument(metavar="N|ladder", help="Number of a kept change, or all of them.")],
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="Config file (default: hotlap.yaml).")] = None,
    study: Annotated[str | None, typer.Option(help="Study (default: the one that the config names).")] = None,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Show the diff; write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    project: Annotated[Path, typer.Option("-p", "--project", help="Folder that holds .hotlap/.")] = Path(),
) -> None:
    """Write a kept change into the config file."""
    from hotlap.core.files import write_atomic
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.study.apply import plan_application

    path = config or project / "hotlap.yaml"
    found = plan_application(ProjectFolder(project.absolute()), path, what, study)
    is_written = not dry_run and not found.is_done
    if is_written and found.code is not None:
        found.code.write()
    if is_written:
        found.knobs.write()
    if is_written and found.after != found.before:
        mode = path.stat().st_mode
        write_atomic(path.resolve(), found.after)  # a link stays one
        path.chmod(stat.S_IMODE(mode))
    if json:
        _print_document(found, path, is_written=is_written)
        return
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    changes = ", ".join(f"#{number}" for number in found.numbers)
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
    typer.echo(f"next: hotlap train {file} · hotlap speedrun {file} -s name=NEW  (a study of its own starts from here)")


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
