"""A training through transformers' Trainer (`backend: hf`, extra `hf`): the baseline, and the oracle of our own loop.

    training = TrainerTraining(parts, run_folder)
    training.run(clock, timer, signs, take)     # take(step) says whether that was enough

Model, settings and every batch follow from the same config as in hotlap's loop, in the same order; the loss, the
clipping, the optimizer, the schedule and the loop itself are the Trainer's. Works with transformers 4.57 to 5.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hotlap.config.schema import TrainingConfig
from hotlap.core.clock import TrainClock
from hotlap.core.errors import DivergedError, import_optional
from hotlap.data.batches import Batch, collate
from hotlap.data.encoding import PAD
from hotlap.train.hf_model import hf_model, own_weights, refuse_unsupported, share_weights
from hotlap.train.loop import Signs, Step, StepTimer
from hotlap.train.parts import Parts

IGNORED: Final = -100
"""The label of a token that the loss is not on."""

_VERBATIM: Final = (
    "learning_rate",
    "lr_scheduler_type",
    "optim",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "label_smoothing_factor",
    "per_device_eval_batch_size",
    "bf16",
    "tf32",
    "torch_compile",
    "torch_compile_backend",
    "torch_compile_mode",
    "gradient_checkpointing",
    "include_num_input_tokens_seen",
    "seed",
    "full_determinism",
)
"""Settings that go to TrainingArguments as they are; what is not here, hotlap does itself or the Trainer refuses."""


def trainer_batch(batch: Batch) -> dict[str, Tensor]:
    """Return a batch as the Trainer's models take it: input_ids, attention_mask and labels, each (B, T + 1).

    Those models shift the labels themselves, so a row holds its last target too; prefix and padding carry no label.
    """
    rows, width = batch.input_ids.shape
    row, column = batch.target_positions // width, batch.target_positions % width + 1
    input_ids = torch.full((rows, width + 1), PAD, dtype=torch.int64)
    input_ids[:, :width] = batch.input_ids
    input_ids[row, column] = batch.targets
    labels = torch.full_like(input_ids, IGNORED)
    labels[row, column] = batch.targets
    last = torch.zeros(rows, dtype=torch.int64).scatter_reduce_(0, row, column, "amax")
    attention_mask = (torch.arange(width + 1) <= last.unsqueeze(1)).long()
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def hf_training_arguments(parts: Parts, folder: Path) -> Any:
    """Return the TrainingArguments of a training; saving, evaluating and printing are left to hotlap.

    The Trainer reports every step, since hotlap writes the points. Raises MissingExtraError without the extra.
    """
    import_optional("accelerate", "hf")  # transformers' own message about it names no extra
    transformers: Any = import_optional("transformers", "hf")
    training = parts.config.training
    known = {field.name for field in fields(transformers.TrainingArguments)}
    values = {name: getattr(training, name) for name in _VERBATIM if name in known}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        **{name: value for name, value in values.items() if value is not None and value is not False},
        lr_scheduler_kwargs=_schedule_arguments(training, parts.horizon.max_steps),
        optim_args=_optim_args(training),
        max_steps=parts.horizon.max_steps,
        warmup_steps=int(parts.horizon.schedule.warmup),
        per_device_train_batch_size=parts.batch_size,
        gradient_accumulation_steps=parts.accumulation_steps,
        use_cpu=parts.device.type == "cpu",
        dataloader_pin_memory=parts.device.type == "cuda",
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # else it would spread each batch over every GPU that it sees
    return arguments


def _schedule_arguments(training: TrainingConfig, max_steps: int) -> dict[str, Any]:
    """Return the schedule's arguments; a length below 1 is a fraction for hotlap, but not for the Trainer."""
    lengths = ("num_decay_steps", "num_stable_steps")
    return {
        name: math.ceil(value * max_steps) if name in lengths and 0 < value < 1 else value
        for name, value in training.lr_scheduler_kwargs.items()
    }


def _optim_args(training: TrainingConfig) -> str | None:
    """Return `optim_args` in the Trainer's own form, `name=value,name=value`."""
    given = training.optim_args
    return ",".join(f"{name}={value}" for name, value in given.items()) if isinstance(given, dict) else given


class StepWatch:
    """Keeps the training clock, and the parts of a step, for one step after the other."""

    def __init__(self, clock: TrainClock, timer: StepTimer) -> None:
        self._clock = clock
        self._timer = timer
        self._open = ExitStack()

    def start(self) -> None:
        """Start the clock: the data of a step are asked for."""
        self._open.enter_context(self._clock.counting())
        self._timer.start()

    def book(self, part: str) -> None:
        """Book the time since the last call on a part of the step."""
        self._timer.book(part)

    def stop(self) -> None:
        """Stop the clock: the weights are updated."""
        self._open.close()


class TrainerBatches(IterableDataset[dict[str, Tensor]]):
    """Every micro-batch of a training in hotlap's order, each a finished batch of the Trainer's."""

    def __init__(self, parts: Parts, watch: StepWatch) -> None:
        self._parts = parts
        self._watch = watch
        self.num_tokens = self.num_slots = 0
        """Of the step that is being taken, without and with padding."""

    def __len__(self) -> int:
        return self._parts.horizon.max_steps * self._parts.accumulation_steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        count = self._parts.accumulation_steps
        for step in range(self._parts.horizon.max_steps):
            self._watch.start()
            batches, _ = self._parts.source.micro_batches(step * count, count)
            self.num_tokens = sum(batch.num_tokens for batch in batches)
            self.num_slots = sum(batch.num_slots for batch in batches)
            found = [trainer_batch(batch) for batch in batches if isinstance(batch, Batch)]  # the config refuses words
            self._watch.book("data")
            yield from found


