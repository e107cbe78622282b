"""Load a sweep: a config of hotlap's with a section `search`, or a sweep file of wandb's (YAML or JSON) as it is.

    space, notices = load_sweep(Path("sweep.yaml"), ["model.hidden_size=64", "budget.run=60s"])

The runs of a sweep file start from hotlap's defaults and the overrides, since there is no config beside it. With
`program` or `command` it sweeps somebody else's script, whose names and values are not ours to check: `base` is None.
In both kinds of file an override such as `search.run_cap=25` changes a setting of the sweep.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hotlap.config.document import Document
from hotlap.config.load import SEARCH, config_from_text, config_from_values, load_config, parse_override, set_dotted
from hotlap.config.schema import RunConfig
from hotlap.config.sweep_constraints import Constraint, parse_constraint
from hotlap.config.sweep_matching import (
    Placed,
    check_method,
    check_values,
    linked,
    matched,
    read_constraints,
    value_in,
)
from hotlap.config.sweep_names import SWEEP_METRICS, TOLD_AT_THE_END, match_metric
from hotlap.config.sweep_parameter import SweepParameter
from hotlap.config.sweep_settings import (
    SERVER_KEYS,
    SETTINGS,
    EarlyTermination,
    Method,
    Metric,
    Remarks,
    read_command,
    read_early_termination,
    read_method,
    read_metric,
    read_run_cap,
)
from hotlap.config.training_rules import LESS_IS_BETTER
from hotlap.config.wandb_sweep import read_parameters
from hotlap.core.errors import ConfigError, unknown_name
from hotlap.core.scores import TIME_TO_TARGET, Goal

__all__ = ["EarlyTermination", "Method", "SweepConfig", "SweepParameter", "load_sweep"]

_ONLY_WANDB: Final = ("name", "program", "command")
"""Settings of a sweep file that a config has for itself."""
_FIXED: Final = ("parameters", *_ONLY_WANDB)
"""Settings that no override changes."""
_EXAMPLE: Final = "search: {training.learning_rate: {min: 1.0e-4, max: 1.0e-2, distribution: log_uniform_values}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """What a sweep varies, and what for."""

    name: str
    method: Method
    metric: str
    goal: Goal
    target: float | None = None
    """Value of the metric that ends the sweep once a run has reached it."""
    parameters: tuple[SweepParameter, ...] = ()
    """Each one behind those that its `when` speaks of."""
    constraints: tuple[str, ...] = ()
    early_terminate: EarlyTermination | None = None
    run_cap: int | None = None
    """Most runs; absent: as many as the budget allows."""
    description: str = ""
    program: str | None = None
    """Script of somebody else's, started by `command`."""
    command: tuple[str, ...] | None = None
    """Words of the command line, with wandb's macros in them."""
    base: RunConfig | None = field(default=None, repr=False)
    """The config that points are put on; None for somebody else's command."""

    def refusal(self, point: Mapping[str, Any]) -> str:
        """Return why a point cannot be run; empty where it can.

        A point may break a constraint, or hold settings that the schema does not take together.
        """
        judge = self.judge()
        return judge.broken(point) or judge.refused(point)

    def judge(self) -> "PointJudge":
        """Return what tells points that can be run from others, for many of them."""
        values = {} if self.base is None else self.base.model_dump(mode="json")
        constraints = tuple(parse_constraint(text) for text in self.constraints)
        return PointJudge(values, constraints, has_schema=self.base is not None)


@dataclass(frozen=True, slots=True)
class PointJudge:
    """Tells points that can be run from others."""

    values: Mapping[str, Any]
    """The config that points are put on; empty for somebody else's command."""
    constraints: tuple[Constraint, ...]
    has_schema: bool

    def broken(self, point: Mapping[str, Any]) -> str:
        """Return the constraint that a point breaks; empty where all of them hold. Takes microseconds."""
        for constraint in self.constraints:
            if not constraint.holds({key: point.get(key, value_in(self.values, key)) for key in constraint.names}):
                return f"{constraint} does not hold"
        return ""

    def refused(self, point: Mapping[str, Any]) -> str:
        """Return what the schema has against a point's values together; empty where nothing. Takes milliseconds."""
        if not self.has_schema:
            return ""
        try:
            config_from_values(self.values, point)
        except ConfigError as error:
            return str(error).splitlines()[-1].strip()
        return ""


def load_sweep(path: Path, overrides: Iterable[str] = ()) -> tuple[SweepConfig, list[str]]:
    """Read a sweep, and what the user should know of it, a line each.

    Raises ConfigError with every problem, each with file and line; problems of the config around come first, alone.
    """
    document = Document.read(path)
    root = _root(document)
    others = _apply_overrides(document, root, overrides)
    entries = document.plain()[SEARCH] if root else document.plain()
    remarks = Remarks(document, root)
    program, command = read_command(entries, remarks)
    notices: list[str] = []
    base = _base(path, document, others, notices)
    found = list(written_parameters(entries, remarks))
    method = read_method(entries.get("method"), remarks)
    fixed: dict[str, Any] = {}
    if base is not None:
        found, base, fixed = matched(found, base, remarks)
    found = linked(found, base, remarks, fixed)
    if base is not None:
        check_values(found, base, remarks)
    check_method(method, found, remarks)
    metric = _metric(entries.get("metric"), base, remarks)
    constraints = read_constraints(entries.get("constraints"), found, base, remarks)
    early_terminate = _early_termination(entries.get("early_terminate"), metric.name, remarks)
    run_cap = read_run_cap(entries.get("run_cap"), remarks)
    if not found and not remarks.problems:
        remarks.refuse((), f"there is nothing to vary; add parameters, such as {_EXAMPLE}")
    remarks.check()
    space = SweepConfig(
        name=_name(path, document.plain()) if base is None else base.name,
        method=method,
        metric=metric.name,
        goal=metric.goal or "minimize",
        target=metric.target,
        parameters=tuple(parameter for _, parameter in found),
        constraints=constraints,
        early_terminate=early_terminate,
        run_cap=run_cap,
        description=str(entries.get("description") or ""),
        program=program,
        command=command,
        base=base,
    )
    return space, [*notices, *remarks.notices]


