"""GPT-2 in the words of the section `model`: the shapes that OpenAI published, and what a config.json says of others.

Source of the sizes: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", table 2.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from hotlap.core.errors import ConfigError

PresetName = Literal["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]

KIND: Final[Mapping[str, Any]] = {
    "positions": "learned",
    "norm": "layer_norm",
    "qk_norm": False,
    "zero_init_projections": False,
    "smear": False,
    "use_bias": True,
}
"""What every GPT-2 has."""

_SIZES: Final[Mapping[PresetName, tuple[int, int, int]]] = {
    "gpt2": (768, 12, 12),
    "gpt2-medium": (1024, 24, 16),
    "gpt2-large": (1280, 36, 20),
    "gpt2-xl": (1600, 48, 25),
}
"""Width, layers and heads."""

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    name: {
        **KIND,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": None,
        "max_position_embeddings": 1024,
        "hidden_act": "gelu_new",
        "tie_word_embeddings": True,
    }
    for name, (width, layers, heads) in _SIZES.items()
}
"""The section's keys that a preset fills."""

ACTIVATIONS: Final[Mapping[str, str]] = {"gelu_new": "gelu_new", "gelu": "gelu", "relu_squared": "relu2"}
"""Our name of an activation, and the one of transformers."""

LAYER_NORM_EPSILON: Final = 1e-5

_OUR_ACTIVATIONS: Final = {**{theirs: ours for ours, theirs in ACTIVATIONS.items()}, "gelu_pytorch_tanh": "gelu_new"}
_FIXED: Final[Mapping[str, Any]] = {
    "layer_norm_epsilon": LAYER_NORM_EPSILON,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
"""Settings of a config.json that hotlap's GPT has one value for, GPT-2's own."""


def shape_of(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the keys of the section `model` for the values of a config.json.

    Raises ConfigError for an architecture that is not GPT-2, or one with a part that hotlap's GPT has not.
    """
    if values.get("model_type") != "gpt2":
        found = values.get("model_type") or ", ".join(values.get("architectures") or ()) or "not named"
        raise ConfigError(
            f"{source}: its architecture is {found}, expected gpt2; use model.name: hf for other models of transformers"
        )
    if problems := list(_problems(values)):
        raise ConfigError(f"{source}: {'; '.join(problems)}; use model.name: hf for this model")
    return {
        **KIND,
        "hidden_size": values.get("n_embd", 768),
        "num_hidden_layers": values.get("n_layer", 12),
        "num_attention_heads": values.get("n_head", 12),
        "intermediate_size": values.get("n_inner"),
        "max_position_embeddings": values.get("n_positions", 1024),
        "hidden_act": _OUR_ACTIVATIONS[values.get("activation_function", "gelu_new")],
        "tie_word_embeddings": values.get("tie_word_embeddings", True),
    }


def _problems(values: Mapping[str, Any]) -> Iterator[str]:
    activation = values.get("activation_function", "gelu_new")
    if activation not in _OUR_ACTIVATIONS:
        yield f"activation_function is {activation!r}, hotlap's GPT has {', '.join(_OUR_ACTIVATIONS)}"
    for name, value in _FIXED.items():
        if values.get(name, value) != value:
            yield f"{name} is {values[name]!r}, hotlap's GPT has {value!r}"


def vocabulary_of(values: Mapping[str, Any]) -> int:
    """Return the rows of the embedding table by a config.json."""
    return int(values.get("vocab_size", 50257))


def contradictions(shape: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what keys of the section `model` say against the weights, a sentence each.

    Rotary positions take the place of the table; a shorter table keeps its first rows.
    """
    for name, value in shape.items():
        if name not in given or given[name] == value or (name == "intermediate_size" and _is_usual(shape, given)):
            continue
        if name == "positions" and given[name] == "rope":
            continue
        if name == "max_position_embeddings" and (given.get("positions") == "rope" or given[name] < value):
            continue
        if name == "smear":
            continue  # its gate starts closed
        yield f"model.{name} is {_word(given[name])}, the weights have {_word(value)}"


def _is_usual(shape: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Say whether both mean the usual width inside the MLP, written or not."""
    usual = 4 * int(shape["hidden_size"])
    return (given["intermediate_size"] or usual) == (shape["intermediate_size"] or usual)


def _word(value: Any) -> str:
    """Return a value as YAML has it."""
    if value is None:
        return "absent"
    return str(value).lower() if isinstance(value, bool) else str(value)
