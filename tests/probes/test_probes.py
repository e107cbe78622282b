"""Models that cheat, and honest ones, before the probes."""

import math
from collections.abc import Sequence

import pytest
import torch

from hotlap.probes import ProbeError, check_causality, check_normalisation

VOCABULARY = 11
ROWS = [[1, 5, 2, 8, 8, 3, 0, 9], [4, 4, 4, 1, 7, 2, 10, 6]]
Rows = list[list[int]]


def logits(rows: Rows, ahead: int = 0) -> list[list[list[float]]]:
    """Return logits that follow from a token and those before it, and from some tokens ahead."""
    answers = []
    for row in rows:
        seen = [sum(row[: t + 1 + ahead]) for t in range(len(row))]
        answers.append([[math.sin(total + 3 * token) for token in range(VOCABULARY)] for total in seen])
    return answers


def log_probs(rows: Rows, ahead: int = 0, given_away: float = 1.0) -> list[list[float]]:
    answers = []
    for row, predicted in zip(rows, logits(rows, ahead), strict=True):
        norms = [math.log(math.fsum(map(math.exp, values))) for values in predicted]
        pairs = zip(predicted, norms, row[1:], strict=False)
        answers.append([values[token] - norm + math.log(given_away) for values, norm, token in pairs])
    return answers


def tensors(rows: Rows, ahead: int = 0) -> torch.Tensor:
    return torch.tensor(logits(rows, ahead))


@pytest.mark.parametrize("of", [logits, tensors, lambda rows: tensors(rows).numpy()])
def test_an_honest_model_passes(of: object) -> None:
    assert check_causality(of, ROWS, VOCABULARY) == 0.0  # type: ignore[arg-type]
    assert check_normalisation(log_probs, ROWS, VOCABULARY) == pytest.approx(1.0)


@pytest.mark.parametrize("of", [logits, tensors])
@pytest.mark.parametrize("ahead", [1, 3])
def test_a_model_that_sees_the_future_is_caught(of: object, ahead: int) -> None:
    with pytest.raises(ProbeError, match="the model sees what it predicts"):
        check_causality(lambda rows: of(rows, ahead), ROWS, VOCABULARY)  # type: ignore[operator]


def test_a_model_that_sees_its_target_gives_out_too_much() -> None:
    def knows(rows: Rows) -> list[list[float]]:
        return [[math.log(0.9)] * (len(row) - 1) for row in rows]

    with pytest.raises(ProbeError, match=r"get a probability of 9.9 instead of 1"):
        check_normalisation(knows, ROWS, VOCABULARY)


@pytest.mark.parametrize("share", [1.05, 0.9])
def test_probabilities_that_do_not_sum_to_one_are_caught(share: float) -> None:
    with pytest.raises(ProbeError, match="instead of 1"):
        check_normalisation(lambda rows: log_probs(rows, given_away=share), ROWS, VOCABULARY)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_caught(value: float) -> None:
    with pytest.raises(ProbeError, match="not finite"):
        check_causality(lambda rows: torch.full((1, 8, VOCABULARY), value), ROWS, VOCABULARY)
    with pytest.raises(ProbeError, match="instead of 1"):
        check_normalisation(lambda rows: [[value] * 7 for _ in rows], ROWS, VOCABULARY)


@pytest.mark.parametrize("rows", [[], [[1]], [[1, VOCABULARY]]])
def test_rows_that_cannot_be_probed_are_refused(rows: Sequence[Sequence[int]]) -> None:
    with pytest.raises(ValueError, match="a probe needs rows"):
        check_causality(logits, rows, VOCABULARY)
