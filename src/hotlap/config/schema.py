"""The schema of hotlap.yaml: every setting with its type, its unit and one sentence.

Names are Hugging Face's, verbatim, wherever it has one. Unknown keys are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from hotlap.config.base import Seconds, Section
from hotlap.config.command import (
    SECTIONS_OF_TRAINING,
    SEED,
    CommandConfig,
    KnobName,
    KnobValue,
    knob_problems,
)
from hotlap.config.edits import AgentConfig, EditsConfig
from hotlap.config.models import MODELS, CustomModelConfig, GPTConfig, ModelConfig
from hotlap.config.samples import SamplesConfig
from hotlap.config.tasks import (
    TASKS,
    CustomTaskConfig,
    EndlessTaskConfig,
    GeneratorConfig,
    LanguageModelConfig,
    LetterCountConfig,
    MixtureConfig,
    PromptCompletionConfig,
    StringRepetitionConfig,
    TaskConfig,
)
from hotlap.config.tokenizers import TOKENIZERS, ByteTokenizerConfig, TokenizerConfig
from hotlap.config.training import TrainingConfig
from hotlap.config.training_rules import streaming_problems
from hotlap.config.word_latent import WordLatentConfig, word_problems
from hotlap.core.clock import ClockName
from hotlap.core.errors import ConfigError, unknown_name
from hotlap.core.goals import parse_goal
from hotlap.core.targets import (
    CHEAP_METRICS,
    GENERATION_METRICS,
    Target,
    is_task_metric,
    main_metric,
    parse_target,
    task_metrics,
)

__all__ = [
    "FREE_KEYS",
    "PROTOCOL_KEYS",
    "TAGGED_KEYS",
    "VARIANTS",
    "BenchConfig",
    "BudgetConfig",
    "CalibrateConfig",
    "CustomModelConfig",
    "CustomTaskConfig",
    "GPTConfig",
    "GeneratorConfig",
    "LanguageModelConfig",
    "LetterCountConfig",
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


def _check_target(text: str, info: ValidationInfo) -> str:
    try:
        parse_target(text, is_any_metric=info.data.get("command") is not None)
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


class BenchConfig(Section):
    """The step times that a speedrun measures before it searches."""

    budget_ratio: float = Field(0.02, ge=0, le=0.25)
    """Share of budget.total that it may take; 0 switches it off."""
    least_budget: Seconds = 3600.0
    """A shorter budget.total is spent on the search alone."""


class RunConfig(Section):
    """The whole of hotlap.yaml."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run or study."""
    command: CommandConfig | None = None
    """A training command of your own, in place of hotlap's trainer."""
    params: dict[KnobName, KnobValue] = Field(default_factory=dict)
    """The values of the command's knobs."""
    search: dict[str, Any] = Field(default_factory=dict)
    """Which knobs a study of the command varies and within which bounds, as in a sweep; empty: those whose names say
    what they do."""
    edits: EditsConfig | None = None
    """What code changes may touch."""
    agent: AgentConfig | None = None
    """Who is asked for proposals, beside the rules and samplers."""
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
    """Clock that a study judges by; with a command of your own the default is wall."""
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    """Time limits."""
    calibrate: CalibrateConfig = Field(default_factory=CalibrateConfig)
    """Noise calibration."""
    record: RecordConfig = Field(default_factory=RecordConfig)
    """Record claims."""
    bench: BenchConfig = Field(default_factory=BenchConfig)
    """How a speedrun measures step times first."""
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

    @model_validator(mode="before")
    @classmethod
    def _fit_to_command(cls, values: Any) -> Any:
        """Refuse the sections of hotlap's own trainer beside a command, which is timed by the wall clock."""
        if not isinstance(values, Mapping) or values.get("command") is None:
            return values
        if foreign := [name for name in SECTIONS_OF_TRAINING if name in values]:
            raise ValueError(
                f"{', '.join(foreign)}: for hotlap's own trainer, but there is a command of your own; take "
                f"{'it' if len(foreign) == 1 else 'them'} out, and name what may be changed in params"
            )
        return values if "clock" in values else {**values, "clock": "wall"}

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what a config may not have, or has not."""
        values: dict[str, Any] = handler(self)
        left_out = SECTIONS_OF_TRAINING if self.command is not None else ("command", "params")
        absent = tuple(name for name in ("edits", "agent", "search") if not getattr(self, name))
        return {key: value for key, value in values.items() if key not in (*left_out, *absent)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [*self._command_problems(), *(self._problems() if self.command is None else ())]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _command_problems(self) -> Iterator[str]:
        if self.command is None:
            for key, section in (("params", self.params), ("edits", self.edits), ("search", self.search)):
                if section:
                    yield f"{key}: for a command of your own, but there is none; add command: {{run: …}}"
            return
        yield from knob_problems(self.command, self.params)
        if self.backend != "fast":
            yield f"backend: {self.backend} is for hotlap's own trainer, but there is a command of your own"

    def _problems(self) -> Iterator[str]:
        if self.targets and self.training.eval_strategy == "no":
            yield "targets need evaluations, but training.eval_strategy is no; leave it out to evaluate on the clock"
        if isinstance(self.task, EndlessTaskConfig):
            yield from self._epochs_of_endless_data()
        if isinstance(self.model, WordLatentConfig):
            yield from word_problems(self.model, self.tokenizer.name, self.training, self.backend)
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
        answering = StringRepetitionConfig | LetterCountConfig | PromptCompletionConfig | GeneratorConfig
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
    def seed(self) -> int:
        """The seed that a run has, unless a study gives it another one."""
        seed = self.training.seed if self.command is None else self.params.get(SEED, self.training.seed)
        return seed if isinstance(seed, int) else self.training.seed

    @property
    def seed_key(self) -> str:
        """The setting that a study gives each run another value of; empty for a command that has no knob `seed`."""
        return "training.seed" if self.command is None else "params.seed" if SEED in self.params else ""

    @property
    def subject(self) -> str:
        """What a run is of, in words: `task letter_count`, or `command` for a command of your own."""
        return f"task {self.task.name}" if self.command is None else "command"

    @property
    def task_metrics(self) -> tuple[str, ...]:
        """The metrics of the single tasks of a mixture."""
        return task_metrics(self.task.tasks) if isinstance(self.task, MixtureConfig) else ()

    @property
    def main_metric(self) -> str:
        """The metric whose curves are drawn and compared: eval_loss, of a command that of its first target."""
        return main_metric({"command": self.command, "targets": self.targets})

    def parsed_targets(self) -> tuple[Target, ...]:
        """Return the targets as values."""
        return tuple(parse_target(text, is_any_metric=self.command is not None) for text in self.targets)


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
    "command",
    "params.seed",
    "search",
    "edits",
    "agent",
    "task",
    "tokenizer",
    "samples",
    "targets",
    "clock",
    "budget",
    "calibrate",
    "record",
    "bench",
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

FREE_KEYS: Final = (
    *("budget.total", "bench", "patience", "stop_when", "search", "training.report_to"),
    *(f"agent.{name}" for name in AgentConfig.model_fields),
)
"""Of these, the keys that may change between two sittings of a study: they change nothing that a run does."""
