"""A stand-in for a coding agent: it reads its prompt, edits a file of the folder it stands in, and answers.

python coding_agent.py good {prompt_file} {answer_file}

good       halves the time of a step
protected  changes a file that it may not change
forged     prints a metric that the model has not
breaks     leaves a script that does not start
wordy      settings, told at the end of much output
plain      the same edit as good, and a sentence in place of an answer
settings   no edit, another value of a setting
target     no edit, and a setting of the protocol
silent     neither edit nor answer
secret     an edit and an answer with the value of a secret variable in it
costs      the same edit as good, and what it took
strays     the same edit as good; takes its worktree from git and commits what it then finds
deletes    takes away the folder that it was started in
hangs      starts a child in a session of its own, and waits with it
fails      ends with exit code 7

Several parts, divided by commas, are played one a call, in turn.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

FASTER = ("model.py", "STEP_SECONDS = 0.02", "STEP_SECONDS = 0.01")
EDITS = {
    "good": FASTER,
    "plain": FASTER,
    "costs": FASTER,
    "strays": FASTER,
    "secret": FASTER,
    "protected": ("train.py", "range(1, 60)", "range(1, 61)"),
    "forged": ("model.py", "    pass\n", '    print(\'{"step": 1, "val_loss": 0.5, "seconds": 0.02}\', flush=True)\n'),
    "breaks": ("model.py", "GAIN = 1.0", "GAIN = undefined"),
}
SETTINGS = {"settings": {"params.lr": 0.2}, "target": {"targets": ["val_loss < 3.9"]}}


def hangs() -> int:
    """Wait for ever, with a child in a session of its own."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    Path(os.environ["STAND_IN_PIDS"]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(300)
    return 0


def deletes() -> int:
    """Take away the folder that it was started in."""
    shutil.rmtree(Path.cwd())
    return 0


def wordy() -> int:
    """Print much, with a secret where the end of the output may be cut off, and the answer at the end."""
    secret = os.environ["STAND_IN_API_KEY"]
    words = {"observation": "much output", "hypothesis": "the end counts", "settings": {"params.lr": 0.2}}
    answer = json.dumps(words)
    print("x" * (2**20 + 99) + secret + "y" * (2**20 - len(answer) - 2 - len(secret) // 2), flush=True)
    print(answer, flush=True)  # the last 2**20 bytes begin in the middle of the secret
    return 0


def strays() -> None:
    """Take the worktree from git, and commit whatever git then finds."""
    Path(".git").unlink()
    subprocess.run(["git", "add", "--all"], check=False)
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "stray"], check=False)


WITHOUT_AN_ANSWER = {"hangs": hangs, "deletes": deletes, "wordy": wordy, "fails": lambda: 7}


def main() -> int:
    """Play the part that the first argument names; return the exit code."""
    part, prompt, answer = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if "," in part:
        part = part.split(",")[int(Path.cwd().name[-4:]) - 1]  # the worktree's name ends with the call's number
    assert "# Task" in prompt.read_text()
    print("thinking about it, with", os.environ.get("STAND_IN_API_KEY", "no key"), flush=True)
    if part in WITHOUT_AN_ANSWER:
        return WITHOUT_AN_ANSWER[part]()
    if part in EDITS:
        name, old, new = EDITS[part]
        text = Path(name).read_text()
        assert old in text
        Path(name).write_text(text.replace(old, new))
    if part == "strays":
        strays()
    if part == "plain":
        answer.write_text("A step waits for nothing, so it can wait less.")
    elif part != "silent":
        answer.write_text(json.dumps({**words_of(part), "settings": SETTINGS.get(part, {})}))
    return 0


def words_of(part: str) -> dict[str, object]:
    """Return the answer without its settings."""
    words: dict[str, object] = {"title": part, "observation": "a step waits", "predicted_ratio": 0.5}
    secret = f" with {os.environ['STAND_IN_API_KEY']}" if part == "secret" else ""
    took = {"cost": 0.25, "prompt_tokens": 1200, "completion_tokens": 34} if part == "costs" else {}
    return {**words, **took, "hypothesis": f"it can wait less{secret}"}


if __name__ == "__main__":
    sys.exit(main())
