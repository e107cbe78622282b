"""Carry what a study has kept into the user's config file: one change, or the whole ladder."""

import difflib
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hotlap.config.edit import edited_text
from hotlap.config.load import config_from_text
from hotlap.config.schema import FREE_KEYS
from hotlap.config.set_in_yaml import value_text
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.records import History
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.views import config_differences, flatten
from hotlap.search.ladder import candidates_up_to
from hotlap.study.apply_code import CodeApplication, plan_code
from hotlap.study.apply_knobs import KnobApplication, plan_knobs
from hotlap.study.study import as_studied, read_study

LADDER: Final = "ladder"
"""What stands for everything that the incumbent is made of."""
_MAY_DIFFER: Final = ("name", *FREE_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What applying makes of a file."""

    study: str
    """Name of the study, or id of the bench."""
    numbers: tuple[int, ...]
    """The kept proposals, oldest first; none for a bench."""
    patch: Mapping[str, Any]
    before: str
    after: str
    code: CodeApplication | None
    """What becomes of the project's code; None where no code was changed."""
    knobs: KnobApplication
    """What becomes of files of the user's that a command's knobs are in."""
    notes: tuple[str, ...]
    """What the user should know, a sentence each."""

    def diff(self, name: str) -> str:
        """Return the unified diff of the file; empty when it has everything already."""
        before, after = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        lines = difflib.unified_diff(before, after, name, name)
        text = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
        return text + self.knobs.patch + (self.code.patch if self.code is not None else "")

    @property
    def is_done(self) -> bool:
        """Whether everything is there already."""
        has_code = self.code is None or not self.code.patch
        return self.after == self.before and not self.knobs.files and has_code


def plan_application(project: ProjectFolder, path: Path, what: str, study: str | None = None) -> Application:
    """Return what applying a kept proposal (`5`) or the `ladder` makes of a config file; nothing is written.

    Raises ConfigError when the file or the number cannot be used, StudyError when there is no such study.
    """
    before = read_config_text(path)
    config, _ = as_studied(config_from_text(before, path))
    name = study or _study_named(project, config.name, path)
    base, history, _ = read_study(project, name)
    candidate = _candidate(history, what)
    is_ladder = what == LADDER
    numbers = tuple(candidates_up_to(history, candidate)[1:]) if is_ladder else (candidate,)
    patch = history.config_of(candidate) if is_ladder else dict(history.proposal(candidate).patch)
    after = edited_text(before, path, patch)
    values = config_from_text(after, path).model_dump(mode="json")
    code = plan_code(project, name, history, numbers)
    knobs = plan_knobs(config.command, patch, project.project, base.params)
    notes = [
        *_other_file(path, config.model_dump(mode="json"), base.model_dump(mode="json"), history, name),
        *([] if is_ladder else _neighbours(history, candidate, values, path)),
        *knobs.notes,
    ]
    return Application(
        study=name,
        numbers=numbers,
        patch=patch,
        before=before,
        after=after,
        code=code,
        knobs=knobs,
        notes=tuple(notes),
    )


def read_config_text(path: Path) -> str:
    """Return the text of a config with its line ends as they are; raises ConfigError when it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config; name the file after the number") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _study_named(project: ProjectFolder, name: str, path: Path) -> str:
    known = [folder.name for folder in project.studies() if folder.protocol() is not None]
    if name in known or not known:
        return name  # reading says what to do when there is none
    raise StudyError(f"no study {name!r} (the name in {path}); choose one with --study: {', '.join(known)}")


def _candidate(history: History, what: str) -> int:
    """Return the candidate that is meant; raises ConfigError unless it stands as kept."""
    kept = history.kept()
    there_are = f"kept are {', '.join(f'#{number}' for number in kept)}" if kept else "nothing was kept so far"
    if what == LADDER:
        if not kept:
            raise ConfigError(f"there is no ladder to apply: {there_are}")
        return history.incumbent
    match = re.fullmatch(r"#?(\d+)", what)
    if match is None:
        raise ConfigError(f"cannot read {what!r}: write the number of a kept change such as 4, or {LADDER}")
    number = int(match[1])
    if not 1 <= number <= len(history.proposals):
        raise ConfigError(f"there is no proposal #{number}; {there_are}")
    if number not in kept:
        decision = history.verdict(number)
        verdict = f"{decision.verdict}: {decision.reason.splitlines()[0]}" if decision else "not decided yet"
        raise ConfigError(f"#{number} was not kept ({verdict}); {there_are}")
    return number


def _neighbours(history: History, number: int, values: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Say what a single change was measured with, as far as the file has not got it, and what came after it."""
    flat, patch = flatten(values), history.proposal(number).patch
    parent = history.proposal(number).parent
    wanted = flatten(history.config_of(parent))
    missing = {key for key, value in wanted.items() if key not in patch and flat.get(key) != value}
    before = [n for n in candidates_up_to(history, parent)[1:] if missing & flatten(history.proposal(n).patch).keys()]
    if before:
        others = ", ".join(f"#{n}" for n in before)
        yield f"#{number} was measured on top of {others}, which {path} has not; the {LADDER} is all of them"
    final = history.config_of(history.incumbent)
    for key, value in patch.items():
        if final.get(key, value) != value:
            yield f"a later kept change sets {key} to {value_text(final[key])}"


def _other_file(
    path: Path, values: Mapping[str, Any], base: Mapping[str, Any], history: History, study: str
) -> Iterator[str]:
    """Say where the file is another than the one that the study began with, apart from kept changes."""
    applied = flatten(history.config_of(history.incumbent)).keys()
    return other_settings(path, values, base, applied, f"the study {study} began with")


def other_settings(
    path: Path, values: Mapping[str, Any], base: Mapping[str, Any], applied: Container[str], whose: str
) -> Iterator[str]:
    """Say where a file is another than the one that was measured, apart from what is applied."""
    differences = config_differences([base, values])
    rows = [
        f"{key} {value_text(then)} → {value_text(now)}"
        for key, (then, now) in differences.items()
        if key not in applied and not key.startswith(_MAY_DIFFER)
    ]
    if rows:
        shown = "; ".join(rows[:3]) + (f"; {len(rows) - 3} more" if len(rows) > 3 else "")
        yield f"{path} is not what {whose}, so its times may not hold: {shown}"
