"""Write the weights of a run as a folder for transformers: `python -m hotlap.worker.export RUN_FOLDER TARGET [STEP]`.

STEP is that of a checkpoint; without one it takes the weights that the run ended with. What was written is told in one
line.
"""

import sys
from pathlib import Path

from hotlap.config.load import load_config
from hotlap.config.tasks import task_parts
from hotlap.core.errors import HotlapError
from hotlap.core.run_folder import WEIGHTS_NAME, RunFolder
from hotlap.train.custom import load_part
from hotlap.train.export import export_weights


def main() -> int:
    """Return 0, or the exit code of the error that was printed."""
    if len(sys.argv) not in (3, 4):
        print("usage: python -m hotlap.worker.export RUN_FOLDER TARGET [STEP]", file=sys.stderr)
        return 2
    folder, target = RunFolder(Path(sys.argv[1])), Path(sys.argv[2])
    weights = folder.checkpoint_path(int(sys.argv[3])) / WEIGHTS_NAME if len(sys.argv) == 4 else folder.weights_path
    directory = Path.cwd()  # the launcher starts it in the project, wherever that is by now
    try:
        config = load_config(folder.config_path)
        custom = {key: load_part(directory, name) for key, name in task_parts(config.task).items()}
        cache = folder.path.parent.parent / "cache"
        known = ((folder.read("environment") or {}).get("data") or {}).get("tokenizer")
        print(export_weights(config, directory, cache, weights, target, custom, tokenizer_hash=known))
    except HotlapError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
