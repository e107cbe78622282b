"""What a bench found, in sentences: its headline, the suggestion, the bound, and how far they can be trusted."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hotlap.bench.answers import Answers
from hotlap.bench.cells import Cell
from hotlap.bench.knee import Knee, MemoryLine, Scaling
from hotlap.bench.setting_names import label_of
from hotlap.bench.suggest import Prediction, Suggestion
from hotlap.bench.verdict import shares_cores
from hotlap.config.set_in_yaml import value_text
from hotlap.core.progress import show_bytes
from hotlap.report.bench_pictures import short_number
from hotlap.report.text import NOTHING, count_text, percent_text, ratio_text, step_time_text
from hotlap.runs.views import setting_text

_MANY: Final = 3
_LOUD: Final = 0.05
"""Standard deviation between repeats from which on a bench is called loud."""
_SHARED_CORES: Final = "processes share the cores of one CPU: several devices say nothing here of several GPUs"
_GOOD_ERROR: Final = 0.1
"""Median error up to which predictions are called good."""


def names_of(answers: Answers) -> dict[str, str]:
    """Return the short name of every axis by its key; where two would have the same, both have their keys."""
    short = {axis.key: label_of(axis.key) for axis in answers.axes}
    taken = list(short.values())
    return {key: name if taken.count(name) == 1 else key for key, name in short.items()}


def settings_text(answers: Answers, settings: Mapping[str, Any]) -> str:
    """Return the axes' values of some settings: `batch 8, bf16 true`."""
    names = names_of(answers)
    parts = [f"{names[axis.key]} {setting_text(settings[axis.key])}" for axis in answers.axes if axis.key in settings]
    return ", ".join(parts) or "as the config has it"


def _pay_text(answers: Answers, pay: float) -> str:
    """Return a throughput with its unit."""
    return f"{short_number(pay)} {answers.unit}"


def headline(answers: Answers) -> str:
    """Return the result in one line."""
    found = answers.suggestion
    if found is None:
        tried = count_text(len(answers.cells), "cell")
        return f"nothing could be measured in {tried}" if answers.cells else "nothing was measured yet"
    cell = answers.cell(found.cell)
    speed = _pay_text(answers, cell.pay)
    where = settings_text(answers, cell.settings)
    if found.patch:
        return f"{where}: {speed}{_gain_text(found)}"
    if found.is_gain_measured:
        return f"{where}: {speed}, the config is as fast as anything measured here"
    return f"{where}: {speed}, and nothing to change in the config"


def _gain_text(found: Suggestion) -> str:
    if math.isnan(found.gain):
        return ""
    how = "measured" if found.is_gain_measured else "predicted, since the config as it is was not measured"
    return f", {ratio_text(found.gain)} the config as it is ({how})"


def facts_of(answers: Answers) -> list[tuple[str, str]]:
    """Return what came out: label and sentence."""
    return [
        *_suggestion_facts(answers),
        *_bound_facts(answers),
        *(("What matters", text) for text in _effect_texts(answers)),
        *(("Knee", text) for text in _few([_knee_text(answers, knee) for knee in answers.knees])),
        *(("Memory", text) for text in _few([_memory_text(answers, line) for line in answers.memory])),
        *(("Devices", text) for text in _few([_scaling_text(answers, each) for each in answers.scalings])),
        *([("Mind", _SHARED_CORES)] if any(map(shares_cores, answers.measured)) else []),
        *_prediction_facts(answers),
        *_failure_facts(answers),
        *_caution_facts(answers),
    ]


def method_facts(answers: Answers) -> list[tuple[str, str]]:
    """Return how it was measured: label and sentence."""
    repeats = [cell.num_repeats for cell in answers.measured]
    most = f"{count_text(max(repeats), 'repeat')} each, in turns" if repeats else "none"
    facts = [
        ("Device", answers.device or "unknown"),
        ("Cells", f"{len(answers.measured)} measured of {len(answers.cells)} tried, {most}, a process each"),
        ("Noise", _noise_text(answers)),
        ("Times", "medians of a repeat's steps, lower medians of repeats; start, compilation, warm-up apart"),
    ]
    if counted := "; or ".join(dict.fromkeys(cell.samples_by for cell in answers.measured if cell.samples_by)):
        facts.append(("Samples", f"those of a step are counted by {counted}"))
    if answers.noise.sigma > _LOUD:
        facts.append(
            (
                "Loud",
                "repeats differ so much that small differences cannot be told apart: did something else run? "
                "More `--repeats` or `--seconds` on a quiet machine help",
            )
        )
    if answers.noise.num_disturbed:
        count = count_text(answers.noise.num_disturbed, "repeat")
        text = f"{count} of {sum(repeats)} took far longer than another one of the same cell: something else ran"
        facts.append(("Disturbed", text))
    if answers.drift is not None:
        change = abs(100 * (answers.drift - 1))
        word = "slower" if answers.drift > 1 else "faster"
        facts.append(("Drift", f"steps became {change:.1f} % {word} while it ran; repeats in turns spread that evenly"))
    if not answers.is_complete:
        facts.append(("Not complete", "some cells are still to be measured: `hotlap bench --resume` goes on"))
    return facts


