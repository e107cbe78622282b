"""`hotlap doctor`: can this machine time training runs, and how well?"""

from pathlib import Path
from typing import Annotated, Final

import typer

MARKS: Final = {"ok": "✓", "warning": "!", "missing": "✗"}
EXIT_MISSING: Final = 7


def doctor(
    project: Annotated[Path, typer.Option("-p", "--project", help="Folder that holds .hotlap/.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check Python, packages, cores, GPU, disk and how quiet the machine is; exits 7 when an essential is missing."""
    from dataclasses import asdict

    from hotlap.cli.screen import print_json
    from hotlap.launch.checks import machine_checks

    checks = machine_checks(project)
    if as_json:
        document = {"schema": "hotlap/doctor/1", "checks": [asdict(check) for check in checks]}
        print_json(document)
    else:
        for check in checks:
            typer.echo(f"{MARKS[check.state]} {check.name:<15} {check.text}")
    if any(check.is_essential and check.state == "missing" for check in checks):
        raise typer.Exit(EXIT_MISSING)
