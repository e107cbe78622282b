"""Carry what a bench suggests into the user's config file: batch, precision, compilation, workers; its comments stay.

plan_bench_application(project, Path("hotlap.yaml"), "bench").after
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hotlap.bench.answers import Answers, answers_of
from hotlap.bench.words import headline
from hotlap.config.edit import edited_text
from hotlap.config.load import config_from_text, config_from_values, load_config
from hotlap.core.bench_folder import BENCH_ID, BenchFolder, bench_folders
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.study_folder import ProjectFolder
from hotlap.study.apply import Application, other_settings, read_config_text
from hotlap.study.apply_knobs import plan_knobs

BENCH: Final = "bench"
"""What stands for the last bench of a config."""


def is_bench(what: str) -> bool:
    """Say whether what is to be applied is a bench: `bench`, or an id such as `b0001`."""
    return what == BENCH or BENCH_ID.fullmatch(what) is not None


def plan_bench_application(project: ProjectFolder, path: Path, what: str) -> Application:
    """Return what a bench's suggestion makes of a config file; nothing is written.

    `what` is a bench's id, or `bench` for the last one of that config. Raises ConfigError when the file cannot be used
    or the bench suggests nothing, StudyError when there is no such bench.
    """
    before = read_config_text(path)
    config = config_from_text(before, path)
    folder = find_bench(project, what, config.name)
    answers = answers_of(folder)
    if answers.suggestion is None:
        raise ConfigError(f"{folder.bench_id} suggests nothing: {headline(answers)}; see {folder.markdown_path}")
    patch = dict(answers.suggestion.patch)
    after = edited_text(before, path, patch)
    base = load_config(folder.config_path)
    own = config_from_values(base.model_dump(mode="json"), folder.plan().get("own") or {})  # before the cells' changes
    values, began = config.model_dump(mode="json"), own.model_dump(mode="json")
    knobs = plan_knobs(config.command, patch, project.project, base.params)
    differences = other_settings(path, values, began, patch.keys(), f"the bench {folder.bench_id} measured")
    return Application(
        study=folder.bench_id,
        numbers=(),
        patch=patch,
        before=before,
        after=after,
        code=None,
        knobs=knobs,
        notes=(*differences, *_notes(answers, config.name), *knobs.notes),
    )


def find_bench(project: ProjectFolder, what: str, name: str | None = None) -> BenchFolder:
    """Return a bench by its id, or for `bench` the last one, of a config's name where one is given.

    What studies measured for themselves, and benches that were ended before they measured anything, are meant by their
    ids alone.
    Raises StudyError when there is none.
    """
    folders = [folder for folder in bench_folders(project.benches_path) if folder.plan_path.is_file()]
    known = {folder.bench_id: str(folder.plan().get("name", "")) for folder in folders}
    there_are = ", ".join(f"{number} ({of})" for number, of in known.items())
    start = f"there are: {there_are}" if known else "measure one with: hotlap bench"
    if what != BENCH:
        found = [folder for folder in folders if folder.bench_id == what]
        if not found:
            raise StudyError(f"no bench {what} in {project.benches_path}; {start}")
        return found[0]
    own = [folder for folder in folders if name in (None, known[folder.bench_id]) and not folder.plan().get("study")]
    own = [folder for folder in own if folder.repeats()]
    if not own:
        raise StudyError(f"no bench{f' of the config {name!r}' if name else ''} in {project.benches_path}; {start}")
    return own[-1]


def _notes(answers: Answers, name: str) -> Iterator[str]:
    assert answers.suggestion is not None
    if answers.name != name:
        yield f"{answers.bench_id} measured the config {answers.name!r}, this one is {name!r}"
    if not answers.is_complete:
        yield f"{answers.bench_id} is not complete; hotlap bench --resume measures the rest"
    yield from answers.suggestion.notes
