"""What a task gives: pairs of prefix and completion, split into training and evaluation."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """One example; the loss is on the completion only."""

    prefix: str
    completion: str


@dataclass(frozen=True, slots=True)
class TaskData:
    """The examples of a task; training and evaluation share no sentence."""

    train: tuple[Example, ...]
    eval: tuple[Example, ...]
    source: str
    """Where the text came from, for people."""

    @property
    def hash(self) -> str:
        """Hash over every example, stored with each run."""
        digest = hashlib.sha256()
        for part in (self.train, self.eval):
            for example in part:
                digest.update(f"{example.prefix}\x1e{example.completion}\x1d".encode())
            digest.update(b"\x1c")
        return digest.hexdigest()[:16]
