"""`hotlap runs samples`: what runs made of the same prompts, side by side.

hotlap runs samples @baseline @best
hotlap runs samples r0007 r0009 --step 500
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotlap.cli.screen import bold, harmless, print_json, width_of, wrapped
from hotlap.cli.stores import AsJson, Project, open_store

if TYPE_CHECKING:
    from hotlap.runs.samples import Answer, PromptAnswers

_NARROWEST = 24
"""Columns of text below which runs stand one under the other."""
_LEAST = 4
"""Columns that even the narrowest terminal is taken to have."""
_GAP = "  "
_NOTHING = "-"


def samples(
    names: Annotated[list[str], typer.Argument(metavar="A [B ...]", help="Ids or aliases.")],
    step: Annotated[int | None, typer.Option(min=0, help="The last samples up to this step.")] = None,
    as_json: AsJson = False,
    project: Project = Path(),
) -> None:
    """Show what runs made of the same prompts, side by side, and what the untrained model did."""
    from dataclasses import asdict

    from hotlap.core.errors import ConfigError
    from hotlap.core.files import read_json_lines
    from hotlap.runs.samples import SCHEMA, side_by_side

    with open_store(project) as store:
        runs = [store.get(name).run_id for name in names]
        found = side_by_side([read_json_lines(store.folder(run).samples_path) for run in runs], step)
        if not found:
            raise ConfigError(
                f"no samples of {', '.join(runs)}: prompts to be answered during training stand in the config, such as "
                'samples: {prompts: ["Once upon a time"]}; for a run that has ended there is: hotlap generate RUN'
            )
    if as_json:
        print_json({"schema": SCHEMA, "runs": runs, "prompts": [asdict(answers) for answers in found]})
    else:
        width = max(_LEAST, shutil.get_terminal_size().columns)
        typer.echo("\n\n".join(_shown(answers, runs, width) for answers in found))


def _shown(answers: "PromptAnswers", runs: Sequence[str], width: int) -> str:
    """Return a prompt and its answers: in columns where there is room, else one under the other."""
    lines = [bold(line) for line in wrapped(harmless(answers.prompt) or "(the start of a text)", width)]
    if answers.expected:
        lines += wrapped(f"expected: {harmless(answers.expected)}", width)
    steps = {answer.step for answer in answers.trained if answer is not None}
    label = f"step {min(steps)}" if len(steps) == 1 else "trained"
    rows = [(name, told) for name, told in (("untrained", answers.untrained), (label, answers.trained)) if any(told)]
    label_width = max(len(name) for name, _ in rows)
    room = (width - label_width) // len(runs) - len(_GAP)
    if room >= _NARROWEST:
        return "\n".join([*lines, *_columns(rows, runs, label_width, room)])
    return "\n".join([*lines, *_stacked(rows, runs, width)])


_Rows = Sequence[tuple[str, tuple["Answer | None", ...]]]


def _columns(rows: _Rows, runs: Sequence[str], label_width: int, room: int) -> Iterator[str]:
    """Yield a column for each run."""
    yield _GAP.join(["".ljust(label_width), *(run.ljust(room) for run in runs)]).rstrip()
    for label, told in rows:
        cells = [wrapped(_cell(answer, tells_step=label == "trained"), room) for answer in told]
        for number in range(max(map(len, cells))):
            texts = [cell[number] if number < len(cell) else "" for cell in cells]
            padded = [text + " " * (room - width_of(text)) for text in texts]
            yield _GAP.join([("" if number else label).ljust(label_width), *padded]).rstrip()


def _cell(answer: "Answer | None", *, tells_step: bool) -> str:
    if answer is None:
        return _NOTHING
    return f"(step {answer.step})\n{harmless(answer.generated)}" if tells_step else harmless(answer.generated)


def _stacked(rows: _Rows, runs: Sequence[str], width: int) -> Iterator[str]:
    """Yield the answers one under the other."""
    for label, told in rows:
        for run, answer in zip(runs, told, strict=True):
            if answer is not None:
                yield f"{run}, {label if label == 'untrained' else f'step {answer.step}'}:"
                yield from (f"{_GAP}{line}" for line in wrapped(harmless(answer.generated), width - len(_GAP)))
