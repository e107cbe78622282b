"""`hotlap propose`: one change with its grounds; hotlap runs it, judges it and writes it down.

hotlap propose --observation "train_loss falls until the end" --hypothesis "a higher rate gets there sooner" \
    --set params.learning_rate=1e-3
hotlap propose --observation "..." --hypothesis "..." --patch faster.patch --json
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.train import DEFAULT_CONFIG, ProjectOption

if TYPE_CHECKING:
    from hotlap.config.schema import RunConfig
    from hotlap.study.proposing import Draft
    from hotlap.study.study import Study

SCHEMA = "hotlap/propose/1"
PROPOSER = "user"
EXIT_KEPT, EXIT_NOT_KEPT, EXIT_CRASHED, EXIT_NO_ROOM, EXIT_INTERRUPTED = 0, 3, 5, 124, 130
_EXIT_CODES = {"keep": EXIT_KEPT, "crash": EXIT_CRASHED}


def propose(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Config of the study.")] = DEFAULT_CONFIG,
    *,
    observation: Annotated[str, typer.Option(help="What was seen, with its numbers.")],
    hypothesis: Annotated[str, typer.Option(help="What the change is expected to do, and why.")],
    patch: Annotated[Path | None, typer.Option(metavar="FILE", help="Patch of the code; - reads stdin.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting.")] = None,
    predicted_ratio: Annotated[float, typer.Option(help="Expected time relative to the incumbent's.")] = 0.95,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document; progress goes to stderr.")] = False,
    project: ProjectOption = Path(),
) -> None:
    """Propose one change; hotlap runs it, judges it and records it.

    The exit code is 0 for a change that is kept, 3 for one that is not, 5 for one that breaks the run, 124 where the
    study's budget has no room for it.
    """
    import sys
    from contextlib import ExitStack, redirect_stdout

    from hotlap.cli.train import load_with_notices
    from hotlap.config.load import parse_override
    from hotlap.study.proposing import Draft

    draft = Draft(
        observation=observation,
        hypothesis=hypothesis,
        settings=dict(map(parse_override, settings or [])),
        patch=_patch_text(patch),
        predicted_ratio=predicted_ratio,
    )
    with ExitStack() as held:
        if json:
            held.enter_context(redirect_stdout(sys.stderr))
        loaded = load_with_notices(config, [])
        document, code = _decide(loaded, project, draft, PROPOSER)
    if json:
        from hotlap.cli.screen import print_json

        print_json(document)
    else:
        typer.echo(document["told"])
    raise typer.Exit(code)


def _patch_text(path: Path | None) -> str:
    import sys

    from hotlap.core.errors import ConfigError

    if path is None:
        return ""
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--patch {path}: cannot be read: {error}") from error


def _decide(config: "RunConfig", project: Path, draft: "Draft", by: str) -> tuple[dict[str, Any], int]:
    """Run a study until a draft is decided, or queue the draft where somebody drives the study already."""
    from hotlap.core.errors import StudyError
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.locks import study_lock
    from hotlap.study.queue import enqueue

    folder = ProjectFolder(project.absolute()).create()
    study_folder = folder.study(config.name).create()
    lock = study_lock(study_folder)
    try:
        lock.__enter__()
    except StudyError:
        place = enqueue(study_folder, draft, by)
        told = f"queued: {config.name} is being driven already, and takes it up next; see: hotlap status {config.name}"
        return {"schema": SCHEMA, "study": config.name, "state": "queued", "file": str(place), "told": told}, 0
    try:
        return _drive(config, folder, draft, by)
    finally:
        lock.__exit__(None, None, None)


def _drive(config: "RunConfig", folder: Any, draft: "Draft", by: str) -> tuple[dict[str, Any], int]:
    from hotlap.cli.speedrun import StudyScreen
    from hotlap.core.errors import ConfigError
    from hotlap.launch.orphans import reap_orphans
    from hotlap.launch.prepare import prepare_data
    from hotlap.study.loop import run_study
    from hotlap.study.proposing import make_proposal_of
    from hotlap.study.sources import NoPolicy
    from hotlap.study.study import open_study
    from hotlap.study.view import write_study_journal

    screen = StudyScreen()
    for run_id in reap_orphans(folder):
        screen.says(f"{run_id} had lost its driver and was stopped")
    prepare_data(folder, config)
    study = open_study(folder, config)
    proposal = make_proposal_of(study.code, study.history, draft, by)
    if study.code is not None and (problem := study.code.problem_with(study.history, proposal)):
        raise ConfigError(f"the patch is refused: {problem}")
    study.append(proposal)
    reason = run_study(
        study,
        screen,
        write_study_journal,
        policy=NoPolicy(),
        is_done=lambda history: history.verdict(proposal.number) is not None,
    )
    return _document(study, proposal.number, reason, str(write_study_journal(study)))


def _document(study: "Study", number: int, ended: str, journal: str) -> tuple[dict[str, Any], int]:
    history = study.history
    decision, runs = history.verdict(number), [run for run in history.runs if run.candidate == number]
    document = {
        "schema": SCHEMA,
        "study": study.folder.name,
        "state": "decided" if decision else "interrupted" if ended == "interrupted" else "undecided",
        "proposal": number,
        "parent": history.proposal(number).parent,
        "verdict": decision.verdict if decision else None,
        "reason": decision.reason if decision else ended,
        "statistics": dict(decision.statistics) if decision else {},
        "runs": [_run_facts(run) for run in runs],
        "incumbent": history.incumbent,
        "clock": history.clock,
        "branch": study.code.branch if study.code is not None else None,
        "journal": journal,
        "told": f"#{number} {decision.verdict}: {decision.reason}" if decision else f"#{number} undecided: {ended}",
    }
    if decision is None:
        return document, EXIT_INTERRUPTED if ended == "interrupted" else EXIT_NO_ROOM
    return document, _EXIT_CODES.get(decision.verdict, EXIT_NOT_KEPT)


def _run_facts(run: Any) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "role": run.role,
        "seed": run.seed,
        "outcome": run.outcome,
        "reason": run.reason,
        "steps": run.steps,
        "train_seconds": run.train_seconds,
        "wall_seconds": run.wall_seconds,
        "time_to_target": run.time_to_target,
        "metrics": dict(run.metrics),
    }
