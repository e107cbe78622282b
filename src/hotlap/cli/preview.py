"""What `hotlap speedrun --dry-run` shows: the next proposals with their evidence; nothing is run."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from hotlap.config.schema import RunConfig
    from hotlap.core.records import History, Proposal
    from hotlap.study.preview import Preview
    from hotlap.study.settings import StudySettings
    from hotlap.study.upcoming import Upcoming


def show_preview(config: "RunConfig", project: Path, patches: Path | None = None, *, as_json: bool) -> None:
    """Print what the study of a config would do next."""
    from hotlap.cli.screen import print_json
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.study.preview import preview_study

    preview = preview_study(ProjectFolder(project.absolute()), config, patches=patches)
    if as_json:
        print_json(preview.document())
    else:
        typer.echo("\n".join(preview_lines(preview)))


def preview_lines(preview: "Preview") -> list[str]:
    """Return where the study stands, its next step, and the proposals that would follow."""
    lines = [*_opening(preview), f"next step: {preview.next_step}"]
    for proposal in preview.pending:
        lines += ["", *proposal_lines(preview.history, proposal, " (begun)")]
    for place, each in enumerate(preview.handed_in):
        lines += ["", *_handed_in_lines(preview.history, each, shows_diff=place == 0)]
    if preview.agent:
        lines += ["", preview.agent]
    for proposal in preview.proposals:
        lines += ["", *proposal_lines(preview.history, proposal)]
    return [*lines, "", *_closing(preview)]


def proposal_lines(history: "History", proposal: "Proposal", remark: str = "") -> list[str]:
    """Return a proposal with its evidence, as a study announces it, and the values that it changes."""
    from hotlap.report.text import percent_text

    gain = 1 - proposal.predicted_ratio
    expected = f"{percent_text(abs(gain))} {'more' if gain < 0 else 'less'} time" if gain else "as fast"
    return [
        f"#{proposal.number} {proposal.title}{remark}   ({proposal.proposer}; predicted: {expected})",
        f"   observation: {proposal.observation}",
        f"   hypothesis:  {proposal.hypothesis}",
        f"   change:      {', '.join(_changes(history, proposal))}",
    ]


def _handed_in_lines(history: "History", each: "Upcoming", *, shows_diff: bool) -> list[str]:
    """Return a proposal that waits for the study, the first one with its exact diff."""
    from hotlap.policies.quoting import plain

    if each.proposal is None:
        return [f"{plain(each.title)}   ({each.source})", f"   left out:    {each.problem}"]
    lines = proposal_lines(history, each.proposal, f", {each.source}")
    if each.problem:
        lines.append(f"   refused:     {each.problem}")
    diff = plain(each.proposal.diff).splitlines() if shows_diff else []
    return [*lines, *(f"   | {line}" for line in diff)]


def _changes(history: "History", proposal: "Proposal") -> Iterator[str]:
    """Yield each changed key with its old and new value, and the files that change."""
    from hotlap.config.load import get_dotted
    from hotlap.config.set_in_yaml import value_text
    from hotlap.policies.rules import candidate_config
    from hotlap.study.upcoming import changed_files

    values = candidate_config(history, proposal.parent).model_dump(mode="json")
    for key, value in proposal.patch.items():
        try:
            before = value_text(get_dotted(values, key))
        except (KeyError, TypeError):
            before = "unset"
        yield f"{key} {before} → {value_text(value)}"
    if proposal.code:
        yield f"the code of {', '.join(changed_files(proposal.code))}"


def _opening(preview: "Preview") -> list[str]:
    from hotlap.core.durations import format_seconds
    from hotlap.report.text import count_text, seconds_text
    from hotlap.search.noise import estimate

    history, settings = preview.history, preview.settings
    if not history.runs:
        return [f"{preview.name}: a new study; policies read the evidence off the baseline's runs, so nothing is known"]
    number = history.incumbent
    name = f"#{number} {history.proposal(number).title}" if number else "the baseline"
    found = estimate(history, number)
    stands = f"at {seconds_text(found.median_seconds)}" if found.runs else "without a run of its own yet"
    left = format_seconds(max(0.0, settings.total_seconds - history.seconds_spent))
    runs = count_text(len(history.runs), "run")
    lines = [f"{preview.name}: {runs} so far, incumbent {name} {stands}, {left} of budget left"]
    return [*lines, *([f"it had ended: {history.ended}"] if history.ended else [])]


def _closing(preview: "Preview") -> list[str]:
    history, settings = preview.history, preview.settings
    lines = []
    if preview.proposals:
        lines.append(f"each as if those before it were discarded{_patience_left(history, settings)}")
    if settings.goal is not None:
        lines.append(f"the study stops at its goal of {settings.goal}")
    return [*lines, "nothing was run; next: hotlap speedrun"]


def _patience_left(history: "History", settings: "StudySettings") -> str:
    """Return how many proposals without a keep end the search, and what they have to cost; empty once they have."""
    from hotlap.core.durations import format_seconds
    from hotlap.report.text import count_text
    from hotlap.search.ladder import seconds_without_keep, tries_without_keep

    tries = settings.patience - tries_without_keep(history)
    seconds = settings.patience_seconds - seconds_without_keep(history)
    if tries > 0:
        cost = f", once they have cost {format_seconds(seconds)}" if seconds > 0 else ""
        return f"; the search ends after {count_text(tries, 'more proposal')} without a keep{cost}"
    if seconds > 0:
        return f"; the search ends once more proposals without a keep have cost {format_seconds(seconds)}"
    return ""
