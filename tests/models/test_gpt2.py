"""GPT-2's weights in and out: transformers and hotlap's GPT say the same, and every misfit is told."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hotlap.config.load import config_from_values
from hotlap.config.models import GPTConfig
from hotlap.core.errors import ConfigError, DataError
from hotlap.models.gpt import GPT
from hotlap.models.gpt2 import Vocabulary, counterparts, objections, read_gpt2, write_gpt2

pytestmark = pytest.mark.filterwarnings("default")  # other people's packages may warn

SHAPE = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12}
VOCABULARY = Vocabulary(256, 0, 3)


@pytest.fixture(scope="module")
def transformers() -> Any:
    """Return transformers; skip where the extra is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers")


def theirs(transformers: Any, **changes: Any) -> Any:
    """Return a GPT-2 of transformers with every weight drawn, so that biases and norms count."""
    torch.manual_seed(1)
    config = transformers.GPT2Config(**{"vocab_size": 256, "bos_token_id": 0, "eos_token_id": 0, **SHAPE, **changes})
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def ours(folder: Path, vocab_size: int = 256, **changes: Any) -> GPT:
    """Return hotlap's GPT with the weights of a folder."""
    config = config_from_values(
        {}, {"model.model_name_or_path": str(folder)} | {f"model.{k}": v for k, v in changes.items()}
    )
    assert isinstance(config.model, GPTConfig)
    model = GPT(config.model, vocab_size).eval()
    read_gpt2(model, str(folder))
    return model


