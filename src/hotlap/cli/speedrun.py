"""`hotlap speedrun`: the loop that makes a recipe reach its targets sooner, and proves it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.train import DEFAULT_CONFIG, ConfigArgument, ProjectOption, SettingOption

if TYPE_CHECKING:
    from hotlap.core.records import RunRecord
    from hotlap.core.run_folder import RunFolder
    from hotlap.study.plan import Action
    from hotlap.study.study import Study


def speedrun(
    config: ConfigArgument = DEFAULT_CONFIG,
    settings: SettingOption = None,
    project: ProjectOption = Path(),
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Show the next proposals; run nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document; progress goes to stderr.")] = False,
    patches: Annotated[
        Path | None, typer.Option("--patches", metavar="DIR", help="Try the patch files of a folder first.")
    ] = None,
) -> None:
    """Search for the least time to target: baseline, proposals, decisions, record, SPEEDRUN.md."""
    from hotlap.cli.preview import show_preview
    from hotlap.cli.train import load_with_notices

    loaded = load_with_notices(config, settings or [])
    if dry_run:
        show_preview(loaded, project, patches, as_json=json)
        return
    raise typer.Exit(drive_and_tell(loaded, project, patches, as_json=json))


def drive_and_tell(config: Any, project: Path, patches: Path | None = None, *, as_json: bool) -> int:
    """Run or go on with a study and return the exit code; as JSON the study's figures are all that goes to stdout."""
    import sys
    from contextlib import ExitStack, redirect_stdout

    from hotlap.cli.screen import print_json
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.study.view import view_study

    with ExitStack() as held:
        if as_json:
            held.enter_context(redirect_stdout(sys.stderr))
        code = drive(config, project, patches)
    if as_json:
        print_json(view_study(ProjectFolder(project.absolute()), config.name)[1].document())
    return code


def drive(config: Any, project: Path, patches: Path | None = None) -> int:
    """Run or go on with the study of a config, patch files of a folder first; return the exit code."""
    from hotlap.cli.status import status_lines
    from hotlap.cli.train import tell_trackers
    from hotlap.core.records import EXIT_CODES
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.locks import study_lock
    from hotlap.launch.orphans import reap_orphans
    from hotlap.launch.prepare import prepare_data
    from hotlap.study.loop import default_policy, run_study
    from hotlap.study.sources import Sources
    from hotlap.study.speed import measure_speed
    from hotlap.study.study import as_studied, open_study
    from hotlap.study.view import study_summary, write_study_journal

    folder = ProjectFolder(project.absolute()).create()
    with study_lock(folder.study(config.name).create()):
        screen = StudyScreen()
        for run_id in reap_orphans(folder):
            screen.says(f"{run_id} had lost its driver and was stopped")
        screen.says(f"{config.subject}: {prepare_data(folder, config)}")
        study = open_study(folder, config)
        if idle := as_studied(config)[1]:
            screen.says(f"not used in a study, whose runs are all evaluated on the clock's grid: {', '.join(idle)}")
        if study.code is not None and (large := study.code.snapshot.left_out):
            screen.says(f"too large for a snapshot, and not in the worktrees: {', '.join(large)}; see edits.link")
        if study.history.runs:
            screen.says(f"going on with {config.name}: {len(study.history.runs)} runs so far")
        policy = Sources(study, default_policy(study.settings), screen.says, patches)
        reason = measure_speed(study, screen.says) or run_study(study, screen, write_study_journal, policy=policy)
        screen.says("")
        for line in status_lines(study_summary(study.history, study.folder.protocol() or {})):
            screen.says(line)
        screen.says(f"\nended: {reason}")
        screen.says(f"journal {write_study_journal(study)}")
    tell_trackers(study.new_run_folders)
    if reason == "interrupted":
        return 130
    outcomes = [run.outcome for run in study.history.runs]
    return 0 if "reached" in outcomes else EXIT_CODES[outcomes[-1]] if outcomes else 3


class StudyScreen:
    """Tells a terminal, or a log, what a study does."""

    def __init__(self) -> None:
        from hotlap.cli.progress import LiveLine

        self._line = LiveLine()
        self._config: Any = None

    def acts(self, action: "Action", study: "Study") -> None:
        """Announce a run, a decision or a claim."""
        from hotlap.core.durations import format_seconds
        from hotlap.study.plan import Claim, Decide, StartRun

        self._config = study.config
        history = study.history
        match action:
            case StartRun(role="screen"):
                proposal = history.proposal(action.candidate)
                left = format_seconds(max(0.0, study.settings.total_seconds - history.seconds_spent))
                self.says(f"\n#{proposal.number} {proposal.title}   ({left} of budget left)")
                self.says(f"   observation: {proposal.observation}")
                self.says(f"   hypothesis:  {proposal.hypothesis}")
            case StartRun():
                self.says(f"   {action.why}")
            case Decide():
                decision = action.decision
                mark = {"keep": "✓", "inconclusive": "?"}.get(decision.verdict, "✗")
                self.says(f" {mark} #{decision.proposal} {decision.verdict}: {decision.reason}")
            case Claim():
                self.says(f" ★ record look {action.claim.look}: {action.claim.reason}")

    def follows(self, folder: "RunFolder", points: Sequence[dict[str, Any]]) -> None:
        """Show the run's progress."""
        from hotlap.cli.progress import progress_text

        self._line.show(progress_text(folder.run_id, self._config, points))

    def ended(self, record: "RunRecord") -> None:
        """Say how a run ended."""
        from hotlap.core.durations import format_seconds

        if record.time_to_target:
            clock = self._config.clock if self._config is not None else "train"
            reading = f"{format_seconds(record.time_to_target[clock])} to target in {record.steps} steps"
        else:
            outcome = record.outcome.replace("_", " ")
            reading = f"{outcome} after {format_seconds(record.train_seconds)}: {record.reason}"
        noise = f"  [repeated: {record.contaminated}]" if record.contaminated else ""
        if record.outcome == "reached" and (why := record.guards.get("evaluated_again")):
            noise = noise or f"  [evaluated again: {why}]"
        self.says(f"   {record.run_id} {record.role:<9} seed {record.seed}: {reading.splitlines()[0]}{noise}")

    def says(self, text: str) -> None:
        """Print a lasting line."""
        self._line.say(text)
