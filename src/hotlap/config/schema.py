"""The schema of hotlap.yaml: every setting with its type, its unit and one sentence.

Names are Hugging Face's, verbatim, wherever it has one. Unknown keys are refused.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hotlap.core.clock import ClockName
from hotlap.core.durations import parse_seconds
from hotlap.core.errors import ConfigError
from hotlap.core.targets import Target, parse_target


def _check_target(text: str) -> str:
    try:
        parse_target(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0)]
TargetText = Annotated[str, AfterValidator(_check_target)]
ScheduleName = Literal["linear", "cosine", "constant", "constant_with_warmup", "warmup_stable_decay"]

_SCHEDULE_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "cosine": ("num_cycles",),
    "warmup_stable_decay": ("num_decay_steps", "decay_type", "min_lr_ratio", "num_cycles"),
}


class Section(BaseModel):
    """A part of the config: frozen, strict about unknown keys, documented by the strings under its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class StringRepetitionConfig(Section):
    """Repeat a sentence: the easy task of the WeLT benchmark."""

    name: Literal["string_repetition"] = "string_repetition"
    text: str | None = None
    """Glob of the text files to take sentences from, relative to the config; absent: Python's own docstrings."""
    min_length_bytes: int = Field(8, ge=1)
    """Shortest sentence, in UTF-8 bytes."""
    max_length_bytes: int = Field(48, ge=2)
    """Longest sentence, in UTF-8 bytes."""
    max_eval_samples: int = Field(64, ge=1)
    """Sentences in the evaluation set."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.min_length_bytes > self.max_length_bytes:
            bounds = f"{self.min_length_bytes} is above max_length_bytes {self.max_length_bytes}"
            raise ValueError(f"min_length_bytes {bounds}")
        return self


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


class TrainingConfig(Section):
    """How the model is trained; the names and meanings of Hugging Face's TrainingArguments."""

    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate, reached at the end of warm-up; with optim muon that of all but the hidden matrices."""
    muon_learning_rate: float = Field(0.02, gt=0)
    """Peak learning rate of the hidden matrices with optim muon."""
    muon_momentum: float = Field(0.95, ge=0, lt=1)
    """Momentum of Muon."""
    per_device_train_batch_size: int = Field(8, ge=1)
    """Examples per device in one forward pass, before gradient accumulation."""
    per_device_eval_batch_size: int = Field(64, ge=1)
    """Examples per device in one forward pass of an evaluation."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """Forward and backward passes per optimizer step."""
    max_steps: int = Field(1000, ge=1)
    """Optimizer steps: where the schedule ends, whether or not the target comes first."""
    lr_scheduler_type: ScheduleName = "linear"
    """Shape of the learning rate over the steps."""
    lr_scheduler_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the schedule, such as num_decay_steps."""
    warmup_steps: float = Field(0, ge=0)
    """Steps of linear warm-up; below 1 a fraction of max_steps."""
    warmup_ratio: float = Field(0.0, ge=0, le=1)
    """Warm-up as a fraction of max_steps, used when warmup_steps is 0."""
    optim: Literal["adamw_torch", "adamw_torch_fused", "muon"] = "adamw_torch_fused"
    """Optimizer; muon orthogonalises the updates of hidden matrices and leaves the rest to AdamW."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay on matrices and embeddings, not on biases and norms."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW's decay of the first moment."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """AdamW's decay of the second moment."""
    adam_epsilon: float = Field(1e-8, gt=0)
    """AdamW's term against division by zero."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Clip the gradient to this norm; 0 switches clipping off."""
    bf16: bool = False
    """Run the forward pass under bfloat16 autocast."""
    padding: Literal["max_length", "longest", "bucketed"] = "longest"
    """Pad rows to the longest possible, to the longest of the batch, or batch rows of like length together."""
    logging_steps: int = Field(100, ge=1)
    """Steps between lines of training loss."""
    eval_steps: int | None = Field(None, ge=1)
    """Steps between evaluations; absent: on the clock's grid when there are targets, else only at the end."""
    save_model: bool = True
    """Write the final weights into the run folder."""
    seed: int = Field(42, ge=0)
    """Seed of the weights, of dropout and, without data_seed, of the data order."""
    data_seed: int | None = Field(None, ge=0)
    """Seed of the data order."""

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        known = _SCHEDULE_ARGUMENTS.get(self.lr_scheduler_type, ())
        for key, value in self.lr_scheduler_kwargs.items():
            if key not in known:
                names = ", ".join(known) or "none"
                raise ValueError(f"lr_scheduler_kwargs: {self.lr_scheduler_type} takes {names}, not {key}")
            if key == "decay_type" and value not in ("linear", "cosine", "1-sqrt"):
                raise ValueError(f"lr_scheduler_kwargs: decay_type is linear, cosine or 1-sqrt, got {value!r}")
            if key != "decay_type" and not (isinstance(value, int | float) and value >= 0):
                raise ValueError(f"lr_scheduler_kwargs: {key} is a number from 0 up, got {value!r}")
        if self.lr_scheduler_type == "warmup_stable_decay" and "num_decay_steps" not in self.lr_scheduler_kwargs:
            raise ValueError("warmup_stable_decay needs lr_scheduler_kwargs: {num_decay_steps: N}")
        return self

    @property
    def num_warmup_steps(self) -> int:
        """Whole steps of warm-up (Hugging Face: warmup_steps, else the ratio, rounded up)."""
        if self.warmup_steps >= 1:
            return int(self.warmup_steps)
        share = self.warmup_steps or self.warmup_ratio
        return -int(-self.max_steps * share // 1)


class BudgetConfig(Section):
    """How long things may take."""

    run: Seconds = 900.0
    """Longest training of one run, on the study's clock (such as 15m)."""
    total: Seconds = 3600.0
    """Longest study, wall clock."""


class CalibrateConfig(Section):
    """How the noise is measured before anything is judged."""

    runs: int = Field(3, ge=2)
    """Baseline runs with different seeds."""


class RecordConfig(Section):
    """How a record is claimed."""

    runs: int = Field(4, ge=2)
    """Fresh runs of each side."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """Chance of a false claim over all three looks."""


class RunConfig(Section):
    """The whole of hotlap.yaml."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run or study."""
    task: StringRepetitionConfig = Field(default_factory=StringRepetitionConfig)
    """What the model learns."""
    model: GPTConfig = Field(default_factory=GPTConfig)
    """The model."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    """The training."""
    targets: tuple[TargetText, ...] = ()
    """Conditions that must hold together, such as eval_loss < 0.76."""
    clock: ClockName = "train"
    """Clock that a study judges by."""
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    """Time limits."""
    calibrate: CalibrateConfig = Field(default_factory=CalibrateConfig)
    """Noise calibration."""
    record: RecordConfig = Field(default_factory=RecordConfig)
    """Record claims."""
    patience: int = Field(12, ge=1)
    """Proposals in a row without a keep after which a study ends."""
    allow_trade: bool = False
    """Keep changes that gain on the judged clock but lose on the other one."""

    def parsed_targets(self) -> tuple[Target, ...]:
        """Return the targets as values."""
        return tuple(parse_target(text) for text in self.targets)


PROTOCOL_KEYS = (
    "name",
    "task",
    "targets",
    "clock",
    "budget",
    "calibrate",
    "record",
    "patience",
    "allow_trade",
    "training.seed",
    "training.data_seed",
    "training.logging_steps",
    "training.eval_steps",
    "training.per_device_eval_batch_size",
    "training.save_model",
)
"""Keys that belong to the measurement: a proposal that names one, or a key below one, is refused."""
