"""A command of one's own as it is started in a worktree of the project: full paths of the project point into it."""

from pathlib import Path

from hotlap.config.command import CommandConfig
from hotlap.core.relocate import Move, relocate


def in_worktree(command: CommandConfig, project: Path, worktree: Path) -> tuple[CommandConfig, tuple[Move, ...]]:
    """Return a command whose absolute paths below `project` point into `worktree`, and what was done to each.

    `worktree` is the project's folder in the worktree, where that is a part of a larger repository.
    """
    moves: dict[str, Move] = {}

    def moved(text: str) -> str:
        text, found = relocate(text, project, worktree)
        moves.update({move.before: move for move in found})
        return text

    changed = {
        "run": moved(command.run),
        "evaluator": None if command.evaluator is None else moved(command.evaluator),
        "env": {name: moved(text) for name, text in command.env.items()},
        "files": {moved(path): keys for path, keys in command.files.items()},
        "constants": {moved(path): keys for path, keys in command.constants.items()},
        "read": tuple(moved(path) for path in command.read),
    }
    return command.model_copy(update=changed), tuple(moves.values())
