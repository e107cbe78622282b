"""The schema of hotlap.yaml: every setting with its type, its unit and one sentence.

Names are Hugging Face's, verbatim, wherever it has one. Unknown keys are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hotlap.config.base import Seconds, Section
from hotlap.config.models import MODELS, CustomModelConfig, GPTConfig, ModelConfig
from hotlap.config.samples import SamplesConfig
from hotlap.config.tasks import (
    TASKS,
    CustomTaskConfig,
    EndlessTaskConfig,
    GeneratorConfig,
    LanguageModelConfig,
    MixtureConfig,
    PromptCompletionConfig,
    StringRepetitionConfig,
    TaskConfig,
)
from hotlap.config.tokenizers import TOKENIZERS, ByteTokenizerConfig, TokenizerConfig
from hotlap.config.training import TrainingConfig
from hotlap.config.training_rules import streaming_problems
from hotlap.core.clock import ClockName
from hotlap.core.errors import ConfigError, unknown_name
from hotlap.core.goals import parse_goal
from hotlap.core.targets import (
    CHEAP_METRICS,
    GENERATION_METRICS,
    Target,
    is_task_metric,
    parse_target,
    task_metrics,
)

__all__ = [
    "FREE_KEYS",
    "PROTOCOL_KEYS",
    "TAGGED_KEYS",
    "VARIANTS",
    "BudgetConfig",
    "CalibrateConfig",
    "CustomModelConfig",
    "CustomTaskConfig",
    "GPTConfig",
    "GeneratorConfig",
    "LanguageModelConfig",
    "MixtureConfig",
    "ModelConfig",
    "PromptCompletionConfig",
    "RecordConfig",
    "RunConfig",
    "SamplesConfig",
    "Section",
    "StringRepetitionConfig",
    "TaskConfig",
    "TrainingConfig",
]


def _check_target(text: str) -> str:
    try:
        parse_target(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


TargetText = Annotated[str, AfterValidator(_check_target)]


def _check_goal(text: Any) -> Any:
    try:
        parse_goal(str(text))
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


GoalText = Annotated[str, BeforeValidator(_check_goal)]


class BudgetConfig(Section):
    """How long things may take."""

    run: Seconds = 900.0
    """Longest training of one run, on the study's clock (such as 15m)."""
    total: Seconds = 3600.0
    """Longest study, wall clock."""


