"""Models of transformers behind hotlap's call: the same logits and loss, documents apart, a cache, LoRA."""

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model, save_model
from torch import Tensor, nn

from hotlap.config.models import HFModelConfig, LoraConfig
from hotlap.core.errors import ConfigError, MissingExtraError
from hotlap.models.gpt import KeyValueCache
from hotlap.models.hf_build import build_hf, save_hf
from hotlap.models.hf_causal import HFCausalLM, MaskedHFCausalLM
from hotlap.models.protocol import can_generate, hidden_at, takes_documents
from hotlap.optim.roles import roles_of

pytestmark = pytest.mark.filterwarnings("default")  # other people's packages may warn

SIZE = 64
LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
ARCHITECTURES = {
    "llama": LLAMA,
    "gpt2": {**GPT2, "attn_pdrop": 0.0},
    "gpt_neox": {**{k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}},
    "qwen2": LLAMA,
}


@pytest.fixture(scope="module", autouse=True)
def transformers() -> Any:
    """Return transformers; skip where the extra is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers")


@pytest.fixture
def peft() -> Any:
    """Return peft; skip where the extra is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("peft")


def build(kind: str = "llama", vocab_size: int = SIZE, **changes: Any) -> HFCausalLM:
    """Return a tiny model from scratch, every weight drawn."""
    torch.manual_seed(0)
    section = HFModelConfig(name="hf", model_type=kind, config_overrides={**ARCHITECTURES[kind], **changes})
    model = build_hf(section, vocab_size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def saved(path: Path, kind: str = "llama") -> Path:
    """Write a tiny model as save_pretrained does."""
    save_hf(build(kind), path)
    return path


def tokens(rows: int = 3, length: int = 12) -> Tensor:
    return torch.randint(0, SIZE, (rows, length), generator=torch.Generator().manual_seed(7))


def whole_logits(model: HFCausalLM, ids: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.model(input_ids=ids).logits
        return found


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_head_and_body_apart_say_what_the_model_says(kind: str) -> None:
    model, ids = build(kind), tokens()
    assert model.is_split
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model.hidden(ids)), whole_logits(model, ids), atol=1e-5, rtol=1e-5)
        chosen = torch.tensor([3, 14, 30])
        some = model.logits(hidden_at(model, chosen, ids))
    torch.testing.assert_close(some, whole_logits(model, ids).flatten(0, 1)[chosen], atol=1e-5, rtol=1e-5)
    weight = model.head_weight
    assert weight is not None and weight.shape == (SIZE, 32)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_loss_is_transformers_own(kind: str) -> None:
    from hotlap.train.objective import Objective

    model, ids = build(kind), tokens()
    expected = model.model(input_ids=ids, labels=ids).loss
    positions = torch.arange(ids.numel()).view(ids.shape)[:, :-1].flatten()
    found = Objective(model, SIZE)(ids, positions, ids[:, 1:].flatten()) / len(positions)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    gradients = []
    for loss in (found, expected):
        model.zero_grad()
        loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_documents_of_a_row_do_not_see_each_other(kind: str) -> None:
    model, ids = build(kind), tokens(2, 10)
    assert isinstance(model, MaskedHFCausalLM) and takes_documents(model)
    documents = torch.tensor([[0] * 4 + [1] * 6, [0] * 7 + [-1] * 3])
    positions = torch.tensor([[*range(4), *range(6)], [*range(7), 0, 0, 0]])
    with torch.no_grad():
        packed = model.hidden(ids, positions, document_ids=documents)
        alone = [model.hidden(ids[:1, :4]), model.hidden(ids[:1, 4:]), model.hidden(ids[1:, :7])]
    for found, expected in zip((packed[:1, :4], packed[:1, 4:], packed[1:, :7]), alone, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_a_cache_goes_on_from_padded_prompts(kind: str) -> None:
    model, ids = build(kind), tokens(2, 9)
    assert isinstance(model, MaskedHFCausalLM) and can_generate(model)
    lengths, width = torch.tensor([3, 5]), 5
    is_real = torch.arange(width).unsqueeze(0) >= width - lengths.unsqueeze(1)
    prompts = torch.zeros(2, width, dtype=torch.int64)
    prompts[0, 2:], prompts[1] = ids[0, :3], ids[1, :5]
    positions = (is_real.cumsum(1) - 1).clamp_min(0)
    causal, own = torch.ones(width, width, dtype=torch.bool).tril(), torch.eye(width, dtype=torch.bool)
    mask = ((causal & is_real.unsqueeze(1)) | own).unsqueeze(1)
    cache = KeyValueCache()
    with torch.no_grad():
        found = [model.hidden(prompts, positions, mask, cache, is_real)[:, -1]]
        for count in range(3):
            is_real = torch.cat([is_real, torch.ones_like(is_real[:, :1])], dim=1)
            following = torch.stack([ids[0, 3 + count], ids[1, 5 + count]]).unsqueeze(1)
            places = (lengths + count).unsqueeze(1)
            found.append(model.hidden(following, places, is_real[:, None, None], cache)[:, -1])
        expected = model.hidden(ids)
    for count, one in enumerate(found):
        torch.testing.assert_close(one[0], expected[0, 2 + count], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one[1], expected[1, 4 + count], atol=1e-5, rtol=1e-4)


def test_padding_is_not_looked_for(capfd: pytest.CaptureFixture[str]) -> None:
    model = build("gpt2", pad_token_id=5, bos_token_id=0, eos_token_id=0)
    model.hidden(torch.full((2, 8), 5))
    assert "attention_mask" not in "".join(capfd.readouterr())


def test_a_model_with_a_window_is_given_rows_of_one_document() -> None:
    model = build("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=0)
    assert type(model) is HFCausalLM
    assert not takes_documents(model) and not can_generate(model)
    assert model.max_positions == 64


def test_a_head_that_does_more_than_multiply_is_left_whole() -> None:
    class Capped(nn.Module):
        """A model whose logits are capped after the head."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.config = inner, inner.config
            self.base_model = inner.base_model

        def get_output_embeddings(self) -> Any:
            return self.inner.get_output_embeddings()

        def forward(self, **arguments: Any) -> Any:
            found = self.inner(**arguments)
            found.logits = torch.tanh(found.logits / 0.5) * 0.5
            return found

    model = HFCausalLM(Capped(build().model), SIZE)
    model.try_out()
    assert not model.is_split and model.head_weight is None
    with torch.no_grad():
        expected = whole_logits(model, tokens())
        torch.testing.assert_close(model.logits(model.hidden(tokens())), expected)


def test_a_model_that_looks_ahead_is_refused() -> None:
    section = HFModelConfig(
        name="hf",
        model_type="bert",
        config_overrides={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48},
    )
    with pytest.raises(ConfigError, match="lets a position look at later ones"):
        build_hf(section, SIZE)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"model_type": "lama"}, "unknown architecture 'lama'. Did you mean 'llama'"),
        ({"model_type": "llama", "config_overrides": {"hiden_size": 4}}, "Did you mean 'hidden_size'"),
        ({"model_type": "t5"}, "transformers cannot build this model"),
        (
            {"model_type": "llama", "config_overrides": {**LLAMA, "vocab_size": 8}},
            "vocab_size is 8, the tokenizer has 64",
        ),
        ({"model_type": "llama", "config_overrides": {**LLAMA, "hidden_size": "wide"}}, "transformers cannot build"),
    ],
)
def test_a_model_that_cannot_be_built_is_told(section: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        build_hf(HFModelConfig(name="hf", **section), SIZE)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hotlap\[hf\]'"):
        build_hf(HFModelConfig(name="hf", model_type="llama"), SIZE)


def test_pretrained_weights_are_read_and_saved(tmp_path: Path) -> None:
    folder, ids = saved(tmp_path / "one"), tokens()
    section = HFModelConfig(name="hf", model_name_or_path=str(folder))
    model = build_hf(section, SIZE).eval()
    torch.testing.assert_close(whole_logits(model, ids), whole_logits(build(), ids))
    with pytest.raises(ConfigError, match="the weights have a vocabulary of 64 tokens, the tokenizer has 300"):
        build_hf(section, 300)
    half = build_hf(section.model_copy(update={"dtype": "bfloat16"}), SIZE)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    checkpointed = build_hf(section, SIZE, gradient_checkpointing=True).train()
    loss = checkpointed.logits(checkpointed.hidden(ids)).sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in checkpointed.parameters())


def test_a_vocabulary_smaller_than_the_table_gives_no_padding(tmp_path: Path) -> None:
    folder, ids = saved(tmp_path / "one"), tokens() % 60
    model = build_hf(HFModelConfig(name="hf", model_name_or_path=str(folder)), 60).eval()
    with torch.no_grad():
        assert model.logits(model.hidden(ids)).shape == (3, 12, 60)


def with_lora(folder: Path, **settings: Any) -> HFCausalLM:
    torch.manual_seed(3)
    lora = LoraConfig(**{"r": 4, "lora_alpha": 8, **settings})
    return build_hf(HFModelConfig(name="hf", model_name_or_path=str(folder), lora=lora), SIZE)


def train(model: HFCausalLM, steps: int = 3) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    ids = tokens()
    for _ in range(steps):
        logits = model.logits(model.hidden(ids[:, :-1]))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.usefixtures("peft")
@pytest.mark.parametrize(
    ("kind", "settings", "count"),
    [
        ("llama", {}, 2 * 7),
        ("llama", {"target_modules": ("q_proj", "v_proj")}, 2 * 2),
        ("gpt2", {}, 2 * 4),
    ],
)
def test_lora_trains_its_additions_alone(tmp_path: Path, kind: str, settings: dict[str, Any], count: int) -> None:
    folder, ids = saved(tmp_path / "one", kind), tokens()
    model = with_lora(folder, **settings).eval()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * count and all("lora_" in name for name in trained)
    assert {roles_of(model)[name] for name in trained} == {"matrix"}
    torch.testing.assert_close(whole_logits(model, ids), whole_logits(build(kind), ids))  # it begins as what it adds to
    train(model)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == trained


@pytest.mark.usefixtures("peft")
def test_the_additions_alone_are_saved_and_loaded(tmp_path: Path) -> None:
    folder, ids = saved(tmp_path / "one"), tokens()
    model = with_lora(folder).eval()
    train(model)
    save_model(model, str(tmp_path / "weights.safetensors"))
    state = load_file(tmp_path / "weights.safetensors")
    assert state and all("lora_" in name for name in state)
    again = with_lora(folder).eval()
    load_model(again, str(tmp_path / "weights.safetensors"))
    assert torch.equal(whole_logits(again, ids), whole_logits(model, ids))
    again.load_state_dict(model.state_dict())
    less = {name: tensor for name, tensor in state.items() if "layers.1" not in name}
    with pytest.raises(RuntimeError, match="Missing key"):
        again.load_state_dict(less)


@pytest.mark.usefixtures("peft")
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_additions_are_added_up_for_export(tmp_path: Path, kind: str) -> None:
    folder, ids = saved(tmp_path / "one", kind), tokens()
    model = with_lora(folder).eval()
    train(model)
    expected = whole_logits(model, ids)
    save_hf(model, tmp_path / "two")
    plain = build_hf(HFModelConfig(name="hf", model_name_or_path=str(tmp_path / "two")), SIZE).eval()
    assert not any("lora_" in name for name, _ in plain.named_parameters())
    torch.testing.assert_close(whole_logits(plain, ids), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("peft")
def test_a_module_that_is_not_there_is_told(tmp_path: Path) -> None:
    folder = saved(tmp_path / "one")
    with pytest.raises(ConfigError, match=r"lora\.target_modules: .* This model has: down_proj, gate_proj, k_proj"):
        with_lora(folder, target_modules=("c_attn",))


@pytest.mark.usefixtures("peft")
def test_additions_to_bfloat16_are_fp32(tmp_path: Path) -> None:
    lora = LoraConfig(r=2)
    section = HFModelConfig(name="hf", model_name_or_path=str(saved(tmp_path / "one")), dtype="bfloat16", lora=lora)
    model = build_hf(section, SIZE)
    kinds = {parameter.requires_grad: parameter.dtype for parameter in model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    train(model, 1)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_attention_is_computed_as_it_is_asked_for(tmp_path: Path, name: str) -> None:
    folder = str(saved(tmp_path))
    fresh = HFModelConfig(name="hf", model_type="llama", config_overrides=LLAMA, attn_implementation=name)
    pretrained = HFModelConfig(name="hf", model_name_or_path=folder, attn_implementation=name)
    for section in (fresh, pretrained):
        model = build_hf(section, SIZE)
        assert model.config._attn_implementation == name
        assert takes_documents(model)


def test_an_attention_that_transformers_has_not_is_told() -> None:
    section = HFModelConfig(name="hf", model_type="llama", config_overrides=LLAMA, attn_implementation="quickest")
    with pytest.raises(ConfigError, match="transformers cannot build this model"):
        build_hf(section, SIZE)
