"""How often racing is wrong: audits and winners, raced afterwards."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from races import TARGETS, Points, curve, ending, history_of

from hotlap.core.records import History
from hotlap.search.audits import AUDIT_EVERY, Replay, doubtful_rules, is_audited, replay_races, upper_share
from hotlap.search.curves import Recordings

LATE = [{**p, "eval_loss": 3.9 if p["train_seconds"] < 85 else p["eval_loss"]} for p in curve(88.0, until=90.0)]
"""It passes, after it was far behind."""
SLOW = ending(150.0)


def audited(points: Points) -> tuple[History, dict[str, Points]]:
    """Return a study whose twelfth screen was left alone."""
    runs = [("baseline", 0, ending(100.0))] * 2 + [("screen", AUDIT_EVERY, points)]
    return history_of(runs)


def replays_of(history: History, points: dict[str, Points]) -> list[Replay]:
    return replay_races(history, Recordings(points.__getitem__), TARGETS)


def test_one_screen_in_twelve_is_audited() -> None:
    assert [number for number in range(1, 40) if is_audited(number)] == [12, 24, 36]


def test_an_audit_tells_when_it_would_have_been_stopped() -> None:
    (replay,) = replays_of(*audited(SLOW))
    assert replay.is_audit and [kill.rule for kill in replay.kills] == ["behind", "cap"]
    assert not replay.passed and not replay.is_false_kill


def test_an_audit_that_passes_shows_a_false_kill() -> None:
    (replay,) = replays_of(*audited(LATE))
    assert [kill.rule for kill in replay.kills] == ["behind"] and replay.passed and replay.is_false_kill
    assert doubtful_rules([replay]) == {"behind"}


def test_a_rule_that_fires_does_not_hide_the_others() -> None:
    """Each of the two would have stopped it, were the other one switched off."""
    thrifty = [{**point, "tokens": 0.4 * point["tokens"]} for point in LATE]
    (replay,) = replays_of(*audited(thrifty))
    assert [kill.rule for kill in replay.kills] == ["throughput", "behind"] and replay.passed
    assert replay.kills[0].at_seconds < 5 < 20 < replay.kills[1].at_seconds
    assert doubtful_rules([replay]) == {"throughput", "behind"}


def test_a_good_audit_would_have_been_left_alone() -> None:
    (replay,) = replays_of(*audited(ending(80.0)))
    assert replay.kills == () and replay.passed and not replay.is_false_kill


def test_raced_screens_are_no_audits_and_fresh_runs_of_winners_are() -> None:
    runs = [("baseline", 0, ending(100.0))] * 2
    runs += [("screen", 1, ending(80.0)), ("confirm", 1, ending(80.0)), ("incumbent", 1, ending(82.0))]
    runs += [("screen", 2, SLOW), ("record", 1, ending(79.0)), ("record", 0, ending(100.0))]
    history, points = history_of(runs, kept=(1,))
    replays = replays_of(history, points)
    assert [replay.run_id for replay in replays] == ["r0005", "r0007"]
    assert all(not replay.is_audit and replay.passed and replay.kills == () for replay in replays)


def test_what_was_learned_later_is_not_held_against_a_run() -> None:
    """The baseline ran again afterwards, and faster: by that the audit would have been too late."""
    history, points = audited(ending(90.0))
    assert replays_of(history, points)[0].passed
    again, more = history_of([("incumbent", 0, ending(50.0))] * 5)
    later = tuple(replace(run, run_id=f"later-{run.run_id}") for run in again.runs)
    points |= {f"later-{run_id}": found for run_id, found in more.items()}
    (replay,) = replays_of(replace(history, runs=(*history.runs, *later)), points)
    assert replay.kills == () and replay.passed


def test_runs_that_do_not_count_are_not_replayed() -> None:
    history, points = audited(LATE)
    disturbed = replace(history, runs=(*history.runs[:-1], replace(history.runs[-1], contaminated="others were busy")))
    assert replays_of(disturbed, points) == []


def test_runs_from_before_a_drift_was_seen_are_not_replayed() -> None:
    slower = [{**point, "train_seconds": 1.5 * point["train_seconds"]} for point in ending(100.0)]
    runs = [("baseline", 0, ending(100.0))] * 3 + [("screen", AUDIT_EVERY, LATE)]
    history, points = history_of(runs)
    assert len(replays_of(history, points)) == 1
    assert replays_of(*history_of([*runs, *[("incumbent", 0, slower)] * 2])) == []


def test_a_winner_on_a_machine_of_another_speed_is_not_replayed() -> None:
    winner = ending(80.0)
    slower = [{**point, "train_seconds": 1.5 * point["train_seconds"]} for point in winner]
    runs = [("baseline", 0, ending(100.0))] * 3 + [("screen", 1, winner), *[("incumbent", 1, winner)] * 2]
    replays = replays_of(*history_of([*runs, *[("incumbent", 1, slower)] * 2], kept=(1,)))
    assert [replay.run_id for replay in replays] == ["r0005", "r0006"]


def test_each_run_is_replayed_once() -> None:
    history, points = audited(SLOW)
    recordings = Recordings(points.__getitem__)
    first = replay_races(history, recordings, TARGETS)
    assert len(recordings.verdicts) == 1
    points.clear()  # whoever reads it again fails
    assert replay_races(history, recordings, TARGETS) == first


def test_rules_that_are_certain_are_never_doubtful() -> None:
    (replay,) = replays_of(*audited(SLOW))
    assert doubtful_rules([replace(replay, passed=True)]) == {"behind"}, "the cap fired as well"


@pytest.mark.parametrize(
    ("hits", "tries", "bound"), [(0, 1, 0.95), (0, 10, 0.2589), (1, 10, 0.3942), (3, 3, 1.0), (0, 0, 1.0)]
)
def test_the_bound_is_clopper_and_pearsons(hits: int, tries: int, bound: float) -> None:
    assert upper_share(hits, tries) == pytest.approx(bound, abs=1e-4)


@given(st.integers(1, 60), st.data())
def test_the_bound_lies_above_what_was_seen(tries: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, tries))
    assert hits / tries <= upper_share(hits, tries) <= 1
    assert upper_share(hits, tries, 0.5) <= upper_share(hits, tries, 0.95)
    assert math.isclose(upper_share(0, tries), 1 - 0.05 ** (1 / tries), rel_tol=1e-6)
