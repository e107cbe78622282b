"""Roles: what each parameter of a model is, and which ones do not decay, as in Hugging Face's Trainer."""

from typing import Any

import pytest
import torch
from torch import nn

from hotlap.config.schema import GPTConfig
from hotlap.models.gpt import GPT
from hotlap.optim.roles import names_without_decay, roles_of


class Foreign(nn.Module):
    """A model with names and shapes unlike hotlap's own."""

    def __init__(self, *, is_tied: bool) -> None:
        super().__init__()
        self.lm_head = nn.Linear(4, 8)
        self.wte = nn.Embedding(8, 4)
        self.relative_attention_bias = nn.Embedding(3, 2)
        self.heads = nn.ModuleList([nn.Linear(4, 4, bias=False)])
        self.convolution = nn.Conv1d(4, 4, 3)
        self.scale = nn.Parameter(torch.ones(4))
        self.ln_f = nn.LayerNorm(4)
        self.root = nn.RMSNorm(4)
        if is_tied:
            self.lm_head.weight = self.wte.weight


def gpt(**choices: Any) -> GPT:
    return GPT(GPTConfig(hidden_size=16, num_attention_heads=2, max_position_embeddings=8, **choices), 32)


def test_roles_in_hotlaps_own_model() -> None:
    roles = roles_of(gpt(tie_word_embeddings=False, smear=True, num_hidden_layers=1))
    assert {name for name, role in roles.items() if role == "embedding"} == {"embedding.weight", "positions.weight"}
    assert {name for name, role in roles.items() if role == "head"} == {"head.weight"}
    parts = ("attention.qkv", "attention.projection", "mlp.up", "mlp.projection")
    assert {name for name, role in roles.items() if role == "matrix"} == {f"blocks.0.{part}.weight" for part in parts}
    assert {"smear_gate", "blocks.0.mlp.up.bias"} <= {name for name, role in roles.items() if role == "vector"}


@pytest.mark.parametrize(("is_tied", "head"), [(False, "head"), (True, "embedding")])
def test_roles_in_a_foreign_model(is_tied: bool, head: str) -> None:
    assert roles_of(Foreign(is_tied=is_tied)) == {
        "scale": "vector",
        "lm_head.weight": head,
        "lm_head.bias": "vector",
        **({} if is_tied else {"wte.weight": "embedding"}),
        "relative_attention_bias.weight": "embedding",
        "heads.0.weight": "matrix",
        "convolution.weight": "matrix",
        "convolution.bias": "vector",
        "ln_f.weight": "vector",
        "ln_f.bias": "vector",
        "root.weight": "vector",
    }


def test_biases_and_norms_do_not_decay() -> None:
    assert names_without_decay(Foreign(is_tied=False)) == {
        "lm_head.bias",
        "relative_attention_bias.weight",  # by its name, as in the Trainer
        "convolution.bias",
        "ln_f.weight",
        "ln_f.bias",
        "root.weight",
    }
    model = gpt(smear=True)
    decayed = {name for name, _ in model.named_parameters()} - names_without_decay(model)
    assert decayed == {name for name, role in roles_of(model).items() if role != "vector"} | {"smear_gate"}


def test_the_rule_is_the_trainers() -> None:
    trainer = pytest.importorskip("transformers.trainer_pt_utils", exc_type=ImportError)
    forbidden = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    for model in (Foreign(is_tied=False), gpt(), gpt(use_bias=False, norm="rms_norm", smear=True)):
        theirs = set(trainer.get_parameter_names(model, [nn.LayerNorm], forbidden))
        ours = {name for name, _ in model.named_parameters()} - names_without_decay(model)
        assert theirs - {"root.weight"} == ours  # they let an RMSNorm decay unless its name says what it is
