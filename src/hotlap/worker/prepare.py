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
from hotlap.core.progress import PREFIX, show_bytes
from hotlap.data.load import load_tokens
from hotlap.tasks.examples import Task, TokenTask
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
        data, _ = load_tokens(config, directory, cache, custom.get("task.name"), _say)
    except HotlapError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    print(_sentence(data))
    return 0


def _say(text: str) -> None:
    print(f"{PREFIX}{text}", file=sys.stderr, flush=True)


def _sentence(data: Task) -> str:
    """Return what was prepared, in one sentence."""
    told = f"{len(data.train)} training and {len(data.eval)} evaluation examples from {data.source} ({data.hash})"
    if isinstance(data, TokenTask) and data.stream is not None:
        return f"{told}, and more to come while the training runs"
    if isinstance(data, TokenTask) and data.documents:
        found = data.documents
        told += (
            f": {found['documents']:,} documents ({show_bytes(found['bytes'])}), {found['duplicates']:,} left out that "
            f"came again, {found['held_out']:,} held out, {found['shared']} on both sides"
        )
    return told


if __name__ == "__main__":
    sys.exit(main())
