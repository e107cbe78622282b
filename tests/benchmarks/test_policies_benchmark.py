"""The table of the comparison says what the timelines say."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import policies
from policies import Family, family_text, play_one


def found(policy: str, seed: int, *moments: tuple[float, float]) -> dict[str, Any]:
    facts = {"family": "decay", "policy": policy, "seed": seed, "budget": 3600.0, "took": 0.0}
    return {**facts, "moments": [(0.0, 176.0), *moments], "num_runs": 10 + seed, "claimed_ratio": math.nan}


def family(ours: float, random: float, asha: float) -> Family:
    ends = {"hotlap": ours, "random": random, "tpe_asha": asha}
    return Family("decay", [found(name, seed, (1000.0, end + seed)) for name, end in ends.items() for seed in range(5)])


def test_times_are_read_off_the_timelines() -> None:
    made = family(50.0, 100.0, 50.0)
    assert made.times("random", 1 / 6) == [176.0] * 5
    assert made.times("random") == [100.0, 101.0, 102.0, 103.0, 104.0]
    ratio, low, high = made.ratio("hotlap", "random")
    assert ratio == pytest.approx(52 / 102)
    assert low <= ratio <= high


def test_the_text_says_which_aims_are_met() -> None:
    text = "\n".join(family_text(family(50.0, 100.0, 50.0)))
    assert "the aim of 0.60 is met" in text and "the aim of 1.05 is met" in text
    assert "at a third of the budget hotlap is at 52.0 s, below its end of 102.0 s" in text
    text = "\n".join(family_text(family(90.0, 100.0, 50.0)))
    assert "the aim of 0.60 is NOT met" in text and "the aim of 1.05 is NOT met" in text


def test_a_search_that_found_nothing_is_never() -> None:
    made = Family("decay", [found("hotlap", 0, (9.0, math.inf)), found("random", 0, (9.0, math.inf))])
    assert "never" in "\n".join(family_text(made))


def test_one_search_comes_back_as_plain_values() -> None:
    one = play_one(("power_law", "random", 0))
    assert (one["family"], one["policy"], one["seed"], one["budget"]) == ("power_law", "random", 0, 3600.0)
    assert one["moments"][0][1] == pytest.approx(176.0, rel=0.01)


def test_the_command_prints_every_family(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def play(jobs: Sequence[tuple[str, str, int]], processes: int) -> Iterator[dict[str, Any]]:
        return ({**found(policy, seed, (9.0, 50.0)), "family": family} for family, policy, seed in jobs)

    monkeypatch.setattr("sys.argv", ["policies.py", "--families", "decay", "cliff", "--seeds", "2", "--dry"])
    command: Callable[..., None] = policies.main
    command(play)
    said = capsys.readouterr().out
    assert "## decay" in said and "## cliff" in said
    assert all(title in said for title in policies.TITLES.values())
