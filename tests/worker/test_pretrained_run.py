"""Runs that begin with pretrained weights, LoRA, and the way out: `hotlap export`."""

import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import run_worker

from hotlap.config.load import load_config
from hotlap.config.models import GPTConfig, HFModelConfig
from hotlap.core.errors import ConfigError
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.export import export_run
from hotlap.models.gpt import GPT
from hotlap.models.gpt2 import Vocabulary, read_gpt2, write_gpt2
from hotlap.models.hf_build import build_hf, save_hf
from hotlap.train.checkpoint import load_weights
from hotlap.train.distributed import join_world
from hotlap.train.reevaluate import reevaluate
from hotlap.worker import export
from hotlap.worker.session import Session
from hotlap.worker.train import TrainingRun

MakeRun = Callable[..., RunFolder]
OWN = {"argv": [sys.executable, "-m", "hotlap.worker"]}
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("default")  # other people's packages may warn


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def folder_of_weights(tmp_path: Path) -> Path:
    """A tiny GPT-2, as transformers would save it."""
    folder = tmp_path / "tiny-gpt2"
    folder.mkdir()
    torch.manual_seed(5)
    config = GPTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=72)
    write_gpt2(config, GPT(config, 256).state_dict(), Vocabulary(256, 0, 3), folder)
    return folder


def run_here(folder: RunFolder) -> dict[str, Any]:
    """Run the folder in this process; return its result."""
    session = Session(folder)
    config = load_config(folder.config_path)
    run = TrainingRun(session, config, join_world(config.training))
    run.finish(*run.train())
    result = folder.read("result")
    assert result is not None
    return result


def pretrained(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"model": {"model_name_or_path": str(folder), **changes}}


def evaluation_of(folder: RunFolder, project: ProjectFolder) -> float:
    config = load_config(folder.config_path)
    found = reevaluate(config, project.project, project.cache_path, folder.weights_path)
    return float(found["eval"]["metrics"]["eval_loss"])


def test_a_run_goes_on_from_gpt2_with_rotary_positions(
    make_run: MakeRun, folder_of_weights: Path, project: ProjectFolder
) -> None:
    folder = make_run(pretrained(folder_of_weights, positions="rope"), OWN)
    assert run_worker(folder) == 0
    result, facts = folder.read("result") or {}, folder.read("environment") or {}
    assert result["step"] == 12
    losses = [point["train_loss"] for point in folder.points() if "train_loss" in point]
    assert losses[-1] < losses[0]
    assert list(facts["sources"]) == ["model.model_name_or_path"]
    assert facts["num_trained_parameters"] == facts["num_parameters"]
    assert "memory: about " in folder.log_tail(100)
    assert evaluation_of(folder, project) == pytest.approx(result["metrics"]["eval_loss"], abs=1e-5)


def test_without_the_folder_the_saved_weights_are_enough_to_evaluate(
    make_run: MakeRun, folder_of_weights: Path, project: ProjectFolder
) -> None:
    folder = make_run(pretrained(folder_of_weights), OWN)
    result = run_here(folder)
    for path in folder_of_weights.glob("*.safetensors"):
        path.unlink()
    assert evaluation_of(folder, project) == pytest.approx(result["metrics"]["eval_loss"], abs=1e-5)


def test_a_run_is_exported_and_read_back(make_run: MakeRun, project: ProjectFolder, tmp_path: Path) -> None:
    folder = make_run({"training.save_steps": 6}, OWN)
    run_here(folder)
    told = export_run(folder, tmp_path / "out" / "model")
    assert told == (
        f"{tmp_path}/out/model: a model of 256 tokens for AutoModelForCausalLM, without a tokenizer: transformers has "
        "none for bytes or characters as they are here"
    )
    export_run(folder, tmp_path / "early", step=6)
    config = load_config(folder.config_path).model
    assert isinstance(config, GPTConfig)
    for target, weights in (
        ("out/model", folder.weights_path),
        ("early", folder.checkpoint_path(6) / "model.safetensors"),
    ):
        expected, found = GPT(config, 256), GPT(config, 256)
        load_weights(expected, weights, CPU)
        read_gpt2(found, str(tmp_path / target))
        for one, other in zip(found.parameters(), expected.parameters(), strict=True):
            assert torch.equal(one, other)
    again = make_run({"model": {"model_name_or_path": str(tmp_path / "out" / "model")}}, OWN)
    assert load_config(again.config_path).model.model_dump()["hidden_size"] == 16


