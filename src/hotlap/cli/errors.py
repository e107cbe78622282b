"""What a user sees of an error: one message and an exit code; a traceback only for our own bugs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hotlap.core.errors import HotlapError, StorageError
from hotlap.core.files import is_disk_full

EXIT_INTERNAL_ERROR = 1
EXIT_INTERRUPTED = 130


@contextmanager
def exit_plainly() -> Iterator[None]:
    """Turn the errors of a command into a message on stderr and the exit code of their kind."""
    try:
        yield
    except HotlapError as error:
        print(f"hotlap: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("hotlap: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001  the outermost place: whatever was not foreseen is our bug
        if is_disk_full(error):
            print(f"hotlap: error: {error}; free space, then start it again", file=sys.stderr)
            sys.exit(StorageError.exit_code)
        import traceback

        traceback.print_exc()
        print(
            f"hotlap: internal error: {type(error).__name__}: {error}\n"
            "This is a bug in hotlap; please report it with the lines above. What was measured so far is on disk.",
            file=sys.stderr,
        )
        sys.exit(EXIT_INTERNAL_ERROR)
