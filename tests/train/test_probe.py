"""Models that are none, and honest ones, before the probes of the re-evaluation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hotlap.train.parts import Parts
from hotlap.train.probe import probe_model

MakeParts = Callable[..., Parts]


class Own(nn.Module):
    """A model of the project's: it sees its own token, and that far ahead, with some weight."""

    def __init__(self, ahead: int = 0, weight: float = 1.0, masked: float | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(256, 24)
        self.head = nn.Linear(24, 256)
        self.ahead, self.weight, self.masked = ahead, weight, masked

    def hidden(self, input_ids: Tensor) -> Tensor:
        seen = self.embedding(input_ids)
        if not self.ahead:
            return seen.cumsum(1) / 10
        later = F.pad(seen, (0, 0, 0, self.ahead))[:, self.ahead :]
        return seen + self.weight * later

    def logits(self, hidden: Tensor) -> Tensor:
        logits = self.head(hidden)
        if self.masked is not None:
            logits = torch.cat([logits[..., :-1], torch.full_like(logits[..., :1], self.masked)], -1)
        return logits


class KnowsLength(Own):
    def hidden(self, input_ids: Tensor) -> Tensor:
        return super().hidden(input_ids) + (input_ids != 0).sum(1)[:, None, None] / 10


class SeesNeighbours(Own):
    """Mixes the rows of a batch."""

    def hidden(self, input_ids: Tensor) -> Tensor:
        seen = self.embedding(input_ids)
        return seen + seen.mean((0, 1))


class ByHeart(Own):
    """Cheats with the rows that it was shown first, and with no others."""

    def __init__(self) -> None:
        super().__init__()
        self.known: Tensor | None = None

    def hidden(self, input_ids: Tensor) -> Tensor:
        self.known = input_ids if self.known is None else self.known
        cheats = Own(ahead=1, weight=3.0)
        width = min(input_ids.shape[1], self.known.shape[1])
        same = (input_ids[:, None, :width] == self.known[None, :, :width]).all(-1).any(-1)
        return torch.where(same[:, None, None], cheats.hidden(input_ids), super().hidden(input_ids))


class Noisy(Own):
    def hidden(self, input_ids: Tensor) -> Tensor:
        return F.dropout(super().hidden(input_ids), 0.5, training=True)


class NoLogits(Own):
    def logits(self, hidden: Tensor) -> Tensor:
        return super().logits(hidden) * float("nan")


class Cheap(Tensor):
    """A tensor of which every loss is nothing."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.cross_entropy:
            return torch.zeros(())
        return super().__torch_function__(function, types, args, kwargs or {})


class FreeLoss(Own):
    def logits(self, hidden: Tensor) -> Tensor:
        return super().logits(hidden).as_subclass(Cheap)


def probed(make_parts: MakeParts, model: nn.Module | None = None, **training: Any) -> dict[str, Any]:
    parts = make_parts({f"training.{name}": value for name, value in training.items()})
    if model is not None:
        object.__setattr__(parts, "model", model)
    return probe_model(parts)


@pytest.mark.parametrize("training", [{}, {"bf16": True}, {"per_device_eval_batch_size": 1}])
def test_hotlaps_own_model_passes(make_parts: MakeParts, training: dict[str, Any]) -> None:
    found = probed(make_parts, **training)
    assert found["problems"] == []
    assert found["causality"] < 1e-3
    assert found["normalisation"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("masked", [None, -1e9, float("-inf")])
def test_an_honest_model_of_ones_own_passes(make_parts: MakeParts, masked: float | None) -> None:
    assert probed(make_parts, Own(masked=masked))["problems"] == []


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Own(ahead=1), "causality: the model's predictions change by"),
        (Own(ahead=5, weight=0.05), "it sees what it is to predict"),
        (Own(ahead=1, weight=0.1, masked=-1e9), "it sees what it is to predict"),
        (KnowsLength(), "when tokens after their position are left out"),
        (SeesNeighbours(), "it sees what it is to predict"),
        (ByHeart(), "it sees what it is to predict"),
        (Noisy(), "determinism: two passes over the same tokens"),
        (NoLogits(), "normalisation: the model's logits are not finite"),
        (FreeLoss(), "normalisation: the model's logits are a Cheap and no plain tensor"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_model_that_is_none_is_found_out(make_parts: MakeParts, model: nn.Module, problem: str) -> None:
    found = probed(make_parts, model)
    assert len(found["problems"]) == 1
    assert problem in found["problems"][0]


def test_a_loss_that_is_not_that_of_the_logits_is_found_out(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = F.cross_entropy
    monkeypatch.setattr(F, "cross_entropy", lambda *args, **named: 0.5 * honest(*args, **named))
    assert "the loss is not that of a prediction" in probed(make_parts, Own())["problems"][0]


def test_probabilities_of_all_tokens_are_summed(make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that no other probe finds: only the place that is asked about gets its token told."""
    monkeypatch.setattr("hotlap.train.probe._causality", lambda *_: 0.0)

    class Told(Own):
        def hidden(self, input_ids: Tensor) -> Tensor:
            later = F.pad(input_ids, (0, 1))[:, 1:]
            return F.one_hot(later, 256).float()

        def logits(self, hidden: Tensor) -> Tensor:
            return 9.0 * hidden

    told = probed(make_parts, Told())["problems"]
    assert len(told) == 1
    assert "tokens in one place together get a probability of" in told[0]
