"""The table of the comparison says what the timelines say."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import one_study
import pytest

import policies
from policies import Family, aims_text, family_text, play_one, text_of


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
    text = "\n".join(aims_text([family(50.0, 100.0, 50.0)]))
    assert "0.51, met" in text and "1.00, met" in text and "NOT" not in text
    assert "52.0 s, 102.0 s: met" in text
    text = "\n".join(aims_text([family(90.0, 70.0, 50.0)]))
    assert "1.28, NOT met" in text and "1.77, NOT met" in text
    assert "92.0 s, 72.0 s: NOT met" in text


def test_without_hotlap_there_are_no_aims() -> None:
    made = Family("decay", [found("random", seed, (9.0, 50.0)) for seed in range(3)])
    assert aims_text([made]) == []
    assert "hotlap" not in text_of([made])


def test_claims_are_held_against_the_truth() -> None:
    ones = [
        {**found("hotlap", seed, (9.0, 50.0)), "claimed_ratio": ratio} for seed, ratio in enumerate((1.1, math.nan))
    ]
    assert "1 of hotlap's 2 studies ended with a confirmed record; claimed over true speedup is 1.10" in text_of(
        [Family("decay", ones)]
    )


def test_results_are_written_with_a_plot_and_as_strict_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(policies, "RESULTS", tmp_path)
    ones = [found(name, seed, (9.0, math.inf)) for name in ("hotlap", "random") for seed in range(2)]
    policies.write([Family("decay", ones)], ones)
    stored = json.loads((tmp_path / "policies.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert stored[0]["moments"] == [[0.0, 176.0], [9.0, None]]
    assert "policies.svg" in (tmp_path / "policies.md").read_text()
    assert (tmp_path / "policies.svg").read_text().count("random search") >= 1


def test_the_text_tells_of_recorded_runs_where_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(policies, "RESULTS", tmp_path)
    for name in ("decay", "recorded"):
        ones = [{**found("hotlap", 0, (9.0, 50.0)), "family": name}]
        policies.write([Family(name, ones)], ones)
        assert ("recorded" in (tmp_path / "policies.md").read_text()) == (name == "recorded")


@pytest.mark.parametrize("program", [policies, one_study])
def test_recorded_runs_that_are_not_there_are_one_line(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(policies, "RECORDED", tmp_path / "recorded.json.gz")
    words = ["recorded"] if program is one_study else ["--families", "recorded"]
    monkeypatch.setattr("sys.argv", ["program.py", *words])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert "recorded.json.gz is not there; make it with: python benchmarks/record_runs.py" in capsys.readouterr().err


def test_a_search_that_found_nothing_is_never() -> None:
    made = Family("decay", [found("hotlap", 0, (9.0, math.inf)), found("random", 0, (9.0, math.inf))])
    assert "never" in "\n".join(family_text(made))
    assert made.ratio("hotlap", "random")[0] == 1.0


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
