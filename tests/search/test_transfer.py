"""Which gains of a ladder are found again: ratios, their intervals, and the answers."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.records import Decision, History, Outcome, Proposal, RecordClaim, RunRecord
from hotlap.search.noise import estimate_noise
from hotlap.search.transfer import Gain, gain, replay_sigma, transfers, whole_transfer

RUNGS = (0, 1, 2, 3)


def proposal(number: int, **changes: Any) -> Proposal:
    texts = dict.fromkeys(("family", "observation", "hypothesis"), "x")
    plain = Proposal(
        number=number,
        parent=number - 1,
        title=f"change {number}",
        patch={"training.max_steps": number},
        predicted_ratio=0.9,
        **texts,
    )
    return replace(plain, **changes)


def run(number: int, candidate: int, seconds: float, outcome: Outcome = "reached") -> RunRecord:
    times = {"train": seconds, "wall": seconds + 2, "step": round(100 * seconds)} if outcome == "reached" else None
    return RunRecord(
        run_id=f"r{number:04}",
        role="incumbent" if candidate else "baseline",
        candidate=candidate,
        seed=number,
        outcome=outcome,
        steps=round(100 * seconds),
        train_seconds=seconds,
        wall_seconds=seconds + 2,
        time_to_target=times,
    )


def history(times: dict[int, list[float]], outcomes: dict[int, Outcome] | None = None, **changes: Any) -> History:
    """Return a history in which every rung has these times."""
    records = [
        run(100 * candidate + place, candidate, seconds, (outcomes or {}).get(candidate, "reached"))
        for candidate, some in times.items()
        for place, seconds in enumerate(some)
    ]
    proposals = tuple(proposal(number) for number in RUNGS[1:])
    kept = tuple(Decision(proposal=number, verdict="keep", reason="fast") for number in RUNGS[1:])
    plain = History(clock="train", base_config={}, runs=tuple(records), proposals=proposals, decisions=kept)
    return replace(plain, **changes)


THERE = history({0: [100, 103, 97], 1: [50, 51, 49], 2: [25, 26, 25.5], 3: [24, 25, 25]})


def test_gains_and_answers_of_each_rung() -> None:
    here = history({0: [400, 410, 390], 1: [200, 205, 195], 2: [198, 199, 203], 3: [300, 290, 310]})
    rows = transfers(THERE, here, RUNGS)
    assert [row.number for row in rows] == [0, 1, 2, 3]
    assert [row.title for row in rows] == ["baseline", "change 1", "change 2", "change 3"]
    assert [row.answer for row in rows] == [None, "yes", "unclear", "no"]
    first = rows[1].gain_here
    assert first is not None
    assert first.ratio == pytest.approx(2.0)
    assert 1.7 < first.low < 2.0 < first.high < 2.4
    assert rows[1].is_as_claimed and not rows[2].is_as_claimed
    assert rows[1].steps_ratio == pytest.approx(4.0, rel=0.01)


def test_the_machine_may_be_another_as_long_as_the_ratios_hold() -> None:
    slower = {number: [7.3 * run.train_seconds for run in THERE.runs_of(number)] for number in RUNGS}
    rows = transfers(THERE, history(slower), RUNGS)
    assert all(row.is_as_claimed for row in rows[1:])
    assert rows[0].gain_here is None and rows[0].is_as_claimed is None


def test_a_change_for_simplicity_may_not_lose_but_need_not_gain() -> None:
    simple = tuple(proposal(n, simplifies=n == 2, role="ablation" if n == 3 else "screen") for n in RUNGS[1:])
    there = replace(THERE, proposals=simple)
    equal = history({0: [100, 100], 1: [50, 50], 2: [50, 51], 3: [50, 50]}, proposals=simple)
    assert [row.answer for row in transfers(there, equal, RUNGS)] == [None, "yes", "yes", "yes"]
    slower = history({0: [100, 100], 1: [50, 50], 2: [70, 71], 3: [100, 99]}, proposals=simple)
    assert [row.answer for row in transfers(there, slower, RUNGS)] == [None, "yes", "no", "no"]


def test_a_rung_that_misses_does_not_transfer_and_one_that_did_not_run_is_open() -> None:
    here = history({0: [100, 100], 1: [200, 200]}, {1: "missed"})
    rows = transfers(THERE, here, RUNGS)
    assert [row.answer for row in rows] == [None, "no", None, None]
    assert math.isnan(whole_transfer(THERE, here, RUNGS).steps_ratio)


def test_a_few_runs_that_agree_by_luck_are_held_against_the_noise_of_the_study() -> None:
    noisy = history({0: [50, 100, 200, 90], 1: [25, 80, 50, 100], 2: [20, 60, 30, 25], 3: [20, 45, 25, 30]})
    few = history({0: [100], 1: [60], 2: [30], 3: [29]})
    assert replay_sigma(noisy, few) == estimate_noise(noisy).sigma > 0.3
    assert transfers(noisy, few, RUNGS)[1].answer == "unclear"
    assert transfers(THERE, few, RUNGS)[1].answer == "yes"
    many = history({0: [100, 101, 99], 1: [60, 61, 59], 2: [30, 30, 31], 3: [29, 29, 30]})
    assert replay_sigma(noisy, many) == estimate_noise(many).sigma < 0.05


def test_a_baseline_that_misses_gives_a_lower_bound() -> None:
    here = history({0: [900, 900], 1: [50, 50]}, {0: "out_of_budget"})
    found = gain(here, 0, 1)
    assert found.is_lower_bound and found.ratio == pytest.approx(18.0)
    assert found.low < 18.0 and found.holds(ratio(1e6)) is True and found.holds(ratio(2.0)) is False
    assert transfers(THERE, here, (0, 1))[1].answer == "yes"


def test_the_whole_ladder_is_held_against_the_record() -> None:
    whole = whole_transfer(THERE, THERE, RUNGS)
    assert whole.gain_there == gain(THERE, 0, 3) and whole.is_as_claimed
    facts = {"look": 1, "candidate": 3, "against": 0, "p_value": 0.01, "alpha": 0.05, "median_seconds": 25.0}
    claim = RecordClaim(**facts, confirmed=True, reason="r", speedup=9.0, speedup_interval=(8.0, 10.0))  # type: ignore[arg-type]
    claimed = whole_transfer(replace(THERE, claims=(claim,)), THERE, RUNGS)
    assert claimed.gain_there is not None and claimed.gain_there.ratio == 9.0
    assert not claimed.is_as_claimed
    missed = replace(claim, speedup=None, speedup_interval=(8.0, math.inf))
    assert whole_transfer(replace(THERE, claims=(missed,)), THERE, RUNGS) == whole
    old = whole_transfer(replace(THERE, claims=(replace(claim, speedup_interval=None),)), THERE, RUNGS)
    assert old.gain_there is not None and old.gain_there.ratio == 9.0
    assert not old.gain_there.has_interval and old.is_as_claimed is None


@pytest.mark.parametrize(
    ("interval", "here", "answer"),
    [
        ((8.0, 10.0), 9.0, True),
        ((8.0, 10.0), 7.0, False),
        ((8.0, math.inf), 99.0, True),
        ((8.0, math.inf), 7.0, False),
        ((0.0, 10.0), 7.0, True),
        ((0.0, 10.0), 11.0, False),
        ((0.0, math.inf), 9.0, None),
        ((8.0, 10.0), math.nan, None),
    ],
)
def test_an_interval_holds_a_ratio_or_not_or_is_open(
    interval: tuple[float, float], here: float, answer: bool | None
) -> None:
    assert ratio(9.0, *interval).holds(ratio(here)) is answer


@pytest.mark.parametrize(
    ("interval", "least", "answer"),
    [((8.0, 10.0), 7.0, None), ((8.0, 10.0), 9.0, None), ((8.0, 10.0), 11.0, False), ((8.0, math.inf), 9.0, True)],
)
def test_a_lower_bound_is_outside_only_beyond_the_upper_end(
    interval: tuple[float, float], least: float, answer: bool | None
) -> None:
    assert ratio(9.0, *interval).holds(replace(ratio(least), is_lower_bound=True)) is answer


def ratio(value: float, low: float = 0.0, high: float = math.inf) -> Gain:
    return Gain(ratio=value, low=low, high=high)


@settings(max_examples=20, deadline=None)
@given(true_ratio=st.floats(0.3, 4.0), sigma=st.floats(0.05, 0.15), runs=st.integers(3, 5))
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(true_ratio: float, sigma: float, runs: int) -> None:
    generator, hits, tries = random.Random(7), 0, 150
    for _ in range(tries):
        draw = {
            number: [base * math.exp(generator.gauss(0, sigma)) for _ in range(runs)]
            for number, base in {0: 100.0, 1: 100.0 / true_ratio, 2: 50.0, 3: 40.0}.items()
        }
        found = gain(history(draw), 0, 1)
        hits += found.low <= true_ratio <= found.high
    assert hits / tries > 0.80
