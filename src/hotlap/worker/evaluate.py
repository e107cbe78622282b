"""Evaluate the saved weights of a run that has ended: `python -m hotlap.worker.evaluate RUN_FOLDER TICKET`.

The outcome goes to evaluation.json of the run folder, with the ticket by which the launcher knows it for its own. Exit
code 75 means that the machine had no room for it, which says nothing of the weights.
"""

import os
import sys
import threading
import time
from pathlib import Path

from hotlap.config.load import load_config
from hotlap.core.errors import HotlapError, StorageError
from hotlap.core.run_folder import RunFolder
from hotlap.core.targets import GENERATION_METRICS
from hotlap.train.batch_size import is_out_of_memory
from hotlap.train.reevaluate import reevaluate

_NO_ROOM = 75  # EX_TEMPFAIL of sysexits.h
_WATCH_SECONDS = 1.0


def main() -> int:
    """Return 0, or the exit code of the error that was printed."""
    if len(sys.argv) != 3:
        print("usage: python -m hotlap.worker.evaluate RUN_FOLDER TICKET", file=sys.stderr)
        return 2
    folder, ticket = RunFolder(Path(sys.argv[1])), sys.argv[2]
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    start = time.perf_counter()
    try:
        found = reevaluate(
            load_config(folder.config_path),
            Path.cwd(),  # the launcher starts it in the project, wherever that is by now
            folder.path.parent.parent / "cache",
            folder.weights_path,
            generates=any(name in (folder.read("result") or {}).get("metrics", {}) for name in GENERATION_METRICS),
        )
    except HotlapError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"out of memory: {error}", file=sys.stderr)
        return _NO_ROOM
    try:
        seconds = time.perf_counter() - start
        folder.write("evaluation", {"schema": "hotlap/evaluation/1", "ticket": ticket, "seconds": seconds, **found})
    except StorageError as error:
        print(error, file=sys.stderr)
        return _NO_ROOM
    return 0


def _end_with(parent: int) -> None:
    """End at once when the launcher is gone: nobody would read the evaluation."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
