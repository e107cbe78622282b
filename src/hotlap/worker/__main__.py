"""Run one run folder to its end: `python -m hotlap.worker FOLDER`. Started by the launcher, by torchrun, or by hand.

What fills the folder is hotlap's own training, or for a config with a `command` that command; the latter loads neither
torch nor numpy, so it starts at once and leaves the machine to the command.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Final

from hotlap.core.run_folder import RunFolder

_OWN: Final = "hotlap.worker.run"
_FOREIGN: Final = "hotlap.worker.exec"


def main() -> int:
    """Return the exit code of the run in the folder named on the command line."""
    if len(sys.argv) != 2:
        print("usage: python -m hotlap.worker RUN_FOLDER", file=sys.stderr)
        return 2
    is_foreign = RunFolder(Path(sys.argv[1])).has_command
    code: int = import_module(_FOREIGN if is_foreign else _OWN).main()
    return code


if __name__ == "__main__":
    sys.exit(main())
