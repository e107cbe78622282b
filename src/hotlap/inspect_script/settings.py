"""The settings of a training command: where each one is, what it is now, and what a search may make of it.

    found = find_settings("python train.py --lr 3e-4 --config conf.yaml", Path.cwd())
    found.run       ->  "python train.py --lr {lr} --config conf.yaml"
    found.knobs     ->  [Knob(name="lr", value=0.0003, place="--lr"), Knob(name="depth", place="conf.yaml: depth")]

A setting whose name says what it does becomes a knob; where there is none such, every number that is not obviously part
of the measurement does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hotlap.config.command import without_placeholders
from hotlap.config.huggingface import TRAINER_DEFAULTS
from hotlap.config.knob_ranges import CORE, SEED, is_left_alone, range_of, role_of
from hotlap.core.errors import ConfigError
from hotlap.core.secret_names import is_secret
from hotlap.inspect_script.defaults import (
    SETTINGS_MODULES,
    add_default_files,
    add_files_of_variables,
    take_over_config_scripts,
    variables_of,
)
from hotlap.inspect_script.definitions import has_subcommands, options_in, trainer_arguments_of
from hotlap.inspect_script.sources import Sources, readable, sources_of
from hotlap.inspect_script.syntax import Option
from hotlap.knobs import python_text, shell_text
from hotlap.knobs.edits import settings_of
from hotlap.knobs.shell_words import Word

_OVERRIDE: Final = re.compile(r"\+{0,2}[A-Za-z_][\w.]*")
"""What stands before the sign in a setting of Hydra's or OmegaConf's: model.depth=3."""
_MOST_KNOBS: Final = 40
_TRAINING_ARGUMENTS: Final = ("TrainingArguments", "Seq2SeqTrainingArguments")
_OTHER_IN_TRL: Final = ("learning_rate", "bf16")
"""Settings whose defaults each of TRL's trainers has its own of, such as a learning rate of 2e-5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A setting that hotlap may change."""

    name: str
    value: Any
    place: str
    """Where it is, for the reader: a flag, a file and a key, a variable."""
    help: str = ""
    space: Mapping[str, Any] | None = None
    """What a search may make of it; None leaves it alone."""


@dataclass(slots=True)
class Found:
    """A command with placeholders, and all that is known of its settings."""

    run: str
    knobs: list[Knob] = field(default_factory=list)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    constants: dict[str, dict[str, str]] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    others: list[tuple[str, Any]] = field(default_factory=list)
    """Settings that are left as they are: their places and values."""
    added: list[str] = field(default_factory=list)
    """Flags that the command did not name, and now does, with the values that they had anyway."""
    has_seed: bool = False
    is_trainer: bool = False
    """Whether Hugging Face's Trainer is at work."""
    sources: Sources = field(default_factory=Sources)


@dataclass(slots=True)
class _Candidate:
    """A setting before it is decided whether it becomes a knob."""

    key: str
    """Its name in its own place, dotted."""
    value: Any
    place: str
    kind: str
    """`word` of the command, `flag` to be added to it, key of a `file`, `constant`, or variable of the `env`."""
    file: str = ""
    word: Word | None = None
    text: str = ""
    """What stands before the value in its word; for a flag that has to be added, all of it."""
    option: Option | None = None

    @property
    def role(self) -> str | None:
        """What the name means; None where it is not known."""
        return role_of(self.key)


def find_settings(run: str, directory: Path, options: Iterable[Option] = (), *, add_flags: bool = True) -> Found:
    """Return what a command's settings are; `options` are known from elsewhere, such as the script's `--help`.

    Without `add_flags` the command gets no options that it does not name.
    """
    sources = sources_of(run, directory)
    text = readable(sources.script) if sources.script else ""
    known = {option.name: option for option in options}
    for path in [*([sources.script] if sources.script else []), *sources.modules]:
        for option in options_in(readable(path)):
            known.setdefault(option.name, option)
    variables = variables_of(sources)
    env = add_files_of_variables(sources, variables)
    take_over_config_scripts(sources, known)
    add_default_files(sources, known, directory)
    candidates = [*_in_words(sources, known), *_in_files(sources, directory), *_in_code(sources, known, directory)]
    candidates += [_Candidate(key, value, f"variable {key}", "env") for key, value in variables.items()]
    taken = {candidate.role for candidate in candidates}
    arguments = trainer_arguments_of(text)
    is_trainer = arguments is not None
    is_fixed = sources.is_container or sources.is_inside_shell or has_subcommands(text) or not add_flags
    if not is_fixed and not (is_trainer and _is_given_one_file(sources)):
        candidates += _absent_flags(known, candidates, taken)
        if is_trainer and not sources.settings:
            candidates += _trainer_flags(taken, known, arguments)
    found = Found(run=run, sources=sources, env=env, is_trainer=is_trainer or _is_trainer(text, candidates))
    _place(found, _chosen(candidates, found), candidates)
    return found


