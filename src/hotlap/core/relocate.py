"""Absolute paths of a project, pointed into a worktree of it.

    text, moves = relocate("python /home/me/project/train.py", Path("/home/me/project"), worktree)

A command that names the project's files by their full paths would otherwise run the user's own code instead of the
changed one.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_END: Final = r"(?![\w.-])"
"""What ends a folder's name: `/home/me/project` does not stand in `/home/me/project2`."""
_REST: Final = r"""(?:/[^\s'"`;|&<>(){}$*?:,=]*)?"""


@dataclass(frozen=True, slots=True)
class Move:
    """A path that was rewritten, or one that had to stay."""

    before: str
    after: str
    """The same as before for a path that the worktree does not have."""

    @property
    def is_done(self) -> bool:
        """Whether the path was rewritten."""
        return self.before != self.after

    def __str__(self) -> str:
        if self.is_done:
            return f"{self.before} -> {self.after}"
        return f"{self.before} stays: the worktree does not have it (git ignores it); edits.link would bring it there"


def relocate(text: str, project: Path, worktree: Path) -> tuple[str, tuple[Move, ...]]:
    """Return a text whose absolute paths below `project` point into `worktree`, and what was done to each of them.

    A path that the worktree lacks, such as that of a virtual environment, stays as it is. Paths that lie in the
    worktree already stay, too, also where that is a folder of the project.
    """
    moves: dict[str, Move] = {}
    root = str(project)
    inside = str(worktree)

    def moved(match: re.Match[str]) -> str:
        path = match[0]
        if path == inside or path.startswith(f"{inside}/"):
            return path
        target = f"{inside}{path.removeprefix(root)}"
        move = Move(path, target if Path(target).exists() else path)
        moves[path] = move
        return move.after

    pattern = rf"(?<![\w./~-]){re.escape(root)}{_END}{_REST}"
    return re.sub(pattern, moved, text), tuple(moves.values())


def within(text: str, project: Path) -> str:
    """Return a text for people in which absolute paths below `project` start from there."""
    roots = "|".join(re.escape(str(root)) for root in dict.fromkeys((project.absolute(), project.resolve())))
    return re.sub(rf"(?<![\w./~-])(?:{roots})/(?=\S)", "", text)
