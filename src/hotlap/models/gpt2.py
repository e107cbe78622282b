"""GPT-2's weights in files of transformers, to and from hotlap's GPT, without transformers.

    read_gpt2(model, folder)                           # a GPT with the weights of a folder
    write_gpt2(config, state, vocabulary, folder)      # config.json and model.safetensors

GPT-2's matrices lie transposed (its Conv1D multiplies from the other side); queries, keys and values stand in one
matrix in the same order as in ours.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hotlap.config.gpt2 import ACTIVATIONS, KIND, LAYER_NORM_EPSILON, vocabulary_of
from hotlap.config.pretrained import (
    CONFIG_NAME,
    SINGLE_NAME,
    pretrained_config,
    pretrained_folder,
    weight_map,
)
from hotlap.config.schema import GPTConfig
from hotlap.core.errors import ConfigError, DataError
from hotlap.models.gpt import GPT
from hotlap.models.vocabulary import refuse_other_vocabulary

PREFIX: Final = "transformer."
"""Where a GPT2LMHeadModel has its body; the files of a bare GPT2Model are without."""

_BLOCK_NAMES: Final = (
    ("attention_norm.layer_norm", "ln_1", False),
    ("attention.qkv", "attn.c_attn", True),
    ("attention.projection", "attn.c_proj", True),
    ("mlp_norm.layer_norm", "ln_2", False),
    ("mlp.up", "mlp.c_fc", True),
    ("mlp.projection", "mlp.c_proj", True),
)
"""Our name in a block, GPT-2's, and whether its weight lies transposed."""
_TABLES: Final = ("embedding.weight", "head.weight")
"""What has a row for each token."""
_BUFFER: Final = re.compile(r"h\.\d+\.attn\.(masked_)?bias")
"""Masks that older files hold."""
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a config.json says of a tokenizer."""

    size: int
    pad: int
    eos: int


def counterparts(config: GPTConfig) -> dict[str, tuple[str, bool]]:
    """Return for each parameter of a GPT in GPT-2's shape the name in GPT-2, and whether it lies transposed there."""
    found = {"embedding.weight": (f"{PREFIX}wte.weight", False)}
    if config.positions == "learned":
        found["positions.weight"] = (f"{PREFIX}wpe.weight", False)
    for layer in range(config.num_hidden_layers):
        for ours, theirs, is_matrix in _BLOCK_NAMES:
            found[f"blocks.{layer}.{ours}.weight"] = (f"{PREFIX}h.{layer}.{theirs}.weight", is_matrix)
            found[f"blocks.{layer}.{ours}.bias"] = (f"{PREFIX}h.{layer}.{theirs}.bias", False)
    for kind in ("weight", "bias"):
        found[f"final_norm.layer_norm.{kind}"] = (f"{PREFIX}ln_f.{kind}", False)
    if not config.tie_word_embeddings:
        found["head.weight"] = ("lm_head.weight", False)
    return found


