"""The figures on racing, from the history and the points of its runs."""

from dataclasses import replace
from typing import Any

from simulated_study import proposal, run_record

from hotlap.core.records import Decision, History, Kill, RunRecord
from hotlap.core.targets import parse_target
from hotlap.search.audits import AUDIT_EVERY
from hotlap.search.curves import Recordings
from hotlap.study.racing import UNKNOWN_RULE, racing_figures

TARGETS = (parse_target("eval_loss < 0.76"),)


def points(seconds: float, until: float) -> list[dict[str, Any]]:
    """Return a loss that falls in a line from 4 to the target."""
    grid = [at for number in range(200) if (at := 1.03**number) <= until * 1.03]
    return [
        {"step": round(100 * at), "train_seconds": at, "tokens": 1, "eval_loss": 4 - 3.25 * at / seconds} for at in grid
    ]


def raced(number: int, candidate: int, kill: Kill | None) -> RunRecord:
    return replace(run_record(number, "screen", candidate, 60.0, "raced"), kill=kill)


def test_every_stop_and_every_audit_is_counted() -> None:
    cap = Kill(rule="cap", reason="late", at_seconds=60.0, saved_seconds=40.0)
    runs = (
        run_record(1, "baseline", 0, 100.0),
        run_record(2, "baseline", 0, 101.0),
        raced(3, 1, cap),
        raced(4, 2, replace(cap, saved_seconds=2.5)),
        raced(5, 3, None),
        run_record(6, "screen", 4, 70.0),
        run_record(7, "screen", AUDIT_EVERY, 180.0),
        replace(raced(8, 5, cap), contaminated="others were busy"),
    )
    history = History(
        clock="train",
        base_config={},
        runs=runs,
        proposals=tuple(proposal(number) for number in range(1, AUDIT_EVERY + 1)),
        decisions=(Decision(proposal=1, verdict="discard", reason="late"),),
    )
    lengths = {run.run_id: run.train_seconds for run in runs}
    recordings = Recordings(lambda run_id: points(lengths[run_id], lengths[run_id]))
    figures = racing_figures(history, recordings, TARGETS)
    assert (figures.raced, figures.audits, figures.audits_stopped, figures.audits_wrong) == (4, 1, 1, 0)
    assert figures.wrong_share_bound == 0.95 or abs(figures.wrong_share_bound - 0.95) < 1e-9
    by_rule = {rule.rule: rule for rule in figures.rules}
    assert (by_rule["cap"].stopped, by_rule["cap"].saved_seconds) == (2, 42.5)
    assert by_rule[UNKNOWN_RULE].stopped == 1
    assert {rule.rule: rule.would_have_stopped for rule in figures.rules if rule.would_have_stopped} == {
        "cap": 1,
        "behind": 1,
    }
    assert figures.doubtful == () and figures.winners == 0


def test_an_empty_study_has_figures() -> None:
    figures = racing_figures(History(clock="train", base_config={}), Recordings(lambda run_id: ()), TARGETS)
    assert (figures.raced, figures.audits, figures.rules, figures.doubtful) == (0, 0, (), ())
