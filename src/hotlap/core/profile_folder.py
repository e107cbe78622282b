"""The folder of a profile, `.hotlap/profiles/p0001`: the config, the figures, and the trace that a viewer opens.

This module owns the file names; no other module spells them.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import StorageError
from hotlap.core.files import read_json, sync_name, write_atomic, write_json

TRACE_NAME: Final = "trace.json.gz"
_PROFILE_ID: Final = re.compile(r"p(\d{4,})")


class ProfileFolder:
    """One profile's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.yaml"
        self.figures_path = path / "profile.json"
        self.trace_path = path / TRACE_NAME

    @classmethod
    def create(cls, profiles_directory: Path) -> "ProfileFolder":
        """Take the next free id by making its folder, which only one process can do.

        Raises StorageError when the folder cannot be made.
        """
        try:
            profiles_directory.mkdir(parents=True, exist_ok=True)
            names = (_PROFILE_ID.fullmatch(path.name) for path in profiles_directory.iterdir())
            number = max((int(found[1]) for found in names if found), default=0)
            while True:
                number += 1
                path = profiles_directory / f"p{number:04}"
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                sync_name(path)
                return cls(path)
        except OSError as error:
            raise StorageError(
                f"cannot make a profile's folder in {profiles_directory}: {error.strerror or error}; "
                "choose another project folder with -p"
            ) from error

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
