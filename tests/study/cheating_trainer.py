"""The real worker, but dishonest in screens as `cheat` in the project says: `cheating_trainer.py hotlap.worker FOLDER`.

It trains on evaluation data, or leaves other weights behind than those that were measured.
"""

import json
import shutil
import sys
from pathlib import Path

import hotlap.data.load
from hotlap.data.encoding import Examples, encode_task, end_to_end
from hotlap.data.tokenizers import Tokenizer
from hotlap.tasks.examples import TaskData, TokenTask
from hotlap.worker.__main__ import main

FOLDER = Path(sys.argv[-1])
ROLE = json.loads((FOLDER / "command.json").read_text())["role"]
CHEAT = (FOLDER.parents[2] / "cheat").read_text() if ROLE == "screen" else ""


def evaluation_data_twice(
    task: TaskData | TokenTask, tokenizer: Tokenizer, longest: int | None = None
) -> tuple[Examples, Examples]:
    """Return the evaluation data for training, too, as often as there were training examples."""
    train, evaluation = encode_task(task, tokenizer, longest)
    rows = list(evaluation)
    return end_to_end([rows[number % len(rows)] for number in range(len(train))]), evaluation


if __name__ == "__main__":
    sys.argv = [sys.argv[0], str(FOLDER)]
    if CHEAT == "evaluation data":
        hotlap.data.load.encode_task = evaluation_data_twice
    code = main()
    if CHEAT == "weights":
        shutil.copy(FOLDER.with_name("r0001") / "model.safetensors", FOLDER)
    sys.exit(code)
