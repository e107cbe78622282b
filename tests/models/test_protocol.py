"""What a model of the project can do is read from its methods."""

import torch
from test_gpt import build
from torch import Tensor, nn

from hotlap.models.protocol import can_generate, takes_documents


class Smallest(nn.Module):
    def hidden(self, input_ids: Tensor) -> Tensor:
        return input_ids.unsqueeze(-1).float()

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


class Packing(Smallest):
    def hidden(self, input_ids: Tensor, positions: Tensor | None = None, document_ids: Tensor | None = None) -> Tensor:
        return input_ids.unsqueeze(-1).float()


def test_our_own_model_can_do_everything() -> None:
    assert takes_documents(build())
    assert can_generate(build())


def test_a_model_does_what_its_arguments_allow() -> None:
    assert not takes_documents(Smallest())
    assert not can_generate(Smallest())
    assert takes_documents(Packing())
    assert not can_generate(Packing())
    assert Packing().hidden(torch.ones(1, 2)).shape == (1, 2, 1)
