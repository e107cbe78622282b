"""What has to hold of a run before anybody believes it: pure functions of what it says and of what others saw.

Each returns problems in words; none means that nothing speaks against the run. They know nothing of files and of
processes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, variance
from typing import Any, Final

from hotlap.core.clock import ClockName, EvaluationGrid
from hotlap.core.durations import format_seconds
from hotlap.core.records import History, RunRecord
from hotlap.core.targets import CHEAP_METRICS, GENERATION_METRICS, Target, all_hold, is_task_metric
from hotlap.search.noise import estimate, estimate_noise
from hotlap.search.record import current_look

REPRODUCED: Final = 1e-4
"""Largest difference between a metric and the same metric taken again from the saved weights."""
CLOCK_TOLERANCE: Final = 0.02
"""Share by which a run's clock may lag behind the launcher's."""
LATENCY_SECONDS: Final = 0.3
"""What may lie between a reading and its being written: an evaluation, and waiting for the disk."""
IDLE_SECONDS: Final = 1.0
"""Seconds that a run may spend between its timed parts."""
IDLE_STEP_SECONDS: Final = 1e-3
"""The same for each step, while no calibration run tells how long that takes here."""
TOO_GOOD_SIGMAS: Final = 5.0
TOO_GOOD_RATIO: Final = 0.9
"""A run is looked at again when it is this much faster than anything before."""
EXAMPLE_SPREAD: Final = 0.6
"""How far honest recipes may differ in the loss of one example, relative to it, where both have the same mean loss.

This is a sigma, not the limit: what passes stands in docs/clock-and-statistics.md (with 64 + 64 examples and three
calibration runs 1.63 times their ratio of audit to evaluation loss).
"""
BELIEVED_RUNS: Final = 4
"""How many calibration runs that belief counts as: two or three of them that agree by luck prove little."""

_PARTS: Final = ("setup", "steps", "evaluation", "saving")
_EVALUATED: Final = (*CHEAP_METRICS, *GENERATION_METRICS)
_SCALES: Final = {
    "eval_accuracy": 1.0,
    "eval_byte_accuracy": 1.0,
    "eval_word_accuracy": 1.0,
    "eval_exact_match": 1.0,
    "eval_chrf": 100.0,
    "eval_sacrebleu": 100.0,
}
"""Metrics with a largest value."""
_THREE_SIGMA: Final = {5: 5.51, 6: 4.90, 7: 4.53, 8: 4.28, 9: 4.09, 10: 3.96}
"""Student's t at the level of 3 sigma (one-sided 0.00135) by degrees of freedom; the last is close enough beyond."""

Point = Mapping[str, Any]


def claim_problems(
    result: Mapping[str, Any],
    points: Sequence[Point],
    targets: Sequence[Target],
    clock: ClockName,
    *,
    is_own: bool = True,
) -> Iterator[str]:
    """Say what is wrong with a result that says `reached`; one that does not claim a time has nothing to prove.

    Somebody else's command (not `is_own`) evaluates when it likes, and its metrics mean what it says.
    """
    if result.get("outcome") != "reached":
        return
    metrics, times = numbers(result.get("metrics")), numbers(result.get("time_to_target"))
    broken = [name for name in _evaluated(metrics) if not math.isfinite(metrics[name])]
    if broken:
        yield f"{broken[0]} is {metrics[broken[0]]} in a result that says reached"
    yield from inconsistent_metrics(metrics) if is_own else ()
    if not targets:
        return  # it claims no time, and need not have been looked at on the grid
    if not all_hold(targets, metrics):
        failed = next((target for target in targets if not target.holds(metrics)), None)
        found = "nothing" if failed is None or failed.metric not in metrics else f"{metrics[failed.metric]:.6g}"
        yield f"the result says reached, but {failed} does not hold: {found} was measured"
    yield from _unsupported(times, points, targets, clock)
    if is_own and (reading := off_grid(points, clock)) is not None:
        yield f"an evaluation at {format_seconds(reading)} on the {clock} clock was not due"


def _unsupported(
    times: Mapping[str, float], points: Sequence[Point], targets: Sequence[Target], clock: ClockName
) -> Iterator[str]:
    """Say why the points do not bear out a time to target."""
    if not all(times.get(key, math.nan) > 0 for key in (clock, "step")):  # NaN > 0 is false
        yield f"the time to target is no positive number on the {clock} clock"
        return
    there = [point for point in points if point.get("step") == times["step"]]
    merged = numbers({key: value for point in there for key, value in point.items()})
    if not all_hold(targets, merged):
        yield f"no evaluation at step {times['step']:.0f} stands among the points at which all targets hold"
    elif abs(merged.get("train_seconds", math.nan) - times.get("train", math.nan)) > 1e-6:
        said, seen = times["train"], merged["train_seconds"]
        yield f"the time to target is {said:.3f} s of training, the point at that step says {seen:.3f} s"
    elif times.get("wall", math.inf) < merged.get("wall_seconds", math.nan) - 1e-6:
        said, seen = times["wall"], merged["wall_seconds"]
        yield f"the time to target is {said:.3f} s of wall time, the point at that step says {seen:.3f} s"


