"""What a `docker run` command mounts and names, so that a file can be exchanged inside of the container.

container = containers_of(words, project)
container.path_of(project / "configs/a.yaml")  ->  "/app/configs/a.yaml"
"""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from hotlap.knobs.shell_words import Word, as_path

_ENGINES: Final = frozenset({"docker", "podman", "nerdctl"})
_MOUNTS: Final = ("-v", "--volume")
_FOLDERS: Final = ("-w", "--workdir")


@dataclass(frozen=True, slots=True)
class Container:
    """The words of a `docker run`, read."""

    run: Word
    """The word `run`, behind which options may be added."""
    words: tuple[Word, ...]
    """What follows it, without the mounts."""
    mounts: tuple[tuple[Path, str, Word], ...]
    """Folders and files of this machine, where they are in the container, and the words that say so."""
    directory: Path
    """The folder that relative paths of this machine begin at."""
    work_folder: str | None
    """The container's working folder, where the command says it."""

    def path_of(self, path: Path) -> str | None:
        """Return where a file of this machine is in the container; None where it is not mounted."""
        found = [(host, inside) for host, inside, _ in self.mounts if host == path or host in path.parents]
        if not found:
            return None
        host, inside = max(found, key=lambda mount: len(mount[0].parts))
        return inside if host == path else str(PurePosixPath(inside) / path.relative_to(host).as_posix())

    def source_for(self, path: Path) -> Word | None:
        """Return the word that mounts exactly this file."""
        found = (word for host, _, word in self.mounts if host == path)
        return next((word for word in found if not word.value.startswith(("-", "type="))), None)

    def word_for(self, path: Path, inside: str | None) -> tuple[Word | None, str]:
        """Return the word that names a file inside the container, and what it says before the name."""
        for word in self.words:
            start, mark, rest = word.value.partition("=")
            for before, text in (("", word.value), (f"{start}=", rest if mark else "")):
                if text and self.is_named_by(text, path, inside):
                    return word, before
        return None, ""

    def is_named_by(self, text: str, path: Path, inside: str | None) -> bool:
        """Say whether a text names a file; of a file that is not mounted the image may have a copy of its own."""
        if inside is None:
            return not text.startswith("/") and as_path(text, self.directory) == path
        if text.startswith("/"):
            return posixpath.normpath(text) == inside
        relative = posixpath.normpath(text)
        if relative.startswith(".."):
            return False
        if self.work_folder is not None:
            return posixpath.normpath(posixpath.join(self.work_folder, relative)) == inside
        return inside.endswith(f"/{relative}")


def containers_of(words: Sequence[Word], directory: Path) -> Container | None:
    """Return what a simple command starts in a container; None for any other command."""
    names = [PurePosixPath(word.value).name for word in words]
    engine = next((number for number, name in enumerate(names) if name in _ENGINES), None)
    if engine is None:
        return None
    run = next((number for number in range(engine + 1, len(words)) if words[number].value == "run"), None)
    if run is None or run > engine + 3:
        return None
    mounts = tuple(_mounts(words[run + 1 :], directory))
    of_mounts = {word for _, _, word in mounts}
    rest = tuple(word for word in words[run + 1 :] if word not in of_mounts)
    return Container(words[run], rest, mounts, directory, _option(rest, _FOLDERS))


def _mounts(words: Sequence[Word], directory: Path) -> Iterator[tuple[Path, str, Word]]:
    for number, word in enumerate(words):
        before = words[number - 1].value if number else ""
        name, _, text = word.value.partition("=")
        if before in _MOUNTS and ":" in word.value:
            spec = word.value
        elif name in _MOUNTS:
            spec = text
        elif before == "--mount" or name == "--mount":
            spec = _bind(text if name == "--mount" else word.value)
        else:
            continue
        host, _, rest = spec.partition(":")
        path = as_path(host, directory) if host[:1] in ("/", ".", "~", "$", "`") else None
        if path is not None and rest:
            yield path, posixpath.normpath(rest.partition(":")[0]), word


def _bind(text: str) -> str:
    """Return what `--mount type=bind,source=…,target=…` says as `-v` does."""
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    source = parts.get("source") or parts.get("src") or ""
    target = parts.get("target") or parts.get("destination") or parts.get("dst") or ""
    return f"{source}:{target}"


def _option(words: Sequence[Word], names: Sequence[str]) -> str | None:
    for number, word in enumerate(words):
        name, mark, text = word.value.partition("=")
        if name in names:
            return text if mark else words[number + 1].value if number + 1 < len(words) else None
    return None
