"""The section `model`: the network and its shape."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from hotlap.config.base import CUSTOM, PART_PATTERN, Section, check_variant, variant_of


class GPTConfig(Section):
    """A decoder-only transformer over bytes; the defaults are GPT-2's shape without dropout."""

    name: Literal["gpt"] = "gpt"
    hidden_size: int = Field(128, ge=1)
    """Width of the residual stream."""
    num_hidden_layers: int = Field(2, ge=1)
    """Transformer blocks."""
    num_attention_heads: int = Field(4, ge=1)
    """Attention heads; must divide hidden_size."""
    intermediate_size: int | None = Field(None, ge=1)
    """Width inside the MLP; absent: 4 x hidden_size (8/3 for swiglu, rounded to a multiple of 16)."""
    max_position_embeddings: int = Field(256, ge=2)
    """Longest sequence in tokens."""
    positions: Literal["learned", "rope"] = "learned"
    """Position encoding: a learned table, or rotary embeddings (RoFormer, arXiv 2104.09864)."""
    rope_theta: float = Field(10000.0, gt=0)
    """Base of the rotary frequencies."""
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    """Normalisation before attention, MLP and head; rms_norm carries no weights (arXiv 1910.07467)."""
    hidden_act: Literal["gelu_new", "gelu", "relu_squared", "swiglu"] = "gelu_new"
    """Activation of the MLP; relu_squared is from Primer (arXiv 2109.08668)."""
    qk_norm: bool = False
    """Normalise queries and keys per head before attention (arXiv 2010.04245)."""
    zero_init_projections: bool = False
    """Start the projections back into the residual stream at zero (as in μP and modded-nanogpt)."""
    tie_word_embeddings: bool = True
    """Use the embedding table as the output head."""
    smear: bool = False
    """Add a learned, gated share of the previous token's embedding to each token (one-token look-back)."""
    use_bias: bool = True
    """Biases in the linear layers."""
    initializer_range: float = Field(0.02, gt=0)
    """Standard deviation of the initial weights."""
    embd_pdrop: float = Field(0.0, ge=0, lt=1)
    """Dropout on the embeddings."""
    attn_pdrop: float = Field(0.0, ge=0, lt=1)
    """Dropout on the attention weights."""
    resid_pdrop: float = Field(0.0, ge=0, lt=1)
    """Dropout on what attention and MLP add to the residual stream."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            sizes = f"{self.num_attention_heads} does not divide hidden_size {self.hidden_size}"
            raise ValueError(f"num_attention_heads {sizes}")
        if self.positions == "rope" and self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("rope needs an even number of dimensions per head")
        return self


class CustomModelConfig(Section):
    """A model of your own: a function in the project's folder. Every key but `name` is one of its keyword arguments."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(pattern=PART_PATTERN)
    """The function, as `module:function`."""


MODELS: Final[Mapping[str, type[Section]]] = {"gpt": GPTConfig, CUSTOM: CustomModelConfig}


def _variant(value: Any) -> str:
    return variant_of(value, "gpt")


def _check(value: Any) -> Any:
    return check_variant("model", MODELS, value)


ModelConfig = Annotated[
    Annotated[GPTConfig, Tag("gpt")] | Annotated[CustomModelConfig, Tag(CUSTOM)],
    Discriminator(_variant),
    BeforeValidator(_check),
]
