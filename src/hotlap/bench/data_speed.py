"""Measure the data of a config, or of a function of the project's, in a process of the training side.

found = data_of_config(config, project, workers=(0, 1, 2, 4), seconds=1.0, say=print)
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from hotlap.bench.data_reading import DataReading, read_data, read_rates
from hotlap.config.load import config_text
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError, NotSupportedError, RunFailedError
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.devices import run_devices
from hotlap.launch.locks import device_lock
from hotlap.launch.prepare import prepare_data, require_training_side
from hotlap.launch.verbs import answers, verb_command

MODULE: Final = "hotlap.worker.bench_data"
_MOST_WORKERS: Final = 256
Say = Callable[[str], None]


@dataclass(slots=True)
class DataFigures:
    """What was measured, as the worker tells it."""

    parts: list[dict[str, Any]] = field(default_factory=list)
    need: dict[str, Any] | None = None
    loaders: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    needs_per_second: float | None = None
    """Samples that a training of the project's own needs, where somebody said so."""

    @property
    def reading(self) -> DataReading:
        """What the figures say."""
        if self.need is None:
            return read_rates(self.loaders, self.needs_per_second)
        return read_data(self.parts, self.need, self.loaders)

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The checks that found something wrong."""
        return [check for check in self.checks if check["passed"] is False]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        measured = {"parts": self.parts, "need": self.need, "loaders": self.loaders, "checks": self.checks}
        return {**measured, "needs_samples_per_second": self.needs_per_second, "reading": self.reading.to_json()}


def parse_workers(text: str) -> tuple[int, ...]:
    """Return the numbers of workers of an option such as `0,1,2,4`, each once, ascending.

    Raises ConfigError for anything else.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) <= _MOST_WORKERS for word in words):
        raise ConfigError(f"--workers {text!r}: expected whole numbers up to {_MOST_WORKERS}, such as 0,1,2,4")
    return tuple(sorted(set(map(int, words))))


def data_of_config(
    config: RunConfig, project: ProjectFolder, workers: Sequence[int], seconds: float, say: Say
) -> DataFigures:
    """Measure the data of a config's training; the number of workers that it has is measured, too.

    Raises NotSupportedError for somebody else's command, and what building and training raise.
    """
    if config.command is not None:
        raise NotSupportedError(
            "a command of your own loads its data by itself; name the function that makes them: "
            "hotlap bench data module:function"
        )
    say(prepare_data(project.create(), config))
    counts = sorted({*workers, config.training.dataloader_num_workers})
    request = {"config": config_text(config), "workers": counts, "seconds": seconds}
    with device_lock(run_devices(use_cpu=config.training.use_cpu), say):
        return _measured(project, request, say)


def data_of_function(
    function: str,
    project: ProjectFolder,
    workers: Sequence[int],
    seconds: float,
    say: Say,
    *,
    batch_size: int = 32,
    seed: int = 0,
    needs: float | None = None,
) -> DataFigures:
    """Measure what a function of the project's gives, `module:function`; `needs` is in samples a second.

    Raises ConfigError when there is no such function, DataError when what it gives cannot be used.
    """
    require_training_side()
    request = {"function": function, "workers": workers, "seconds": seconds, "batch_size": batch_size, "seed": seed}
    found = _measured(project, request, say)
    found.needs_per_second = needs
    return found


def _measured(project: ProjectFolder, request: Mapping[str, Any], say: Say) -> DataFigures:
    found = DataFigures()
    command = verb_command(MODULE, project.project, project.cache_path)
    with closing(answers(command, request, project.project, "measuring the data")) as events:
        for event in events:
            match event:
                case {"event": "stage", "text": text}:
                    say(text)
                case {"event": "part", "part": part}:
                    found.parts.append(part)
                case {"event": "need", "need": need}:
                    found.need = need
                case {"event": "loader", "loader": loader}:
                    found.loaders.append(loader)
                case {"event": "check", "check": check}:
                    found.checks.append(check)
    if not found.loaders:
        raise RunFailedError("measuring the data ended without a figure")
    return found