def logits(model: GPT, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model.logits(model.hidden(ids))


def own_folder(path: Path, seed: int = 0, vocabulary: Vocabulary = VOCABULARY, **changes: Any) -> tuple[Path, GPT]:
    """Write a tiny GPT of our own as a GPT-2."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 12}
    model = GPT(GPTConfig(**{**sizes, **changes}), vocabulary.size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    path.mkdir()
    write_gpt2(model.config, model.state_dict(), vocabulary, path)
    return path, model


@pytest.mark.parametrize(
    ("changes", "shard"),
    [
        ({}, "5GB"),
        ({}, "10KB"),
        ({"vocab_size": 301}, "5GB"),
        ({"vocab_size": 301, "tie_word_embeddings": False}, "8KB"),
        ({"activation_function": "gelu", "n_inner": 24}, "5GB"),
        ({"activation_function": "relu2"}, "5GB"),
    ],
    ids=str,
)
def test_imported_weights_give_the_logits_of_transformers(
    transformers: Any, tmp_path: Path, changes: dict[str, Any], shard: str
) -> None:
    model = theirs(transformers, **changes)
    model.save_pretrained(str(tmp_path), max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard != "5GB")
    size = changes.get("vocab_size", 256)
    ids = torch.randint(size, (3, 12))
    found = logits(ours(tmp_path, size), ids)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_body_without_its_prefix_is_read_too(transformers: Any, tmp_path: Path) -> None:
    model = theirs(transformers)
    model.transformer.save_pretrained(str(tmp_path))
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    ids = torch.randint(256, (2, 12))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    torch.testing.assert_close(logits(ours(tmp_path), ids), expected, atol=1e-4, rtol=1e-4)


def test_fewer_positions_keep_the_first_ones(transformers: Any, tmp_path: Path) -> None:
    model = theirs(transformers)
    model.save_pretrained(str(tmp_path))
    ids = torch.randint(256, (2, 6))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    found = logits(ours(tmp_path, max_position_embeddings=6), ids)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_half_precision_is_read_as_fp32(transformers: Any, tmp_path: Path) -> None:
    model = theirs(transformers)
    model.to(torch.bfloat16).save_pretrained(str(tmp_path))
    found = ours(tmp_path)
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}
    ids = torch.randint(256, (2, 12))
    with torch.no_grad():
        expected = model.float()(input_ids=ids).logits
    torch.testing.assert_close(logits(found, ids), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"use_bias": False, "hidden_act": "relu_squared"},
        {"hidden_act": "gelu", "intermediate_size": 24, "zero_init_projections": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [256, 301])
def test_exported_weights_give_our_logits_in_transformers(
    transformers: Any, tmp_path: Path, changes: dict[str, Any], size: int
) -> None:
    folder, model = own_folder(tmp_path / "out", vocabulary=Vocabulary(size, 0, 3), **changes)
    back = transformers.AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    ids = torch.randint(size, (3, 12))
    with torch.no_grad():
        found = back(input_ids=ids).logits
    assert found.shape == (3, 12, size)
    torch.testing.assert_close(found, logits(model, ids), atol=1e-4, rtol=1e-4)


def test_out_and_in_again_is_the_same(tmp_path: Path) -> None:
    folder, model = own_folder(tmp_path / "out", vocabulary=Vocabulary(301, 0, 3), tie_word_embeddings=False)
    back = ours(folder, 301)
    for (name, one), other in zip(back.named_parameters(), model.parameters(), strict=True):
        rows = 301 if name in ("embedding.weight", "head.weight") else len(one)
        assert torch.equal(one[:rows], other[:rows]), name
        assert not one[rows:].any()  # the rows that pad a table
    text = json.loads((folder / "config.json").read_text())
    assert (text["vocab_size"], text["eos_token_id"], text["architectures"]) == (301, 3, ["GPT2LMHeadModel"])


def test_rotary_positions_take_the_place_of_the_table(tmp_path: Path) -> None:
    folder, model = own_folder(tmp_path / "out")
    rope = ours(folder, positions="rope", max_position_embeddings=40, smear=True)
    assert rope.positions is None
    assert torch.equal(rope.embedding.weight, model.embedding.weight)
    assert torch.equal(rope.state_dict()["blocks.1.mlp.up.weight"], model.state_dict()["blocks.1.mlp.up.weight"])
    optimizer = torch.optim.AdamW(rope.parameters(), lr=2e-2)
    ids = torch.randint(256, (4, 30))
    losses = []
    for _ in range(8):
        found = rope.logits(rope.hidden(ids[:, :-1]))
        loss = torch.nn.functional.cross_entropy(found.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def change(folder: Path, **tensors: Tensor | None) -> None:
    """Give a folder's file other tensors, by name with dots for double underscores; None takes one away."""
    state = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor is None:
            del state[f"transformer.{name.replace('__', '.')}"]
        else:
            state[f"transformer.{name.replace('__', '.')}"] = tensor
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_tensors_that_do_not_fit_are_told_together(tmp_path: Path) -> None:
    folder, _ = own_folder(tmp_path / "out")
    wrong = {"h__1__mlp__c_fc__weight": torch.zeros(64, 16), "wpe__weight": torch.zeros(8, 16), "wte__weight": None}
    change(folder, **wrong, h__2__ln_1__bias=torch.zeros(16), h__0__attn__bias=torch.zeros(1, 1, 12, 12))
    with pytest.raises(ConfigError) as caught:
        ours(folder)
    assert str(caught.value).splitlines() == [
        f"{folder}: the weights do not fit config.json beside them:",
        "  wte.weight is missing",
        "  wpe.weight has the shape (8, 16), expected (12, 16)",
        "  h.1.mlp.c_fc.weight has the shape (64, 16), expected (16, 64)",
        "  h.2.ln_1.bias has no place in this shape",
    ]


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    folder, _ = own_folder(tmp_path / "out")
    change(folder, **{f"h__1__mlp__{name}__{kind}": None for name in ("c_fc", "c_proj") for kind in ("weight", "bias")})
    change(folder, **{f"h__1__{name}__{kind}": None for name in ("ln_1", "ln_2") for kind in ("weight", "bias")})
    with pytest.raises(ConfigError, match=r"and 3 more$") as caught:
        ours(folder)
    assert len(str(caught.value).splitlines()) == 7


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    folder, _ = own_folder(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"out: the weights have a vocabulary of 256 tokens, the tokenizer has 301"):
        ours(folder, 301)


def test_a_table_that_is_smaller_than_config_json_says_is_told(tmp_path: Path) -> None:
    folder, _ = own_folder(tmp_path / "out")
    change(folder, wte__weight=torch.zeros(200, 16))
    with pytest.raises(ConfigError, match=r"wte\.weight has the shape \(200, 16\), expected \(256, 16\)"):
        ours(folder)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    folder, _ = own_folder(tmp_path / "out")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be read: .*; fetch or save the weights again"):
        ours(folder)


def test_an_index_that_names_the_wrong_file_is_told(tmp_path: Path) -> None:
    folder, _ = own_folder(tmp_path / "out")
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    for file, part in (("one", names[:9]), ("two", names[9:])):
        save_file({name: state[name] for name in part}, folder / f"{file}.safetensors")
    (folder / "model.safetensors").unlink()
    index = {name: f"{'two' if name == names[0] or name in names[9:] else 'one'}.safetensors" for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(DataError, match=r"two\.safetensors: cannot be read"):
        ours(folder)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"positions": "rope"}, "model.positions is rope, GPT-2 has learned"),
        ({"norm": "rms_norm"}, "model.norm is rms_norm, GPT-2 has layer_norm"),
        ({"qk_norm": True}, "model.qk_norm is true, GPT-2 has false"),
        ({"smear": True}, "model.smear is true, GPT-2 has false"),
        ({"hidden_act": "swiglu"}, "model.hidden_act is swiglu, GPT-2 takes gelu_new, gelu, relu_squared"),
    ],
)
def test_what_is_no_gpt2_is_not_written(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    config = GPTConfig(**changes)
    assert objections(config) == [problem]
    with pytest.raises(ConfigError, match="this model is no GPT-2, and transformers has none like it") as caught:
        write_gpt2(config, {}, VOCABULARY, tmp_path)
    assert problem in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_weights_that_lack_something_are_not_written(tmp_path: Path) -> None:
    model = GPT(GPTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2), 256)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("up.weight")}
    with pytest.raises(ConfigError, match=r"the weights have no blocks\.0\.mlp\.up\.weight"):
        write_gpt2(model.config, state, VOCABULARY, tmp_path)


def test_every_parameter_has_its_counterpart() -> None:
    for changes in ({}, {"tie_word_embeddings": False}, {"positions": "rope"}):
        model = GPT(GPTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, **changes), 300)
        assert counterparts(model.config).keys() == dict(model.named_parameters()).keys()
