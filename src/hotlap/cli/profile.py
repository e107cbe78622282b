"""`hotlap profile`: where the time of a training step goes, from the PyTorch profiler.

hotlap profile hotlap.yaml -s training.bf16=true --steps 20
hotlap profile .hotlap/runs/r0007/config.yaml --json
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.train import DEFAULT_CONFIG, ProjectOption, SettingOption

if TYPE_CHECKING:
    from hotlap.bench.profile_reading import Reading
    from hotlap.core.profile_folder import ProfileFolder

SCHEMA = "hotlap/profile/1"
_SHOWN = 8  # operators
_NAME_WIDTH = 44

ConfigArgument = Annotated[Path, typer.Argument(help="Config file (default: hotlap.yaml).", metavar="[CONFIG]")]


def profile(
    config: ConfigArgument = DEFAULT_CONFIG,
    settings: SettingOption = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to time, and then to watch.")] = 10,
    warmup: Annotated[int, typer.Option(min=0, help="Steps before them.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    project: ProjectOption = Path(),
) -> None:
    """Show where a training step's time goes: parts, operators, memory, gaps; with a trace for Perfetto."""
    from hotlap.bench.profile import profile_config
    from hotlap.bench.profile_reading import read_profile
    from hotlap.cli.screen import print_json
    from hotlap.cli.train import load_with_notices
    from hotlap.core.study_folder import ProjectFolder

    def say(text: str) -> None:
        if not as_json:
            typer.echo(text, err=True)

    loaded = load_with_notices(config, settings or [])
    folder = profile_config(loaded, ProjectFolder(project.absolute()), steps, warmup, say)
    figures = folder.figures() or {}
    reading = read_profile(figures)
    if as_json:
        document = {"schema": SCHEMA, "profile": folder.profile_id, "trace": str(folder.trace_path)}
        print_json({**document, **figures, "reading": reading.to_json()})
    else:
        typer.echo("\n".join(_lines(folder, figures, reading)))


def _lines(folder: "ProfileFolder", figures: Mapping[str, Any], reading: "Reading") -> list[str]:
    """Return what is shown of a profile."""
    from hotlap.cli.screen import bold, harmless

    headline, speed = _headline(folder, figures)
    rows = [bold(headline), speed, "", *_parts(figures), "", *_operators(figures), "", *_memory(figures), ""]
    rows += [bold(f"bound by {reading.bound}")]
    rows += [f"  {number}. {sentence}" for number, sentence in enumerate(reading.sentences, 1)]
    rows += ["", f"trace {folder.trace_path}   open it at https://ui.perfetto.dev"]
    return [harmless(row) if not row.startswith("\x1b") else row for row in rows]


def _headline(folder: "ProfileFolder", figures: Mapping[str, Any]) -> tuple[str, str]:
    from hotlap.core.bench_records import median

    step = median(figures["step_seconds"])
    fast, slow = min(figures["step_seconds"]), max(figures["step_seconds"])
    threads = f", {figures['threads']} threads" if figures["device"] == "cpu" else ""
    speed = (
        f"step {1e3 * step:.4g} ms ({1e3 * fast:.4g} to {1e3 * slow:.4g}), while watched "
        f"{1e3 * figures['profiled_seconds']:.4g} · {figures['samples_per_step'] / step:,.4g} samples/s · "
        f"{figures['tokens_per_step'] / step:,.0f} tokens/s · device idle {figures['device_idle_ratio']:.0%}"
    )
    return f"{folder.profile_id}: {figures['name']} on {figures['device_name']}{threads}", speed


def _parts(figures: Mapping[str, Any]) -> list[str]:
    from hotlap.bench.profile_reading import shares
    from hotlap.cli.screen import table_lines

    is_gpu = figures["device"] == "cuda"
    head = ["part of the step", "ms", "share", "of it idle, ms", *(["on the GPU, ms"] if is_gpu else [])]
    rows = [
        [part, _ms(seconds), f"{share:.0%}", _ms(gap) if part != "between" else "", *([_ms(device)] if is_gpu else [])]
        for part, seconds, share, gap, device in shares(figures)
        if seconds
    ]
    return table_lines(head, rows)


def _operators(figures: Mapping[str, Any]) -> list[str]:
    from hotlap.cli.screen import table_lines

    rows = [
        [each["name"][:_NAME_WIDTH], _ms(each["seconds"]), f"{each['ratio']:.0%}", f"{each['calls']:,.4g}"]
        for each in figures["operators"][:_SHOWN]
    ]
    kind = "kernel" if figures["device"] == "cuda" else "operator"
    return table_lines([f"{kind} by time, a step", "ms", "share", "calls"], rows)


def _memory(figures: Mapping[str, Any]) -> list[str]:
    from hotlap.cli.screen import table_lines

    rows = [
        [each["name"][:_NAME_WIDTH], f"{each['bytes'] / 2**20:,.4g}", f"{each['ratio']:.0%}", f"{each['calls']:,.4g}"]
        for each in figures["memory"][:_SHOWN]
    ]
    return table_lines(["operator by memory taken, a step", "MiB", "share", "calls"], rows)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.4g}"
