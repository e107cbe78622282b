"""A folder of patch files as a source of proposals: `hotlap speedrun --patches DIR`.

Each file is one proposal, in the order of their names. What stands above the patch says why: the message of `git
format-patch`, or lines that begin with `Observation:`, `Hypothesis:` and `Predicted:`.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from hotlap.core.errors import ConfigError
from hotlap.core.records import History, Proposal
from hotlap.study.proposing import LONGEST_TEXT, USUAL_RATIO, Draft, make_proposal_of
from hotlap.study.study import Study

PROPOSER: Final = "patches"
SUFFIXES: Final = (".patch", ".diff")
_BEGINNING: Final = re.compile(r"^(diff --git |--- \S)", re.MULTILINE)
_SUBJECT: Final = re.compile(r"^Subject: (?:\[PATCH[^\]]*\] *)?(.*(?:\n[ \t].*)*)", re.MULTILINE)
_MAIL_HEAD: Final = re.compile(r"^(From [0-9a-f]{40} .*|[A-Z][A-Za-z-]*: .*|[ \t].*)$")
_FIELDS: Final = re.compile(r"^(Observation|Hypothesis|Predicted|Title):[ \t]*(.*(?:\n(?!\w+:)\S.*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PatchFile:
    """A patch with its grounds."""

    path: Path
    text: str

    @property
    def mark(self) -> str:
        """What its proposal's observation says, so that no file is tried twice."""
        return f"SHA-256 {hashlib.sha256(self.text.encode()).hexdigest()[:16]}"

    def draft(self) -> Draft:
        """Return the proposal that the file makes."""
        begin = _BEGINNING.search(self.text)
        head = self.text[: begin.start()] if begin is not None else ""
        fields = {match[1].lower(): " ".join(match[2].split()) for match in _FIELDS.finditer(head)}
        subject, body = _message(head)
        observation = f"The patch {self.path.name} ({self.mark}) was handed in to be measured."
        return Draft(
            title=fields.get("title") or subject or self.path.stem,
            # The mark stays, however much stands above the patch: without it the file would be tried for ever.
            observation=" ".join(filter(None, (fields.get("observation", "")[: LONGEST_TEXT // 2], observation))),
            hypothesis=fields.get("hypothesis")
            or body
            or subject
            or "The change makes the run reach its targets sooner.",
            patch=self.text,
            predicted_ratio=_ratio(fields.get("predicted", ""), self.path),
        )


@final
class PatchFolder:
    """Proposes the patches of a folder."""

    def __init__(self, study: Study, folder: Path, say: Callable[[str], object]) -> None:
        self._study = study
        self._files = read_patches(folder)
        self._unusable: set[str] = set()
        self._say = say

    def propose(self, history: History) -> Proposal | None:
        """Return the next patch as a proposal, None when each was tried."""
        for file in untried(history, self._files):
            if file.mark in self._unusable:
                continue
            try:
                return make_proposal_of(self._study.code, history, file.draft(), PROPOSER)
            except ConfigError as error:
                self._unusable.add(file.mark)
                self._say(f"{file.path}: left out: {error}")
        return None


def untried(history: History, files: Sequence[PatchFile]) -> list[PatchFile]:
    """Return the patches that no proposal of a study was made of yet."""
    tried = " ".join(p.observation for p in history.proposals if p.proposer == PROPOSER)
    return [file for file in files if file.mark not in tried]


def read_patches(folder: Path) -> list[PatchFile]:
    """Return the patch files of a folder, by name.

    Raises ConfigError where there is no folder, or none in it, or one cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"--patches {folder}: no such folder; give one with files such as faster-attention.patch")
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    if not paths:
        raise ConfigError(f"--patches {folder}: no file ends with {' or '.join(SUFFIXES)}; git diff > {folder}/a.patch")
    try:
        files = [PatchFile(path, path.read_bytes().decode("utf-8")) for path in paths]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--patches {folder}: a file cannot be read: {error}") from error
    for file in files:
        file.draft()  # tells of a wrong number before anything runs
    return files


def _message(head: str) -> tuple[str, str]:
    """Return the subject and the text of a mail, or the first and the further lines of plain text."""
    text = head.partition("\n---\n")[0]
    if match := _SUBJECT.search(text):
        lines = text[match.end() :].splitlines()
        while lines and _MAIL_HEAD.match(lines[0]):
            lines.pop(0)
        return " ".join(match[1].split()), " ".join(" ".join(lines).split())
    lines = [line for line in _FIELDS.sub("", text).splitlines() if line.strip() and not line.startswith("#")]
    return (lines[0].strip(), " ".join(" ".join(lines[1:]).split())) if lines else ("", "")


def _ratio(text: str, path: Path) -> float:
    if not text:
        return USUAL_RATIO
    try:
        return float(text.split()[0])
    except ValueError:
        raise ConfigError(
            f"{path}: cannot read Predicted: {text}; write the expected ratio of times, such as 0.9"
        ) from None
