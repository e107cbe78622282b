"""Nothing of a project holds a secret: of the environment, of a flag, of `-e NAME=…`, of a setting, or printed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hotlap

STAND_INS = Path(__file__).parents[1] / "stand_ins"
PLANTED = "plant3d-s3cret"
TOKEN = "hf_" + "Pl4nted" * 5
SCRIPT = """\
import os, sys, time
rate = float(sys.argv[sys.argv.index("--lr") + 1])
print("given", sys.argv, dict(os.environ), flush=True)
print("logged in with TOKEN", flush=True)
loss = 2.0
for step in range(1, 60):
    time.sleep(0.02)
    loss *= 1 - rate
    print(f"step {step}: train loss {loss * 0.9:.5f}, val loss {loss:.5f}")
    assert loss > 0.01, os.environ["SECOND_TOKEN"]
"""
CONFIG = f"""\
name: own
command:
  run: >-
    FIRST_KEY={PLANTED}1 docker run --rm -v "$(pwd):/app/src" -e MY_API_KEY -e SECOND_TOKEN={PLANTED}2
    img --lr {{learning_rate}} --password {PLANTED}3 --url https://me:{PLANTED}4@example.org/a
  env: {{WANDB_API_KEY: {PLANTED}5}}
  evaluator: 'echo "val_loss: 0.90000 auth_token={PLANTED}6"; exit 3 # --api_key {PLANTED}7'
params: {{learning_rate: 0.05}}
targets: [val_loss < 1]
budget: {{run: 20s, total: 60s}}
calibrate: {{runs: 2}}
patience: 1
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_file_of_a_project_holds_a_secret(tmp_path: Path) -> None:
    project, images = tmp_path / "project", tmp_path / "images"
    for folder in (project, images):
        folder.mkdir()
    (project / "train.py").write_text(SCRIPT.replace("TOKEN", TOKEN, 1))
    (project / "hotlap.yaml").write_text(CONFIG)
    (images / "img").write_text(f'exec "{sys.executable}" src/train.py "$@"\n')
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(hotlap.__file__).parents[1]),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "PATH": f"{STAND_INS}:{os.environ['PATH']}",
        "STAND_IN_IMAGES": str(images),
        "STAND_IN_STATE": str(tmp_path),
        "MY_API_KEY": f"{PLANTED}8",
    }
    shown = ""
    for words in (
        ["exec", "-s", "params.learning_rate=0.05"],
        ["exec", "--json", "-s", "params.learning_rate=0.9"],
        ["speedrun"],
        ["status", "--json"],
        ["report"],
        ["runs", "show", "r0001"],
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "hotlap", *words],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        shown += ended.stdout + ended.stderr
        assert 'Traceback (most recent call last):\n  File "/' not in ended.stderr or "train.py" in ended.stderr
    own = [path for path in project.rglob("*") if path.is_file() and path.name not in ("train.py", "hotlap.yaml")]
    assert {"SPEEDRUN.md", "stdout.log", "result.json", "guards.json"} <= {path.name for path in own}, shown
    assert any("studies" in path.parts for path in own)
    texts = {path: path.read_bytes() for path in own}
    assert any(b"logged in with ***" in text for text in texts.values())
    for planted in (PLANTED, TOKEN):
        holding = [str(path.relative_to(project)) for path, text in texts.items() if planted.encode() in text]
        assert not holding
        assert planted not in shown
    assert json.loads((project / ".hotlap" / "runs" / "r0001" / "result.json").read_text())["outcome"] == "reached"
