"""Prepare a task's corpus in the cache, so that no run pays for it.

    python -m hotlap.worker.prepare DIRECTORY CACHE [PARENT]

The config comes as YAML on standard input; how far the work is goes to standard error, in lines that begin with
`preparing: `. PARENT is the pid of the process that started it, and that it ends with.
"""

import sys
import threading
from pathlib import Path

from ruamel.yaml import YAML

from hotlap.config.load import config_from_values
from hotlap.config.parts import custom_parts
from hotlap.core.errors import HotlapError
from hotlap.core.progress import PREFIX
from hotlap.data.load import load_tokens
from hotlap.tasks.examples import describe
from hotlap.train.custom import load_part
from hotlap.worker.session import watch_parent

_INTERRUPTED = 130


def main() -> int:
    """Return 0, or the exit code of the error that was printed."""
    directory, cache = map(Path, sys.argv[1:3])
    if len(sys.argv) > 3:
        threading.Thread(target=watch_parent, args=(int(sys.argv[3]),), daemon=True).start()
    try:
        config = config_from_values(YAML(typ="safe").load(sys.stdin.read()))
        custom = {key: load_part(directory, name) for key, name in custom_parts(config).items()}
        task, _ = load_tokens(config, directory, cache, custom, _say)
    except HotlapError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    print(describe(task))
    return 0


def _say(text: str) -> None:
    print(f"{PREFIX}{text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
