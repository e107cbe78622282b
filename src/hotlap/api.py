"""hotlap from Python: the runs, points and studies of a project as plain objects, for scripts and notebooks.

    import hotlap

    project = hotlap.open(".")
    project.runs().to_pandas()
    project.run("r0042").points()
    project.study("string-repetition").history
    project.analysis("my-sweep").words

It only reads: whatever is asked for is read from the files at that moment. Exports are complete, never thinned out.
"""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final, get_args, overload

from hotlap.analysis.whole import Analysis
from hotlap.core.durations import format_seconds
from hotlap.core.errors import StorageError, unknown_name
from hotlap.core.files import write_atomic
from hotlap.core.records import History
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.ablation import AblationSummary, ablation_headline, comparison_grid, overview_grid
from hotlap.report.header import headline
from hotlap.report.journal import LADDER_HEADERS, ladder_cells
from hotlap.report.summary import StudySummary
from hotlap.report.sweep_summary import HEADERS as SWEEP_HEADERS
from hotlap.report.sweep_summary import SweepSummary, more_text, sweep_headline, sweep_rows
from hotlap.runs.aliases import resolve_alias, resolve_id
from hotlap.runs.export import frame, point_rows, points_json, run_rows, runs_json, table_csv, write_parquet
from hotlap.runs.rows import StoredRun
from hotlap.runs.store import RunStore, Sort
from hotlap.study.subject import analysis_of, read_subject
from hotlap.study.view import journal_of, read_summary

SHOWN_RUNS: Final = 50
"""Runs that a notebook shows of a collection; exports have all of them."""
_HEADERS: Final = ("run", "study", "role", "outcome", "to target", "steps", "eval_loss")


def open(path: str | Path = ".") -> "Project":
    """Open a project for reading.

    Raises StorageError when the folder holds no `.hotlap`.
    """
    folder = ProjectFolder(Path(path).absolute())
    if not folder.path.is_dir():
        raise StorageError(f"there is no .hotlap in {folder.project}; name the folder that holds it")
    return Project(folder)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run, as it was when it was read."""

    record: StoredRun
    """Everything that the index knows of it."""
    folder: RunFolder

    @property
    def id(self) -> str:
        """Its id, `r0042`."""
        return self.record.run_id

    @property
    def study(self) -> str:
        """The study it belongs to, or what imported runs are called together; empty for a single run."""
        return self.record.study

    @property
    def outcome(self) -> str:
        """How it ended, or `running`."""
        return self.record.outcome

    @property
    def config(self) -> Mapping[str, Any]:
        """Its settings, nested; an imported run's under the names of the program that made it."""
        return self.record.config

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last evaluation, and the figures over the whole run."""
        return self.record.metrics

    @property
    def time_to_target(self) -> float:
        """Seconds to target on the judged clock; infinite for a run that did not reach it."""
        return self.record.time_to_target

    @property
    def imported(self) -> Mapping[str, Any]:
        """Where an imported run comes from; empty for hotlap's own."""
        return self.record.imported

    def points(self) -> list[dict[str, Any]]:
        """Return every point, in the order in which they were written."""
        return self.folder.points()

    def __repr__(self) -> str:
        return f"Run({self.id}: {self.outcome})"

    def _repr_html_(self) -> str:
        facts = [list(pair) for pair in zip(_HEADERS, _cells(self.record), strict=True)]
        metrics = [[name, _number(value)] for name, value in self.metrics.items()]
        return _table(("", self.id), facts) + _table(("metric", "last"), metrics)


