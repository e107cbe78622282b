"""Write the hotlap.yaml of a command: commented, with the knobs that were found, targets, clock and search space.

text = hotlap_yaml(plan)
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from hotlap.config.set_in_yaml import value_text
from hotlap.core.durations import format_seconds
from hotlap.inspect_script.settings import Found

_WIDTH: Final = 116
_ENGINES: Final = ("docker", "podman", "nerdctl")
_MOST_OTHERS: Final = 25
_ROOM: Final = 0.05
"""Share of the way that a run has come which a suggested target leaves it: runs with other seeds end elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a probe has read of one metric."""

    name: str
    first: float
    last: float
    count: int
    source: str
    """The form of the lines, or the file, that it stands in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What goes into the file."""

    name: str
    written_by: str
    """The command line of hotlap that wrote it."""
    found: Found
    targets: Sequence[str] = ()
    suggested_target: str = ""
    """A target that is written as a comment, since nobody has asked for it."""
    metrics: Sequence[Metric] = ()
    expressions: Mapping[str, str] = field(default_factory=dict)
    """Regular expressions by the names of metrics, as the user gave them."""
    run_seconds: float | None = None
    """How long the command took; None where it was not run to its end."""
    has_own_clock: bool = False
    """Whether its lines carry a clock of the command's own."""
    notes: Sequence[str] = field(default_factory=tuple)


def hotlap_yaml(plan: Plan) -> str:
    """Return the text of the file."""
    return "\n".join(_lines(plan)) + "\n"


def study_name(run: str, script: PurePath | None) -> str:
    """Return what to call the study of a command: by its script, else by its first word."""
    words = run.split()
    program = PurePath(words[0]).name if words else "run"
    if program in _ENGINES:
        program = PurePath(words[-1].partition(":")[0]).name  # the image, mostly
    stem = script.stem if script else program
    if script and stem in ("train", "main", "__main__", "run") and script.parent.name:
        stem = script.parent.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "run"


def _lines(plan: Plan) -> Iterator[str]:
    found = plan.found
    yield from _comment(f"Written by: {plan.written_by}")
    yield "# Every key is explained in docs/your-own-script.md; change what you like."
    yield ""
    yield f"name: {value_text(plan.name)}"
    yield ""
    yield from _command(found, plan)
    yield ""
    yield from _params(found)
    yield from _others(found)
    yield ""
    yield from _targets(plan)
    yield ""
    yield from _clock(plan)
    yield ""
    yield from _search(found)
    for note in plan.notes:
        yield from _comment(f"Note: {note}")


def _comment(text: str, indent: str = "") -> Iterator[str]:
    """Yield a comment, broken at blanks where it is long."""
    line = f"{indent}#"
    for word in " ".join(text.split()).split(" "):
        if len(line) + 1 + len(word) > _WIDTH and line != f"{indent}#":
            yield line
            line = f"{indent}#  "
        line += f" {word}"
    yield line


def _command(found: Found, plan: Plan) -> Iterator[str]:
    yield "command:"
    yield "  # {name} stands for the knob of that name in params; the rest is the command as you type it."
    yield f"  run: {_text(found.run)}"
    if found.files:
        yield "  # Keys of your files, and the knobs that set them. Runs read an edited copy; yours stay as they are."
        yield from _places("files", found.files)
    if found.constants:
        yield "  # Constants of your scripts, and the knobs that set them. Runs start an edited copy."
        yield from _places("constants", found.constants)
    if found.env:
        yield "  env:"
        yield from (f"    {name}: {_text(value)}" for name, value in found.env.items())
    if plan.expressions:
        yield "  metrics:"
        yield from (f"    {name}: {_single_quoted(text)}" for name, text in plan.expressions.items())
    if plan.metrics:
        yield from _comment(f"Metrics that were found: {', '.join(_told(metric) for metric in plan.metrics)}.", "  ")
    else:
        yield "  # A line that is not understood: metrics: {val_loss: 'validation (\\S+)'}"


def _told(metric: Metric) -> str:
    return f"{metric.name} ({metric.source}, {metric.count} values, last {metric.last:g})"