class CalibrateConfig(Section):
    """How the noise is measured before anything is judged."""

    runs: int = Field(3, ge=2)
    """Baseline runs with different seeds. Two come first; the others only before a close change of it is confirmed."""


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
    task: TaskConfig = Field(default_factory=StringRepetitionConfig)
    """What the model learns."""
    tokenizer: TokenizerConfig = Field(default_factory=ByteTokenizerConfig)
    """What its tokens are; a name alone will do, such as tokenizer: bpe."""
    model: ModelConfig = Field(default_factory=GPTConfig)
    """The model."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    """The training."""
    samples: SamplesConfig = Field(default_factory=SamplesConfig)
    """Text that is generated during training."""
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
    patience: int | None = Field(None, ge=1)
    """Proposals in a row without a keep that end the search; absent: 12, once they cost a quarter of budget.total."""
    stop_when: GoalText | None = None
    """Goal that ends a study once it is reached: 10x sooner than the baseline, 0.1x its time, or a time such as 20s."""
    allow_trade: bool = False
    """Keep changes that gain on the judged clock but lose on the other one."""
    devices: int = Field(1, ge=1)
    """Devices that a run trains on, each with a process of its own."""
    backend: Literal["fast", "hf"] = "fast"
    """Training loop: hotlap's own, or the real Trainer of transformers as its baseline (extra hf)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if self.targets and self.training.eval_strategy == "no":
            yield "targets need evaluations, but training.eval_strategy is no; leave it out to evaluate on the clock"
        if isinstance(self.task, EndlessTaskConfig):
            yield from self._epochs_of_endless_data()
        metric, known = self.training.metric_for_best_model, [*CHEAP_METRICS, *GENERATION_METRICS, *self.task_metrics]
        if metric is not None and metric not in known and not isinstance(self.task, CustomTaskConfig):
            yield str(unknown_name("metric in training.metric_for_best_model", metric, known))
        if isinstance(self.task, LanguageModelConfig) and self.task.streaming:
            yield from (f"task.streaming: {problem}" for problem in streaming_problems(self.training))
            if self.backend != "fast":
                yield f"task.streaming: backend {self.backend} needs the whole text before it starts; use backend: fast"
        for target in self.parsed_targets():
            yield from self._unmeasured(target.metric)

    def _unmeasured(self, metric: str) -> Iterator[str]:
        """Say of a target's metric that the task never gives it: such a target could not be reached."""
        if is_task_metric(metric) and metric not in self.task_metrics:
            known = [*CHEAP_METRICS, *GENERATION_METRICS, *self.task_metrics]
            yield f"targets: {unknown_name('metric', metric, known)} eval_NAME_loss is for the tasks of a mixture"
        tasks = [sub.task for sub in self.task.tasks.values()] if isinstance(self.task, MixtureConfig) else [self.task]
        answering = StringRepetitionConfig | PromptCompletionConfig | GeneratorConfig
        if metric == "bits_per_byte" and any(isinstance(task, answering) for task in tasks):
            yield "targets: bits_per_byte is measured on running text (task language_model); use eval_loss here"
        if metric in GENERATION_METRICS and any(isinstance(task, LanguageModelConfig) for task in tasks):
            yield f"targets: {metric} needs completions, which task language_model has not; use eval_loss"

    def _epochs_of_endless_data(self) -> Iterator[str]:
        """Say what counts epochs where the data have none."""
        training = self.training
        strategies = ("logging_strategy", "eval_strategy", "save_strategy")
        found = [f"training.{name}: epoch" for name in strategies if getattr(training, name) == "epoch"]
        if training.is_by_epochs:
            found.insert(0, "training.num_train_epochs (max_steps -1)")
        if found:
            yield (
                f"{', '.join(found)}: task {self.task.name} never ends, so there are no epochs; set training.max_steps "
                "and count in steps"
            )

    @property
    def task_metrics(self) -> tuple[str, ...]:
        """The metrics of the single tasks of a mixture."""
        return task_metrics(self.task.tasks) if isinstance(self.task, MixtureConfig) else ()

    def parsed_targets(self) -> tuple[Target, ...]:
        """Return the targets as values."""
        return tuple(parse_target(text) for text in self.targets)


VARIANTS: Final[Mapping[str, Mapping[str, type[Section]]]] = {
    "task": TASKS,
    "tokenizer": TOKENIZERS,
    "model": MODELS,
}
"""Sections that have several forms, by what `name` chooses."""

TAGGED_KEYS: Final = frozenset(
    {
        ("task",),
        ("tokenizer",),
        ("model",),
        ("training", "per_device_train_batch_size"),
        ("training", "lr_scheduler_type"),
        ("training", "optim"),
    }
)
"""Keys whose value has one of several forms: pydantic names the form after the key where it tells of a problem."""

PROTOCOL_KEYS = (
    "name",
    "task",
    "tokenizer",
    "samples",
    "targets",
    "clock",
    "budget",
    "calibrate",
    "record",
    "patience",
    "stop_when",
    "allow_trade",
    "devices",
    "backend",
    "training.seed",
    "training.data_seed",
    "training.use_cpu",
    "training.logging_strategy",
    "training.logging_steps",
    "training.logging_first_step",
    "training.include_num_input_tokens_seen",
    "training.eval_strategy",
    "training.eval_steps",
    "training.eval_delay",
    "training.eval_on_start",
    "training.per_device_eval_batch_size",
    "training.bf16_full_eval",
    "training.save_strategy",
    "training.save_steps",
    "training.save_every",
    "training.save_total_limit",
    "training.save_only_model",
    "training.save_model",
    "training.metric_for_best_model",
    "training.greater_is_better",
    "training.load_best_model_at_end",
    "training.report_to",
    "training.measure_gradient_noise",
    "training.measure_update_norm",
)
"""Keys that belong to the measurement: a proposal that names one, or a key below one, is refused."""

FREE_KEYS: Final = ("budget.total", "patience", "stop_when", "training.report_to")
"""Of these, the keys that may change between two sittings of a study: they change nothing that a run does."""
