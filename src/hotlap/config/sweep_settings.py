"""The settings of a sweep beside its parameters: method, metric, early termination, run cap, command; wandb's names.

Nothing is raised while they are read: problems are collected with their places, so that all of them are told at once.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal

from hotlap.config.document import Document
from hotlap.config.trainer_yaml import KeyPath
from hotlap.core.errors import ConfigError, unknown_name
from hotlap.core.scores import Goal

Method = Literal["tpe", "random", "grid", "qmc", "cmaes"]

SETTINGS: Final = (
    "method",
    "metric",
    "parameters",
    "constraints",
    "early_terminate",
    "run_cap",
    "name",
    "description",
    "program",
    "command",
)
"""Keys of a sweep that are no parameters; `constraints` is hotlap's own."""
SERVER_KEYS: Final = ("entity", "project", "job", "image_uri", "controller", "apiVersion", "kind", "settings")
"""Keys that only wandb's server reads."""

_METHODS: Final[Mapping[str, Method]] = {
    "bayes": "tpe",
    "tpe": "tpe",
    "random": "random",
    "grid": "grid",
    "qmc": "qmc",
    "cmaes": "cmaes",
}
_REFUSED_METHODS: Final[Mapping[str, str]] = {
    "custom": "it names a search that wandb's server runs; write bayes, random or grid",
    "gp": "a Gaussian process needs torch in the process that drives the study, and seconds for each proposal on the "
    "cores that train; write tpe",
}
_MACROS: Final = (
    "env",
    "interpreter",
    "program",
    "args",
    "args_no_boolean_flags",
    "args_no_hyphens",
    "args_json",
    "args_json_file",
)
_DEFAULT_COMMAND: Final = ("${env}", "${interpreter}", "${program}", "${args}")


@dataclass(frozen=True, slots=True)
class Remarks:
    """What is to be said about a sweep file, with the place of each."""

    document: Document
    root: KeyPath = ()
    """The section that holds the sweep; empty where the whole file does."""
    notices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, key: KeyPath, text: str) -> None:
        """Add something that the user should know."""
        self.notices.append(self._row(key, text))

    def refuse(self, key: KeyPath, text: str) -> None:
        """Add something that cannot be used."""
        self.problems.append(f"  {self._row(key, text)}")

    def check(self) -> None:
        """Raise ConfigError with every problem so far, where there is any."""
        if self.problems:
            count = len(self.problems)
            raise ConfigError("\n".join([f"{self.document.source} has {count} problem(s):", *self.problems]))

    def _row(self, key: KeyPath, text: str) -> str:
        path = (*self.root, *key)
        name = ".".join(str(part) for part in path)
        return f"{self.document.place(path)}: {f'{name}: ' if name else ''}{text}"


@dataclass(frozen=True, slots=True)
class Metric:
    """What a sweep optimises, as it is written."""

    name: str
    goal: Goal | None = None
    target: float | None = None
    """Value that ends the sweep once a run has reached it."""


@dataclass(frozen=True, slots=True)
class EarlyTermination:
    """Hyperband's rungs (arXiv 1603.06560) on the clock: at each one the best runs go on, the others are stopped."""

    eta: float
    """Of the runs at a rung, one in eta goes on."""
    shares: tuple[float, ...]
    """The rungs, as shares of a run's budget, ascending."""
    is_strict: bool = False
    """Whether runs are stopped as readily as in the paper (wandb's strict)."""

    def __post_init__(self) -> None:
        if not self.eta > 1:
            raise ValueError(f"eta is above 1, got {self.eta:g}")
        ascends = all(left < right for left, right in pairwise(self.shares))
        if not self.shares or not ascends or not all(0 < share < 1 for share in self.shares):
            raise ValueError(f"shares ascend between 0 and 1, got {list(self.shares)}")


def read_method(given: Any, remarks: Remarks) -> Method:
    """Return the sampler that a method stands for; TPE where there is none."""
    if given is None:
        return "tpe"
    if not isinstance(given, str) or given not in _METHODS:
        reason = _REFUSED_METHODS.get(given) if isinstance(given, str) else None
        text = f"{given} is not supported: {reason}" if reason else unknown_name("method", str(given), list(_METHODS))
        remarks.refuse(("method",), str(text))
        return "tpe"
    if given == "bayes":
        remarks.note(("method",), "bayes is TPE here (tree-structured Parzen estimators)")
    return _METHODS[given]