class WeightFiles:
    """The tensors of a folder by name, read one at a time."""

    def __init__(self, folder: Path) -> None:
        """Look into the files; raises DataError for one that cannot be read."""
        self._folder = folder
        self._open: dict[str, Any] = {}
        is_single = (folder / SINGLE_NAME).is_file()
        self._files = dict.fromkeys(self._opened(SINGLE_NAME).keys(), SINGLE_NAME) if is_single else weight_map(folder)

    @property
    def names(self) -> set[str]:
        """The names of all tensors."""
        return set(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape; raises DataError when its file does not have it."""
        file = self._files[name]
        with _told(self._folder / file):
            return tuple(self._opened(file).get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """Return a tensor; raises DataError when its file does not have it."""
        file = self._files[name]
        with _told(self._folder / file):
            tensor: Tensor = self._opened(file).get_tensor(name)
            return tensor

    def _opened(self, file: str) -> Any:
        if file not in self._open:
            with _told(self._folder / file):
                self._open[file] = safe_open(str(self._folder / file), framework="pt")
        return self._open[file]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Make one clear error of what goes wrong with a file of weights."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read: {error}; fetch or save the weights again") from error


def read_gpt2(model: GPT, name_or_path: str) -> None:
    """Give a GPT the weights of a folder or a name on the hub; the rows of its tables past the vocabulary become 0.

    The table of positions is left out where the model has rotary ones, and its first rows are taken where the model has
    fewer. Raises ConfigError when the vocabulary is another, or with every tensor that is missing, of another shape or
    of no use; DataError for files that cannot be read.
    """
    folder = pretrained_folder(name_or_path)
    refuse_other_vocabulary(model.vocab_size, vocabulary_of(pretrained_config(name_or_path)), str(folder))
    files = WeightFiles(folder)
    names, parameters = counterparts(model.config), dict(model.named_parameters())
    bare = {name.removeprefix(PREFIX): name for name in files.names}
    problems = [*_unfit(model, files, bare), *_useless(model.config, bare)]
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        rows = "".join(f"\n  {problem}" for problem in [*problems[:_SHOWN], *more])
        raise ConfigError(f"{folder}: the weights do not fit {CONFIG_NAME} beside them:{rows}")
    with torch.no_grad():
        for ours, (theirs, is_transposed) in names.items():
            source = files.read(bare[theirs.removeprefix(PREFIX)])
            target = parameters[ours]
            count = min(len(target), model.vocab_size) if ours in _TABLES else len(target)
            target.zero_()[:count].copy_((source.T if is_transposed else source)[:count])


def _unfit(model: GPT, files: WeightFiles, bare: Mapping[str, str]) -> Iterator[str]:
    """Yield the tensors that are missing or of another shape than the model's."""
    parameters = dict(model.named_parameters())
    for ours, (theirs, is_transposed) in counterparts(model.config).items():
        name = theirs.removeprefix(PREFIX)
        if name not in bare:
            yield f"{name} is missing"
            continue
        found, wanted = files.shape(bare[name]), tuple(parameters[ours].shape)
        if is_transposed:
            wanted = wanted[::-1]
        if ours in _TABLES:  # its rows are padded otherwise
            fits = len(found) == 2 and found[0] >= model.vocab_size and found[1:] == wanted[1:]
            wanted = (model.vocab_size, *wanted[1:])
        elif ours == "positions.weight":
            fits = len(found) == 2 and found[0] >= wanted[0] and found[1:] == wanted[1:]
        else:
            fits = found == wanted
        if not fits:
            yield f"{name} has the shape {found}, expected {wanted}"


def _useless(config: GPTConfig, bare: Mapping[str, str]) -> Iterator[str]:
    """Yield the tensors that a GPT-2 of this shape has no place for."""
    known = {theirs.removeprefix(PREFIX) for theirs, _ in counterparts(config).values()}
    known |= {"wpe.weight", "lm_head.weight"}  # dropped for rotary positions; a copy of the table where that is tied
    for name in sorted(bare.keys() - known):
        if not _BUFFER.fullmatch(name):
            yield f"{name} has no place in this shape"


def objections(config: GPTConfig) -> list[str]:
    """Return what stands against calling a GPT a GPT-2, a sentence each; missing biases are zeros to it."""
    found = [
        f"model.{name} is {str(getattr(config, name)).lower()}, GPT-2 has {str(value).lower()}"
        for name, value in KIND.items()
        if getattr(config, name) != value and name not in ("use_bias", "zero_init_projections")
    ]
    if config.hidden_act not in ACTIVATIONS:
        found.append(f"model.hidden_act is {config.hidden_act}, GPT-2 takes {', '.join(ACTIVATIONS)}")
    return found


def refuse_other_shapes(config: GPTConfig) -> None:
    """Raise ConfigError with everything that stands against calling a GPT a GPT-2."""
    if problems := objections(config):
        rows = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"this model is no GPT-2, and transformers has none like it:{rows}")


def write_gpt2(config: GPTConfig, state: Mapping[str, Tensor], vocabulary: Vocabulary, folder: Path) -> None:
    """Write a GPT's weights (`state`, by our names) as config.json and model.safetensors of transformers, in fp32.

    Raises ConfigError with everything that stands against it, and OSError or SafetensorError when the files cannot be
    written.
    """
    refuse_other_shapes(config)
    tensors = {}
    for ours, (theirs, is_transposed) in counterparts(config).items():
        if ours not in state and ours.endswith(".bias"):
            width = len(state[f"{ours.removesuffix('bias')}weight"])
            tensors[theirs] = torch.zeros(width)
            continue
        if ours not in state:
            raise ConfigError(f"the weights have no {ours}, which a GPT of this config has")
        source = state[ours].float()
        source = source[: vocabulary.size] if ours in _TABLES else source
        tensors[theirs] = (source.T if is_transposed else source).contiguous()
    save_file(tensors, str(folder / SINGLE_NAME), metadata={"format": "pt"})
    text = json.dumps(_config_values(config, vocabulary), indent=2) + "\n"
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")


def _config_values(config: GPTConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return what config.json of a GPT2LMHeadModel says."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": vocabulary.size,
        "n_positions": config.max_position_embeddings,
        "n_embd": config.hidden_size,
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "n_inner": config.intermediate_size,
        "activation_function": ACTIVATIONS[config.hidden_act],
        "embd_pdrop": config.embd_pdrop,
        "attn_pdrop": config.attn_pdrop,
        "resid_pdrop": config.resid_pdrop,
        "layer_norm_epsilon": LAYER_NORM_EPSILON,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": vocabulary.eos,
        "eos_token_id": vocabulary.eos,
        "pad_token_id": vocabulary.pad,
        "dtype": "float32",
    }