def _places(section: str, files: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    yield f"  {section}:"
    for path, keys in files.items():
        yield f"    {value_text(path)}:"
        yield from (f"      {value_text(key)}: {knob}" for key, knob in keys.items())


def _text(value: str) -> str:
    """Return a command as YAML: a block where it has several lines, in quotes where it has to be."""
    if "\n" in value.strip("\n"):
        body = "\n".join(f"    {line}" for line in value.strip("\n").splitlines())
        return f"|-\n{body}"
    is_plain = re.fullmatch(r"[A-Za-z./~][^#:\"'\n]* [^#:\"'\n]*[^\s#:\"'\n]", value)  # one word may be a truth value
    return value if is_plain else _single_quoted(value)


def _single_quoted(text: str) -> str:
    return f"'{text.replace(chr(39), chr(39) * 2)}'"


def _params(found: Found) -> Iterator[str]:
    yield "# The knobs and their present values."
    if not found.knobs:
        yield "params: {}"
        yield from _comment(
            "No settings were found. Write {name} where a value stands in the command; name: value here."
        )
        return
    yield "params:"
    rows = [(f"  {knob.name}: {value_text(knob.value)}", knob) for knob in found.knobs]
    width = min(48, max(len(text) for text, _ in rows))
    for text, knob in rows:
        help_text = f": {knob.help}" if knob.help else ""
        yield f"{text.ljust(width)}  # {knob.place}{help_text}"[:_WIDTH].rstrip()


def _others(found: Found) -> Iterator[str]:
    """Yield what was found beside the knobs, as comments."""
    rows = [
        f"{place} = {value_text(value)}" for place, value in found.others if isinstance(value, bool | int | float | str)
    ]
    if rows:
        more = f", and {len(rows) - _MOST_OTHERS} more" if len(rows) > _MOST_OTHERS else ""
        yield from _comment(f"Also there, and left as it is: {', '.join(rows[:_MOST_OTHERS])}{more}.")


def _targets(plan: Plan) -> Iterator[str]:
    yield "# What a run has to reach; all of them at once. The time to it is what a study makes shorter."
    if plan.targets:
        yield f"targets: [{', '.join(map(_quoted, plan.targets))}]"
    elif plan.suggested_target:
        yield f"targets: [{_quoted(plan.suggested_target)}]  # what the command reached when it was tried; set your own"
    else:
        name = best_metric(plan.metrics)
        yield f"# targets: [{name or 'eval_loss'} < 1.0]  # to be set before a study"


def _quoted(text: str) -> str:
    return f"'{text}'" if re.search(r"[,\[\]{}#&*!|>'\"%@`:]", text) else text


def _clock(plan: Plan) -> Iterator[str]:
    yield "# wall counts everything from the start of the command; train needs lines that carry the script's own clock."
    yield f"clock: wall{'  # its lines carry a clock: clock: train is possible' if plan.has_own_clock else ''}"
    if plan.run_seconds is None:
        yield "budget: {run: 15m, total: 2h}  # at most, for a run and for a study"
        return
    limit = max(60.0, 3 * plan.run_seconds)
    total = max(1800.0, 40 * plan.run_seconds)
    took = format_seconds(plan.run_seconds)
    yield f"budget: {{run: {_duration(limit)}, total: {_duration(total)}}}  # the command took {took}"


def _duration(seconds: float) -> str:
    return f"{math.ceil(seconds / 60)}m"


def _search(found: Found) -> Iterator[str]:
    spaces = [(knob.name, knob.space) for knob in found.knobs if knob.space]
    if not spaces:
        yield "# search: {params.NAME: {min: 0.1, max: 10.0, distribution: log_uniform_values}}"
        return
    yield "# Which knobs a speedrun or a sweep varies, and within which bounds; take out what no study should change."
    yield "search:"
    yield from (f"  params.{name}: {value_text(space)}" for name, space in spaces)


def best_metric(metrics: Sequence[Metric]) -> str | None:
    """Return the metric that a target is most likely about; None where there is none."""
    names = [metric.name for metric in metrics]
    for pattern in (
        r"eval_loss",
        r"val(id(ation)?)?[_/]loss",
        r"(eval|val|valid|test).*loss",
        r"val_bpb|.*bpb",
        r"(eval|val|test).*",
        r".*loss",
    ):
        found = [name for name in names if re.fullmatch(pattern, name, re.IGNORECASE)]
        if found:
            return found[0]
    return None


def reached_target(metric: Metric) -> str:
    """Return a target that a run reaches before its end: its last value with a little room, since runs differ."""
    is_less_better = metric.last <= metric.first or re.search(r"loss|bpb|perplex|error", metric.name) is not None
    easier = metric.last + _ROOM * abs(metric.first - metric.last) * (1 if is_less_better else -1)
    if easier == 0 or not math.isfinite(easier):
        return ""
    digits = 2 - math.floor(math.log10(abs(easier)))
    scale = 10.0**digits
    scaled = round(easier * scale, 6)
    value = (math.ceil(scaled) if is_less_better else math.floor(scaled)) / scale
    if value == metric.last:
        value += (1 if is_less_better else -1) / scale
    return f"{metric.name} {'<' if is_less_better else '>'} {value:.{max(0, digits)}f}"
