"""The folder of a profile, `.hotlap/profiles/p0001`: the config, the figures, and the trace that a viewer opens.

This module owns the file names; no other module spells them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hotlap.core.files import read_json, write_atomic, write_json
from hotlap.core.numbered_folders import take_folder

TRACE_NAME: Final = "trace.json.gz"


class ProfileFolder:
    """One profile's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.yaml"
        self.figures_path = path / "profile.json"
        self.trace_path = path / TRACE_NAME

    @classmethod
    def create(cls, profiles_directory: Path) -> "ProfileFolder":
        """Take the next free id by making the folder; raises StorageError when the folder cannot be made."""
        return cls(take_folder(profiles_directory, "p", "a profile's folder"))

    @property
    def profile_id(self) -> str:
        """The profile's id, `p0001`."""
        return self.path.name

    def write_config(self, text: str) -> None:
        """Store the config that was profiled."""
        write_atomic(self.config_path, text)

    def write_figures(self, figures: Mapping[str, Any]) -> None:
        """Store what was found."""
        write_json(self.figures_path, figures)

    def figures(self) -> dict[str, Any] | None:
        """Return what was found; None where the profile did not come to its end."""
        return read_json(self.figures_path)
