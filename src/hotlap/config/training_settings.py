"""The settings of the section `training`: Hugging Face's names with its meanings, and those that hotlap adds."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from hotlap.config.base import PART_PATTERN, Seconds, Section, name_or_part
from hotlap.config.schedule_arguments import check_schedule_name
from hotlap.core.errors import unknown_name
from hotlap.core.targets import CHEAP_METRICS, GENERATION_METRICS

ScheduleName = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
    "triangular",
    "step_down",
]
OptimizerName = Literal["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "muon"]
TrackerName = Literal["tensorboard", "wandb", "trackio", "all"]


def _check_optimizer(name: Any) -> Any:
    known = list(get_args(OptimizerName))
    if isinstance(name, str) and ":" not in name and name not in known:
        raise ValueError(f"{unknown_name('optimizer', name, known)} Code of your own: module:function")
    return name


def _number_or_auto(value: Any) -> str:
    return "auto" if isinstance(value, str) and value == "auto" else "number"


def _no_for_false(value: Any) -> Any:
    return "no" if value is False else value  # what YAML 1.1 makes of a bare `no`


def _counted_tokens(value: Any) -> Any:
    return {True: "all", False: None, "no": None}.get(value, value) if isinstance(value, bool | str) else value


def _schedule_arguments(value: Any) -> Any:
    """Read what the Trainer takes, too: nothing, or a JSON object as text."""
    if not isinstance(value, str):
        return {} if value is None else value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f'write a mapping, or one as text such as {{"num_cycles": 1}}: {error}') from error


def _optimizer_arguments(value: Any) -> Any:
    if value is None or isinstance(value, str | Mapping):
        return value
    raise ValueError("write a mapping, or a text such as momentum=0.9,nesterov=true")


def _tracker_names(value: Any) -> Any:
    """Return the trackers of what the Trainer takes: nothing, `none`, one name, or a list."""
    listed = list(value) if isinstance(value, list | tuple) else [value]
    names = [name for name in listed if name not in (None, False, "", "none", "None")]
    known = list(get_args(TrackerName))
    for name in names:
        if name not in known:
            raise ValueError(f"{unknown_name('tracker', str(name), known)} Or none")
    return tuple(dict.fromkeys(names))


def _metric_name(name: str) -> str:
    is_complete = name in (*CHEAP_METRICS, *GENERATION_METRICS) or name.startswith("eval_")
    return name if is_complete else f"eval_{name}"


_PartName = Annotated[str, Field(pattern=PART_PATTERN), Tag("part")]
BatchSize = Annotated[
    Annotated[int, Field(ge=1), Tag("number")] | Annotated[Literal["auto"], Tag("auto")], Discriminator(_number_or_auto)
]
ScheduleChoice = Annotated[
    Annotated[ScheduleName, Tag("name")] | _PartName, Discriminator(name_or_part), BeforeValidator(check_schedule_name)
]
OptimizerChoice = Annotated[
    Annotated[OptimizerName, Tag("name")] | _PartName, Discriminator(name_or_part), BeforeValidator(_check_optimizer)
]
Strategy = Annotated[Literal["no", "steps", "epoch"], BeforeValidator(_no_for_false)]
EvalStrategy = Annotated[Literal["no", "steps", "epoch", "clock"] | None, BeforeValidator(_no_for_false)]
SaveStrategy = Annotated[Literal["no", "steps", "epoch", "best"], BeforeValidator(_no_for_false)]
CountedTokens = Annotated[Literal["all", "non_padding"] | None, BeforeValidator(_counted_tokens)]
MetricName = Annotated[str, AfterValidator(_metric_name)]
TrackerNames = Annotated[tuple[TrackerName, ...], BeforeValidator(_tracker_names)]


class TrainingSettings(Section):
    """The keys of the section and their bounds, one by one; TrainingConfig is what is used."""

    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate, reached at the end of warm-up; with optim muon that of all but the hidden matrices."""
    embedding_learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of the embeddings; absent: learning_rate."""
    head_learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of the output head, where it is not the embedding table; absent: learning_rate."""
    vector_learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of biases, norms and other vectors; absent: learning_rate."""
    muon_learning_rate: float = Field(0.02, gt=0)
    """Peak learning rate of the hidden matrices with optim muon."""
    muon_momentum: float = Field(0.95, ge=0, lt=1)
    """Momentum of Muon."""
    per_device_train_batch_size: BatchSize = 8
    """Examples per device in one forward pass, before gradient accumulation; auto: the fastest that fits."""
    per_device_eval_batch_size: int = Field(64, ge=1)
    """Examples per device in one forward pass of an evaluation."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """Forward and backward passes per optimizer step; each target token of the step weighs the same."""
    total_batch_size: int | None = Field(None, ge=1)
    """Examples per optimizer step over all devices, which per_device_train_batch_size auto keeps."""
    total_batch_tokens: int | None = Field(None, ge=1)
    """Tokens per optimizer step over all devices, for rows of one length: gradient_accumulation_steps follow from it,
    and per_device_train_batch_size is auto where it is absent."""
    device_memory_ratio: float = Field(0.9, gt=0, le=1)
    """Share of a device's memory that per_device_train_batch_size auto fills at most, on a CPU by the estimate."""
    auto_find_batch_size: bool = False
    """After an allocation failure, start again with a smaller per_device_train_batch_size."""
    max_steps: int = Field(1000, ge=-1)
    """Optimizer steps: where the schedule ends, whether or not the target comes first; -1: num_train_epochs."""
    num_train_epochs: float = Field(3.0, gt=0)
    """Passes over the training examples, used when max_steps is -1 or is left out beside this key."""
    schedule_by: Literal["steps", "tokens", "seconds"] = "steps"
    """What the schedule is measured in: max_steps, max_tokens, or the seconds of budget.run, where it then ends."""
    max_tokens: int | None = Field(None, ge=1)
    """Tokens, without padding, at which a schedule by tokens ends, and the training with it."""
    lr_scheduler_type: ScheduleChoice = "linear"
    """Shape of the learning rate over the training."""
    lr_scheduler_kwargs: Annotated[dict[str, Any], BeforeValidator(_schedule_arguments)] = Field(default_factory=dict)
    """Further arguments of the schedule, such as num_decay_steps, in the schedule's unit."""
    warmup_steps: float = Field(0, ge=0)
    """Steps of linear warm-up; below 1 a fraction of the schedule."""
    warmup_ratio: float = Field(0.0, ge=0, le=1)
    """Warm-up as a fraction of the schedule, used when warmup_steps is 0."""
    optim: OptimizerChoice = "adamw_torch_fused"
    """Optimizer; muon orthogonalises the updates of hidden matrices and leaves the rest to AdamW."""
    optim_args: Annotated[str | dict[str, Any] | None, BeforeValidator(_optimizer_arguments)] = None
    """Further arguments of the optimizer, as a mapping or as text such as momentum=0.9,nesterov=true."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay on matrices and embeddings, not on biases and norms."""
    embedding_weight_decay: float | None = Field(None, ge=0)
    """Weight decay of the embeddings; absent: weight_decay."""
    head_weight_decay: float | None = Field(None, ge=0)
    """Weight decay of the output head, where it is not the embedding table; absent: weight_decay."""
    vector_weight_decay: float | None = Field(None, ge=0)
    """Weight decay of biases, norms and other vectors; absent: none."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW's decay of the first moment."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """AdamW's decay of the second moment."""
    adam_epsilon: float = Field(1e-8, gt=0)
    """AdamW's term against division by zero."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Clip the gradient to this norm; 0 switches clipping off."""
    label_smoothing_factor: float = Field(0.0, ge=0, lt=1)
    """Share of a target's weight that goes evenly to the whole vocabulary; evaluations are without it."""
    bf16: bool = False
    """Run the forward pass under bfloat16 autocast."""
    bf16_full_eval: bool = False
    """Evaluate under bfloat16 autocast, also where training is not."""
    tf32: bool | None = None
    """Multiply fp32 matrices in TensorFloat-32 on GPUs that have it; absent: as torch has it."""
    torch_compile: bool = False
    """Compile model and loss with torch.compile; compiling is booked as set-up."""
    torch_compile_backend: str | None = None
    """Backend of torch.compile, inductor where absent; switches torch_compile on."""
    torch_compile_mode: str | None = None
    """Mode of torch.compile, such as max-autotune; switches torch_compile on."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, more time."""
    padding: Literal["max_length", "longest", "bucketed", "packed"] = "longest"
    """Pad rows to the longest possible, to the longest of the batch, batch like lengths together, or pack rows full."""
    group_by_length: bool = False
    """Batch examples of like length together, as train_sampling_strategy group_by_length and padding bucketed do."""
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = "random"
    """Order of the training examples: shuffled in each epoch, as they come, or like lengths together."""
    dataloader_drop_last: bool = False
    """Leave out the last batch of an epoch when it is not full."""
    dataloader_num_workers: int = Field(0, ge=0)
    """Workers that make batches ahead; 0: they are made where they are used."""
    dataloader_prefetch_factor: int | None = Field(None, ge=1)
    """Batches that each worker makes ahead; absent: 2."""
    dataloader_pin_memory: bool = True
    """Put batches into page-locked memory on their way to a GPU."""
    dataloader_persistent_workers: bool = False
    """Keep the workers from one epoch to the next; hotlap always does."""
    logging_strategy: Strategy = "steps"
    """When a line of training figures is written: every logging_steps, at the end of each epoch, or never."""
    logging_steps: float = Field(100.0, gt=0)
    """Steps between lines of training figures; below 1 a fraction of max_steps."""
    logging_first_step: bool = False
    """Write a line after the first step, too."""
    include_num_input_tokens_seen: CountedTokens = None
    """Count input tokens in each line: all, non_padding, or not at all (no)."""
    eval_strategy: EvalStrategy = None
    """When to evaluate; clock: at growing readings of the clock, whether or not there are targets; absent: every
    eval_steps, else on the clock's grid when there are targets, and at the end."""
    eval_steps: float | None = Field(None, gt=0)
    """Steps between evaluations, below 1 a fraction of max_steps; absent: see eval_strategy."""
    eval_delay: float = Field(0.0, ge=0)
    """Steps (or epochs, with eval_strategy epoch) before the first evaluation."""
    eval_on_start: bool = False
    """Evaluate before the first step."""
    save_strategy: SaveStrategy = "steps"
    """When to save a checkpoint: every save_steps, after each epoch, at each best evaluation, or never."""
    save_steps: float | None = Field(None, gt=0)
    """Steps between checkpoints, below 1 a fraction of max_steps; absent: none by steps."""
    save_every: Seconds | None = None
    """Wall time between checkpoints, such as 10m, beside those of save_strategy."""
    save_total_limit: int | None = Field(None, ge=1)
    """Checkpoints to keep, the best one among them; absent: all."""
    save_only_model: bool = False
    """Leave the optimizer out of checkpoints: they are smaller and cannot be resumed from."""
    save_model: bool = True
    """Write the final weights into the run folder."""
    metric_for_best_model: MetricName | None = None
    """Metric that says which evaluation is the best, with or without eval_; absent: eval_loss where it is needed."""
    greater_is_better: bool | None = None
    """Whether more of that metric is better; absent: for all but loss, perplexity and bits_per_byte."""
    load_best_model_at_end: bool = False
    """End with the weights of the best evaluation."""
    report_to: TrackerNames = ()
    """Trackers that mirror the run folder as it fills: tensorboard, wandb, trackio, a list of them, all, or none."""
    measure_gradient_noise: bool = False
    """Measure the gradient noise scale, from the gradients of micro-batches."""
    measure_update_norm: bool = False
    """Measure the norm of the updates, relative to the weights'."""
    seed: int = Field(42, ge=0)
    """Seed of the weights, of dropout and, without data_seed, of the data order."""
    data_seed: int | None = Field(None, ge=0)
    """Seed of the data order."""
    full_determinism: bool = False
    """Use deterministic kernels only; slower on a GPU."""
    use_cpu: bool = False
    """Train on the CPU even where there is a GPU."""
    ddp_backend: Literal["nccl", "gloo"] | None = None
    """What several devices exchange gradients with; absent: nccl on GPUs, gloo on CPUs."""
    ddp_timeout: int = Field(1800, ge=1)
    """Seconds that a device waits for the others."""
    ddp_bucket_cap_mb: int | None = Field(None, ge=1)
    """Mebibytes of gradients that are exchanged at once; absent: as torch has it."""
    ddp_find_unused_parameters: bool | None = None
    """Look for parameters without a gradient in each step, for models that leave some out; absent: no."""
