"""What `hotlap.log` in a script and the run that it is part of have agreed on: a variable, a file and its keys.

The file holds JSON lines, one for each call: {"step": 120, "unix_seconds": 1765432100.25, "val_loss": 3.2804}
"""

from typing import Final

METRICS_FILE: Final = "HOTLAP_METRICS_FILE"
"""Variable that names the file; a script that runs without it writes nothing."""
STEP: Final = "step"
UNIX_SECONDS: Final = "unix_seconds"
"""When the call was made, in seconds since 1970."""
