"""Compiling before the training: once, for every shape that is to come, and without a trace in the weights."""

from typing import Any

import pytest
import torch

from conftest import MakeParts
from hotlap.core.clock import TrainClock
from hotlap.train.loop import Signs, StepTimer, train_steps
from hotlap.train.parts import Parts


def losses(parts: Parts) -> list[float]:
    signs = Signs(wall_seconds=lambda: 0.0, is_interrupted=lambda: False)
    return [step.loss for step in train_steps(parts, TrainClock(), StepTimer(), signs)]


@pytest.mark.parametrize("padding", ["longest", "bucketed", "packed", "max_length"])
def test_no_step_compiles_anything(padding: str, make_parts: MakeParts) -> None:
    from torch._dynamo import config  # loads the compiler

    patch: dict[str, Any] = {"training.padding": padding, "training.max_steps": 60}
    plain = make_parts(patch)
    torch.compiler.reset()
    compiled = make_parts(patch | {"training.torch_compile_backend": "aot_eager"})
    for one, other in zip(plain.parameters, compiled.parameters, strict=True):
        assert torch.equal(one, other)
    with config.patch(error_on_recompile=True):
        assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4)
