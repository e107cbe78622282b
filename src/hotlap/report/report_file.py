"""The file that a report goes to: in which form, and not over a file that somebody else wrote.

form = report_form(None, Path("README.md"))                # "md"
refuse_foreign(Path("README.md"), form)                    # ConfigError unless a report of hotlap's lies there
write_report(data, Path("README.md"), form, ".svg")
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from hotlap.core.errors import ConfigError, StorageError
from hotlap.core.files import write_atomic
from hotlap.report.markdown_report import write_markdown
from hotlap.report.page import write_page
from hotlap.report.report_data import MARKER, ReportData

Form = Literal["html", "md", "json"]

SUFFIXES: Final[Mapping[str, Form]] = {
    ".html": "html",
    ".htm": "html",
    ".md": "md",
    ".markdown": "md",
    ".json": "json",
}
_OURS: Final[Mapping[Form, re.Pattern[str]]] = {
    "html": re.compile(rf"<!doctype html>\s*{re.escape(MARKER)}"),
    "md": re.compile(re.escape(MARKER)),
    "json": re.compile(r'\{\s*"schema": "hotlap/(?:report|bench-summary)/'),
}
"""How each form begins."""
_HEAD: Final = 200
"""Characters that tell whether a file is ours."""


def report_form(form: Form | None, output: Path | None) -> Form:
    """Return the form that is asked for, else the one that the file's name tells, else `html`.

    Raises ConfigError when the two do not fit together, or the name tells none.
    """
    if output is None:
        return form or "html"
    told = SUFFIXES.get(output.suffix.lower())
    if form is None and told is None:
        raise ConfigError(
            f"{output}: the name does not tell the form; end it with .html, .md or .json, or add --format"
        )
    if form is not None and told is not None and form != told:
        raise ConfigError(f"{output}: the name says {told}, --format says {form}; leave one of the two out")
    chosen = form or told
    assert chosen is not None
    return chosen


def refuse_foreign(path: Path, form: Form) -> None:
    """Raise ConfigError where something lies that is no report of this form by hotlap: it would be lost."""
    if not path.exists():
        return
    if not path.is_file():
        raise ConfigError(f"{path}: is no file; name the file that the report goes to")
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    if head.strip() and not _OURS[form].match(head):
        raise ConfigError(
            f"{path}: is there already and was not written by hotlap report as {form}, so it is left as it is; "
            "name another file with -o, or move this one away"
        )


def write_report(data: ReportData, path: Path, form: Form, suffix: str) -> Path:
    """Write a report in one of the forms; return where it lies. `suffix` is that of pictures.

    Raises ConfigError for a file that somebody else wrote, StorageError when it cannot be written.
    """
    refuse_foreign(path, form)
    if form == "html":
        return write_page(data, path)
    if form == "md":
        return write_markdown(data, path, suffix)
    write_atomic(path, json.dumps(data.document(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path
