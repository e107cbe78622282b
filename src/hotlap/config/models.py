"""The section `model`: the network and its shape."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeGuard

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from ruamel.yaml import YAML

from hotlap.config.base import CUSTOM, PART_PATTERN, Section, check_variant, variant_of
from hotlap.config.gpt2 import PRESETS, PresetName
from hotlap.config.word_latent import WordLatentConfig, forget_part_shapes


def _overrides(value: Any) -> Any:
    """Read what run_clm takes, too: name=value,name=value as text."""
    if not isinstance(value, str):
        return {} if value is None else value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not key.strip() or not sign for key, sign, _ in pairs):
        raise ValueError(f"write a mapping, or name=value,name=value, got {value!r}")
    return {key.strip(): YAML(typ="safe").load(text) for key, _, text in pairs}


def _module_names(value: Any) -> Any:
    """Read one name, or several with commas, as a list of names."""
    if value == "all-linear" or not isinstance(value, str | list | tuple):
        return value
    names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not names or "" in names:
        raise ValueError("name the matrices, such as [q_proj, v_proj], or write all-linear")
    return tuple(names)


class GPTConfig(Section):
    """A decoder-only transformer; the defaults are GPT-2's kind of one, small and without dropout."""

    name: Literal["gpt"] = "gpt"
    preset: PresetName | None = None
    """Shape of one of OpenAI's models, with fresh weights; keys that are written beside it win."""
    model_name_or_path: str | None = Field(None, min_length=1)
    """Pretrained GPT-2 to start from: a folder with config.json and model.safetensors, relative to the config, or a
    name on the Hugging Face hub (extra hf). It gives the shape; of that, only positions: rope may differ."""
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
    attn_implementation: Literal["eager", "sdpa", "flash", "efficient", "cudnn"] | None = None
    """How attention is computed: by the textbook, as torch chooses, or by one of torch's kernels, which may not suit
    the device or the number format; absent: the quickest known. Packed rows on a GPU use FlexAttention in any case."""
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

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("preset"), str):
            return values
        return {**PRESETS.get(values["preset"], {}), **values}

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.preset is not None and self.model_name_or_path is not None:
            raise ValueError("preset and model_name_or_path both give the shape; leave one out")
        if self.hidden_size % self.num_attention_heads:
            sizes = f"{self.num_attention_heads} does not divide hidden_size {self.hidden_size}"
            raise ValueError(f"num_attention_heads {sizes}")
        if self.positions == "rope" and self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("rope needs an even number of dimensions per head")
        return self


class LoraConfig(Section):
    """Train small additions to the matrices of pretrained weights, which stay as they are (arXiv 2106.09685)."""

    r: int = Field(8, ge=1)
    """Rank of the additions."""
    lora_alpha: float = Field(16.0, gt=0)
    """The additions are scaled by lora_alpha / r."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on what goes into the additions."""
    target_modules: Annotated[Literal["all-linear"] | tuple[str, ...], BeforeValidator(_module_names)] = "all-linear"
    """Matrices that get an addition, by the ends of their names; all-linear: every one but the output head."""


class HFModelConfig(Section):
    """Any causal language model of transformers (extra hf): pretrained weights, or a shape of its own from scratch."""

    name: Literal["hf"]
    model_name_or_path: str | None = Field(None, min_length=1)
    """Pretrained weights: a folder that save_pretrained wrote, relative to the config, or a name on the hub."""
    model_type: str | None = None
    """Architecture to train from scratch, such as llama, in place of model_name_or_path."""
    config_overrides: Annotated[dict[str, Any], BeforeValidator(_overrides)] = Field(default_factory=dict)
    """Shape with model_type by the names of its config, as a mapping or as text: hidden_size=64,num_hidden_layers=2."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type that the weights are held in; bfloat16 needs half the memory and rounds small updates away."""
    attn_implementation: str | None = Field(None, min_length=1)
    """How attention is computed, by transformers' names, such as eager or sdpa; absent: as transformers has it."""
    lora: LoraConfig | None = None
    """Train additions of low rank only (peft); needs model_name_or_path."""

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.model_name_or_path is None) == (self.model_type is None):
            raise ValueError("give one of model_name_or_path (pretrained weights) and model_type (from scratch)")
        if self.config_overrides and self.model_type is None:
            raise ValueError("config_overrides go with model_type: pretrained weights have their shape")
        if self.lora is not None and self.model_name_or_path is None:
            raise ValueError("lora needs model_name_or_path: weights that stay as they are have to be trained already")
        return self


class CustomModelConfig(Section):
    """A model of your own: a function in the project's folder. Every key but `name` is one of its keyword arguments."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(pattern=PART_PATTERN)
    """The function, as `module:function`."""


MODELS: Final[Mapping[str, type[Section]]] = {
    "gpt": GPTConfig,
    "word_latent": WordLatentConfig,
    "hf": HFModelConfig,
    CUSTOM: CustomModelConfig,
}


def _variant(value: Any) -> str:
    return variant_of(value, "gpt")


def _check(value: Any) -> Any:
    return check_variant("model", MODELS, value)


ModelConfig = Annotated[
    Annotated[GPTConfig, Tag("gpt")]
    | Annotated[WordLatentConfig, Tag("word_latent")]
    | Annotated[HFModelConfig, Tag("hf")]
    | Annotated[CustomModelConfig, Tag(CUSTOM)],
    Discriminator(_variant),
    BeforeValidator(_check),
]


def is_free_gpt(model: object) -> TypeGuard[GPTConfig]:
    """Say whether a model is a GPT whose shape may still be chosen: one that starts from fresh weights."""
    return isinstance(model, GPTConfig) and model.model_name_or_path is None


def forget_shape(model: dict[str, Any], changed: Collection[str]) -> None:
    """Take out of a written-out section what came from its preset or its weights, where `changed` keys name others.

    A shape that is written out would win over the new preset otherwise.
    """
    if model.get("name") == "word_latent":
        return forget_part_shapes(model, changed)
    if "model_name_or_path" in changed:
        doomed = {key for preset in PRESETS.values() for key in preset if key != "positions"}
    elif "preset" in changed:
        before = PRESETS.get(str(model.get("preset"))) or GPTConfig().model_dump(mode="json")
        doomed = {key for key in PRESETS["gpt2"] if key in model and model[key] == before[key]}
    else:
        return
    for key in doomed - set(changed):
        model.pop(key, None)