class TrainerTraining:
    """One training in the hands of the Trainer; our GPT in `parts.model` always has the Trainer's weights."""

    def __init__(self, parts: Parts, folder: Path) -> None:
        """Raise ConfigError for a config that the Trainer cannot run, MissingExtraError without the extra."""
        refuse_unsupported(parts.config)
        arguments = hf_training_arguments(parts, folder)
        self._parts = parts
        model_config: Any = parts.config.model
        weights = dict(parts.model.named_parameters())
        self._model = hf_model(model_config, parts.tokenizer, weights)
        self._trainer = _trainer_class()(
            model=self._model,
            args=arguments,
            eval_dataset=list(parts.eval),
            data_collator=lambda examples: trainer_batch(collate(examples)),
        )
        self._eval_loader: Any = None
        share_weights(self._model, parts.model, model_config)

    def run(self, clock: TrainClock, timer: StepTimer, signs: Signs, take: Callable[[Step], bool]) -> None:
        """Train to the end of the schedule, or until `take` says of a step that it was enough.

        On the clock is what passes from asking for a step's data to the end of its update. Raises DivergedError after
        the step whose loss or gradient norm is not finite.
        """
        transformers: Any = import_optional("transformers", "hf")
        watch = StepWatch(clock, timer)
        batches = TrainerBatches(self._parts, watch)
        trainer = self._trainer
        trainer.hotlap_batches = DataLoader(batches, batch_size=None)
        trainer.hotlap_watch = watch
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(_listener(self._parts, watch, self._step_maker(batches, clock, signs), take))
        trainer.train()

    def row_weighted_loss(self) -> float:
        """Return the Trainer's own eval_loss: a batch's mean counts once for each of its rows.

        It takes no random numbers of the training.
        """
        devices = [torch.cuda.current_device()] if self._parts.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            if self._eval_loader is None:
                self._eval_loader = self._trainer.get_eval_dataloader()
            output = self._trainer.evaluation_loop(self._eval_loader, "Evaluation", prediction_loss_only=True)
        return float(output.metrics["eval_loss"])

    def release(self) -> None:
        """Let go of the Trainer's weights: `parts.model` keeps a copy that can be saved."""
        own_weights(self._parts.model)

    def _step_maker(
        self, batches: TrainerBatches, clock: TrainClock, signs: Signs
    ) -> Callable[[int, dict[str, Any]], Step]:
        def make(number: int, figures: dict[str, Any]) -> Step:
            """Build the step from the figures that the Trainer logged for it."""
            losses, self._trainer.hotlap_losses = self._trainer.hotlap_losses, []
            loss = sum(part.item() for part in losses)
            norm = float(figures["grad_norm"]) if figures.get("grad_norm") is not None else None
            if not math.isfinite(loss) or (norm is not None and not math.isfinite(norm)):
                raise DivergedError(
                    f"the training loss is {loss} and the gradient norm {norm} at step {number}; lower the learning "
                    "rate or lengthen the warm-up"
                )
            return Step(
                number=number,
                loss=loss,
                grad_norm=norm,
                learning_rate=float(figures["learning_rate"]),
                num_tokens=batches.num_tokens,
                num_slots=batches.num_slots,
                train_seconds=clock.seconds,
                wall_seconds=signs.wall_seconds(),
                is_interrupted=signs.is_interrupted(),
            )

        return make


def _trainer_class() -> Any:
    """Return the Trainer with hotlap's batches; it remembers the losses that its own rounds away."""
    transformers: Any = import_optional("transformers", "hf")
    base: Any = transformers.Trainer

    class FedTrainer(base):
        """The Trainer, fed and listened to."""

        hotlap_batches: Any = None
        hotlap_watch: StepWatch | None = None

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.hotlap_losses: list[Tensor] = []

        def get_train_dataloader(self) -> Any:
            """Return hotlap's batches; there is one process, so there is nothing to share out."""
            return self.hotlap_batches

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            """Compute the Trainer's loss, and book its time while training."""
            loss = super().compute_loss(*args, **kwargs)
            if self.hotlap_watch is not None and self.model.training:
                self.hotlap_watch.book("forward")
            return loss

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            """Go forward and backward once; the loss is this micro-batch's share of the step's mean."""
            loss = super().training_step(*args, **kwargs)
            self.hotlap_losses.append(loss.detach())
            if self.hotlap_watch is not None:
                self.hotlap_watch.book("backward")
            return loss

    return FedTrainer


def _listener(
    parts: Parts, watch: StepWatch, make: Callable[[int, dict[str, Any]], Step], take: Callable[[Step], bool]
) -> Any:
    """Return the callback that stops the clock at a step's end, and hands the step over once the Trainer logs it."""
    transformers: Any = import_optional("transformers", "hf")
    base: Any = transformers.TrainerCallback

    class Listener(base):
        """Hears of each step twice: at its end, and when the Trainer logs it."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Stop the clock."""
            parts.synchronize()
            watch.book("optimizer")
            watch.stop()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            """Hand the step over; the Trainer's closing summary is no step."""
            if logs and "loss" in logs and take(make(state.global_step, logs)):
                control.should_training_stop = True

    return Listener()


def trainer_versions() -> dict[str, str]:
    """Return the versions that a timing of this backend depends on."""
    names = ("transformers", "accelerate")
    return {name: str(import_optional(name, "hf").__version__) for name in names}