def read_metric(given: Any, remarks: Remarks) -> Metric | None:
    """Return the metric of a sweep, None where none is named."""
    if given is None:
        return None
    if isinstance(given, str):
        return Metric(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        example = "{name: eval_loss, goal: minimize}"
        remarks.refuse(("metric",), f"expected a name and a goal, such as {example}, got {given!r}")
        return None
    for key in [key for key in given if key not in ("name", "goal", "target")]:
        if key in ("impute", "impute_while_running"):
            remarks.note(("metric", key), "no effect here: every run has a graded score, also one that failed")
        else:
            remarks.refuse(("metric", key), "unknown key; known here: name, goal, target")
    goal, target = given.get("goal"), given.get("target")
    if goal not in (None, "minimize", "maximize"):
        remarks.refuse(("metric", "goal"), f"expected minimize or maximize, got {goal!r}")
        goal = None
    number = number_of(target)
    if target is not None and number is None:
        remarks.refuse(("metric", "target"), f"expected a number, got {target!r}")
    return Metric(given["name"], goal, number)


def read_run_cap(given: Any, remarks: Remarks) -> int | None:
    """Return the most runs of a sweep, None for no limit."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        remarks.refuse(("run_cap",), f"expected a whole number of runs, got {given!r}")
        return None
    return given


def read_early_termination(given: Any, remarks: Remarks) -> EarlyTermination | None:
    """Return when runs are stopped early, None for never."""
    place, known = ("early_terminate",), ("type", "eta", "s", "strict", "shares", "min_iter", "max_iter")
    if given is None:
        return None
    if not isinstance(given, Mapping) or given.get("type", "hyperband") != "hyperband":
        remarks.refuse(place, f"expected type: hyperband, got {given!r}")
        return None
    for key in [key for key in given if key not in known]:
        remarks.refuse((*place, key), f"unknown key; known here: {', '.join(known)}")
    if not isinstance(given.get("strict", False), bool):
        remarks.refuse((*place, "strict"), f"expected true or false, got {given['strict']!r}")
    eta, rungs = number_of(given.get("eta", 3)), given.get("s", 2)
    shares = given.get("shares")
    if eta is None or not eta > 1 or isinstance(rungs, bool) or not isinstance(rungs, int) or not 1 <= rungs <= 20:
        remarks.refuse(place, f"expected eta above 1, and 1 to 20 rungs s; got {given.get('eta')!r} and {rungs!r}")
        return None
    if shares is None:
        shares = [eta**-rung for rung in range(rungs, 0, -1)]
    if not isinstance(shares, list) or any(number_of(share) is None for share in shares):
        remarks.refuse((*place, "shares"), f"expected shares of a run's budget, such as [0.1, 0.3], got {shares!r}")
        return None
    try:
        found = EarlyTermination(eta, tuple(float(share) for share in shares), given.get("strict") is True)
    except ValueError as error:
        remarks.refuse(place, str(error))
        return None
    _say_of_iterations(given, found, remarks)
    return found


def _say_of_iterations(given: Mapping[str, Any], found: EarlyTermination, remarks: Remarks) -> None:
    """Note that iterations of wandb's are not what runs are compared at here."""
    place = ("early_terminate",)
    for key in ("min_iter", "max_iter"):
        if key in given and number_of(given[key]) is None:
            remarks.refuse((*place, key), f"expected a number, got {given[key]!r}")
        elif key in given:
            rungs_text = ", ".join(f"{share:.3g}" for share in found.shares)
            text = f"counts logged values; here runs are compared after {rungs_text} of their budget"
            remarks.note((*place, key), text)


def read_command(entries: Mapping[str, Any], remarks: Remarks) -> tuple[str | None, tuple[str, ...] | None]:
    """Return the program and the command line that a sweep starts; without both it is hotlap's own training."""
    program, command = entries.get("program"), entries.get("command")
    if program is not None and not isinstance(program, str):
        remarks.refuse(("program",), f"expected the path of a script, got {program!r}")
        return None, None
    if command is None:
        return program, None if program is None else _DEFAULT_COMMAND
    if not isinstance(command, list) or not command or any(isinstance(word, list | Mapping) for word in command):
        remarks.refuse(("command",), f"expected a list of words such as ${{env}} or python, got {command!r}")
        return program, None
    words = tuple(str(word) for word in command)
    for number, word in enumerate(words):
        for macro in re.findall(r"\$\{([^}]*)\}", word):
            if macro not in _MACROS and not macro.startswith("envvar:"):
                remarks.refuse(("command", number), str(unknown_name("macro", macro, list(_MACROS))))
            if macro == "program" and program is None:
                remarks.refuse(("command", number), "${program} needs the key program")
    return program, words


def number_of(value: Any) -> float | None:
    """Return a finite number, also one that stands in quotes; None for anything else. Whole numbers stay whole."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
