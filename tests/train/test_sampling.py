"""Tokens drawn from logits, against a slow and plain way of doing the same."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hotlap.config.samples import GenerationSettings
from hotlap.train.sampling import Chooser, draw_tokens

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=12)


def naive_shares(logits: list[float], chosen: GenerationSettings) -> dict[int, float]:
    """Return what may be drawn with its probability, the likeliest first."""
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    weights = {token: math.exp((logits[token] - max(logits)) / chosen.temperature) for token in order}
    kept = order[: chosen.top_k]
    total = math.fsum(weights[token] for token in kept)
    found: dict[int, float] = {}
    so_far = 0.0
    for token in kept:
        if so_far >= chosen.top_p:
            break
        found[token] = weights[token] / total
        so_far += found[token]
    total = math.fsum(found.values())
    return {token: share / total for token, share in found.items()}


def naive_draw(shares: dict[int, float], uniform: float) -> tuple[int, float]:
    """Return the token that a number falls on, and how far it is from where the next one begins or this one does."""
    end = 0.0
    ends = []
    for token, share in shares.items():
        end += share
        ends.append((token, end))
    nearest = min(abs(uniform - end) for _, end in ends[:-1]) if len(ends) > 1 else 1.0
    return next((token for token, end in ends if uniform < end), ends[-1][0]), nearest


@settings(max_examples=300, deadline=None)
@given(
    logits=LOGITS,
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.sampled_from([0.1, 0.7, 1.0, 3.0]),
    top_k=st.one_of(st.none(), st.integers(1, 14)),
    top_p=st.sampled_from([0.05, 0.3, 0.77, 0.95, 1.0]),
)
def test_a_draw_is_what_a_plain_way_gives(
    logits: list[float], uniform: float, temperature: float, top_k: int | None, top_p: float
) -> None:
    chosen = GenerationSettings(temperature=temperature, top_k=top_k, top_p=top_p)
    shares = naive_shares(logits, chosen)
    expected, distance = naive_draw(shares, uniform)
    found = int(draw_tokens(torch.tensor([logits]), torch.tensor([uniform], dtype=torch.float64), chosen))
    on_the_edge = any(abs(sum(list(shares.values())[:n]) - top_p) < 1e-9 for n in range(len(shares) + 1))
    if distance > 1e-9 and not (top_p < 1 and on_the_edge):
        assert found == expected
    if top_k == 1:
        assert found == min(range(len(logits)), key=lambda token: (-logits[token], token))


def test_draws_come_as_often_as_their_probability_says() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0, -1.0]])
    chosen = GenerationSettings(temperature=1.5, top_k=3)
    uniforms = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    counts = Counter(draw_tokens(logits.expand(4000, 4), uniforms, chosen).tolist())
    shares = naive_shares(logits[0].tolist(), chosen)
    assert counts.keys() == shares.keys() == {0, 1, 2}
    for token, share in shares.items():
        assert counts[token] / 4000 == pytest.approx(share, abs=1e-3)


def test_what_is_left_out_is_never_drawn() -> None:
    logits = torch.tensor([[0.0, 5.0, 4.0, -math.inf, 4.5]]).expand(1000, 5)
    uniforms = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1]
    uniforms[-1] = 1 - 2**-53  # the largest number that a generator gives
    drawn = {
        key: set(draw_tokens(logits, uniforms, GenerationSettings(temperature=1.0, **values)).tolist())
        for key, values in (("all", {}), ("k", {"top_k": 2}), ("p", {"top_p": 0.6}), ("tiny p", {"top_p": 1e-9}))
    }
    assert drawn == {"all": {0, 1, 2, 4}, "k": {1, 4}, "p": {1, 4}, "tiny p": {1}}


@pytest.mark.parametrize("temperature", [0.0, 1e-300])
def test_without_temperature_the_likeliest_token_is_taken(temperature: float) -> None:
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(1))
    chooser = Chooser(GenerationSettings(temperature=temperature), [[7]] * 50)
    assert torch.equal(chooser(logits), logits.argmax(-1))


def test_logits_that_are_no_numbers_break_nothing() -> None:
    chooser = Chooser(GenerationSettings(temperature=1.0), [[1], [2]])
    found = chooser(torch.full((2, 5), math.nan))
    assert found.shape == (2,) and bool(((found >= 0) & (found < 5)).all())


def drawn(prompts: list[list[int]], seed: int, row: int, steps: int = 30) -> list[int]:
    """Return what a row of several draws from even logits."""
    chooser = Chooser(GenerationSettings(temperature=1.0, seed=seed), prompts)
    logits = torch.zeros(len(prompts), 1000)
    return [int(chooser(logits)[row]) for _ in range(steps)]


def test_draws_follow_from_the_seed_and_the_prompt_alone() -> None:
    alone = drawn([[1, 2]], 0, 0)
    assert drawn([[3], [1, 2], [4, 5, 6]], 0, 1) == alone
    assert drawn([[1, 2], [1, 2]], 0, 1) == alone
    assert drawn([[1, 2]], 1, 0) != alone
    assert drawn([[2, 1]], 0, 0) != alone


def test_no_random_numbers_but_its_own_are_drawn() -> None:
    def state() -> tuple[Tensor, list[int]]:
        return torch.get_rng_state(), np.random.get_state(legacy=True)[1].tolist()

    before = state()
    drawn([[1], [2]], 5, 0)
    after = state()
    assert torch.equal(before[0], after[0]) and before[1] == after[1]
