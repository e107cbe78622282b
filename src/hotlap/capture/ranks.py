"""What stands before a line: the process that printed it, and what a logger adds."""

import re
from typing import Final

_RANK: Final = re.compile(
    r"\s*(?:\[(?:rank|default|proc|process|gpu|worker)?[ _:]?(?P<bracket>\d{1,5})\]:?"  # torchrun, accelerate
    r"|\[\d+,(?P<mpi>\d{1,5})\]<std(?:out|err)>:?"
    r"|[Rr]ank[ _]?(?P<word>\d{1,5})\s*[:|]"
    r"|\([Rr]ank[ _]?(?P<round>\d{1,5})\))\s*",
    re.ASCII,
)
_OTHERS: Final = re.compile(
    r"\s*(?:"
    r"\d{1,4}: (?=\S)"  # srun --label; the number may as well be a step, so it is no rank
    r"|[\w.-]{1,40}\s+\| (?=\S)"  # docker compose
    r"|\([A-Za-z]\w* pid=\d+[^()]*\)\s*"  # Ray
    r")",
    re.ASCII,
)
_LOGGER: Final = re.compile(
    r"\s*(?:"
    r"[\[(]?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?[\])]?"
    r"|[\[(]?\d\d:\d\d:\d\d(?:[.,]\d+)?[\])]?"
    r"|[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ [\w./-]+:\d+\]"
    r"|[\[(<]?(?:DEBUG|INFO|WARNING|NOTICE)\b[\])>]?(?::[\w.]+(?=:))?"
    r"|\[[A-Za-z][\w.]*(?::\d+)?\]"
    r"|[A-Za-z_][\w.]*(?= [-|] )"
    r")\s*[-:|]?\s*",
    re.ASCII,
)


def split_rank(line: str) -> tuple[int | None, str]:
    """Return the rank that a line is labelled with, None without one, and the line without the label."""
    rank = None
    while line[:1] in "[ \t(rR" and (match := _RANK.match(line)):
        if (
            match["bracket"]
            and rank is None
            and match[0].strip().startswith(f"[{match['bracket']}")
            and ":" not in match[0]
        ):
            break  # [10] alone may be a step as well
        rank = int(match["bracket"] or match["mpi"] or match["word"] or match["round"])
        line = line[match.end() :]
    return rank, line


def without_logger(line: str) -> str:
    """Return a line without the time, level and name that a logger or a launcher puts before it."""
    if match := _OTHERS.match(line):
        line = line[match.end() :]
    while match := _LOGGER.match(line):
        if not match[0] or match.end() == len(line):
            break
        line = line[match.end() :]
    return line
