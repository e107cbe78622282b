"""Lines that name a step and figures in running text: nanoGPT's, modded-nanogpt's, nanochat's, and those like them.

A number that something else was printed onto, such as a warning of another process, is not read: what stands before
the warning may be half of it.
"""

import re
from typing import Final

from hotlap.capture.names import is_metric, tidy, without_chatter
from hotlap.capture.printed import NUMBER, UNIT, Number, in_unit, parse_number
from hotlap.capture.reading import Found

_LONGEST: Final = 4096
"""Characters of a line that may be running text; what is longer is data."""
_COUNT: Final = r"\d{1,15}"
_END: Final = r"(?![\w:/%]|\.\w)"
_NANOGPT_STEP: Final = re.compile(
    rf"(?<!\w)step ({_COUNT}): train loss ({NUMBER}), val loss ({NUMBER}){_END}",
    re.ASCII,
)
_NANOGPT_ITER: Final = re.compile(
    rf"(?<!\w)iter ({_COUNT}): loss ({NUMBER}){_END}(?:, time ({NUMBER})ms{_END}(?:, mfu ({NUMBER})%)?)?", re.ASCII
)
_MODDED: Final = re.compile(rf"(?<!\w)step:({_COUNT})(?:/\d+)?((?: +[A-Za-z_]\w*:\S+)+)", re.ASCII)
_MODDED_FIGURE: Final = re.compile(rf" ([A-Za-z_]\w*):({NUMBER})({UNIT})?(?=\s|$)", re.ASCII)
_NANOCHAT: Final = re.compile(rf"(?<!\w)[Ss]tep ({_COUNT})(?:/\d+)?(?: \([\d.]+%\))? \| (.+)", re.ASCII)
_NANOCHAT_FIGURE: Final = re.compile(rf"([A-Za-z][\w/ ]*?): ({NUMBER})({UNIT})?{_END}", re.ASCII)
_NANOCHAT_NAMES: Final = {
    "loss": "train_loss",
    "tok/sec": "tokens_per_second",
    "Validation bpb": "val_bpb",
    "Validation loss": "val_loss",
    "mfu": "mfu_percent",
    "bf16_mfu": "mfu_percent",
}
_STEP: Final = re.compile(
    r"(?<![\w/.-])(?:global[_ ]step|step|iteration|iter|update)\b[\s:=#]{0,12}(\d{1,15})(?!\w*[.:]\d)(?:\s*/\s*\d+)?",
    re.ASCII | re.IGNORECASE,
)
_EPOCH: Final = re.compile(r"(?<![\w/.-])epoch\b[\s:=#]{0,12}(\d{1,15}(?:\.\d+)?)", re.ASCII | re.IGNORECASE)
_WORD: Final = r"[A-Za-z_][\w./@-]{0,60}"
_PAIR: Final = re.compile(
    rf"(?<![\w./@-])({_WORD}(?: {_WORD}){{0,3}})\s?[:=]\s{{0,8}}({NUMBER})({UNIT})?{_END}", re.ASCII
)
_SPACED: Final = re.compile(rf"(?:^|[|,;:] *)([A-Za-z_][\w./ -]{{1,40}}?)\s+({NUMBER})(?=\s*(?:[|,;]|$))", re.ASCII)


def parse_nanogpt(line: str) -> Found | None:
    """Read `step 250: train loss 2.1, val loss 2.2` and `iter 250: loss 2.1, time 45.10ms, mfu 3.1%`."""
    if "loss " not in line:
        return None
    if match := _NANOGPT_STEP.search(line):
        numbers = _numbers({"train_loss": match[2], "val_loss": match[3]})
        return Found(source="nanogpt", numbers=numbers, step=int(match[1]))
    match = _NANOGPT_ITER.search(line)
    if match is None:
        return None
    numbers = _numbers({"loss": match[2]})
    if match[3] and (milliseconds := parse_number(match[3])):
        numbers["iteration_seconds"] = milliseconds.times(1e-3)
    mfu = parse_number(match[4]) if match[4] else None
    if mfu is not None and mfu.value >= 0:  # nanoGPT prints -100 % until it knows
        numbers["mfu_percent"] = mfu
    return Found(source="nanogpt", numbers=numbers, step=int(match[1]))


def parse_modded_nanogpt(line: str) -> Found | None:
    """Read `step:125/1750 val_loss:4.6543 train_time:12345ms step_avg:98.76ms`."""
    match = _MODDED.search(line) if "step:" in line else None
    if match is None:
        return None
    numbers = {}
    for name, text, unit in _MODDED_FIGURE.findall(match[2]):
        if number := parse_number(text):
            name, number = in_unit(name, number, unit)
            numbers[name] = number
    return Found(source="modded_nanogpt", numbers=numbers, step=int(match[1])) if numbers else None


def parse_nanochat(line: str) -> Found | None:
    """Read `step 00010/21400 (0.05%) | loss: 5.43 | … | total time: 1.23m` and `Step 00250 | Validation bpb: 0.98`."""
    match = _NANOCHAT.search(line) if " | " in line else None
    if match is None:
        return None
    numbers = {}
    for part in match[2].split(" | "):
        figure = _NANOCHAT_FIGURE.match(part.strip())
        if figure is None or (number := parse_number(figure[2])) is None:
            continue
        name = _NANOCHAT_NAMES.get(figure[1])
        if name is None:
            name, number = in_unit(tidy(figure[1]), number, figure[3])
        numbers[name] = number
    return Found(source="nanochat", numbers=numbers, step=int(match[1])) if numbers else None


def parse_pairs(line: str) -> Found | None:
    """Read figures such as `epoch 3 | train loss: 0.52 | val_loss=0.61 (2.3s)`, if a metric is among them."""
    numbers: dict[str, Number] = {}
    if len(line) > _LONGEST:
        return None
    for raw, text, unit in _PAIR.findall(line):
        if (number := parse_number(text)) and not raw.endswith(".py"):  # a line of a program
            name, number = in_unit(tidy(without_chatter(raw)), number, unit)
            numbers.setdefault(name, number)
    for raw, text in _SPACED.findall(line):
        name = tidy(without_chatter(raw))
        if is_metric(name) and (number := parse_number(text)):
            numbers.setdefault(name, number)
    step = _STEP.search(line)
    if step is not None:
        for name in ("step", "global_step", "iteration", "iter", "update"):
            numbers.pop(name, None)
    if not any(map(is_metric, numbers)):
        return None
    if epoch := _EPOCH.search(line):
        numbers["epoch"] = Number(float(epoch[1]))
    return Found(source="pairs", numbers=numbers, step=int(step[1]) if step else None)


def may_be_spaced(line: str) -> bool:
    """Say quickly whether a line may hold figures without a sign before them: `| loss 4.5 | ppl 23.7`."""
    return "| " in line and _SPACED.search(line) is not None


def _numbers(texts: dict[str, str]) -> dict[str, Number]:
    return {name: number for name, text in texts.items() if (number := parse_number(text))}
