"""The command line of a real project, unchanged, through init, exec, speedrun and apply, with a stand-in for docker."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import hotlap

STAND_INS = Path(__file__).parents[1] / "stand_ins"
LINE = (
    "docker build -t welt . && docker run -it --rm --gpus all --ipc=host --ulimit memlock=-1 "
    '-v "$(pwd)/welt:/app/welt" -v "$(pwd)/welt_training:/app/welt_training" '
    "-v ~/.netrc:/root/.netrc:ro -e WANDB_PROJECT=string-repetition "
    "-e WANDB_NAME=benchmark-run -e CONFIG=welt_training/experiments/easy-tasks/benchmark-run.yaml welt"
)
SETTINGS = Path("welt_training") / "experiments" / "easy-tasks" / "benchmark-run.yaml"
YAML_TEXT = """\
# The recipe of the benchmark.
learning_rate: 1.0e-4  # peak
per_device_train_batch_size: 8
max_steps: 400
eval_steps: 5
logging_steps: 5
seed: 42
output_dir: out
"""
TRAINER = """\
import os, time
from ruamel.yaml import YAML
settings = YAML(typ="safe").load(open(os.environ["CONFIG"]))
assert os.environ["WANDB_PROJECT"] == "string-repetition"
steps, rate, loss = settings["max_steps"], settings["learning_rate"], 2.5
for step in range(1, steps + 1):
    time.sleep(0.012)
    loss -= 120 * min(rate, 1e-3) * loss
    if step % settings["logging_steps"] == 0:
        told = {"loss": f"{loss * 0.98:.4f}", "grad_norm": "0.5", "learning_rate": f"{rate:.3e}"}
        print({**told, "epoch": f"{step / steps:.3f}"})
    if step % settings["eval_steps"] == 0:
        print({"eval_loss": f"{loss:.6f}", "eval_runtime": "0.01", "epoch": f"{step / steps:.3f}"})
print("***** eval metrics *****")
print("  epoch                   =        1.0")
print(f"  eval_loss               =     {loss:.4f}")
"""

Hotlap = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def welt(tmp_path: Path) -> Path:
    """Return a project with a package, a recipe, a Dockerfile, and an image that the stand-in can run."""
    project = tmp_path / "project"
    for path, text in (("Dockerfile", "FROM scratch\n"), ("welt/train.py", TRAINER), (str(SETTINGS), YAML_TEXT)):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "welt").write_text(f'exec "{sys.executable}" welt/train.py\n')
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password planted\n")
    return project


@pytest.fixture
def call(welt: Path, tmp_path: Path) -> Hotlap:
    """Call hotlap in the project, in a process of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(hotlap.__file__).parents[1]),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "HOME": str(tmp_path),
        "PATH": f"{STAND_INS}:{os.environ['PATH']}",
        "STAND_IN_IMAGES": str(tmp_path / "images"),
        "STAND_IN_STATE": str(tmp_path),
    }

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "hotlap", *words]
        return subprocess.run(argv, cwd=welt, env=environment, capture_output=True, text=True, timeout=240, check=False)

    return run


