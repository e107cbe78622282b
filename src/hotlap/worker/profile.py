"""Profile some steps of a training: `python -m hotlap.worker.profile DIRECTORY CACHE FOLDER PARENT`.

The request comes as JSON on standard input: `config` (its text), `steps` and `warmup`. The trace goes to FOLDER, the
figures to standard output:

    {"event": "stage", "text": "building"}
    {"event": "profile", "figures": {…}}
    {"event": "error", "text": "what cannot be done, and what to do"}
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hotlap.config.load import config_from_text
from hotlap.core.errors import NotSupportedError
from hotlap.core.profile_folder import TRACE_NAME
from hotlap.train.build import build_parts
from hotlap.train.memory import keep_freed_memory
from hotlap.train.profiling import profile_steps
from hotlap.worker.asked import answer


def main() -> int:
    """Return 0, or the exit code of the error that was told."""
    return answer(events, places=3, advice="make the batch smaller: -s training.per_device_train_batch_size=…")


def events(directory: Path, cache: Path, folder: Path, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield how far it is, and the figures; raises what building the parts and training do."""
    config = config_from_text(request["config"], directory / "config.yaml")
    if config.backend == "hf":
        raise NotSupportedError(
            "backend: hf trains in the Trainer's own loop, whose parts cannot be told apart; profile the config with "
            "-s backend=fast"
        )
    keep_freed_memory()
    yield {"event": "stage", "text": "building the model and its data"}
    parts = build_parts(config, directory, cache)
    num_steps, num_warmup = request["steps"], request["warmup"]
    yield {"event": "stage", "text": f"{num_warmup} steps to warm up, {num_steps} timed, and as many watched"}
    figures = profile_steps(parts, num_steps=num_steps, num_warmup=num_warmup, trace_path=folder / TRACE_NAME)
    yield {"event": "profile", "figures": {**figures, "task": parts.task.source}}


if __name__ == "__main__":
    sys.exit(main())
