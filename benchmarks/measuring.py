"""What the benchmarks share: sides in turn, runs in fresh processes, medians with their spread, files of results.

Nothing heavy is imported before it is used, so that `--help` answers at once.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ENDED_WELL = ("reached", "missed", "out_of_budget")


@dataclass(frozen=True, slots=True)
class Spread:
    """Repeated readings of one quantity."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle reading."""
        return statistics.median(self.values)

    def text(self, digits: int = 3) -> str:
        """Return `median (lowest to highest)` with so many significant digits."""
        three = (self.median, min(self.values), max(self.values))
        middle, low, high = (f"{value:,.{_decimals(value, digits)}f}" for value in three)
        return f"{middle} ({low} to {high})"


def _decimals(value: float, digits: int) -> int:
    """Return the decimals that give a number so many significant digits."""
    return max(0, digits - 1 - int(f"{value:e}".rpartition("e")[2]))


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """One run of `hotlap train`, as its run folder tells it."""

    result: Mapping[str, Any]
    points: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    command_seconds: float
    """Wall clock of the whole command."""


def in_turn(sides: Sequence[str], repeats: int) -> Iterator[tuple[int, str]]:
    """Yield (repeat, side) as A B C, C B A, A B C, …: drift of the machine falls on every side alike."""
    for repeat in range(repeats):
        for side in sides if repeat % 2 == 0 else reversed(sides):
            yield repeat, side


def write_config(path: Path, config: Mapping[str, Any]) -> Path:
    """Write a config (JSON is YAML, too) and return its path."""
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return path


def wide_tokenizer(folder: Path, vocab_size: int) -> Path:
    """Write a tokenizer of bytes with so many tokens that all others never occur; return where."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    names += [f"<unused {number}>" for number in range(vocab_size - len(names))]
    tokenizer = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def train(config: Path, project: Path, settings: Sequence[str] = ()) -> FinishedRun:
    """Run `hotlap train` in a process of its own, in a project's folder.

    Ends the benchmark with the run's own words when it breaks.
    """
    from hotlap.core.run_folder import RunFolder
    from hotlap.core.study_folder import ProjectFolder

    options = [part for setting in settings for part in ("-s", setting)]
    command = [sys.executable, "-m", "hotlap", "train", str(config), "-p", str(project), "--json", *options]
    start = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    try:
        result: dict[str, Any] = json.loads(ended.stdout)
    except ValueError:
        raise SystemExit(f"{' '.join(command)} printed no result:\n{ended.stdout}{ended.stderr}") from None
    if result.get("outcome") not in ENDED_WELL:
        raise SystemExit(f"the run of {config.name} ended as {result.get('outcome')}: {result.get('reason')}")
    folder = RunFolder(ProjectFolder(project).runs_path / str(result["run"]))
    return FinishedRun(result, folder.points(), folder.read("environment") or {}, seconds)


def in_fresh_process(script: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark's own file with `arguments`, with the threads that a run has; return the JSON that it prints."""
    from hotlap.launch.environment import worker_environment

    command = [sys.executable, script, *arguments]
    environment = worker_environment(os.environ)
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def hardware(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a result depends on, from a run's environment.json."""
    names = ("processor", "device", "device_name", "threads", "bf16_is_fast", "torch", "transformers", "accelerate")
    facts = {name: environment[name] for name in names if name in environment}
    measured = datetime.now(UTC).strftime("%Y-%m-%d")
    return {**facts, "cores": os.cpu_count(), "python": platform.python_version(), "measured": measured}


def hardware_line(facts: Mapping[str, Any]) -> str:
    """Return the hardware in one line, for people."""
    device = "" if facts.get("device") == "cpu" else f"{facts.get('device_name')}, "
    software = ", ".join(f"{name} {facts[name]}" for name in ("torch", "transformers", "python") if name in facts)
    cores = f"{facts.get('processor')}, {facts['cores']} cores, {facts.get('threads')} threads"
    return f"{device}{cores}; {software}; {facts['measured']}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns are aligned, so that it reads in a terminal as well."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    rule = ["-" * width for width in widths]
    return [f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]]]


def write_results(name: str, facts: Mapping[str, Any], values: Mapping[str, Any], text: Sequence[str]) -> None:
    """Print a benchmark's result and write it to `results/NAME-HARDWARE.json` and `.md`."""
    title = f"# {name}"
    body = "\n".join([title, "", hardware_line(facts), "", *text, ""])
    device = str(facts.get("device_name") or facts.get("processor") or "unknown")
    slug = re.sub(r"[^a-z0-9]+", "-", f"{device} {facts['cores']} cores".lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{slug}"
    path.with_suffix(".md").write_text(body, encoding="utf-8")
    document = {"benchmark": name, "hardware": dict(facts), **values}
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"\n{body}\nwritten to {path}.md and .json")