def off_grid(points: Sequence[Point], clock: ClockName) -> float | None:
    """Return the reading of an evaluation that did not fall on the grid; the last one may be there to end the run."""
    grid, key = EvaluationGrid(clock), f"{clock}_seconds"
    evaluations = [float(point[key]) for point in points if "eval_loss" in point and key in point]
    return next((reading for reading in evaluations[:-1] if not grid.is_due(reading)), None)


def inconsistent_metrics(metrics: Mapping[str, float]) -> Iterator[str]:
    """Say which metrics contradict each other: those that are the same number in another form, or out of range."""
    loss = metrics.get("eval_loss", math.nan)
    expected = math.exp(loss) if loss < 700 else math.inf
    yield from _other_form(metrics, "perplexity", expected)
    for name, top in _SCALES.items():
        if metrics.get(name, 0.0) > top * (1 + 1e-9) or metrics.get(name, 0.0) < 0:
            yield f"{name} is {metrics[name]:.6g}, it lies between 0 and {top:g}"


def _other_form(metrics: Mapping[str, float], name: str, expected: float) -> Iterator[str]:
    """Say of a metric that it is not what the loss means."""
    loss = metrics.get("eval_loss", math.nan)
    if name in metrics and math.isfinite(loss) and not math.isclose(metrics[name], expected, rel_tol=1e-6):
        yield f"{name} is {metrics[name]:.6g}, an eval_loss of {loss:.6g} means {expected:.6g}"


def data_problems(
    environment: Mapping[str, Any], result: Mapping[str, Any], reference: Mapping[str, Any]
) -> Iterator[str]:
    """Say in what a run's data differ from those of the study's first run (`reference`: its environment).

    What either of them does not tell cannot be compared.
    """
    first, now = reference.get("data") or {}, environment.get("data") or {}
    for key, name in (("num_eval", "evaluation examples"), ("num_train", "training examples"), ("hash", "data hash")):
        if key in first and now.get(key) != first[key]:
            yield f"{name}: {now.get(key)}, the study's first run had {first[key]}"
    wanted = first.get("eval") or {}
    found = now.get("eval") or {}
    for key in wanted:
        if found.get(key) != wanted[key]:
            yield f"evaluation data, {key}: {found.get(key)}, the study's first run had {wanted[key]}"
    if result.get("outcome") != "reached" or "num_targets" not in wanted:
        return
    counted = result.get("evaluated_tokens")
    if counted != wanted["num_targets"]:
        yield f"the last evaluation counted {counted} target tokens, the evaluation data have {wanted['num_targets']}"
    if wanted.get("num_bytes"):  # a token may stand for several bytes, and the end of a word for none
        metrics = numbers(result.get("metrics"))
        nats = metrics.get("eval_loss", math.nan) * wanted["num_targets"]
        yield from _other_form(metrics, "bits_per_byte", nats / math.log(2) / wanted["num_bytes"])


class ClockStamps:
    """What the launcher's clock showed at least when the run's own wall clock showed what it says."""

    def __init__(self) -> None:
        self._readings: list[tuple[float, float]] = []
        self._looked = self._last_point = 0.0
        self._has_ended = False

    def look(self, seconds: float, point: Mapping[str, Any] | None, result: Mapping[str, Any] | None) -> None:
        """Note the newest point and the result that a look found; None for what is not new, or not there.

        `seconds` after the launch the look began. What it found was written after the look before, however late the
        launcher came to look again: a busy machine cannot make a true clock look slow. Who claims more than has passed
        is not heard.
        """
        before, self._looked = self._looked, seconds
        if self._has_ended:
            return
        self._has_ended = result is not None
        self._last_point = before if point else self._last_point
        for said in (point, result):
            claimed = numbers(said).get("wall_seconds", math.nan)
            if claimed <= seconds:
                self._readings.append((before, claimed))

    @property
    def shortfall(self) -> float:
        """Share of the launcher's seconds that the run's clock has lost; 0 without readings.

        A reading is written a moment later, and that moment must not count: of those since the last quarter of the
        points the best one speaks. In 20 s a loss of 5 % is found, in 5 s one of 15 %: looks are 0.2 s apart.
        """
        late = [(at, claimed) for at, claimed in self._readings if at > 0 and at >= 0.75 * self._last_point]
        lost = [(seconds - claimed - LATENCY_SECONDS) / seconds for seconds, claimed in late]
        return max(0.0, min(lost, default=0.0))


