"""Rules about the model and the machine speak up on their evidence only."""

from typing import Any

import pytest
from histories import ENVIRONMENT, METRICS, ideas, incumbent_config, run, study

from hotlap.config.load import config_from_values
from hotlap.core.errors import ConfigError


@pytest.mark.parametrize(
    ("is_fast", "bf16", "count"), [(True, False, 1), (False, False, 0), (True, True, 0), (None, False, 0)]
)
def test_bf16_is_proposed_only_where_the_machine_is_fast_at_it(is_fast: bool | None, bf16: bool, count: int) -> None:
    history = study({"training.bf16": bf16}, [run(environment={**ENVIRONMENT, "bf16_is_fast": is_fast})])
    assert [idea.patch for idea in ideas(history, "precision")] == [{"training.bf16": True}] * count


@pytest.mark.parametrize(
    ("ratio", "padding", "count"),
    [
        (0.2, "longest", 1),
        (0.2, "max_length", 1),
        (0.2, "bucketed", 0),
        (0.01, "longest", 0),
        (float("nan"), "longest", 0),
        (None, "longest", 0),
    ],
)
def test_buckets_are_proposed_only_where_much_is_padding(ratio: float | None, padding: str, count: int) -> None:
    metrics = {key: value for key, value in {**METRICS, "padding_ratio": ratio}.items() if value is not None}
    found = ideas(study({"training.padding": padding}, [run(metrics=metrics)]), "padding")
    assert [idea.patch for idea in found] == [{"training.padding": "bucketed"}] * count


def test_more_padding_promises_more() -> None:
    little, much = (
        ideas(study(runs=[run(metrics={**METRICS, "padding_ratio": ratio})]), "padding")[0] for ratio in (0.1, 0.5)
    )
    assert 0 < much.predicted_ratio < little.predicted_ratio < 1
    assert much.observation.startswith("50%")


@pytest.mark.parametrize(
    ("patch", "family"),
    [
        ({"model.positions": "rope"}, "positions"),
        ({"model.smear": True}, "look_back"),
        ({"model.qk_norm": True, "model.norm": "rms_norm"}, "normalisation"),
        ({"model.zero_init_projections": True, "model.tie_word_embeddings": False}, "initialisation"),
        ({"model.hidden_act": "relu_squared"}, "activation"),
        ({"model.hidden_act": "swiglu"}, "activation"),
        ({"model.use_bias": False}, "biases"),
    ],
)
def test_what_the_model_has_already_is_not_proposed(patch: dict[str, Any], family: str) -> None:
    assert ideas(study(), family)
    assert ideas(study(patch), family) == []


def test_one_half_of_a_pair_may_still_be_proposed() -> None:
    assert [idea.patch for idea in ideas(study({"model.qk_norm": True}), "normalisation")] == [
        {"model.norm": "rms_norm"}
    ]
    assert [idea.patch for idea in ideas(study({"model.zero_init_projections": True}), "initialisation")] == [
        {"model.tie_word_embeddings": False}
    ]


def test_only_what_removes_something_counts_as_simpler() -> None:
    simpler = {idea.family for idea in ideas(study({"training.optim": "adamw_torch"})) if idea.simplifies}
    assert {"dropout", "biases", "clipping", "weight_decay"} <= simpler
    assert not simpler & {"positions", "look_back", "optimizer", "precision", "shape"}


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_depth_is_tried_one_layer_to_each_side(layers: int) -> None:
    found = ideas(study({"model.num_hidden_layers": layers}), "shape")
    depths = [idea.patch["model.num_hidden_layers"] for idea in found if "model.num_hidden_layers" in idea.patch]
    assert depths == [value for value in (layers - 1, layers + 1) if value]


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("size_of_head", [2, 5, 8])
@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_a_proposed_shape_is_a_model_that_can_be_built(heads: int, size_of_head: int, positions: str) -> None:
    shape = {"model.hidden_size": heads * size_of_head, "model.num_attention_heads": heads}
    try:
        history = study({**shape, "model.positions": positions})
    except ConfigError:
        assert (positions, size_of_head) == ("rope", 5)
        return
    for idea in ideas(history, "shape"):
        changed = config_from_values(incumbent_config(history).model_dump(), idea.patch).model
        assert changed.hidden_size % changed.num_attention_heads == 0
        if "model.hidden_size" in idea.patch:
            assert changed.hidden_size // changed.num_attention_heads == size_of_head
