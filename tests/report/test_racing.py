"""What SPEEDRUN.md tells of racing."""

from dataclasses import replace

from synthetic import history, summary

from hotlap.report.journal import render_journal
from hotlap.report.racing import RacingFigures, RuleFigures, racing_section

FIGURES = RacingFigures(
    clock="train",
    raced=30,
    rules=(
        RuleFigures(rule="cap", stopped=9, saved_seconds=250.0, would_have_stopped=2, wrongly=0),
        RuleFigures(rule="behind", stopped=3, saved_seconds=62.0, would_have_stopped=1, wrongly=1),
        RuleFigures(rule="rung", stopped=0, saved_seconds=0.0, would_have_stopped=1, wrongly=0),
    ),
    audits=4,
    audits_stopped=3,
    audits_wrong=1,
    wrong_share_bound=0.865,
    winners=6,
    winners_wrong=0,
    doubtful=("behind",),
)


def test_it_tells_what_was_stopped_and_saved() -> None:
    text = racing_section(FIGURES)
    assert "12 of 30 raced screens were stopped early, which saved at most 5:12 of the train clock" in text
    assert "| cap | 9 | 4:10 | 2 | 0 |" in text
    assert "| rung | 0 | – | 1 | 0 |" in text


def test_it_tells_how_often_racing_is_wrong() -> None:
    text = racing_section(FIGURES)
    assert "4 screens left alone for an audit, of which racing would have stopped 3, 1 of them wrongly" in text
    assert "6 fresh runs of kept changes, of which it would have stopped 0 wrongly" in text
    assert "at most 86.5 % of the stops are wrong" in text
    assert "Switched off, since they would have stopped a run that passed: behind." in text


def test_without_audits_nothing_is_claimed() -> None:
    text = racing_section(replace(FIGURES, audits=0, audits_stopped=0, winners=0, doubtful=(), rules=()))
    assert "No run that was left alone tells yet" in text and "%" not in text and "Switched off" not in text
    assert "bound" not in racing_section(replace(FIGURES, audits_stopped=0))


def test_before_the_first_screen_there_is_no_section() -> None:
    assert racing_section(None) == racing_section(replace(FIGURES, raced=0, audits=0)) == ""


def test_it_stands_in_the_journal() -> None:
    past = history()
    text = render_journal(summary(past), past, racing=FIGURES)
    assert text.index("## Proposals") < text.index("## Racing\n\n12 of 30") < text.index("## Records")
    assert "## Racing" not in render_journal(summary(past), past)