def clock_problems(run: RunRecord, stamps: ClockStamps, calibration: Sequence[RunRecord]) -> Iterator[str]:
    """Say how a run's clocks contradict the launcher's, or each other.

    `calibration` tells how much time passes between the timed parts of an honest run.
    """
    if stamps.shortfall > CLOCK_TOLERANCE:
        yield f"its clock lost {stamps.shortfall:.1%} against the launcher's ({CLOCK_TOLERANCE:.0%} are allowed)"
    if not run.train_seconds <= run.wall_seconds:  # a NaN is not below, here and further on
        yield f"{run.train_seconds:.3f} s of training in {run.wall_seconds:.3f} s since its start"
    idle = idle_seconds(run)
    found = [(seconds, other.steps) for other in calibration if (seconds := idle_seconds(other)) is not None]
    known = [(seconds, steps) for seconds, steps in found if math.isfinite(seconds)]
    if idle is None:
        if known:
            yield f"it does not tell all of its timed parts ({', '.join(_PARTS)}), which the calibration's runs do"
        return
    fixed = max((seconds for seconds, _ in known), default=0.0)
    a_step = max((seconds / max(1, steps) for seconds, steps in known), default=IDLE_STEP_SECONDS)
    allowed = IDLE_SECONDS + fixed + a_step * run.steps + CLOCK_TOLERANCE * run.train_seconds
    yield from _idle_problems(run, idle, allowed)
    yield from _parts_problems(run, allowed)


def _idle_problems(run: RunRecord, idle: float, allowed: float) -> Iterator[str]:
    """Say why the timed parts of a run cannot be all of its time, or are more than that."""
    if not idle >= -CLOCK_TOLERANCE * run.wall_seconds:
        yield (
            f"its timed parts make up {format_seconds(run.wall_seconds - idle)}, its wall clock shows "
            f"{format_seconds(run.wall_seconds)}"
        )
    if idle > allowed:
        yield (
            f"{format_seconds(idle)} of its {format_seconds(run.wall_seconds)} lie outside of all that was timed "
            f"({format_seconds(allowed)} would be usual): its training clock has left something out"
        )


def _parts_problems(run: RunRecord, allowed: float) -> Iterator[str]:
    """Say why the readings that a run is judged by, of steps and of its time to target, are not those of its end.

    A run ends with the evaluation that reached; after that its weights are saved.
    """
    parts, times = numbers(run.seconds), numbers(run.time_to_target)
    if not parts["steps"] - run.train_seconds <= CLOCK_TOLERANCE * parts["steps"]:
        yield f"{run.train_seconds:.3f} s of training, but its steps took {parts['steps']:.3f} s"
    if run.train_seconds - times.get("train", math.inf) > CLOCK_TOLERANCE * run.train_seconds:
        yield f"its time to target is {times['train']:.3f} s of training, it ended at {run.train_seconds:.3f} s"
    if run.wall_seconds - times.get("wall", math.inf) > parts["saving"] + allowed:
        yield f"its time to target is {times['wall']:.3f} s of wall time, it ended at {run.wall_seconds:.3f} s"


def idle_seconds(run: RunRecord) -> float | None:
    """Return the seconds of a run that none of its timed parts accounts for, None where it does not tell them."""
    parts = numbers(run.seconds)
    return run.wall_seconds - sum(parts[name] for name in _PARTS) if parts.keys() >= set(_PARTS) else None


def why_again(history: History, run: RunRecord) -> str:
    """Say why a run is to be evaluated again from its weights; empty for a run that nothing rests on.

    `history` is what came before it. The baseline's runs show how far apart the audit and the evaluation data lie.
    """
    if run.role == "baseline":
        return "calibration" if run.outcome in ("reached", "missed", "out_of_budget") else ""
    seconds = run.clock_to_target(history.clock)
    if not math.isfinite(seconds):
        return ""
    is_new = run.role in ("confirm", "incumbent", "ablation") and run.candidate > history.incumbent
    if is_new and seconds < estimate(history, history.incumbent).median_seconds:
        return "a keep rests on it"
    if run.role == "incumbent" and run.candidate == history.incumbent and not _was_evaluated_again(history):
        return "a keep rests on it"  # of which runs too short to reach the targets have decided
    is_claimed = run.role == "record" and run.candidate == history.incumbent
    if is_claimed and not any(other.candidate == run.candidate for other in current_look(history).runs):
        return "a record rests on it"
    return too_good(history, run)


def _was_evaluated_again(history: History) -> bool:
    """Say whether a run of the incumbent was; the baseline has its calibration."""
    runs = history.runs_of(history.incumbent)
    return history.incumbent == 0 or any(run.guards.get("evaluated_again") for run in runs)