def _is_trainer(text: str, candidates: list[_Candidate]) -> bool:
    """Say whether a script, or the names of its settings, are those of Hugging Face's Trainer."""
    names = {candidate.key.rpartition(".")[2] for candidate in candidates}
    return "Trainer(" in text or "per_device_train_batch_size" in names


def _in_words(sources: Sources, known: Mapping[str, Option]) -> Iterator[_Candidate]:
    """Yield the settings that the command itself gives: variables in front of it, flags with values, switches."""
    own = sources.own_words
    yield from _in_front(sources)
    for word, following in zip(own, [*own[1:], None], strict=False):
        start, mark, rest = word.value.partition("=")
        if start.startswith("-") and len(start) > 1 and not start[1].isdigit():
            one = _in_flag(word, following, known)
            if one is not None and (one.role or not sources.is_container):
                yield one
        elif mark and not sources.is_container and _OVERRIDE.fullmatch(start) and word not in sources.assignments:
            value = shell_text.read_value(rest)
            yield _Candidate(start.lstrip("+"), value, start, "word", word=word, text=f"{start}=")


def _in_front(sources: Sources) -> Iterator[_Candidate]:
    """Yield variables that the command sets: in front of it, or with `-e` for a container."""
    found = sources.assignments
    if sources.is_container:
        pairs = zip(sources.words, sources.words[1:], strict=False)
        found += [word for before, word in pairs if before.value in ("-e", "--env") and "=" in word.value]
    for word in found:
        start, _, rest = word.value.partition("=")
        yield _Candidate(start, shell_text.read_value(rest), start, "word", word=word, text=f"{start}=")


def _in_flag(word: Word, following: Word | None, known: Mapping[str, Option]) -> _Candidate | None:
    """Return the setting that a flag gives, with its value in the same word or in the next one; None for none."""
    start, mark, rest = word.value.partition("=")
    key = _key(start)
    option = known.get(key)
    if mark:
        return _Candidate(key, shell_text.read_value(rest), start, "word", word=word, text=f"{start}=", option=option)
    if option is not None and option.kind in ("switch", "pair"):
        return _Candidate(key, True, start, "word", word=word, text=start, option=option)
    if (following is None or following.value.startswith("--")) and role_of(key):
        switch = Option(name=key, flag=start, kind="switch")
        return _Candidate(key, True, start, "word", word=word, option=switch)
    if following is None or not _is_value(following.value):
        return None
    value = shell_text.read_value(following.value)
    is_known = not isinstance(value, str) or option is not None or role_of(key) is not None
    return _Candidate(key, value, start, "word", word=following, option=option) if is_known else None


def _is_given_one_file(sources: Sources) -> bool:
    """Say whether a script is given a file of settings in place of flags, which HfArgumentParser does not mix."""
    return bool(sources.settings) and not any(word.value.startswith("--") for word in sources.words)


def _is_value(text: str) -> bool:
    return not text.startswith("-") or re.fullmatch(r"-[\d.]+(e[-+]?\d+)?", text) is not None