def _noise_text(answers: Answers) -> str:
    noise = answers.noise
    if not noise.degrees:
        return f"nothing was measured twice; {percent_text(noise.sigma)} is assumed between repeats of a cell"
    return (
        f"repeats of a cell differ by {percent_text(noise.sigma)} (standard deviation of log step time by their median "
        f"difference, {count_text(noise.degrees, 'degree')} of freedom); ± is the 95 % interval that follows"
    )


def _suggestion_facts(answers: Answers) -> Iterator[tuple[str, str]]:
    found = answers.suggestion
    if found is None:
        return
    cell, best = answers.cell(found.cell), answers.cell(found.best_cell)
    if found.patch:
        patch = "; ".join(f"{key}: {value_text(value)}" for key, value in found.patch.items())
        text = f"{patch}; `hotlap apply {answers.bench_id or 'bench'}` writes it"
    else:
        text = "leave the config as it is"
    if cell is not best:
        text += (
            f"; {settings_text(answers, best.settings)} is {percent_text(found.loss)} faster, which is within "
            f"{percent_text(found.tolerance)}, so the simpler one is suggested"
        )
    yield "Suggestion", text
    for note in found.notes:
        yield "Mind", note
    for one in answers.worth_measuring[:1]:
        yield "Worth measuring", f"{settings_text(answers, one.settings)}, {_predicted_text(answers, one)}"


def _predicted_text(answers: Answers, one: Prediction) -> str:
    assert answers.suggestion is not None
    ratio = one.pay / answers.cell(answers.suggestion.cell).pay
    beyond = "" if one.is_inside else ", beyond what was measured"
    return f"not measured: predicted {_pay_text(answers, one.pay)}, {ratio_text(ratio)} the suggestion{beyond}"


def _bound_facts(answers: Answers) -> Iterator[tuple[str, str]]:
    if answers.suggestion is None:
        return
    verdict = answers.verdict(answers.suggestion.cell)
    cell = answers.cell(answers.suggestion.cell)
    yield (
        "Bound",
        f"the suggested step ({step_time_text(cell.seconds_per_step)} ms) is {verdict.text}: {verdict.advice}",
    )
    yield "Evidence", "; ".join(verdict.evidence)
    others = [each for each in answers.verdicts if each.bound != verdict.bound]
    if others:
        counts = Counter(each.bound.replace("_", " ") for each in others).most_common()
        named = ", ".join(f"{bound} in {count}" for bound, count in counts)
        yield "Elsewhere", f"of {count_text(len(answers.verdicts), 'measured cell')} bound by {named}"


def _effect_texts(answers: Answers) -> Iterator[str]:
    names = names_of(answers)
    for number, effect in enumerate(answers.effects[: 2 * _MANY]):
        name = names[effect.axis.key]
        if not effect.is_visible:
            yield f"{name}: no difference beyond the noise ({ratio_text(effect.ratio)})"
            continue
        best, worst = setting_text(effect.best), setting_text(effect.worst)
        first = "most: " if number == 0 and len(answers.effects) > 1 else ""
        text = f"{first}{name}: {best} is {ratio_text(effect.ratio)} as fast as {worst}"
        if effect.high > 1.05 * effect.low:
            text += f" on average (its values differ by {ratio_text(effect.low)} to {ratio_text(effect.high)})"
        yield text if effect.is_everywhere else f"{text}, but not everywhere the best"


def _knee_text(answers: Answers, knee: Knee) -> str:
    """Say where a larger batch stops to pay."""
    where = f"{settings_text(answers, knee.settings)}: " if knee.settings and len(answers.axes) > 1 else ""
    if not knee.is_inside:
        return f"{where}none yet, batch {knee.batch} is the fastest and the largest: {_pay_text(answers, knee.pay)}"
    if knee.batch == knee.best_batch:
        return f"{where}batch {knee.batch} is the fastest: {_pay_text(answers, knee.pay)}"
    share = percent_text(1 - knee.pay / knee.best_pay)
    return f"{where}batch {knee.batch} ({_pay_text(answers, knee.pay)}), {share} below the best at {knee.best_batch}"


