"""Every name of Hugging Face's TrainingArguments, transformers 4 and 5, and what becomes of it here.

Most names are settings of the same meaning. The others have one of three fates: no effect here (accepted with a
notice), renamed (taken as another setting, with a notice), not supported (refused unless the value asks for nothing).

translate({"no_cuda": True, "learning_rate": 3e-4}).values  ->  {"use_cpu": True, "learning_rate": 0.0003}
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Fate = Literal["no effect", "renamed", "not supported"]


def _same(value: Any) -> Any:
    return value


def _is_empty(value: Any) -> bool:
    return not value


@dataclass(frozen=True, slots=True)
class ForeignName:
    """A name of TrainingArguments that is no setting here."""

    fate: Fate
    text: str
    """Why it has no effect, what it is called here, or why it is refused."""
    target: str = ""
    """The setting that a renamed one became."""
    convert: Callable[[Any], Any] = _same
    """Gives the value under the new name, None for one that asks for nothing."""
    asks_nothing: Callable[[Any], bool] = _is_empty
    """Says whether a value is accepted although the name is not supported."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to say about a key."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Translation:
    """Settings under hotlap's names, and what is to be said about those that came under others."""

    values: dict[str, Any] = field(default_factory=dict)
    notices: list[Remark] = field(default_factory=list)
    problems: list[Remark] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    """The name that was written, by the setting it became."""


def translate(training: Mapping[str, Any]) -> Translation:
    """Turn a section with any names of TrainingArguments into one with hotlap's settings only.

    Names that nobody knows stay as they are, for the schema to refuse.
    """
    told = Translation()
    for key, value in training.items():
        row = FATES.get(key)
        if row is None:
            if value is not None or not (key in _NONE_IS_DEFAULT or key in told.sources):
                told.values[key] = _with_twin(value, told) if key == "optim" else value
        elif row.fate == "no effect":
            told.notices.append(Remark(key, f"no effect here: {row.text}"))
        elif row.fate == "renamed":
            _rename(key, row.target, row.convert(_read(value)), training, told)
        elif not row.asks_nothing(_read(value)):
            told.problems.append(Remark(key, f"not supported: {row.text}, got {value!r}"))
    told.notices.extend(_idle_intervals(training))
    return told


def _with_twin(optimizer: Any, told: Translation) -> Any:
    """Return the optimizer that does the same here; any other name stays as it is."""
    twin = OPTIMIZER_TWINS.get(optimizer) if isinstance(optimizer, str) else None
    if twin is None:
        return optimizer
    told.notices.append(Remark("optim", f"{optimizer} needs apex, which is not used here: taken as {twin}"))
    return twin


def _rename(key: str, target: str, value: Any, training: Mapping[str, Any], told: Translation) -> None:
    given = training.get(target)
    if value is None:
        told.notices.append(Remark(key, f"called {target} here"))
    elif given is None:
        told.notices.append(Remark(key, f"called {target} here: {value}"))
        told.values[target], told.sources[target] = value, key
    elif given == value:
        told.notices.append(Remark(key, f"called {target} here, and written as that already"))
    else:
        told.problems.append(Remark(key, f"called {target} here, which is {given!r} already; leave one of them out"))


def _idle_intervals(training: Mapping[str, Any]) -> Iterator[Remark]:
    """Yield which intervals the strategy beside them switches off."""
    for kind in ("eval", "save"):
        strategy = training.get(f"{kind}_strategy")
        if strategy in (False, "no", "epoch", "best") and training.get(f"{kind}_steps") is not None:
            yield Remark(f"{kind}_steps", f"no effect beside {kind}_strategy: {strategy or 'no'}")