def _root(document: Document) -> tuple[str, ...]:
    """Return the section that holds the sweep: empty for a sweep file of wandb's.

    Raises ConfigError where there is no sweep at all.
    """
    if SEARCH in document.values:
        if not isinstance(document.values[SEARCH], dict):
            got = document.values[SEARCH]
            raise ConfigError(f"{document.place((SEARCH,))}: {SEARCH}: expected parameters to vary, got {got!r}")
        return (SEARCH,)
    if "parameters" in document.values:
        return ()
    raise ConfigError(f"{document.source}: nothing to vary; add a section such as `{_EXAMPLE}`, or use a sweep file")


def _apply_overrides(document: Document, root: tuple[str, ...], overrides: Iterable[str]) -> list[str]:
    """Set settings of the sweep, named `search.NAME`; return the overrides that are of the config.

    Raises ConfigError for what is no such setting.
    """
    others: list[str] = []
    for override in overrides:
        key, value = parse_override(override)
        if not key.startswith(f"{SEARCH}."):
            others.append(override)
            continue
        name = key.removeprefix(f"{SEARCH}.")
        allowed = [setting for setting in SETTINGS if setting not in _FIXED]
        if name.split(".")[0] not in allowed:
            raise ConfigError(f"cannot set {key}: of a sweep only these can be set: {', '.join(allowed)}")
        set_dotted(document.values[SEARCH] if root else document.values, name, value)
        document.changed.add(".".join([*root, name]))
    return others


def _base(path: Path, document: Document, overrides: list[str], notices: list[str]) -> RunConfig | None:
    """Return the config that the runs start from; None for somebody else's command.

    Raises ConfigError as `load_config` does, and where there is no config that an override could change.
    """
    if SEARCH in document.values:
        return load_config(path, overrides, notices).model_copy(update={SEARCH: {}})
    plain = document.plain()
    if "program" not in plain and "command" not in plain:
        return config_from_text(f"name: {json.dumps(_name(path, plain))}\n", path, overrides, notices)
    if overrides:
        raise ConfigError(
            f"cannot set {overrides[0]}: {path} starts a program of its own, which has no config of hotlap's; remove "
            "program and command to sweep hotlap's own training"
        )
    return None


def _name(path: Path, values: Mapping[str, Any]) -> str:
    """Return what to call a sweep file's study: its name, else that of the file, in letters that a folder can have."""
    written = values.get("name") or path.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", str(written)).strip("-._") or "sweep"


def written_parameters(entries: Mapping[str, Any], remarks: Remarks) -> Iterable[Placed]:
    """Yield the parameters as they are written, and say what becomes of every other key."""
    is_section = bool(remarks.root)
    for key in entries:
        if key in SERVER_KEYS:
            remarks.note((key,), "no effect here: only wandb's server reads it")
        elif is_section and key in _ONLY_WANDB:
            remarks.refuse((key,), "belongs to a sweep file of wandb's; the runs here are those of the config around")
        elif not is_section and key not in SETTINGS:
            remarks.refuse((key,), str(unknown_name("key", str(key), [*SETTINGS])))
    listed = entries.get("parameters", {})
    if isinstance(listed, Mapping):
        yield from read_parameters(listed, ("parameters",), remarks)
    else:
        remarks.refuse(("parameters",), f"expected a mapping of parameters, got {listed!r}")
    if is_section:
        beside = {key: spec for key, spec in entries.items() if key not in (*SETTINGS, *SERVER_KEYS)}
        yield from read_parameters(beside, (), remarks)


def _early_termination(given: Any, metric: str, remarks: Remarks) -> EarlyTermination | None:
    """Return when runs are stopped early; never by a metric that they tell at their end alone."""
    found = read_early_termination(given, remarks)
    if found is not None and metric in TOLD_AT_THE_END:
        text = f"no effect: runs tell {metric} at their end alone, and there is nothing to compare before it"
        remarks.note(("early_terminate",), text)
        return None
    return found


def _metric(given: Any, base: RunConfig | None, remarks: Remarks) -> Metric:
    """Return the metric under hotlap's name, with its goal."""
    found = read_metric(given, remarks)
    if base is None:
        if found is None:
            remarks.refuse(("metric",), "a sweep of a command needs one, such as {name: val_loss, goal: minimize}")
        return found or Metric("")
    if found is None:
        found = Metric(TIME_TO_TARGET if base.targets else "eval_loss")
        remarks.note(("metric",), f"not given: {found.name}")
    try:
        name = match_metric(found.name, base)
    except ConfigError as error:
        remarks.refuse(("metric",), str(error))
        return found
    if name != found.name:
        remarks.note(("metric",), f"{found.name} is called {name} here")
    is_less_better = name.endswith((*LESS_IS_BETTER, TIME_TO_TARGET))
    if found.goal is None and not is_less_better:
        remarks.refuse(("metric", "goal"), f"say whether to minimize or maximize {name}; wandb would minimize it")
    elif name in SWEEP_METRICS and found.goal == ("maximize" if is_less_better else "minimize"):
        remarks.note(
            ("metric", "goal"), f"{found.goal}, although {'less' if is_less_better else 'more'} {name} is better"
        )
    return Metric(name, found.goal, found.target)