def too_good(history: History, run: RunRecord) -> str:
    """Say why a time to target is too good to be taken on trust; empty when it is not."""
    seconds = run.clock_to_target(history.clock)
    times = [time for other in history.runs if math.isfinite(time := other.clock_to_target(history.clock))]
    if not times:
        return "no run before it reached the targets"
    if seconds < TOO_GOOD_RATIO * min(times):
        return f"{1 - seconds / min(times):.0%} less time than any run before it"
    expected = estimate(history, run.candidate).median_seconds
    if not math.isfinite(expected) and run.candidate:
        proposal = history.proposal(run.candidate)
        expected = estimate(history, proposal.parent).median_seconds * proposal.predicted_ratio
    limit = expected * math.exp(-TOO_GOOD_SIGMAS * estimate_noise(history).sigma)
    if math.isfinite(limit) and seconds < limit:
        return f"{format_seconds(seconds)} where {format_seconds(expected)} was expected"
    return ""


def reproduction_problems(claimed: Mapping[str, float], again: Mapping[str, Any]) -> Iterator[str]:
    """Say which metrics of a result its saved weights do not give again.

    `again` is a part of evaluation.json: `metrics`, and `num_examples` and `num_targets`, of which one may differ where
    a metric counts them.
    """
    found = numbers(again.get("metrics"))
    for name in _evaluated(claimed):
        difference = abs(found.get(name, math.nan) - claimed[name])
        if not difference <= _tolerance(name, claimed[name], again):  # a NaN is not below
            yield f"{name} was {claimed[name]:.6g}, its saved weights give {found.get(name, math.nan):.6g}"


def _evaluated(metrics: Mapping[str, float]) -> list[str]:
    """Return the names of the metrics that an evaluation gave."""
    return [name for name in (*_EVALUATED, *filter(is_task_metric, metrics)) if name in metrics]


def _tolerance(name: str, value: float, again: Mapping[str, Any]) -> float:
    """Return how far two measurements of one metric may lie apart."""
    if name in ("eval_accuracy", "eval_byte_accuracy", "eval_word_accuracy"):
        return max(REPRODUCED, 1.5 / max(1, int(again.get("num_targets") or 0)))
    if is_task_metric(name) and name.endswith("accuracy"):  # of a part of the targets, how large it is nobody tells
        return max(REPRODUCED, 0.01)
    if name in GENERATION_METRICS:
        return _SCALES[name] * max(REPRODUCED, 1.5 / max(1, int(again.get("num_examples") or 0)))
    return REPRODUCED * max(1.0, abs(value))


def audit_gap(evaluation: Mapping[str, Any]) -> float | None:
    """Return the log ratio of the losses on audit and evaluation data, None where there are no audit data."""
    losses = [numbers((evaluation.get(part) or {}).get("metrics")).get("eval_loss", 0.0) for part in ("audit", "eval")]
    return math.log(losses[0] / losses[1]) if min(losses) > 0 and all(map(math.isfinite, losses)) else None


def believed_sigma(evaluation: Mapping[str, Any]) -> float:
    """Return the spread of the gap between honest recipes that the sizes of evaluation and audit data let expect."""
    sizes = [int((evaluation.get(part) or {}).get("num_examples") or 1) for part in ("eval", "audit")]
    return EXAMPLE_SPREAD * math.sqrt(sum(1 / size for size in sizes))


def gap_problem(gap: float, calibration: Sequence[float], believed: float) -> str:
    """Say so when a run does worse on the audit data than on the evaluation data, beyond what calibration shows.

    The limit is 3 sigma above the calibration's mean, widened by Student's t for the few runs that sigma rests on; the
    calibration differs in its seeds alone, so a `believed` sigma between recipes counts as some more runs. With fewer
    than two of the calibration nothing is said.
    """
    if len(calibration) < 2:
        return ""
    degrees = len(calibration) - 1 + BELIEVED_RUNS
    squares = (len(calibration) - 1) * variance(calibration) + BELIEVED_RUNS * believed**2
    sigma = math.sqrt(squares / degrees * (1 + 1 / len(calibration)))
    usual, limit = fmean(calibration), _THREE_SIGMA[min(degrees, max(_THREE_SIGMA))] * sigma
    if gap - usual <= limit:
        return ""
    return (
        f"its loss is {math.expm1(gap):.1%} higher on audit data that no run is judged by, where the calibration had "
        f"{math.expm1(usual):.1%} and up to {math.expm1(usual + limit):.1%} can be chance: it has learned the "
        "evaluation data"
    )


def numbers(values: object) -> dict[str, float]:
    """Return the numbers of a mapping; whatever else stands in it becomes not a number."""
    if not isinstance(values, Mapping):
        return {}
    is_number = {key: isinstance(value, int | float) and not isinstance(value, bool) for key, value in values.items()}
    return {str(key): float(value) if is_number[key] else math.nan for key, value in values.items()}