def _read(value: Any) -> Any:
    """Return the truth value that YAML 1.1 or a command line means by a word."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _if_true(value: Any) -> Callable[[Any], Any]:
    return lambda given: value if given else None


def _one_of(*harmless: Any) -> Callable[[Any], bool]:
    return lambda value: any(value == known and type(value) is type(known) for known in harmless)


def _splits_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and not value.get("split_batches"))


OPTIMIZER_TWINS: Final[Mapping[str, str]] = {"adamw_apex_fused": "adamw_torch_fused"}
"""Optimizers of packages that are not used here, and those that take the same steps."""

_NONE_IS_DEFAULT: Final = frozenset({"gradient_checkpointing", "include_num_input_tokens_seen", "warmup_ratio"})

_NO_EFFECT: Final[Mapping[str, str]] = {
    "output_dir": "each run has a folder of its own under .hotlap/runs",
    "overwrite_output_dir": "a run never writes into the folder of another",
    "logging_dir": "figures go to the run's folder, tensorboard's into tensorboard/ in it",
    "run_name": "runs are numbered; the top-level key name gives them a name",
    "project": "the project's folder gives it its name; WANDB_PROJECT and TRACKIO_PROJECT give another one",
    "trackio_space_id": "trackio writes to this machine; the variable TRACKIO_SPACE_ID names a Space",
    "trackio_bucket_id": "trackio writes to this machine; the variable TRACKIO_SPACE_ID names a Space",
    "trackio_static_space_id": "trackio writes to this machine; the variable TRACKIO_SPACE_ID names a Space",
    "do_train": "hotlap train trains",
    "do_eval": "eval_strategy says when to evaluate",
    "do_predict": "eval_strategy says when to evaluate",
    "disable_tqdm": "progress is shown where the output is a terminal",
    "log_level": "there is one level of messages",
    "log_level_replica": "only the first process writes",
    "log_on_each_node": "only the first process writes",
    "logging_nan_inf_filter": "a loss that is not finite ends the run as diverged",
    "skip_memory_metrics": "what a run takes of the machine is recorded beside it",
    "save_safetensors": "weights are always saved as safetensors",
    "save_on_each_node": "the first process saves",
    "restore_callback_states_from_checkpoint": "there are no callbacks; a resume restores everything",
    "enable_jit_checkpoint": "SIGTERM and SIGUSR1 always save a checkpoint first",
    "hub_model_id": "nothing is pushed to the Hub",
    "hub_strategy": "nothing is pushed to the Hub",
    "hub_token": "nothing is pushed to the Hub",
    "hub_private_repo": "nothing is pushed to the Hub",
    "hub_always_push": "nothing is pushed to the Hub",
    "hub_revision": "nothing is pushed to the Hub",
    "push_to_hub_model_id": "nothing is pushed to the Hub",
    "push_to_hub_organization": "nothing is pushed to the Hub",
    "push_to_hub_token": "nothing is pushed to the Hub",
    "prediction_loss_only": "an evaluation always gives every metric of the task",
    "eval_accumulation_steps": "an evaluation keeps sums, not predictions",
    "eval_do_concat_batches": "an evaluation keeps sums, not predictions",
    "eval_use_gather_object": "an evaluation keeps sums, not predictions",
    "batch_eval_metrics": "an evaluation keeps sums, not predictions",
    "include_for_metrics": "the task decides what its metrics see",
    "include_inputs_for_metrics": "the task decides what its metrics see",
    "predict_with_generate": "text is generated where a metric needs it",
    "generation_max_length": "generated text is as long as the task asks for",
    "remove_unused_columns": "the task decides what an example holds",
    "label_names": "the task decides what an example holds",
    "length_column_name": "lengths are known",
    "dataloader_multiprocessing_context": "workers are started in the way that is safe here",
    "dataloader_in_order": "batches always come in order",
    "torch_empty_cache_steps": "the allocator keeps its memory",
    "use_liger_kernel": "large vocabularies are always computed in chunks",
    "liger_kernel_config": "large vocabularies are always computed in chunks",
    "use_cache": "training keeps no cache of keys and values",
    "gradient_checkpointing_kwargs": "checkpointing is always the non-reentrant one",
    "activation_checkpointing_kwargs": "checkpointing is always the non-reentrant one",
    "ddp_broadcast_buffers": "buffers are the same on every device",
    "ddp_static_graph": "it is used where it is safe",
    "local_rank": "it is read from the environment",
    "_n_gpu": "the top-level key devices says how many to use",
    "use_mps_device": "the device is found",
    "fp16_opt_level": "there is no fp16",
    "fp16_backend": "there is one kind of autocast, torch's",
    "half_precision_backend": "there is one kind of autocast, torch's",
    "jit_mode_eval": "evaluations run the model as it is",
    "use_legacy_prediction_loop": "there is one evaluation loop",
    "ray_scope": "there is no Ray search here",
    "tpu_metrics_debug": "there are no TPUs here",
}

_RENAMED: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "per_gpu_train_batch_size": ("per_device_train_batch_size", _same),
    "per_gpu_eval_batch_size": ("per_device_eval_batch_size", _same),
    "no_cuda": ("use_cpu", _if_true(True)),
    "adafactor": ("optim", _if_true("adafactor")),
    "torchdynamo": ("torch_compile_backend", _same),
    "activation_checkpointing": ("gradient_checkpointing", _if_true(True)),
    "include_tokens_per_second": ("include_num_input_tokens_seen", _if_true("all")),
    "sortish_sampler": ("train_sampling_strategy", _if_true("group_by_length")),
    "evaluation_strategy": ("eval_strategy", lambda value: "no" if value is False else value),
}

_NOT_SUPPORTED: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "fp16": ("use bf16, which needs no loss scaling", _one_of(False, None)),
    "fp16_full_eval": ("use bf16_full_eval", _one_of(False, None)),
    "push_to_hub": ("upload model.safetensors from the run's folder yourself", _one_of(False, None)),
    "resume_from_checkpoint": ("resume with hotlap train --resume", _one_of(False, None)),
    "ignore_data_skip": ("a resumed run goes on at its place in the data", _one_of(False, None)),
    "average_tokens_across_devices": ("each target token always weighs the same", _one_of(True, None)),
    "neftune_noise_alpha": ("noise on embeddings is not there; write a model of your own", _one_of(None, 0, 0.0)),
    "optim_target_modules": ("GaLore and APOLLO are not there", _one_of(None, "", [])),
    "accelerator_config": ("batches are never split over devices; set per_device_train_batch_size", _splits_nothing),
    "parallelism_config": ("several devices share the gradients only; sharding comes later", _one_of(None)),
    "fsdp": ("sharding comes later; a model has to fit one device", _one_of(None, "", [], False)),
    "fsdp_config": ("sharding comes later; a model has to fit one device", _one_of(None, "", {})),
    "fsdp_min_num_params": ("sharding comes later; a model has to fit one device", _one_of(0, None)),
    "fsdp_transformer_layer_cls_to_wrap": ("sharding comes later; a model has to fit one device", _one_of(None, "")),
    "deepspeed": ("sharding comes later; a model has to fit one device", _one_of(None, "", {}, False)),
    "mp_parameters": ("SageMaker's model parallelism is not there", _one_of(None, "")),
    "tpu_num_cores": ("there are no TPUs here", _one_of(None)),
    "past_index": ("models with a memory of past batches are not there", _one_of(-1, None)),
    "debug": ("a loss that is not finite ends the run with its step; deeper looks come later", _one_of(None, "", [])),
    "generation_num_beams": ("text is generated greedily", _one_of(None, 1)),
    "generation_config": ("text is generated greedily", _one_of(None, "")),
}

FATES: Final[Mapping[str, ForeignName]] = {
    **{name: ForeignName("no effect", text) for name, text in _NO_EFFECT.items()},
    **{name: ForeignName("renamed", f"`{to}`", target=to, convert=turn) for name, (to, turn) in _RENAMED.items()},
    **{
        name: ForeignName("not supported", text, asks_nothing=harmless)
        for name, (text, harmless) in _NOT_SUPPORTED.items()
    },
}
"""The names of TrainingArguments and Seq2SeqTrainingArguments that are no settings here."""

TRAINER_DEFAULTS: Final[Mapping[str, Any]] = {
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "auto_find_batch_size": False,
    "max_steps": -1,
    "num_train_epochs": 3.0,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "linear",
    "lr_scheduler_kwargs": None,
    "warmup_steps": 0,
    "warmup_ratio": 0.0,
    "optim": "adamw_torch_fused",
    "optim_args": None,
    "weight_decay": 0.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "label_smoothing_factor": 0.0,
    "bf16": False,
    "bf16_full_eval": False,
    "tf32": None,
    "torch_compile": False,
    "torch_compile_backend": None,
    "torch_compile_mode": None,
    "gradient_checkpointing": False,
    "group_by_length": False,
    "train_sampling_strategy": "random",
    "dataloader_drop_last": False,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": None,
    "dataloader_pin_memory": True,
    "dataloader_persistent_workers": False,
    "logging_strategy": "steps",
    "logging_steps": 500,
    "logging_first_step": False,
    "include_num_input_tokens_seen": "no",
    "eval_strategy": "no",
    "eval_steps": None,
    "eval_delay": 0,
    "eval_on_start": False,
    "save_strategy": "steps",
    "save_steps": 500,
    "save_total_limit": None,
    "save_only_model": False,
    "metric_for_best_model": None,
    "greater_is_better": None,
    "load_best_model_at_end": False,
    "report_to": "none",
    "seed": 42,
    "data_seed": None,
    "full_determinism": False,
    "use_cpu": False,
    "ddp_backend": None,
    "ddp_timeout": 1800,
    "ddp_bucket_cap_mb": None,
    "ddp_find_unused_parameters": None,
}
"""The names of TrainingArguments that are settings here, with the Trainer's own defaults."""
