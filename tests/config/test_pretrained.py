"""Pretrained weights as files: where they are, what names their content, and the shape that they give a config."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotlap.config import pretrained
from hotlap.config.load import config_from_values, load_config
from hotlap.config.models import GPTConfig, HFModelConfig
from hotlap.config.parts import source_hashes, source_names
from hotlap.config.pretrained import pretrained_folder, weight_files, weights_hash
from hotlap.core.errors import ConfigError, DataError, MissingExtraError

TINY = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12, "vocab_size": 256}


def make_folder(path: Path, **changes: Any) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**TINY, **changes}))
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def load(tmp_path: Path, model: str) -> GPTConfig:
    (tmp_path / "hotlap.yaml").write_text(f"model: {model}\n")
    found = load_config(tmp_path / "hotlap.yaml").model
    assert isinstance(found, GPTConfig)
    return found


def test_the_weights_give_the_shape(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "tiny")
    found = load(tmp_path, "{name: gpt, model_name_or_path: tiny, attn_pdrop: 0.1}")
    assert found.model_name_or_path == str(folder)
    assert (found.hidden_size, found.num_hidden_layers, found.max_position_embeddings) == (16, 2, 12)
    assert found.attn_pdrop == 0.1


def test_the_stored_config_says_the_same_again(tmp_path: Path) -> None:
    make_folder(tmp_path / "tiny")
    (tmp_path / "hotlap.yaml").write_text("model: {model_name_or_path: tiny, positions: rope}\n")
    config = load_config(tmp_path / "hotlap.yaml")
    stored = config_from_values(config.model_dump(mode="json"), {"model.rope_theta": 500.0})
    assert isinstance(stored.model, GPTConfig)
    assert stored.model.positions == "rope"
    assert stored.model.model_copy(update={"rope_theta": 10000.0}) == config.model


def test_other_weights_bring_their_own_shape(tmp_path: Path) -> None:
    first, second = make_folder(tmp_path / "one"), make_folder(tmp_path / "two", n_embd=32, n_positions=20)
    values = config_from_values({}, {"model.model_name_or_path": str(first)}).model_dump(mode="json")
    found = config_from_values(values, {"model.model_name_or_path": str(second)}).model
    assert isinstance(found, GPTConfig)
    assert (found.hidden_size, found.max_position_embeddings) == (32, 20)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("{model_name_or_path: tiny, hidden_size: 32}", "hidden_size is 32, the weights have 16"),
        ("{model_name_or_path: tiny, norm: rms_norm, hidden_size: 32}", r"norm is rms_norm.*\n.*hidden_size is 32"),
        ("{model_name_or_path: ./missing}", "there is no folder .*missing, and that is no name on the hub"),
        ("{model_name_or_path: a/b/c}", "there is no folder"),
        ("{model_name_or_path: empty}", r"empty/config\.json: not there; expected a folder that save_pretrained wrote"),
        ("{model_name_or_path: broken}", r"broken/config\.json: cannot be read"),
        ("{model_name_or_path: list}", r"list/config\.json: expected a mapping, got list"),
        ("{model_name_or_path: llama}", "its architecture is llama, expected gpt2"),
        ("{model_name_or_path: odd, positions: rope}", r"rope needs an even number .* \(with the shape of .*odd\)"),
    ],
)
def test_weights_that_do_not_fit_the_section_are_told(tmp_path: Path, model: str, problem: str) -> None:
    make_folder(tmp_path / "tiny")
    make_folder(tmp_path / "llama", model_type="llama")
    make_folder(tmp_path / "odd", n_embd=15, n_head=5)
    for name, text in (("empty", None), ("broken", "{"), ("list", "[]")):
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path, model)


def test_a_shard_that_is_missing_is_told(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "tiny")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        pretrained_folder(str(folder))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    (folder / "one.safetensors").write_bytes(b"1")
    with pytest.raises(ConfigError, match=r"names two\.safetensors, which is not there"):
        pretrained_folder(str(folder))
    (folder / "two.safetensors").write_bytes(b"2")
    assert [path.name for path in weight_files(folder)] == ["one.safetensors", "two.safetensors"]
    index.write_text("{}")
    with pytest.raises(DataError, match=r"index\.json: cannot be read: KeyError"):
        weight_files(folder)


def test_the_hash_names_the_content(tmp_path: Path) -> None:
    folder, copy = make_folder(tmp_path / "tiny"), make_folder(tmp_path / "copy")
    config = config_from_values({}, {"model.model_name_or_path": str(folder)})
    assert source_names(config) == {"model.model_name_or_path": str(folder)}
    before = source_hashes(config, tmp_path)
    assert before == {"model.model_name_or_path": weights_hash(str(copy))}
    (folder / "model.safetensors").write_bytes(b"other weights")
    after = source_hashes(config, tmp_path)
    assert after != before
    (folder / "config.json").write_text(json.dumps({**TINY, "resid_pdrop": 0.2}))
    assert source_hashes(config, tmp_path) not in (before, after)


def test_a_model_of_transformers_has_an_absolute_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "tiny", model_type="llama")
    (tmp_path / "hotlap.yaml").write_text("model: {name: hf, model_name_or_path: tiny}\n")
    found = load_config(tmp_path / "hotlap.yaml").model
    assert isinstance(found, HFModelConfig)
    assert found.model_name_or_path == str(folder)


class Hub(SimpleNamespace):
    """A hub with one model, of which `cached` files are here already."""

    def __init__(self, folder: Path, cached: set[str], *, is_offline: bool = False) -> None:
        super().__init__(folder=folder, cached=cached, is_offline=is_offline, asked=[])

    def hf_hub_download(self, name: str, file: str, *, local_files_only: bool) -> str:
        self._get(name, {file}, local_files_only)
        return str(self.folder / file)

    def snapshot_download(self, name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        if not local_files_only:
            self._get(name, {path.name for path in self.folder.iterdir()}, local_files_only)
        return str(self.folder)

    def _get(self, name: str, files: set[str], local_files_only: bool) -> None:
        self.asked.append((name, sorted(files), local_files_only))
        if local_files_only and not files <= self.cached:
            raise FileNotFoundError("not in the cache")
        if self.is_offline and not local_files_only:
            raise ConnectionError("no network\nand more")
        self.cached |= files


def test_a_name_of_the_hub_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(make_folder(tmp_path / "snapshot"), set())
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    found = load(tmp_path, "{model_name_or_path: somebody/tiny}")
    assert (found.model_name_or_path, found.hidden_size) == ("somebody/tiny", 16)
    load(tmp_path, "{model_name_or_path: somebody/tiny}")
    assert [is_local for _, _, is_local in hub.asked] == [True, False, True]
    assert pretrained_folder("somebody/tiny") == hub.folder


def test_without_a_network_a_name_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(make_folder(tmp_path / "snapshot"), set(), is_offline=True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "{model_name_or_path: gpt2}")
    assert str(caught.value) == (
        "model.model_name_or_path: there is no folder 'gpt2', and as a name on the Hugging Face hub it cannot be "
        "downloaded: no network"
    )


def test_without_the_extra_a_name_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hotlap\[hf\]'"):
        load(tmp_path, "{model_name_or_path: gpt2}")


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"name": "hf"}, "give one of model_name_or_path"),
        ({"name": "hf", "model_type": "llama", "model_name_or_path": "x"}, "give one of model_name_or_path"),
        (
            {"name": "hf", "model_name_or_path": "x", "config_overrides": {"a": 1}},
            "config_overrides go with model_type",
        ),
        ({"name": "hf", "model_type": "llama", "lora": {}}, "lora needs model_name_or_path"),
        ({"name": "hf", "model_type": "llama", "config_overrides": "a"}, "write a mapping, or name=value"),
        ({"name": "hf", "model_name_or_path": "x", "lora": {"target_modules": []}}, "name the matrices"),
        ({"name": "hf", "model_name_or_path": "x", "lora": {"rank": 4}}, "unknown key"),
        ({"name": "hff"}, "Did you mean 'hf'"),
    ],
)
def test_a_section_that_does_not_go_is_told(section: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config_from_values({"model": section})


def test_a_section_of_transformers_reads_what_run_clm_takes() -> None:
    text = "hidden_size=64,tie_word_embeddings=true, hidden_act=silu"
    model = config_from_values({"model": {"name": "hf", "model_type": "llama", "config_overrides": text}}).model
    assert isinstance(model, HFModelConfig)
    assert model.config_overrides == {"hidden_size": 64, "tie_word_embeddings": True, "hidden_act": "silu"}
    lora = {"r": 4, "target_modules": "q_proj, v_proj"}
    config = config_from_values({"model": {"name": "hf", "model_name_or_path": "x", "lora": lora}})
    assert isinstance(config.model, HFModelConfig) and config.model.lora is not None
    assert config.model.lora.target_modules == ("q_proj", "v_proj")
    assert config_from_values(config.model_dump(mode="json")) == config


def test_the_folder_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path / "tiny")
    (folder / "model.safetensors").write_bytes(bytes(range(100)))
    whole = weights_hash(str(folder))
    pretrained._file_hash.cache_clear()
    monkeypatch.setattr(pretrained, "_BLOCK", 7)
    assert weights_hash(str(folder)) == whole
