"""Section `model` of the word-latent model: bytes encoder, transformer over words, bytes decoder; and its presets."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from hotlap.config.base import Section
from hotlap.config.training import TrainingConfig

WordPreset = Literal["tiny", "mini", "micro"]
PARTS: Final = ("encoder", "latent", "decoder")


class PartShape(Section):
    """The shape of one of the three transformers."""

    hidden_size: int = Field(ge=1)
    """Width of the residual stream."""
    num_hidden_layers: int = Field(ge=1)
    """Transformer blocks."""
    num_attention_heads: int = Field(ge=1)
    """Attention heads; must divide hidden_size, an even number of times."""
    intermediate_size: int | None = Field(None, ge=1)
    """Width inside the MLP; absent: 4 x hidden_size (8/3 for swiglu, rounded to a multiple of 16)."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        size, heads = self.hidden_size, self.num_attention_heads
        if size % (2 * heads):
            raise ValueError(
                f"num_attention_heads {heads} does not divide hidden_size {size} into an even number of dimensions a "
                "head, which rotary positions need"
            )
        return self


def _shape(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": None}


WORD_PRESETS: Final[Mapping[WordPreset, Mapping[str, Mapping[str, Any]]]] = {
    "tiny": {"encoder": _shape(128, 2, 2), "latent": _shape(256, 4, 4), "decoder": _shape(256, 4, 4)},
    "mini": {"encoder": _shape(64, 2, 2), "latent": _shape(128, 3, 4), "decoder": _shape(128, 2, 4)},
    "micro": {"encoder": _shape(64, 1, 2), "latent": _shape(64, 2, 2), "decoder": _shape(64, 1, 2)},
}
"""Shapes of the parts: tiny has the benchmark's 7M parameters, mini and micro are for a CPU."""
_USUAL: Final[WordPreset] = "mini"


def _preset_part(part: str) -> PartShape:
    return PartShape.model_validate(WORD_PRESETS[_USUAL][part])


class WordLatentConfig(Section):
    """Words of bytes: each is read by a small encoder to one vector, a transformer runs over these, and a small decoder
    writes the next word byte by byte (WeLT). The bytes are those of the tokenizer bytes."""

    name: Literal["word_latent"] = "word_latent"
    preset: WordPreset = _USUAL
    """Shapes of the three parts: tiny (7.0M parameters), mini (1.2M) or micro (0.2M); keys written beside it win."""
    max_word_length: int = Field(16, ge=6)
    """Longest word in bytes, with the marks at its beginning and end; longer ones are cut between characters."""
    encode_distinct: bool = False
    """Encode each distinct word of a batch once: the same result, quicker where words repeat and the encoder is big."""
    encoder: PartShape = Field(default_factory=lambda: _preset_part("encoder"))
    """Bytes of a word to its vector, looking both ways; absent: the preset's."""
    latent: PartShape = Field(default_factory=lambda: _preset_part("latent"))
    """The transformer over the words; absent: the preset's."""
    decoder: PartShape = Field(default_factory=lambda: _preset_part("decoder"))
    """From the vector of what came before to the bytes of the next word; absent: the preset's."""
    rope_theta: float = Field(10000.0, gt=0)
    """Base of the rotary frequencies, in all parts."""
    norm: Literal["layer_norm", "rms_norm"] = "rms_norm"
    """Normalisation before attention, MLP and head; rms_norm carries no weights (arXiv 1910.07467)."""
    hidden_act: Literal["gelu_new", "gelu", "relu_squared", "swiglu"] = "gelu_new"
    """Activation of the MLPs; copying words is learned far sooner with gelu_new than with relu_squared."""
    qk_norm: bool = True
    """Normalise queries and keys per head before attention (arXiv 2010.04245); copying is learned sooner with it."""
    zero_init_projections: bool = False
    """Start the projections back into the residual stream, and the head, at zero. Encoder and decoder then know
    nothing of each other at first, and learn later that words differ."""
    use_bias: bool = False
    """Biases in the linear layers."""
    initializer_range: float = Field(0.02, gt=0)
    """Standard deviation of the initial weights."""

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        """Give each part the preset's shape, key by key, but for what is written."""
        if not isinstance(values, Mapping):
            return values
        shapes = _shapes_of(values)
        if not shapes:
            return values
        return {**values, **{part: _merged(shapes[part], values.get(part)) for part in PARTS}}


def _shapes_of(section: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the parts of a section's preset; nothing where that names none, whatever it is."""
    preset = section.get("preset", _USUAL)
    return next((shapes for name, shapes in WORD_PRESETS.items() if name == preset), {})


def _merged(shape: Mapping[str, Any], given: Any) -> Any:
    return {**shape, **given} if isinstance(given, Mapping) else dict(shape) if given is None else given


def forget_part_shapes(model: dict[str, Any], changed: Collection[str]) -> None:
    """Take out of a written-out section what came from its preset, where `changed` keys name another one."""
    if "preset" not in changed:
        return
    shapes = _shapes_of(model)
    for part in PARTS:
        written = model.get(part)
        if isinstance(written, dict):
            model[part] = {key: value for key, value in written.items() if shapes.get(part, {}).get(key, ...) != value}


def word_problems(model: WordLatentConfig, tokenizer: str, training: TrainingConfig, backend: str) -> Iterator[str]:
    """Yield what a run with this model cannot have."""
    if tokenizer != "byte":
        yield f"model word_latent reads bytes, but tokenizer is {tokenizer}; leave it out, or write tokenizer: byte"
    if training.padding == "packed":
        yield "padding: packed: model word_latent has one example in a row; use padding: bucketed"
    if training.torch_compile and (training.padding != "max_length" or model.encode_distinct):
        yield (
            "torch_compile: model word_latent is compiled anew for every shape, and batches of words have ever other "
            "ones; use padding: max_length without model.encode_distinct, where all have one"
        )
    if backend != "fast":
        yield f"backend: {backend} trains models of transformers, which has none like word_latent; use backend: fast"