def test_a_tokenizer_that_was_trained_goes_along(make_run: MakeRun, tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers")
    folder = make_run({"tokenizer": {"name": "bpe", "vocab_size": 300}}, OWN)
    run_here(folder)
    told = export_run(folder, tmp_path / "out")
    assert told.endswith("with the tokenizer (tokenizer.json, tokenizer_config.json)")
    tokenizer = library.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert load_file(tmp_path / "out" / "model.safetensors")["transformer.wte.weight"].shape[0] == (
        max(tokenizer.get_vocab().values()) + 1
    )


def test_the_tokenizer_is_the_runs_own_whatever_became_of_its_text(make_run: MakeRun, tmp_path: Path) -> None:
    text = tmp_path / "corpus.txt"
    text.write_text("\n".join(f"the house number {number} stands in its garden" for number in range(300)))
    task = {"name": "language_model", "text": str(text), "block_size": 8, "max_eval_samples": 4}
    folder = make_run({"task": task, "tokenizer": {"name": "bpe", "vocab_size": 300}}, OWN)
    run_here(folder)
    export_run(folder, tmp_path / "before")
    text.write_text(text.read_text().replace("house", "zxqzxq").replace("garden", "kwkwkw"))
    export_run(folder, tmp_path / "changed")
    text.unlink()
    (tmp_path / "gone.tmp").mkdir()  # of somebody else
    export_run(folder, tmp_path / "gone")
    assert (tmp_path / "gone.tmp").is_dir()
    before = (tmp_path / "before" / "tokenizer.json").read_text()
    for target in ("changed", "gone"):
        assert (tmp_path / target / "tokenizer.json").read_text() == before, target


def test_what_cannot_be_exported_is_told(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run({"model.positions": "rope", "model.norm": "rms_norm"}, OWN)
    with pytest.raises(ConfigError, match=r"there is no model\.safetensors of hotlap's own trainer to export"):
        export_run(folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="has no checkpoint of step 3; there are: none"):
        export_run(folder, tmp_path / "out", step=3)
    folder.weights_path.write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        export_run(folder, tmp_path / "out")
    assert str(caught.value).splitlines() == [
        "this model is no GPT-2, and transformers has none like it:",
        "  model.positions is rope, GPT-2 has learned",
        "  model.norm is rms_norm, GPT-2 has layer_norm",
    ]
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.tmp").exists()


def export_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: RunFolder, target: Path
) -> tuple[int, str]:
    monkeypatch.chdir(folder.path.parents[2])
    monkeypatch.setattr(sys, "argv", ["export", str(folder.path), str(target)])
    code = export.main()
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_problems_of_the_target_and_the_weights_are_told(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run()
    target = tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    code, said = export_here(monkeypatch, capsys, folder, target)
    assert code == 2 and "is there already; choose a new folder, or an empty one" in said
    (target / "notes.txt").unlink()
    folder.weights_path.write_bytes(b"broken")
    code, said = export_here(monkeypatch, capsys, folder, target)
    assert code == 125 and "model.safetensors: cannot be read" in said
    assert not (tmp_path / "out.tmp").exists()
    custom = make_run({"model": {"name": "nets:build"}})
    code, said = export_here(monkeypatch, capsys, custom, target)
    assert code == 2 and "model.name nets:build is code of the project's own" in said
    monkeypatch.setattr(sys, "argv", ["export"])
    assert export.main() == 2


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A tiny Llama of transformers; skip where the extra is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("transformers")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    section = HFModelConfig(
        name="hf",
        model_type="llama",
        config_overrides={**shape, "max_position_embeddings": 72, "num_key_value_heads": 2},
    )
    torch.manual_seed(2)
    save_hf(build_hf(section, 256), tmp_path / "llama")
    return tmp_path / "llama"


def test_a_llama_trains_behind_the_same_call(make_run: MakeRun, llama: Path, project: ProjectFolder) -> None:
    section = {"name": "hf", "model_name_or_path": str(llama)}
    folder = make_run({"model": section, "training.padding": "packed", "training.save_steps": 6}, OWN)
    result = run_here(folder)
    assert result["step"] == 12
    losses = [point["train_loss"] for point in folder.points() if "train_loss" in point]
    assert losses[-1] < losses[0]
    assert evaluation_of(folder, project) == pytest.approx(result["metrics"]["eval_loss"], abs=1e-5)


def test_a_llama_generates(make_run: MakeRun, llama: Path) -> None:
    section = {"name": "hf", "model_name_or_path": str(llama)}
    folder = make_run({"model": section, "targets": ["eval_chrf >= 0"], "task.max_eval_samples": 4}, OWN)
    assert "eval_chrf" in run_here(folder)["metrics"]


def test_a_row_that_is_too_long_for_the_model_is_refused(make_run: MakeRun, llama: Path) -> None:
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    section = {"name": "hf", "model_type": "llama", "config_overrides": {**shape, "max_position_embeddings": 16}}
    with pytest.raises(ConfigError, match="max_position_embeddings is 16, the longest example needs"):
        run_here(make_run({"model": section}, OWN))


def test_lora_trains_resumes_is_evaluated_and_exported(
    make_run: MakeRun, llama: Path, project: ProjectFolder, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("peft")
    section = {"name": "hf", "model_name_or_path": str(llama), "lora": {"r": 2}}
    folder = make_run({"model": section, "training.save_steps": 6}, OWN)
    result, facts = run_here(folder), folder.read("environment") or {}
    assert 0 < facts["num_trained_parameters"] < facts["num_parameters"] / 2
    estimate = facts["memory_estimate"]
    assert estimate["gradients"] == 4 * facts["num_trained_parameters"]
    assert estimate["weights"] == 4 * facts["num_parameters"]
    assert all("lora_" in name for name in load_file(folder.weights_path))
    assert evaluation_of(folder, project) == pytest.approx(result["metrics"]["eval_loss"], abs=1e-5)
    shutil.rmtree(folder.checkpoint_path(12))
    folder.begin_attempt()
    folder.write("command", {**(folder.read("command") or {}), "resume": "checkpoint-6"})
    assert run_here(folder)["metrics"]["eval_loss"] == pytest.approx(result["metrics"]["eval_loss"], abs=1e-6)
    export_run(folder, tmp_path / "merged")
    merged = build_hf(HFModelConfig(name="hf", model_name_or_path=str(tmp_path / "merged")), 256)
    assert not any("lora_" in name for name, _ in merged.named_parameters())
