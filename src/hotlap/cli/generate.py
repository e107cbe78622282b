"""`hotlap generate`: text from a run's weights, shown as it comes.

hotlap generate @best --prompt "In the beginning" --temperature 0.8 --top-k 40
hotlap generate r0007 --prompt-file prompt.txt --checkpoint best --json
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.errors import EXIT_INTERRUPTED
from hotlap.cli.screen import bold, harmless, is_terminal, print_json

if TYPE_CHECKING:
    from hotlap.core.run_folder import RunFolder
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.generate import ChosenWeights

SCHEMA = "hotlap/generation/1"
_EMPTY_LINE = "\n"
"""Between the text of one prompt, which ends its line, and the next prompt."""


def generate(  # noqa: PLR0913  an option of the command is an argument
    run: Annotated[str, typer.Argument(metavar="RUN", help="r0042, r42, @last, @baseline, @best, or a run's folder.")],
    prompt: Annotated[list[str] | None, typer.Option(help="Text to go on from; repeatable.")] = None,
    prompt_file: Annotated[list[str] | None, typer.Option(help="File with such a text; - is standard input.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Tokens for each prompt, at most.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest token.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many of the likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the likeliest with this probability together.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="STEP|best|last", help="Instead of the last weights.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    project: Annotated[Path, typer.Option("-p", "--project", help="Folder that holds .hotlap/.")] = Path(),
) -> None:
    """Go on from a prompt with a run's weights; what is left out is as in the run's section `samples`."""
    from hotlap.config.samples import generation_settings
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.generate import choose_weights, generated, hold_device
    from hotlap.launch.prepare import require_training_side

    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    settings = {key: value for key, value in (options | {"seed": seed}).items() if value is not None}
    generation_settings(settings)
    request = {"prompts": [*(prompt or ()), *map(_read_prompt, prompt_file or ())], "settings": settings}
    home = ProjectFolder(project.absolute())
    folder = _run_folder(run, home)
    weights = choose_weights(folder, checkpoint)
    require_training_side()
    try:
        with (
            hold_device(folder, lambda text: typer.echo(text, err=True)),
            closing(generated(folder, weights.path, request, home)) as events,
        ):
            if as_json:
                print_json(_document(folder, weights, events))
            else:
                _show(folder, weights, events)
    except KeyboardInterrupt:
        typer.echo(f"{'' if as_json else _EMPTY_LINE}hotlap: interrupted", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _run_folder(name: str, project: "ProjectFolder") -> "RunFolder":
    """Return the folder of a run, by its id, an alias or its path.

    Raises ConfigError when there is none.
    """
    from hotlap.core.errors import ConfigError
    from hotlap.core.run_folder import RunFolder
    from hotlap.runs.store import RunStore

    if not re.fullmatch(r"@.*|[rR]?\d+", name):
        path = Path(name)
        if not path.is_dir():
            raise ConfigError(f"there is no folder {name}; give a run's id (r0042), an alias (@best) or its folder")
        return RunFolder(path.absolute())
    if not project.path.is_dir():
        raise ConfigError(f"there is no .hotlap in {project.project}; give the project's folder with -p")
    with RunStore(project) as store:
        store.refresh()
        return store.folder(store.get(name).run_id)


def _read_prompt(name: str) -> str:
    """Return the text of a file, without the line break that ends it.

    Raises DataError when it cannot be read.
    """
    from hotlap.core.errors import DataError

    place = "standard input" if name == "-" else name
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        text = content.decode()
    except OSError as error:
        raise DataError(f"--prompt-file: cannot read {place}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"--prompt-file: {place} is not UTF-8: byte {error.start + 1} begins no character") from error
    return text.removesuffix("\n").removesuffix("\r")


def _document(folder: "RunFolder", weights: "ChosenWeights", events: Iterator[Mapping[str, Any]]) -> dict[str, Any]:
    """Return everything that is told as one document."""
    told = list(events)
    settings: dict[str, Any] = next((event["settings"] for event in told if event["event"] == "start"), {})
    found: list[dict[str, Any]] = []
    for event in told:
        if event["event"] == "prompt":
            found.append({"prompt": event["text"], "generated": ""})
        elif event["event"] == "text":
            found[-1]["generated"] += event["text"]
        elif event["event"] == "end":
            found[-1] |= {key: value for key, value in event.items() if key != "event"}
    place = {"run": folder.run_id, "weights": weights.name, "step": weights.step}
    return {"schema": SCHEMA, **place, "settings": settings, "samples": found}


def _show(folder: "RunFolder", weights: "ChosenWeights", events: Iterator[Mapping[str, Any]]) -> None:
    """Print each prompt with the text that follows it, then on stderr whose it is and how long it took."""
    tokens, seconds = 0, 0.0
    notices: list[str] = []
    for event in events:
        if event["event"] == "prompt":
            typer.echo(f"{_EMPTY_LINE if tokens else ''}{bold(_printable(event['text']))}", nl=False, color=True)
        elif event["event"] == "text":
            typer.echo(_printable(event["text"]), nl=False, color=True)  # nothing is to be taken out of it
        elif event["event"] == "end":
            typer.echo()
            tokens, seconds = tokens + event["tokens"], seconds + event["seconds"]
            notices += [event["notice"]] if event["notice"] else []
    for notice in dict.fromkeys(notices):
        typer.echo(f"note: {notice}", err=True)
    step = "" if weights.step is None else f" at step {weights.step:,}"
    speed = f"{tokens / seconds:,.0f} tokens/s" if seconds else "0 s"
    typer.echo(f"{folder.run_id}{step} ({weights.name}): {tokens:,} tokens, {speed}", err=True)


def _printable(text: str) -> str:
    """Return text as it is, but for a terminal, which would obey some of its signs."""
    return harmless(text) if is_terminal() else text
