"""hotlap gets a language-model training run to its target metrics in the least clock time, and proves it."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LATE = {
    **dict.fromkeys(("open", "Project", "Run", "Runs", "Study"), "hotlap.api"),
    **dict.fromkeys(("log", "HFCallback"), "hotlap.logging"),
}
"""Names that are imported when they are asked for, by the module that has them: `import hotlap` stays instant."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'hotlap' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATE[name]), name)  # the next time it is found at once
    return value
