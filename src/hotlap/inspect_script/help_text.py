"""Settings of a program from what it prints for `--help`: argparse's form, click's and typer's, absl's.

    options_of_help("  --lr LR   learning rate (default: 0.1)")  ->  [Option(name="lr", default=0.1)]

Asking starts the program in a process of its own, so it is done only with permission; it ends after some seconds.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hotlap.inspect_script.syntax import Kind, Option
from hotlap.knobs.shell_text import read_value

HELP_SECONDS: Final = 20.0
"""Longest wait; scripts that import much before they look at their arguments need some."""
_BOXES: Final = re.compile(r"[│┃╭╮╰╯─━]")
_OPTION: Final = re.compile(
    r"^ {0,8}(?:\*\s*)?(?:-\w(?: \w+)?,? +)?"
    r"(?P<flag>--(?P<no>\[no-?\])?[A-Za-z][\w.-]*)(?:[ ,/]+(?P<other>--no-[\w-]+))?"
    r"(?:(?:[ =]|\s+(?=(?:INTEGER|FLOAT|TEXT|PATH|FILE)\b))"
    r"(?P<value>\{[^}]*\}|<[^>]+>|\[?[A-Z][A-Z_0-9.,|]*\]?))?"
    r"(?P<rest>(?:\s{2,}|\s*$).*)",
)
_DEFAULT: Final = re.compile(r"[(\[]default[:=]? *(?P<value>[^)\]]+)[)\]]", re.IGNORECASE)
_NOT_SETTINGS: Final = ("help", "version", "install_completion", "show_completion", "helpfull", "helpshort")


def ask_for_help(command: str, directory: Path) -> str:
    """Return what a command prints for `--help`; empty where it does not answer in time."""
    try:
        ended = subprocess.run(
            f"{command} --help",
            shell=True,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=HELP_SECONDS,
            check=False,
            start_new_session=True,
            env=None,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (ended.stdout or ended.stderr).decode("utf-8", "replace")


def options_of_help(text: str) -> list[Option]:
    """Return the options that a help text lists, each name once."""
    found: dict[str, Option] = {}
    for option in _options(_BOXES.sub(" ", text).splitlines()):
        if option.name not in _NOT_SETTINGS:
            found.setdefault(option.name, option)
    return list(found.values())


def _options(lines: list[str]) -> Iterator[Option]:
    for number, line in enumerate(lines):
        match = _OPTION.match(line)
        if match is None:
            continue
        description = [match["rest"].strip()]
        for following in lines[number + 1 :]:
            if not following.strip() or _OPTION.match(following):
                break
            description.append(following.strip())
        yield _option(match, " ".join(part for part in description if part))


def _option(match: re.Match[str], description: str) -> Option:
    flag = match["flag"].replace("[no-]", "").replace("[no]", "")
    default = _DEFAULT.search(description)
    value: Any = read_value(default["value"].strip().strip("'\"")) if default else None
    is_pair, has_value = bool(match["other"] or match["no"]), bool(match["value"])
    kind: Kind = "pair" if is_pair else "value" if has_value else "switch"
    choices = ()
    if match["value"] and match["value"].startswith("{"):
        choices = tuple(read_value(choice) for choice in match["value"][1:-1].split(","))
    if kind == "switch" and value is None:
        value = False
    if value in ("None", "none", "no-" + flag[2:]):
        value = False if is_pair else None
    text = _DEFAULT.sub("", description).strip()
    return Option(
        name=flag.lstrip("-").replace("-", "_"),
        flag=flag,
        default=value,
        kind=kind,
        help=text,
        choices=choices,
        source="--help",
    )