def _memory_text(answers: Answers, line: MemoryLine) -> str:
    """Say what a batch needs, and which is the largest that fits."""
    where = f"{settings_text(answers, line.settings)}: " if line.settings and len(answers.axes) > 1 else ""
    fit = "" if math.isnan(line.error) else f" (within {percent_text(line.error)})"
    text = f"{where}{show_bytes(line.fixed_bytes)} + {show_bytes(line.row_bytes)} · batch{fit}"
    text += f"; batch {line.largest_measured} was measured to fit"
    if line.smallest_refused is not None:
        text += f", {line.smallest_refused} does not"
    if line.largest_predicted is not None and line.largest_predicted > line.largest_measured:
        assert line.limit_bytes is not None
        text += f", the line lets {line.largest_predicted:,} into {show_bytes(line.limit_bytes)} (not measured)"
    return text


def _scaling_text(answers: Answers, each: Scaling) -> str:
    """Say what more devices bring against the ideal."""
    where = f"{settings_text(answers, each.settings)}: " if each.settings and len(answers.axes) > 1 else ""
    return (
        f"{where}{each.devices} devices are {ratio_text(each.speedup)} as fast as {each.fewest}: "
        f"{percent_text(each.efficiency)} of ideal"
    )


def _prediction_facts(answers: Answers) -> Iterator[tuple[str, str]]:
    left = answers.left_out
    if answers.model is None:
        return
    if not left.is_known:
        yield "Predictions", "too few cells to leave some out, so nobody knows how good predictions are"
        return
    word = "" if left.median <= _GOOD_ERROR else "; they are rough"
    yield (
        "Predictions",
        f"with a third of {left.num_cells} cells left out, their step times are predicted within "
        f"{percent_text(left.median)} (median; {percent_text(left.upper)} for nine of ten){word}",
    )


def _failure_facts(answers: Answers) -> Iterator[tuple[str, str]]:
    for outcome in ("out_of_memory", "timed_out", "failed"):
        cells = [cell for cell in answers.cells if cell.outcome == outcome]
        if cells:
            named = "; ".join(settings_text(answers, cell.settings) for cell in cells[:_MANY])
            more = f"; {len(cells) - _MANY} more" if len(cells) > _MANY else ""
            label = outcome.replace("_", " ")
            yield f"{label[0].upper()}{label[1:]}", f"{named}{more}{_why(cells[0]) if outcome == 'failed' else ''}"


def _caution_facts(answers: Answers) -> Iterator[tuple[str, str]]:
    """Say which figures do not speak for a quiet machine, or for its hardware."""
    loud = [cell for cell in answers.measured if cell.not_quiet]
    if loud:
        named = "; ".join(settings_text(answers, cell.settings) for cell in loud[:_MANY])
        more = f"; {len(loud) - _MANY} more" if len(loud) > _MANY else ""
        which = "all cells" if len(loud) == len(answers.measured) else f"{named}{more}"
        text = f"{which}: {loud[0].not_quiet.split('; ')[0]}; do not compare them with figures of a quiet machine"
        yield "Not quiet", text
    computed = [settings_text(answers, cell.settings) for cell in answers.measured if cell.evidence.get("is_computed")]
    if computed:
        more = f"; {len(computed) - _MANY} more" if len(computed) > _MANY else ""
        why = (
            "rounds of so many workers take too long to be measured, so their steps are computed from data and training"
        )
        yield "Computed", f"{'; '.join(computed[:_MANY])}{more}: {why}"
    if any(cell.evidence.get("bf16_is_emulated") for cell in answers.measured):
        yield "Emulated", "this device has no units for bf16: what its steps take says nothing of a device that has"


def _why(cell: Cell) -> str:
    return f": {cell.message.splitlines()[0]}" if cell.message else ""


def _few(texts: list[str]) -> list[str]:
    """Return the first sentences, and where the others are."""
    if len(texts) <= _MANY:
        return texts
    return [*texts[:_MANY], f"{len(texts) - _MANY} more in the tables"]


def uncertainty_text(answers: Answers, cell: Cell) -> str:
    """Return the 95 % interval of a cell's step time as a share."""
    return f"± {100 * answers.noise.uncertainty(cell.num_repeats):.1f} %" if cell.is_measured else NOTHING
