"""A project with a training script of its own, in a git repository; a run takes a second, by a clock of its own.

    project = make_project(tmp_path, name="demo")
    patch = patch_of(project, "model.py", "STEP_SECONDS = 0.02", "STEP_SECONDS = 0.01")

`train.py` may not be changed, `model.py` may; `eval.py` reads what the training saved; `data/` is ignored by git.
"""

import hashlib
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hotlap.config.load import load_config
from hotlap.config.schema import RunConfig
from hotlap.core.records import History
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.study.loop import Policy, run_study
from hotlap.study.sources import NoPolicy
from hotlap.study.study import Study, open_study

TRAIN = """\
import json, os, random, time
import model

noise = random.Random(int(os.environ.get("HOTLAP_SEED", "0"))).gauss(1.0, 0.01)
assert open("data/a.txt").read() == "hello\\n"
with open("weights.json", "w") as file:
    json.dump({"val_loss": 4.0}, file)
for step in range(1, 60):
    time.sleep(model.STEP_SECONDS)
    loss = 4.0 - 0.1 * step * model.GAIN
    with open("weights.json", "w") as file:
        json.dump({"val_loss": loss}, file)
    model.trained(step)
    print(json.dumps({"step": step, "val_loss": loss, "seconds": step * model.STEP_SECONDS * noise}), flush=True)
"""
MODEL = """\
STEP_SECONDS = 0.02

# what a step is
# worth, and what
# is done after it

GAIN = 1.0


def trained(step):
    pass
"""
EVAL = """\
import json

print(json.dumps({"val_loss": json.load(open("weights.json"))["val_loss"]}))
"""
CONFIG = """\
name: {name}
command:
  run: python train.py {{lr}}
  clock_key: seconds{more}
params: {{lr: 0.1}}
clock: train
targets: [val_loss < 2.0]
budget: {{run: 60s, total: 20m}}
calibrate: {{runs: 2}}
edits: {{files: [model.py, "lib/*.py"], protect: [train.py], link: [data/]}}
"""
FASTER = ("model.py", "STEP_SECONDS = 0.02", "STEP_SECONDS = 0.01")
FORGED = (
    "model.py",
    "    pass\n",
    '    if step == 1:\n        print(\'{"step": 1, "val_loss": 0.5, "seconds": 0.02}\', flush=True)\n',
)


def git(folder: Path, *words: str) -> str:
    """Run git in a folder and return what it prints."""
    who = {f"GIT_{kind}_{what}": "someone" for kind in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull}
    ended = subprocess.run(["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return ended.stdout


def make_project(folder: Path, name: str = "own", more: str = "", section: str = "") -> ProjectFolder:
    """Write the project's files and commit them; `more` are lines of the section command, `section` further ones."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir()
    (folder / "data" / "a.txt").write_text("hello\n")
    texts = {"train.py": TRAIN, "model.py": MODEL, "eval.py": EVAL, ".gitignore": "data/\n"}
    texts["hotlap.yaml"] = CONFIG.format(name=name, more=more) + section
    for path, text in texts.items():
        (folder / path).write_text(text)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    (folder / "eval.py").write_text(EVAL + "# put aside\n")
    git(folder, "stash", "-q")
    git(folder, "branch", "another")
    return ProjectFolder(folder.absolute())


def config_of(project: ProjectFolder) -> RunConfig:
    """Return the project's config."""
    return load_config(project.project / "hotlap.yaml")


def patch_of(project: ProjectFolder, path: str, old: str, new: str) -> str:
    """Return the patch that replaces a passage of a file; the file stays as it is."""
    place = project.project / path
    before = place.read_text() if place.exists() else ""
    assert old in before
    place.parent.mkdir(exist_ok=True)
    place.write_text(before.replace(old, new, 1) if before else new)
    git(project.project, "add", "-N", path)
    patch = git(project.project, "diff", "--", path)
    if before:
        place.write_text(before)
    else:
        place.unlink()
    git(project.project, "reset", "-q")
    return patch


def fingerprint(project: ProjectFolder) -> dict[str, str]:
    """Return mode and content of every file of the user's; index, HEAD, branches, stash, config and objects, too."""
    root = project.project
    ours = ("SPEEDRUN.md", "SPEEDRUN.hotlap.md")
    return {
        str(path.relative_to(root)): f"{path.lstat().st_mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(root.rglob("*"))
        if (path.is_file() or path.is_symlink())
        and path.relative_to(root).parts[0] not in (".hotlap", "speedrun", *ours)
    }


class Told:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def acts(self, action: object, study: Study) -> None:
        """Note nothing."""

    def follows(self, folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        """Note nothing."""

    def ended(self, record: object) -> None:
        """Note nothing."""

    def says(self, text: str) -> None:
        """Remember a sentence."""
        self.lines.append(text)


def drive(
    project: ProjectFolder,
    policy: Callable[[Study], Policy] = lambda study: NoPolicy(),
    is_done: Callable[[History], bool] = lambda history: False,
) -> tuple[Study, str]:
    """Run the project's study until its policy has no more ideas, or it is done; return it, and why it ended."""
    study = open_study(project, config_of(project))
    reason = run_study(study, Told(), lambda study: None, policy=policy(study), is_done=is_done)
    return study, reason


def all_decided(count: int) -> Callable[[History], bool]:
    """Return what ends a study once so many proposals are decided."""
    return lambda history: len({decision.proposal for decision in history.decisions}) >= count