def digests(project: Path) -> dict[str, str]:
    ours = (".hotlap", "hotlap.yaml", "SPEEDRUN.md", "speedrun")
    files = (path for path in project.rglob("*") if path.is_file())
    own = (path.relative_to(project) for path in files)
    return {
        str(path): hashlib.sha256((project / path).read_bytes()).hexdigest()
        for path in own
        if not str(path).startswith(ours)
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_line_runs_unchanged(welt: Path, call: Hotlap, tmp_path: Path) -> None:
    before = digests(welt)
    made = call("init", "-y", "--target", "eval_loss < 1.0", "--", LINE)
    assert made.returncode == 0, made.stdout + made.stderr
    config = YAML(typ="safe").load((welt / "hotlap.yaml").read_text())
    assert config["targets"] == ["eval_loss < 1.0"]
    assert config["command"]["run"] == LINE, "unchanged"
    keys = ("learning_rate", "per_device_train_batch_size", "max_steps", "seed")
    assert config["command"]["files"] == {str(SETTINGS): {key: key for key in keys}}
    assert config["params"].keys() == set(keys)
    assert digests(welt) == before

    ended = call("exec", "--json", "--target", "eval_loss < 1.0", "--", LINE)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["outcome"] == "reached"
    assert result["time_to_target"]["wall"] > 0.3
    assert result["metrics"]["eval_loss"] < 1.0

    few = ("patience=5", "budget.total=400s", "budget.run=20s", "calibrate.runs=2", "record.runs=2", "record.alpha=0.5")
    study = call("speedrun", *(word for setting in few for word in ("-s", setting)))
    assert study.returncode == 0, study.stdout + study.stderr
    assert digests(welt) == before
    status = json.loads(call("status", "--json").stdout)
    assert status["kept"] >= 1, study.stdout
    assert status["speedup"] > 1.2
    ledger = [json.loads(line) for line in next(welt.glob(".hotlap/studies/*/ledger.jsonl")).read_text().splitlines()]
    patches = [fact["patch"] for fact in ledger if fact["event"] == "proposal"]
    assert len(patches) >= 5 and all(key.removeprefix("params.") in keys for patch in patches for key in patch)
    check_containers([json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()], welt)

    applied = call("apply", "ladder")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    recipe = (welt / SETTINGS).read_text() + (welt / "hotlap.yaml").read_text()
    assert "# The recipe of the benchmark." in recipe
    changed = [name for name, digest in digests(welt).items() if before[name] != digest]
    assert changed == [str(SETTINGS)]
    kept = YAML(typ="safe").load((welt / SETTINGS).read_text())
    assert kept["learning_rate"] > 1e-4 and "learning_rate: 1.0e-4  # peak" not in recipe and "  # peak" in recipe
    again = call("exec", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["outcome"] == "reached"


def check_containers(calls: list[list[str]], project: Path) -> None:
    """Check that each run built the image and started it as the line says, but for what needs a terminal."""
    runs = [words for words in calls if words[0] == "run"]
    builds = [words for words in calls if words[0] == "build"]
    assert len(runs) == len(builds) >= 9 and {tuple(words) for words in builds} == {("build", "-t", "welt", ".")}
    for words in runs:
        assert words[-1] == "welt" and "--cidfile" in {word.partition("=")[0] for word in words}
        assert not {"-i", "-it", "-ti", "--interactive"} & set(words), "nobody types"
        assert {f"{project}/welt:/app/welt", f"{project}/welt_training:/app/welt_training"} <= set(words)
        assert {"--rm", "--ipc=host", "WANDB_PROJECT=string-repetition", "WANDB_NAME=benchmark-run"} <= set(words)
    chosen = [next(word for word in words if word.startswith("CONFIG=")) for words in runs]
    copies = [word for word in chosen if word.startswith("CONFIG=/hotlap_files/")]
    assert len(copies) == len(runs) - 1, "each has its edited copy, but for the one whose command came without knobs"
    assert set(chosen) - set(copies) == {f"CONFIG={SETTINGS}"}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_line_with_a_trainer_of_transformers(welt: Path, call: Hotlap, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    example = Path(__file__).parents[2] / "examples" / "own_script" / "trainer"
    (welt / "welt" / "train.py").write_text((example / "train.py").read_text())
    (welt / SETTINGS).write_text((example / "config.yaml").read_text())
    (tmp_path / "images" / "welt").write_text(f'exec "{sys.executable}" welt/train.py "$CONFIG"\n')
    made = call("init", "-y", "--no-probe", "--target", "eval_loss < 2.4", "--", LINE)
    assert made.returncode == 0, made.stdout + made.stderr
    before = digests(welt)
    ended = call("exec", "--json", "-s", "params.learning_rate=0.003")
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["outcome"] == "reached" and result["metrics"]["eval_loss"] < 2.4
    reached = result["time_to_target"]
    assert 1 <= reached["step"] <= 6, "the Trainer prints no step: its evaluations are counted"
    assert reached["wall"] > 0
    assert digests(welt) == before
