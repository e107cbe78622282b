"""What `hotlap speedrun --dry-run` says below the proposals."""

from dataclasses import replace

import pytest

from hotlap.cli.preview import preview_lines
from hotlap.core.records import Decision, History, Proposal, RunRecord
from hotlap.study.preview import Preview
from hotlap.study.settings import StudySettings
from hotlap.study.upcoming import Upcoming

IDEA = Proposal(
    number=1, parent=0, family="f", title="t", observation="o", hypothesis="h", patch={}, predicted_ratio=0.9
)


def closing(tries: int, **settings: float) -> str:
    """Return what is said of patience after so many tries that took 100 s each."""
    proposals = tuple(replace(IDEA, number=number) for number in range(1, tries + 1))
    runs = tuple(
        RunRecord(
            run_id=f"r{p.number:04}",
            role="screen",
            candidate=p.number,
            seed=1,
            outcome="missed",
            steps=9,
            train_seconds=90.0,
            wall_seconds=100.0,
        )
        for p in proposals
    )
    decisions = tuple(Decision(proposal=p.number, verdict="discard", reason="r") for p in proposals)
    past = History(clock="train", base_config={}, runs=runs, proposals=proposals, decisions=decisions)
    preview = Preview(
        name="toy",
        history=past,
        settings=StudySettings(**settings),  # type: ignore[arg-type]
        next_step="proposes",
        pending=(),
        proposals=(IDEA,),
    )
    *_, line, _ = preview_lines(preview)
    return line.removeprefix("each as if those before it were discarded")


@pytest.mark.parametrize(
    ("tries", "seconds", "said"),
    [
        (2, 0.0, "; the search ends after 1 more proposal without a keep"),
        (1, 0.0, "; the search ends after 2 more proposals without a keep"),
        (1, 130.0, "; the search ends after 2 more proposals without a keep, once they have cost 30.0 s"),
        (2, 130.0, "; the search ends after 1 more proposal without a keep"),
        (3, 930.0, "; the search ends once more proposals without a keep have cost 10:30"),
        (3, 300.0, ""),
    ],
)
def test_what_is_left_of_patience(tries: int, seconds: float, said: str) -> None:
    assert closing(tries, patience=3, patience_seconds=seconds) == said


def test_a_proposal_that_was_handed_in_is_shown_with_its_diff() -> None:
    code = "diff --git a/model.py b/model.py\n--- a/model.py\n+++ b/model.py\n@@ -1 +1 @@\n-x = 1\n+x = \x1b[31m2\n"
    first = Upcoming(source="patches/a.patch", title="t", proposal=replace(IDEA, code=code, diff=code))
    refused = replace(first, source="queued by somebody", problem="it changes train.py, which edits.protect holds")
    unusable = Upcoming(source="patches/c.patch", title="c", problem="the proposal changes nothing")
    preview = Preview(
        name="toy",
        history=History(clock="train", base_config={}),
        settings=StudySettings(),
        next_step="proposes",
        pending=(),
        proposals=(),
        handed_in=(first, refused, unusable),
        agent="one proposal in 3 comes from the agent",
    )
    lines = preview_lines(preview)
    assert "   change:      the code of model.py" in lines
    assert [line for line in lines if line.startswith("   | ")][-2:] == ["   | -x = 1", "   | +x = 2"]
    assert "   refused:     it changes train.py, which edits.protect holds" in lines
    assert lines.index("   left out:    the proposal changes nothing") > lines.index("   | +x = 2")
    assert "one proposal in 3 comes from the agent" in lines
    assert sum("   | +x = 2" in line for line in lines) == 1, "the diff of the first one alone"
