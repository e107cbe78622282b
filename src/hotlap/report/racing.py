"""The section of SPEEDRUN.md on racing: what it stopped, what that saved, and how often it is wrong."""

from dataclasses import dataclass

from hotlap.core.clock import ClockName
from hotlap.report.text import NOTHING, count_text, percent_text, seconds_text, table


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFigures:
    """What one rule did."""

    rule: str
    stopped: int
    saved_seconds: float
    """Seconds of the judged clock that the stopped runs would at most have gone on."""
    would_have_stopped: int
    """Runs that were left alone and that the rule would have stopped, were it the only one."""
    wrongly: int
    """Those of them that passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RacingFigures:
    """What racing did in a study."""

    clock: ClockName
    raced: int
    """Screens that were raced."""
    rules: tuple[RuleFigures, ...]
    """Every rule that stopped a run or would have stopped one."""
    audits: int
    """Screens that were left alone to check the rules."""
    audits_stopped: int
    """Audits that racing would have stopped."""
    audits_wrong: int
    """Those of them that passed."""
    wrong_share_bound: float
    """Upper 95 % bound of the share of stops that are wrong, from the audits alone."""
    winners: int
    """Fresh runs of kept changes, raced afterwards."""
    winners_wrong: int
    doubtful: tuple[str, ...]
    """Rules that are switched off."""


def racing_section(figures: RacingFigures | None) -> str:
    """Return the section's text; empty before the first screen."""
    if figures is None or not figures.raced + figures.audits:
        return ""
    stopped = sum(rule.stopped for rule in figures.rules)
    saved = sum(rule.saved_seconds for rule in figures.rules)
    head = f"{stopped} of {count_text(figures.raced, 'raced screen')} {'was' if stopped == 1 else 'were'} stopped early"
    if saved:
        head += (
            f", which saved at most {seconds_text(saved)} of the {figures.clock} clock: a screen that is left alone "
            "goes on to its targets, its limit, its horizon or twice the incumbent's time"
        )
    parts = [f"{head}."]
    if figures.rules:
        parts.append(_rules_table(figures))
    parts.append(_errors(figures))
    if figures.doubtful:
        parts.append(f"Switched off, since they would have stopped a run that passed: {', '.join(figures.doubtful)}.")
    return "\n\n".join(parts)


def _rules_table(figures: RacingFigures) -> str:
    headers = ["rule", "stopped", "saved", "would have stopped", "wrongly"]
    rows = [
        [
            rule.rule,
            str(rule.stopped),
            seconds_text(rule.saved_seconds) if rule.saved_seconds else NOTHING,
            str(rule.would_have_stopped),
            str(rule.wrongly),
        ]
        for rule in figures.rules
    ]
    return table(headers, rows, words=("rule",))


def _errors(figures: RacingFigures) -> str:
    """Say how wrong the rules are, as far as runs that were left alone tell."""
    if not figures.audits + figures.winners:
        return "No run that was left alone tells yet how often racing is wrong."
    audits = f"{count_text(figures.audits, 'screen')} left alone for an audit"
    winners = f"{count_text(figures.winners, 'fresh run')} of kept changes"
    text = (
        f"Raced afterwards, with what was known when they started: {audits}, of which racing would have stopped "
        f"{figures.audits_stopped}, {figures.audits_wrong} of them wrongly; and {winners}, of which it would have "
        f"stopped {figures.winners_wrong} wrongly."
    )
    if not figures.audits_stopped:
        return text
    bound = percent_text(figures.wrong_share_bound)
    return f"{text} By the audits at most {bound} of the stops are wrong (one-sided 95 % bound)."
