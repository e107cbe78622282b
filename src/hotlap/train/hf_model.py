"""GPT-2 as transformers builds it, with the weights of hotlap's own GPT; what of a config it cannot express.

It has a row for each token in its tables; ours may have some more (`models.vocabulary`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hotlap.config.gpt2 import ACTIVATIONS, LAYER_NORM_EPSILON
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.core.errors import ConfigError, import_optional
from hotlap.data.tokenizers import Tokenizer
from hotlap.models.gpt2 import counterparts
from hotlap.models.vocabulary import padded_vocab_size

_OPTIMIZERS: Final = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd")
_SCHEDULES: Final = (
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
)
_ROLE_SETTINGS: Final = tuple(
    f"{role}_{what}" for role in ("embedding", "head", "vector") for what in ("learning_rate", "weight_decay")
)


def refuse_unsupported(config: RunConfig) -> None:
    """Raise ConfigError with every setting that the Trainer or its GPT-2 has nothing for."""
    problems = [*_model_problems(config), *_training_problems(config)]
    if config.devices > 1:
        problems.append(f"devices: {config.devices}; it runs on one device")
    if problems:
        rows = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"backend hf cannot run this config (backend fast can):{rows}")


def _model_problems(config: RunConfig) -> Iterator[str]:
    model = config.model
    if not isinstance(model, GPTConfig):
        yield f"model.name: {model.name}; it knows gpt alone"
        return
    needed = {"positions": "learned", "norm": "layer_norm", "qk_norm": False, "smear": False, "use_bias": True}
    for name, value in needed.items():
        if getattr(model, name) != value:
            yield f"model.{name}: {getattr(model, name)}; GPT-2 has {value}"
    if model.hidden_act not in ACTIVATIONS:
        yield f"model.hidden_act: {model.hidden_act}; GPT-2 takes {', '.join(ACTIVATIONS)}"


def _training_problems(config: RunConfig) -> Iterator[str]:
    training = config.training
    if training.optim not in _OPTIMIZERS:
        yield f"training.optim: {training.optim}; it takes {', '.join(_OPTIMIZERS)}"
    if training.lr_scheduler_type not in _SCHEDULES:
        yield f"training.lr_scheduler_type: {training.lr_scheduler_type}; it takes {', '.join(_SCHEDULES)}"
    if training.schedule_by != "steps":
        yield f"training.schedule_by: {training.schedule_by}; the Trainer counts steps"
    if training.padding == "packed":
        yield "training.padding: packed; it pads rows"
    for name in _ROLE_SETTINGS:
        if getattr(training, name) is not None:
            yield f"training.{name}: the Trainer has one value for all parameters"
    for name in ("load_best_model_at_end", "measure_gradient_noise", "measure_update_norm"):
        if getattr(training, name):
            yield f"training.{name}: it does not do that"


def hf_model(config: GPTConfig, tokenizer: Tokenizer, own_state: Mapping[str, Tensor] | None = None) -> Any:
    """Return a GPT2LMHeadModel of the config's shape and dropout rates, with our GPT's weights where they are given.

    It has one position more than ours: its rows hold the last target too, which is never an input of ours.
    Raises MissingExtraError without transformers and ConfigError for weights that GPT-2 has no place for.
    """
    transformers: Any = import_optional("transformers", "hf")
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=tokenizer.vocab_size,
            n_positions=config.max_position_embeddings + 1,
            n_embd=config.hidden_size,
            n_layer=config.num_hidden_layers,
            n_head=config.num_attention_heads,
            n_inner=config.intermediate_size,
            activation_function=ACTIVATIONS[config.hidden_act],
            embd_pdrop=config.embd_pdrop,
            attn_pdrop=config.attn_pdrop,
            resid_pdrop=config.resid_pdrop,
            layer_norm_epsilon=LAYER_NORM_EPSILON,
            initializer_range=config.initializer_range,
            tie_word_embeddings=config.tie_word_embeddings,
            bos_token_id=tokenizer.eos,
            eos_token_id=tokenizer.eos,
            pad_token_id=tokenizer.pad,
            use_cache=False,
        )
    )
    if own_state is not None:
        theirs = dict(model.named_parameters())
        with torch.no_grad():
            for name, (their_name, is_transposed) in _counterparts(config, own_state).items():
                source, target = own_state[name].T if is_transposed else own_state[name], theirs[their_name]
                rows = min(len(source), len(target))
                target.zero_()[:rows].copy_(source[:rows])
    return model


def share_weights(model: Any, own: nn.Module, config: GPTConfig) -> None:
    """Make our GPT look at the weights of the GPT-2: whatever the Trainer does to them, ours has it at once."""
    theirs = dict(model.named_parameters())
    parameters = dict(own.named_parameters())
    for name, (their_name, is_transposed) in _counterparts(config, parameters).items():
        data = theirs[their_name].data
        parameters[name].data = data.T if is_transposed else data[: len(parameters[name])]


def own_weights(own: nn.Module) -> None:
    """Give our GPT memory of its own again, laid out as before `share_weights`, with the rows that pad its tables."""
    for name, parameter in own.named_parameters():
        data = parameter.data.clone(memory_format=torch.contiguous_format)
        missing = padded_vocab_size(len(data)) - len(data) if name in ("embedding.weight", "head.weight") else 0
        parameter.data = F.pad(data, (0, 0, 0, missing)) if missing else data


def _counterparts(config: GPTConfig, own: Mapping[str, Tensor]) -> dict[str, tuple[str, bool]]:
    """Return for each of our parameters GPT-2's name for it, and whether it lies transposed there."""
    found = counterparts(config)
    if found.keys() != own.keys():
        differing = ", ".join(sorted(found.keys() ^ own.keys()))
        raise ConfigError(f"backend hf cannot run this model: GPT-2 and it differ in {differing}")
    return found
