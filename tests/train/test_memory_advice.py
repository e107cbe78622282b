"""Settings that would need less memory are computed from what did not fit."""

from collections.abc import Callable
from typing import Any

import pytest

from hotlap.config.schema import TrainingConfig
from hotlap.train import memory_advice
from hotlap.train.memory import MicroBatch, memory_estimate
from hotlap.train.memory_advice import Demand, advice, alternatives, demand_of, memory_line
from hotlap.train.model_size import ModelSize
from hotlap.train.parts import Parts

MakeParts = Callable[..., Parts]
SIZE = ModelSize(
    num_trained=124_000_000, trained_bytes=496_000_000, hidden_size=768, num_layers=12, vocab_size=50_257, num_heads=12
)
GIB = 2**30


def demand(rows: int = 16, accumulation: int = 2, *, can_checkpoint: bool = True, **training: Any) -> Demand:
    return Demand(SIZE, TrainingConfig(**training), MicroBatch(rows, 1024), accumulation, False, can_checkpoint)


def found(asked: Demand, limit: float) -> list[dict[str, Any]]:
    return [dict(one.settings) for one in alternatives(asked, int(limit))]


def rows(number: int, passes: int) -> dict[str, int]:
    return {"per_device_train_batch_size": number, "gradient_accumulation_steps": passes}


def test_every_single_change_that_fits_is_named() -> None:
    asked = demand()
    assert asked.estimate.total / GIB == pytest.approx(11.62, abs=0.01)  # 1.85 + 9.38 + 0.39
    assert found(asked, 10 * GIB) == [rows(8, 4), {"gradient_checkpointing": True}, {"bf16": True}]
    assert found(asked, 11 * GIB)[-1] == {"optim": "adafactor"}
    assert {"optim": "muon"} not in found(asked, 11 * GIB)  # with the embedding's second moment that is not enough


def test_each_fits_by_the_estimate_and_keeps_the_rows_of_a_step() -> None:
    asked = demand()
    for one in alternatives(asked, 6 * GIB):
        settings = dict(one.settings)
        number = settings.get("per_device_train_batch_size", 16)
        training = asked.training.model_copy(update=settings)
        assert memory_estimate(SIZE, training, MicroBatch(number, 1024)).total == one.num_bytes <= 6 * GIB
        assert number * settings.get("gradient_accumulation_steps", 2) == 32


def test_the_largest_batch_that_fits_is_named() -> None:
    assert found(demand(), 6 * GIB)[0] == rows(4, 8)
    assert found(demand(12, 1), 7 * GIB)[0] == rows(6, 2)
    assert found(demand(7, 1), 4 * GIB)[0] == rows(1, 7)


def test_where_no_single_change_will_do_several_are_named() -> None:
    assert found(demand(2, 16), 2.65e9) == [{"gradient_checkpointing": True}]
    assert found(demand(2, 16), 2.55e9) == [{"gradient_checkpointing": True, **rows(1, 32)}]
    assert found(demand(1, 32), 1.7e9) == [{"gradient_checkpointing": True, "bf16": True, "optim": "adafactor"}]


def test_what_never_fits_has_no_advice() -> None:
    assert found(demand(), GIB / 4) == []


def test_a_model_of_the_projects_own_is_not_told_to_checkpoint() -> None:
    assert {"gradient_checkpointing": True} not in found(demand(can_checkpoint=False), 10 * GIB)
    assert {"gradient_checkpointing": True} not in found(demand(gradient_checkpointing=True), 2.5 * GIB)


def test_a_training_is_told_in_one_line_before_it_starts(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_advice, "device_memory_bytes", lambda *_: 8 * GIB)
    parts = make_parts({})
    asked = demand_of(parts)
    assert asked.batch.rows == parts.batch_size and asked.on_cpu and asked.can_checkpoint
    line = memory_line(parts)
    assert "\n" not in line
    assert line.startswith("memory: about ") and " of 8.0 GiB on this machine (weights " in line
    for part in ("gradients", "optimizer state", "activations about", "logits about"):
        assert f", {part} " in line


def test_out_of_memory_says_what_would_fit(make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = make_parts({"training.per_device_train_batch_size": 2048})
    monkeypatch.setattr(memory_advice, "device_memory_bytes", lambda *_: 8 * GIB)
    told = advice(parts)
    assert told.startswith(f"2048 rows a batch of up to {demand_of(parts).batch.length} tokens: weights ")
    assert "by the estimate these need clearly less: per_device_train_batch_size: " in told
    monkeypatch.setattr(memory_advice, "device_memory_bytes", lambda *_: 1000)
    assert advice(parts).endswith("by the estimate no smaller batch fits, so make the model or its rows smaller")
