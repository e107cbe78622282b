"""What git says of a project."""

import subprocess
from pathlib import Path


def git_commit(directory: Path) -> str | None:
    """Return the commit that a project is at, None where git does not know it."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=directory, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
