"""Build a causal language model of transformers (extra hf): from pretrained weights or from scratch, with LoRA."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from hotlap.config.models import HFModelConfig, LoraConfig
from hotlap.config.pretrained import pretrained_folder
from hotlap.core.errors import ConfigError, import_optional, unknown_name
from hotlap.models.hf_causal import HFCausalLM, MaskedHFCausalLM, has_limited_layers
from hotlap.models.vocabulary import refuse_other_vocabulary

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_SHOWN_NAMES: Final = 12


def build_hf(config: HFModelConfig, vocab_size: int, *, gradient_checkpointing: bool = False) -> HFCausalLM:
    """Return the model that a section `model` of name hf describes, for a tokenizer of so many tokens.

    Raises MissingExtraError without the extra, and ConfigError for a model that cannot be had, has another vocabulary,
    looks ahead, or has no place for the additions that `lora` names.
    """
    transformers: Any = import_optional("transformers", "hf")
    transformers.utils.logging.disable_progress_bar()
    if config.model_name_or_path is None:
        model = _from_scratch(transformers, config, vocab_size)
    else:
        model = _pretrained(transformers, config, vocab_size)
    _look_for_no_padding(model)
    if gradient_checkpointing:
        _checkpoint_activations(model)
    if config.lora is not None:
        add_lora(model, config.lora)
    return _wrapped(model, vocab_size)


def _wrapped(model: Any, vocab_size: int) -> HFCausalLM:
    """Wrap a model as what it can do."""
    plain = HFCausalLM(model, vocab_size)
    plain.try_out()
    if has_limited_layers(plain.config):
        return plain
    masked = MaskedHFCausalLM(model, vocab_size)
    masked.try_out()
    return masked if masked.keeps_masks() else plain


def _from_scratch(transformers: Any, config: HFModelConfig, vocab_size: int) -> Any:
    """Return a model with fresh weights; its vocabulary is the tokenizer's unless config_overrides say otherwise."""
    known = list(transformers.CONFIG_MAPPING.keys())
    if config.model_type not in known:
        raise _as_config_error("model.model_type", unknown_name("architecture", str(config.model_type), known), known)
    values = {"vocab_size": vocab_size, **config.config_overrides}
    usual = _tried("model.model_type", lambda: transformers.AutoConfig.for_model(config.model_type))
    for name in config.config_overrides:
        if not hasattr(usual, name):
            names = sorted(usual.to_dict())
            raise ConfigError(f"model.config_overrides: {unknown_name(f'setting of {config.model_type}', name, names)}")
    own = _tried("model.config_overrides", lambda: transformers.AutoConfig.for_model(config.model_type, **values))
    rows = own.get_text_config(decoder=True).vocab_size
    if rows < vocab_size:
        raise ConfigError(
            f"model.config_overrides: vocab_size is {rows}, the tokenizer has {vocab_size}; leave it out to take that"
        )
    dtype = _DTYPES[config.dtype]
    chosen = _attention(config)
    return _tried("model", lambda: transformers.AutoModelForCausalLM.from_config(own, dtype=dtype, **chosen))


def _pretrained(transformers: Any, config: HFModelConfig, vocab_size: int) -> Any:
    folder = pretrained_folder(str(config.model_name_or_path))
    model = _tried(
        str(folder),
        lambda: transformers.AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=_DTYPES[config.dtype], local_files_only=True, **_attention(config)
        ),
    )
    refuse_other_vocabulary(vocab_size, model.get_input_embeddings().weight.shape[0], str(folder))
    return model


def _attention(config: HFModelConfig) -> dict[str, Any]:
    """Return what transformers is to be told of attention; nothing where that is left to it."""
    return {} if config.attn_implementation is None else {"attn_implementation": config.attn_implementation}


def _tried(where: str, build: Callable[[], Any]) -> Any:
    """Return what `build` gives; raises ConfigError with the first line of what transformers says against it."""
    try:
        return build()
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # transformers checks its settings with many kinds of errors
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(f"{where}: transformers cannot build this model: {first}") from error


def _as_config_error(where: str, error: ConfigError, known: list[str]) -> ConfigError:
    """Return an error about an unknown name without the whole list of names, which is long."""
    head = str(error).partition(" Known: ")[0]
    return ConfigError(f"{where}: {head} transformers knows {len(known)} of them, such as llama, gpt2 or qwen2")


def _look_for_no_padding(model: Any) -> None:
    """Keep a model from looking for padding in each batch, which a GPU is waited for: ours is where nobody looks."""
    for module in model.modules():
        if hasattr(module, "warn_if_padding_and_no_attention_mask"):
            module.warn_if_padding_and_no_attention_mask = _nothing


def _nothing(*_: object, **__: object) -> None:
    """Do nothing."""


def _checkpoint_activations(model: Any) -> None:
    """Let the model keep its layers' inputs only; transformers 5 has another name for it."""
    kwargs = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=kwargs)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)


def add_lora(model: Any, lora: LoraConfig) -> None:
    """Add matrices of low rank to a model, in fp32, and freeze everything else.

    Raises MissingExtraError without peft and ConfigError when the model has none of the modules named.
    """
    peft: Any = import_optional("peft", "hf")
    kinds = {type(module).__name__ for module in model.modules()}
    settings = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules),
        fan_in_fan_out="Conv1D" in kinds,  # GPT-2's matrices lie transposed
        bias="none",
        task_type="CAUSAL_LM",
    )
    names = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if _is_matrix(module)})
    try:
        peft.inject_adapter_in_model(settings, model)
    except ValueError as error:
        first = str(error).partition("\n")[0]
        shown = ", ".join(names[:_SHOWN_NAMES])
        raise ConfigError(f"model.lora.target_modules: {first} This model has: {shown}") from error
    for name, parameter in model.named_parameters():
        is_added = "lora_" in name
        parameter.requires_grad_(is_added)
        if is_added:
            parameter.data = parameter.data.float()


def _is_matrix(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def save_hf(model: HFCausalLM, folder: Path) -> None:
    """Write a model as save_pretrained does, its additions of low rank added up with what they were added to.

    Raises OSError or SafetensorError when it cannot be written.
    """
    inner = model.model
    for name, module in list(inner.named_modules()):
        base = getattr(module, "base_layer", None)
        if base is None or not callable(getattr(module, "merge", None)):
            continue
        module.merge()
        parent, _, last = name.rpartition(".")
        setattr(inner.get_submodule(parent), last, base)
    inner.save_pretrained(str(folder))