@final
class Runs(Sequence[Run]):
    """Runs in an order; pick one by place or id, some by a slice or a function, and export them all."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = tuple(runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @overload
    def __getitem__(self, key: int | str) -> Run: ...
    @overload
    def __getitem__(self, key: slice) -> "Runs": ...
    def __getitem__(self, key: int | str | slice) -> "Run | Runs":
        """Return a run by place, id (`r0042`, `r42`, `42`) or alias (`@best`), or several by a slice.

        Raises ConfigError for an id or alias that none of these runs has.
        """
        if isinstance(key, slice):
            return Runs(self._runs[key])
        if isinstance(key, int):
            return self._runs[key]
        if key.startswith("@"):
            key = resolve_alias(key, [run.record for run in self]).run_id
        by_id = {run.id: run for run in self}
        return by_id[resolve_id(key, list(by_id))]

    def filter(self, condition: Callable[[Run], bool]) -> "Runs":
        """Return the runs for which a function is true, such as `lambda run: run.outcome == "reached"`."""
        return Runs([run for run in self if condition(run)])

    def points(self) -> list[dict[str, Any]]:
        """Return every point of every run, each with the `run_id` it belongs to."""
        return point_rows(run.folder for run in self)

    def to_pandas(self, *, points: bool = False) -> Any:
        """Return a DataFrame with one row a run, or one a point; raises MissingExtraError without pandas."""
        return frame(self._rows(points))

    def to_csv(self, path: str | Path, *, points: bool = False) -> None:
        """Write one row a run, or one a point, as CSV; raises StorageError when it cannot be written."""
        write_atomic(Path(path), table_csv(self._rows(points)))

    def to_json(self, path: str | Path, *, points: bool = False) -> None:
        """Write everything known of the runs, or all points, as JSON; raises StorageError when it cannot be written."""
        text = points_json(self.points()) if points else runs_json(run.record for run in self)
        write_atomic(Path(path), text)

    def to_parquet(self, path: str | Path, *, points: bool = False) -> None:
        """Write one row a run, or one a point, as Parquet; raises MissingExtraError without pyarrow."""
        write_parquet(self._rows(points), Path(path))

    def _rows(self, points: bool) -> list[dict[str, Any]]:
        return self.points() if points else run_rows(run.record for run in self)

    def __repr__(self) -> str:
        return f"Runs({len(self)} of them)"

    def _repr_html_(self) -> str:
        rows = [_cells(run.record) for run in self._runs[:SHOWN_RUNS]]
        more = len(self) - len(rows)
        return _table(_HEADERS, rows) + _paragraph(f"… and {more:,} more" if more else "")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A study, as it was when it was read."""

    name: str
    history: History
    """Runs, proposals, decisions and claims, in the order in which they happened."""
    summary: StudySummary | SweepSummary | AblationSummary
    """Where it stands: a speedrun with its ladder, a sweep with its points, an ablation with its differences."""
    folder: ProjectFolder

    def journal(self) -> str:
        """Return what the journal of a speedrun or an ablation says, as it would be written now; nothing is written.

        Raises StudyError for a sweep, of which no journal is kept.
        """
        return journal_of(self.folder, self.name)

    def analysis(self, *, metric: str | None = None, maximize: bool = False) -> Analysis:
        """Return what its runs teach; the same as `Project.analysis` with its name."""
        return analysis_of(read_subject(self.folder, self.name), metric, maximize=maximize)

    def __repr__(self) -> str:
        return f"Study({self._told()})"

    def _repr_html_(self) -> str:
        head = f"<p>{html.escape(self._told())}</p>"
        if isinstance(self.summary, SweepSummary):
            return head + _table(SWEEP_HEADERS, sweep_rows(self.summary)) + _paragraph(more_text(self.summary))
        if isinstance(self.summary, AblationSummary):
            grids = (overview_grid(self.summary), comparison_grid(self.summary))
            return head + "".join(_table(grid.headers, grid.rows) for grid in grids)
        return head + _table(LADDER_HEADERS, [ladder_cells(row) for row in self.summary.ladder])

    def _told(self) -> str:
        """Return the result in one line that begins with its name."""
        if isinstance(self.summary, SweepSummary):
            return sweep_headline(self.summary)
        if isinstance(self.summary, AblationSummary):
            return ablation_headline(self.summary)
        return f"{self.name}: {headline(self.summary)}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Project:
    """A folder with a `.hotlap` in it."""

    folder: ProjectFolder

    def runs(self, study: str | None = None, *, sort: Sort = "id", limit: int | None = None) -> Runs:
        """Return the runs, as `hotlap runs ls` lists them: of one study, by id or time, the newest or fastest few.

        Raises ConfigError for an unknown order.
        """
        if sort not in get_args(Sort):
            raise unknown_name("order of runs", sort, list(get_args(Sort)))
        with RunStore(self.folder) as store:
            store.refresh()
            return Runs([Run(record, store.folder(record.run_id)) for record in store.runs(study, sort, limit)])

    def run(self, name: str) -> Run:
        """Return a run by id (`r0042`, `r42`, `42`) or alias (`@last`, `@baseline`, `@best`).

        Raises ConfigError when there is none.
        """
        with RunStore(self.folder) as store:
            store.refresh()
            record = store.get(name)
            return Run(record, store.folder(record.run_id))

    def studies(self) -> list[Study]:
        """Return all studies that have begun, by name."""
        return [self.study(folder.name) for folder in self.folder.studies() if folder.protocol() is not None]

    def study(self, name: str | None = None) -> Study:
        """Return a study (default: the one touched last); raises StudyError when there is none."""
        return Study(*read_summary(self.folder, name), self.folder)

    def analysis(self, name: str | None = None, *, metric: str | None = None, maximize: bool = False) -> Analysis:
        """Return what the runs of a study, or imported ones, teach, as `hotlap analyze` tells it.

        Raises StudyError when there is no such study, ConfigError when no run has the metric, and MissingExtraError
        without scikit-learn.
        """
        return analysis_of(read_subject(self.folder, name), metric, maximize=maximize)

    def __repr__(self) -> str:
        return f"Project({str(self.folder.project)!r})"

    def _repr_html_(self) -> str:
        names = [folder.name for folder in self.folder.studies()]
        place, known = html.escape(str(self.folder.project)), html.escape(", ".join(names) or "none yet")
        return f"<p><b>{place}</b>: {len(self.runs()):,} runs; studies: {known}</p>"


def _cells(record: StoredRun) -> list[str]:
    """Return a run as the cells under `_HEADERS`."""
    seconds = record.target_train_seconds if record.clock == "train" else record.target_wall_seconds
    outcome = f"{record.outcome}, contaminated" if record.contaminated else record.outcome
    reached = "-" if seconds is None else format_seconds(seconds)
    loss = _number(record.metrics.get("eval_loss"))
    return [record.run_id, record.study or "-", record.role, outcome, reached, f"{record.steps:,}", loss]


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text else ""


def _number(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, int | float) else "-"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table; every cell is escaped."""
    head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
