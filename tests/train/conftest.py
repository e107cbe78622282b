"""A tiny training on a corpus of its own; one thread, since the machine is shared."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hotlap.config.load import config_from_values
from hotlap.train import build
from hotlap.train.build import build_parts
from hotlap.train.parts import Parts

WORDS = ("a", "the", "cat", "dog", "sat", "ran", "on", "under", "red", "mat", "hill", "é", "über", "why", "not")
CONFIG = {
    "task": {"text": "corpus.txt", "max_length_bytes": 24},
    "model": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 72},
    "training": {
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "max_steps": 8,
        "per_device_train_batch_size": 4,
    },
}

MakeParts = Callable[..., Parts]


@pytest.fixture
def make_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeParts:
    """Build the parts of the tiny config with a patch of dotted keys."""
    monkeypatch.setattr("hotlap.train.distributed.usable_cores", lambda: 1)
    monkeypatch.setattr(build, "pick_device", lambda *_: torch.device("cpu"))
    draw = random.Random(5)
    sentences = [" ".join(draw.choices(WORDS, k=draw.randint(2, 6))) for _ in range(400)]
    (tmp_path / "corpus.txt").write_text("\n\n".join(sentences), encoding="utf-8")

    def make(patch: dict[str, Any] | None = None) -> Parts:
        return build_parts(config_from_values(CONFIG, patch), tmp_path, tmp_path / "cache")

    return make
