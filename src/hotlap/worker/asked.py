"""A verb that answers a request: JSON on standard input, one JSON object a line on standard output.

    def events(directory, cache, request): yield {"event": "done", …}
    sys.exit(answer(events, places=2))

An error that hotlap raises on purpose becomes `{"event": "error", "text": …}` and its exit code. The process ends with
the one that started it, whose pid is the last word of the command line.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from hotlap.core.errors import HotlapError, RunFailedError
from hotlap.train.batch_size import is_out_of_memory
from hotlap.worker.session import watch_parent

Events = Callable[..., Iterator[Mapping[str, Any]]]


def answer(events: Events, places: int, advice: str) -> int:
    """Call `events` with the command line's folders and the request; return 0 or the exit code of what was wrong.

    `advice` says what to do when there is not enough memory.
    """
    if len(sys.argv) != places + 2:
        print(f"usage: python -m hotlap.worker.VERB {'FOLDER ' * places}PARENT", file=sys.stderr)
        return 2
    threading.Thread(target=watch_parent, args=(int(sys.argv[-1]),), daemon=True).start()
    output = sys.stdout

    def say(event: Mapping[str, Any]) -> None:
        print(json.dumps(event), file=output, flush=True)

    try:
        with redirect_stdout(sys.stderr):  # code of the project's own may print
            for event in events(*map(Path, sys.argv[1:-1]), json.load(sys.stdin)):
                say(event)
    except HotlapError as error:
        say({"event": "error", "text": str(error)})
        return error.exit_code
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        say({"event": "error", "text": f"out of memory: {error}; {advice}"})
        return RunFailedError.exit_code
    return 0
