"""Write a run's weights as a folder that transformers loads, with the tokenizer where transformers can have one."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hotlap.config.models import HFModelConfig
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.config.word_latent import WordLatentConfig
from hotlap.core.errors import ConfigError, StorageError
from hotlap.data.load import Functions
from hotlap.data.saved_tokenizer import load_saved_tokenizer
from hotlap.data.tokenizers import SubwordTokenizer, Tokenizer
from hotlap.models.build import build_model
from hotlap.models.gpt2 import Vocabulary, refuse_other_shapes, write_gpt2
from hotlap.models.hf_build import save_hf
from hotlap.models.hf_causal import HFCausalLM
from hotlap.train.checkpoint import load_weights

TOKENIZER_NAME: Final = "tokenizer.json"
TOKENIZER_CONFIG_NAME: Final = "tokenizer_config.json"


def export_weights(
    config: RunConfig,
    directory: Path,
    cache: Path,
    weights: Path,
    target: Path,
    custom: Functions | None = None,
    *,
    tokenizer_hash: str | None = None,
) -> str:
    """Write weights that a training of `config` saved to the new folder `target`; return what was written, in words.

    `custom` has the functions of the project that the task names, `tokenizer_hash` names the tokenizer of the run where
    that is known. Raises ConfigError for a model that transformers has none like, DataError for a tokenizer that is
    gone, StorageError when weights cannot be read or the folder cannot be written.
    """
    _refuse(config, target)
    tokenizer = load_saved_tokenizer(config, directory, cache, tokenizer_hash, lambda: custom or {})
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        if isinstance(config.model, GPTConfig):
            vocabulary = Vocabulary(tokenizer.vocab_size, tokenizer.pad, tokenizer.eos)
            write_gpt2(config.model, _read(weights), vocabulary, temporary)
        else:
            model = build_model(config, tokenizer.vocab_size, None)
            assert isinstance(model, HFCausalLM), type(model)
            load_weights(model, weights, torch.device("cpu"))
            save_hf(model, temporary)
        files = _write_tokenizer(tokenizer, config, temporary)
        if target.is_dir():
            target.rmdir()  # it is empty
        temporary.rename(target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StorageError(f"cannot write {target}: {error}; choose another folder") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    told = f"with the tokenizer ({', '.join(files)})" if files else _WITHOUT_TOKENIZER
    return f"{target}: a model of {tokenizer.vocab_size:,} tokens for AutoModelForCausalLM, {told}"


_WITHOUT_TOKENIZER: Final = "without a tokenizer: transformers has none for bytes or characters as they are here"


def _refuse(config: RunConfig, target: Path) -> None:
    """Raise ConfigError for what needs no look at the weights."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is there already; choose a new folder, or an empty one")
    if isinstance(config.model, GPTConfig):
        refuse_other_shapes(config.model)
    elif isinstance(config.model, WordLatentConfig):
        raise ConfigError(
            "model.name word_latent: transformers has no architecture like it, so there is nothing to load"
        )
    elif not isinstance(config.model, HFModelConfig):
        raise ConfigError(f"model.name {config.model.name} is code of the project's own: transformers has none like it")


def _read(weights: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(weights))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{weights}: cannot be read: {error}") from error


def _write_tokenizer(tokenizer: Tokenizer, config: RunConfig, folder: Path) -> list[str]:
    """Write the tokenizer's files where it has any; return their names."""
    if not isinstance(tokenizer, SubwordTokenizer):
        return []
    content: dict[str, Any] = json.loads(tokenizer.content)
    names = {token["id"]: token["content"] for token in content.get("added_tokens") or ()}
    end = names.get(tokenizer.eos)
    limit = getattr(config.model, "max_position_embeddings", None)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "clean_up_tokenization_spaces": False,
        "model_max_length": limit,
    }
    (folder / TOKENIZER_NAME).write_text(tokenizer.content, encoding="utf-8")
    text = json.dumps({key: value for key, value in settings.items() if value is not None}, indent=2) + "\n"
    (folder / TOKENIZER_CONFIG_NAME).write_text(text, encoding="utf-8")
    return [TOKENIZER_NAME, TOKENIZER_CONFIG_NAME]
