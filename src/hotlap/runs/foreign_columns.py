"""Say what each column of a foreign table holds: a setting, a metric, or something about the run.

In this order: what the user says; a prefix (`config.`, `metrics.`, …); in a large export of wandb the two blocks that
its web page writes, settings and then the summary, each in alphabetical order; the name. What a name means is a guess:
every import tells how its columns were read.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hotlap.config.schema import VARIANTS
from hotlap.config.trainer_yaml import TRAINING_NAMES
from hotlap.core.errors import DataError, unknown_name
from hotlap.core.foreign import number_of
from hotlap.runs.foreign_table import FACTS, IDS, NAMES, STARTED, STATES, Table

Kind = Literal["config", "metric", "fact", "left out"]

STEPS: Final = ("step", "Step", "global_step", "train/global_step", "trainer/global_step", "_step")
SECONDS_NAMES: Final = ("Runtime", "_runtime", "summary._runtime")

_SPECIAL_NAMES: Final[tuple[tuple[str, ...], ...]] = (IDS, NAMES, STATES, STARTED, STEPS, SECONDS_NAMES)
_WANDB_NAMES: Final[tuple[tuple[str, ...], ...]] = (("ID",), ("Name",), ("State",), ("Created",), STEPS, SECONDS_NAMES)

_PREFIXES: Final[Mapping[str, Kind]] = {
    "config.": "config",
    "config/": "config",
    "hparams.": "config",
    "hparams/": "config",
    "param.": "config",
    "params.": "config",
    "params/": "config",
    "params_": "config",
    "metric.": "metric",
    "metrics.": "metric",
    "metrics/": "metric",
    "summary.": "metric",
    "summary/": "metric",
    "environment.": "fact",
    "imported.": "fact",
    "seconds.": "fact",
    "system_attrs_": "fact",
    "user_attrs_": "fact",
    "_wandb.": "fact",
}
_METRIC_NAMES: Final = ("epoch", "value")
_METRIC_WORDS: Final = frozenset(
    (
        *("acc", "accuracy", "auc", "bleu", "chrf", "error", "f1", "flops", "flos", "loss", "mae", "mfu", "mse"),
        *("perplexity", "ppl", "recall", "reward", "rmse", "rouge", "runtime", "sacrebleu", "score", "throughput"),
    )
)
_METRIC_ENDS: Final = ("grad_norm", "per_second", "per_byte", "_seconds")
_LOGGED: Final = ("train/", "eval/", "val/", "valid/", "validation/", "test/")
_SETTINGS: Final = frozenset(
    (
        *TRAINING_NAMES,
        *(name for forms in VARIANTS.values() for form in forms.values() for name in form.model_fields),
    )
)
_LEAST_BLOCKS: Final = 8
"""Columns below which two blocks in alphabetical order may well be chance."""
_CHART: Final = re.compile(r".+__(MIN|MAX)")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Columns that the user has named."""

    config: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the columns of a table hold."""

    own_id: str | None
    name: str | None
    state: str | None
    started: str | None
    step: str | None
    seconds: str | None
    config: Mapping[str, str]
    """Setting by column."""
    metrics: Mapping[str, str]
    """Metric by column."""
    facts: tuple[str, ...]
    left_out: tuple[str, ...]

    def told(self) -> str:
        """Return how the columns were read, in one line."""
        parts: list[tuple[str, tuple[str, ...]]] = [
            ("settings", tuple(self.config.values())),
            ("metrics", tuple(self.metrics.values())),
            ("about the run", self.facts),
            ("left out", self.left_out),
        ]
        said = "; ".join(f"{title}: {', '.join(names)}" for title, names in parts if names)
        return f"columns read as {said} (--config NAME and --metric NAME say otherwise)"


def assign_columns(table: Table, chosen: Chosen, *, is_points: bool) -> Columns:
    """Return what each column of a table holds; in a table of points every column of numbers is a metric.

    Raises DataError for a chart that wandb exported and for a metric that is not a number, ConfigError for a chosen
    column that is not there.
    """
    named = (*chosen.config, *chosen.metrics)
    for name in named:
        if name not in table.columns:
            raise unknown_name(f"column of {table.path}", name, list(table.columns))
    if any(_CHART.fullmatch(name) for name in table.columns):
        raise DataError(
            f"{table.path}: an export of a chart, whose points are thinned out; export the table of runs, or give "
            "the folder of the runs themselves (wandb/)"
        )
    free = [name for name in table.columns if name not in named]
    groups = _WANDB_NAMES if is_wandb_export(table.columns) else _SPECIAL_NAMES
    special = [first_of(names, free) for names in groups]
    own_id, name_of_run, state, started, step, seconds = special
    known = {*special, *(name for name in free if name in (*groups[0], *FACTS, *STEPS))}
    rest = [name for name in table.columns if name not in known]
    kinds = {name: _kind(table, name, guess, chosen) for name, guess in _guesses(table, rest, is_points).items()}
    return Columns(
        own_id=own_id,
        name=name_of_run,
        state=state,
        started=started,
        step=step,
        seconds=seconds,
        config=_named("config", kinds),
        metrics=_named("metric", kinds),
        facts=tuple(name for name in free if name in FACTS or kinds.get(name) == "fact"),
        left_out=tuple(name for name, kind in kinds.items() if kind == "left out"),
    )


def _named(wanted: Kind, kinds: Mapping[str, Kind]) -> dict[str, str]:
    """Return the columns of a kind with their names, without a prefix where that leaves no two alike."""
    columns = [name for name, kind in kinds.items() if kind == wanted]
    uses = Counter(map(_bare, columns))
    return {name: _bare(name) if uses[_bare(name)] == 1 else name for name in columns}


def first_of(names: Iterable[str], columns: Sequence[str]) -> str | None:
    """Return the first of some names that is a column."""
    return next((name for name in names if name in columns), None)


def is_wandb_export(columns: Sequence[str]) -> bool:
    """Say whether a table has the columns that wandb's web page puts before settings and summary."""
    usual = {"Created", "Notes", "Runtime", "Sweep", "Tags", "User"}
    return {"Name", "State"} <= set(columns) and len(usual & set(columns)) >= 2


