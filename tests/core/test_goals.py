"""Goals of a study: what can be written, and when a time reaches one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.errors import ConfigError
from hotlap.core.goals import parse_goal


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("10x", 20.0, "10x"),
        (" 2.5 X ", 80.0, "2.5x"),
        ("4×", 50.0, "4x"),
        ("0.1x", 20.0, "10x"),
        ("0.5x", 100.0, "2x"),
        ("20s", 20.0, "20.0 s"),
        ("1:30", 90.0, "90.0 s"),
        ("2m", 120.0, "2:00"),
    ],
)
def test_a_goal_is_a_share_of_the_baseline_or_a_time(text: str, limit: float, shown: str) -> None:
    goal = parse_goal(text)
    assert goal.limit_seconds(200.0) == pytest.approx(limit)
    assert str(goal) == shown


@pytest.mark.parametrize("text", ["10", "1x", "0x", "0s", "", "fast", "-2x", "x", "10 y", "True", "1.5"])
def test_what_is_no_goal_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match=r"10x .*20s"):
        parse_goal(text)


@given(factor=st.floats(1.01, 1e4), baseline=st.floats(0.1, 1e6))
def test_a_factor_and_its_inverse_are_one_goal(factor: float, baseline: float) -> None:
    times, share = parse_goal(f"{factor:.6f}x"), parse_goal(f"{1 / factor:.12f}x")
    assert times.limit_seconds(baseline) == pytest.approx(share.limit_seconds(baseline), rel=1e-3)
    assert times.limit_seconds(baseline) < baseline