def _key(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _in_files(sources: Sources, directory: Path) -> Iterator[_Candidate]:
    for path in sources.settings:
        name = _relative(path, directory)
        try:
            settings = settings_of(path, readable(path))
        except ConfigError:
            continue  # a template, for instance: what cannot be read cannot be set
        for key, value in settings.items():
            yield _Candidate(key, value, f"{name}: {key}", "file", file=name)


def _in_code(sources: Sources, known: Mapping[str, Option], directory: Path) -> Iterator[_Candidate]:
    """Yield constants of scripts, arguments of Hugging Face's classes, and variables with defaults."""
    for path in sources.shell_scripts:
        for key, constant in shell_text.constants(readable(path)).items():
            name = _relative(path, directory)
            yield _Candidate(key, constant.value, f"{name}:{constant.line}: {key}", "constant", file=name)
    if sources.is_container:
        return
    modules = [path for path in sources.modules if SETTINGS_MODULES.search(path.stem)]
    for path in [*([sources.script] if sources.script else []), *modules]:
        name, text = _relative(path, directory), readable(path)
        try:
            constants = python_text.constants(text)
        except ValueError:
            continue
        for key, constant in constants.items():
            if key not in known and not key.startswith("_"):
                yield _Candidate(key, constant.value, f"{name}:{constant.line}: {key}", "constant", file=name)


def _absent_flags(known: Mapping[str, Option], given: list[_Candidate], taken: set[str | None]) -> Iterator[_Candidate]:
    """Yield options that the command leaves out, where their names say what they do and their default is known."""
    there = {candidate.key.replace(".", "_") for candidate in given if candidate.kind == "word"}
    for option in known.values():
        role = role_of(option.name)
        if option.name in there or role is None or option.default is None or (role in taken and role != SEED):
            continue
        yield _Candidate(option.name, option.default, option.flag, "flag", option=option)


def _trainer_flags(taken: set[str | None], known: Mapping[str, Option], arguments: str | None) -> Iterator[_Candidate]:
    """Yield the Trainer's own settings that matter most, with its defaults; not those that TRL has others for."""
    others = () if arguments in _TRAINING_ARGUMENTS else _OTHER_IN_TRL
    for name in (*CORE, SEED):
        if name not in taken and name not in known and name not in others:
            option = Option(name=name, flag=f"--{name}", default=TRAINER_DEFAULTS[name], source="TrainingArguments")
            yield _Candidate(name, option.default, option.flag, "flag", option=option)


def _chosen(candidates: list[_Candidate], found: Found) -> list[_Candidate]:
    """Return the settings that become knobs."""
    usable = [one for one in candidates if isinstance(one.value, bool | int | float | str) or one.role]
    known = [one for one in usable if one.role and (one.role == SEED or _space(one) is not None)]
    chosen = [one for one in known if one.role == SEED or not _is_in_measurement(one)]
    if all(one.role == SEED for one in chosen):
        chosen += [
            one
            for one in usable
            if one.role is None
            and not is_left_alone(one.key)
            and not isinstance(one.value, str)
            and _space(one) is not None
        ]
    return chosen[:_MOST_KNOBS]


def _is_in_measurement(candidate: _Candidate) -> bool:
    """Say whether a setting stands in a section that belongs to the measurement, such as `eval.batch_size`."""
    section = candidate.key.rpartition(".")[0]
    return bool(section) and is_left_alone(section) and not section[:1].isupper()


def _space(candidate: _Candidate) -> dict[str, Any] | None:
    choices = candidate.option.choices if candidate.option else ()
    return range_of(candidate.key, candidate.value, choices)


def _place(found: Found, chosen: list[_Candidate], candidates: list[_Candidate]) -> None:
    """Give each knob its name and its place in the command, its files and its variables."""
    changes: dict[Word, str] = {}
    added: list[str] = [f"{flag} {path}" for flag, path in found.sources.default_files]
    names: set[str] = set()
    for one in chosen:
        name = SEED if one.role == SEED else _unused_name(one.key, names)
        names.add(name)
        if one.role == SEED:
            found.has_seed = True
        match one.kind:
            case "word" if one.word is not None:
                changes[one.word] = _written(one, name)
            case "file":
                found.files.setdefault(one.file, {})[one.key] = name
            case "constant":
                found.constants.setdefault(one.file, {})[one.key] = name
            case "env":
                found.env[one.key] = f"{{{name}}}"
            case _:
                added.append(_written(one, name))
                found.added.append(one.place)
        text = one.option.help if one.option else ""
        if name not in {knob.name for knob in found.knobs}:
            space = None if one.role == SEED else _space(one)
            found.knobs.append(Knob(name=name, value=one.value, place=one.place, help=text, space=space))
    found.run = _with_words(found.run, changes, added, found.sources)
    found.others = [
        (one.place, one.value)
        for one in candidates
        if one not in chosen and one.kind != "flag" and not is_secret(one.key)
    ]


def _written(one: _Candidate, name: str) -> str:
    """Return a setting as it stands in the command, with the knob's placeholder."""
    option = one.option
    if option is not None and option.kind == "switch":
        return f"{{{name}?{option.flag}}}"
    if option is not None and option.kind == "pair":
        return f"{{{name}?{option.flag}:--no-{option.flag.removeprefix('--')}}}"
    if one.word is not None:
        return f"{one.text}{{{name}}}"
    joint = "=" if option is not None and option.kind == "equals" else " "
    return f"{option.flag if option else one.place}{joint}{{{name}}}"


def _with_words(run: str, changes: Mapping[Word, str], added: list[str], sources: Sources) -> str:
    """Return the command with placeholders; what is added stands at the end of the command that trains."""
    escaped = dict(changes)
    if added and sources.words:
        last = _last_word(run, sources.words)
        before = escaped.get(last, run[last.start : last.end])
        escaped[last] = " ".join([before if last in escaped else without_placeholders(before), *added])
    pieces, at = [], 0
    for word in sorted(escaped, key=lambda word: word.start):
        pieces += [without_placeholders(run[at : word.start]), escaped[word]]
        at = word.end
    return "".join([*pieces, without_placeholders(run[at:])])


def _last_word(run: str, words: list[Word]) -> Word:
    """Return the last word before a redirection."""
    last = words[0]
    for word in words[1:]:
        if re.search(r"[<>]", run[last.end : word.start]):
            break
        last = word
    return last


def _unused_name(key: str, names: set[str]) -> str:
    """Return a name for a knob: the last part of its key, with as much of the rest as it needs to be the only one."""
    parts = [part for part in re.split(r"\W+", key) if part]
    for count in range(1, len(parts) + 1):
        name = "_".join(parts[-count:])
        name = name if re.match(r"[A-Za-z_]", name) else f"_{name}"
        if name not in names and name != SEED:
            return name
    number = 2
    while f"{'_'.join(parts)}_{number}" in names:
        number += 1
    return f"{'_'.join(parts)}_{number}"


def _relative(path: Path, directory: Path) -> str:
    return str(path.relative_to(directory)) if directory in path.parents else str(path)