def looks_like_a_metric(name: str) -> bool:
    """Say whether a name without a prefix is rather a metric's than a setting's."""
    if name in _SETTINGS:
        return False
    last = re.split(r"[/.]", name)[-1].lower()
    words = re.findall(r"[a-z0-9]+", last)
    is_known = last in _METRIC_NAMES or not _METRIC_WORDS.isdisjoint(words)
    return is_known or name.startswith(_LOGGED) or last.endswith(_METRIC_ENDS)


def _guesses(table: Table, names: Sequence[str], is_points: bool) -> dict[str, Kind]:
    """Return what columns hold by prefix, by block, or by name."""
    found: dict[str, Kind] = {name: kind for name in names if (kind := _by_prefix(name)) is not None}
    bare = [name for name in names if name not in found]
    split = _blocks(bare) if is_wandb_export(table.columns) else None
    for place, name in enumerate(bare):
        is_metric = is_points or (looks_like_a_metric(name) if split is None else place >= split)
        found[name] = "metric" if is_metric else "config"
    return {name: found[name] for name in names}


def _by_prefix(name: str) -> Kind | None:
    if _bare(name).startswith("_"):
        return "fact"  # what wandb keeps for itself
    return next((kind for prefix, kind in _PREFIXES.items() if name.startswith(prefix) and name != prefix), None)


def _bare(name: str) -> str:
    """Return the name of a setting or metric without its prefix."""
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix) and name != prefix), name)


def _blocks(names: Sequence[str]) -> int | None:
    """Return where the second of two blocks begins, each in alphabetical order; None where there are no two.

    Names that would lie in the wrong block speak against it.
    """
    if len(names) < _LEAST_BLOCKS:
        return None
    orders: tuple[Callable[[str], str], ...] = (str, str.casefold)
    for key in orders:
        drops = [at for at in range(1, len(names)) if key(names[at]) < key(names[at - 1])]
        if len(drops) == 1:
            first, second = names[: drops[0]], names[drops[0] :]
            misfits = sum(map(looks_like_a_metric, first)) + sum(name in _SETTINGS for name in second)
            return drops[0] if 4 * misfits < len(names) else None
    return None


def _kind(table: Table, name: str, guess: Kind, chosen: Chosen) -> Kind:
    """Return what a column holds, from what was chosen or guessed and from what stands in its cells."""
    if name in chosen.config:
        return "config"
    if name not in chosen.metrics and guess != "metric":
        return guess
    cells = [(row.place, row.cells[name]) for row in table.rows if name in row.cells]
    wrong = [(place, cell) for place, cell in cells if number_of(cell) is None]
    is_sure = name in chosen.metrics or _by_prefix(name) == "metric"
    if wrong and (is_sure or len(wrong) < len(cells)):
        place, cell = wrong[0]
        raise DataError(
            f"{place}: column {name}: expected a number, as a metric has, got {cell!r}; leave the cell empty, or read "
            f"the column as a setting with --config {name!r}"
        )
    if not wrong:
        return "metric"
    return "left out" if is_wandb_export(table.columns) else "config"
