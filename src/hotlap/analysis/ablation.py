"""Variants of a config side by side: what each came to with the same seeds, and which differences are no luck.

    figures = compare_variants(courses, num_variants=2, has_targets=False)

Runs with one seed share the order of their data and most of their luck, so differences are taken seed by seed. Their
mean has the interval of Student's t (W. S. Gosset 1908, "The probable error of a mean", Biometrika 6); with several
variants Holm's procedure keeps the chance of any false difference at alpha for each quantity (S. Holm 1979,
Scandinavian Journal of Statistics 6). An interval is shown at the level at which that procedure looked at it, so it
leaves out zero exactly where a difference is called distinguishable.
"""

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Final, Literal, NamedTuple

from hotlap.config.sweep_parameter import beta_quantile, beta_share

ALPHA: Final = 0.05
TOLERANCE: Final = 0.01
"""Share of a place by which an evaluation may lie behind it, where that is more than one step."""

Key = Literal["steps", "clock", "final", "target", "speed"]


class Evaluation(NamedTuple):
    """A loss with the place at which it was measured."""

    step: int
    seconds: float
    """Reading of the judged clock."""
    loss: float


class Course(NamedTuple):
    """One run that counts, as a comparison sees it."""

    variant: int
    seed: int
    run_id: str
    evaluations: tuple[Evaluation, ...]
    """Those with a finite loss, first to last."""
    steps: int
    seconds: float
    """Last reading of the judged clock."""
    tokens_per_second: float
    seconds_to_target: float
    """Infinite for a miss; not a number without targets."""
    failure: str = ""
    """How it broke, such as `diverged`; empty for a run that came to an end."""

    @property
    def seconds_per_step(self) -> float:
        """Mean seconds of a step."""
        return self.seconds / self.steps if self.steps else 0.0


class Figures(NamedTuple):
    """What the runs of one variant came to in one quantity."""

    variant: int
    values: tuple[tuple[int, float], ...]
    """Seed and value of every run that has one; an infinite value is a target that was missed."""
    mean: float
    """Of the finite values; not a number without one."""
    spread: float
    """Standard deviation over seeds; not a number for fewer than two."""
    lacking: tuple[str, ...]
    """Why other runs have no value, one text each."""


class Comparison(NamedTuple):
    """One variant against the reference in one quantity."""

    variant: int
    pairs: int
    """Seeds with a value on both sides."""
    difference: float
    """Mean over seeds: in the unit of the quantity, or as a share of the reference's value where it is relative."""
    low: float
    high: float
    """The interval of the difference; not a number where none can be given."""
    level: float
    """Of the interval."""
    is_distinguishable: bool
    is_better: bool
    """Whether the difference points to the better side."""
    reason: str
    """Why nothing can be told apart; empty where the interval says it."""


class Quantity(NamedTuple):
    """One way to compare the runs."""

    key: Key
    place: float
    """The step, or the reading of the clock in seconds, at which runs are compared; not a number for the others."""
    used: tuple[float, float]
    """The first and the last place of the evaluations that were taken; not a number where none was."""
    is_relative: bool
    """Whether differences are shares."""
    less_is_better: bool
    figures: tuple[Figures, ...]
    """One for each variant, the reference first."""
    comparisons: tuple[Comparison, ...]
    """One for each variant but the reference."""


def compare_variants(
    courses: Sequence[Course], num_variants: int, *, has_targets: bool, at_step: int | None = None
) -> tuple[Quantity, ...]:
    """Return the quantities in which variants can be compared: losses at equal places, time to target, speed.

    Runs of failed seeds lower no mean: they are told as lacking, and a variant that lacks one is not judged. `at_step`
    takes the place of the last step that all runs reached, as far as they reached it.
    """
    told = [course for course in courses if not course.failure and course.evaluations]
    if not told:
        return ()
    reached = min(course.steps for course in told)
    step = min(at_step, reached) if at_step is not None else reached
    seconds = min(course.seconds for course in told)
    table = _Table(courses, num_variants)
    found = [
        table.losses("steps", step, lambda evaluation, _: (evaluation.step, 0.0)),
        table.losses("clock", seconds, lambda evaluation, course: (evaluation.seconds, course.seconds_per_step)),
        table.quantity("final", lambda course: course.evaluations[-1].loss if course.evaluations else math.nan),
    ]
    if has_targets:
        found.append(table.quantity("target", lambda course: course.seconds_to_target, is_relative=True))
    speed = table.quantity("speed", lambda course: course.tokens_per_second, is_relative=True, less_is_better=False)
    return (*found, speed)


class _Table:
    """Takes one value of each run and compares the variants by it."""

    def __init__(self, courses: Sequence[Course], num_variants: int) -> None:
        self._courses = courses
        self._num_variants = num_variants

    def losses(self, key: Key, place: float, place_of: Callable[[Evaluation, Course], tuple[float, float]]) -> Quantity:
        """Compare by the loss at a place: that of the nearest evaluation, as long as it does not lie behind it.

        A run ends within its last step, so behind means by more than a step, and by more than 1 %.
        """
        used: list[float] = []

        def loss(course: Course) -> float:
            places = [(evaluation, *place_of(evaluation, course)) for evaluation in course.evaluations]
            there = [(evaluation, at) for evaluation, at, step in places if at <= place + max(step, TOLERANCE * place)]
            if not there:
                return math.nan
            evaluation, at = min(there, key=lambda each: abs(each[1] - place))
            used.append(at)
            return evaluation.loss

        found = self.quantity(key, loss)
        span = (min(used), max(used)) if used else (math.nan, math.nan)
        return found._replace(place=place, used=span)

    def quantity(
        self,
        key: Key,
        value: Callable[[Course], float],
        *,
        is_relative: bool = False,
        less_is_better: bool = True,
    ) -> Quantity:
        """Compare by a value of each run; one that is not a number is lacking."""
        figures = tuple(self._figures(variant, value) for variant in range(self._num_variants))
        comparisons = _compare(figures, is_relative=is_relative, less_is_better=less_is_better)
        nowhere = (math.nan, math.nan)
        return Quantity(key, math.nan, nowhere, is_relative, less_is_better, figures, comparisons)

    def _figures(self, variant: int, value: Callable[[Course], float]) -> Figures:
        own = [course for course in self._courses if course.variant == variant]
        found = [(course, math.nan if course.failure else value(course)) for course in own]
        values = tuple((course.seed, number) for course, number in found if not math.isnan(number))
        finite = [number for _, number in values if math.isfinite(number)]
        lacking = tuple(course.failure or "not evaluated by then" for course, number in found if math.isnan(number))
        mean = fmean(finite) if finite else math.nan
        return Figures(variant, values, mean, stdev(finite) if len(finite) > 1 else math.nan, lacking)


def _compare(figures: Sequence[Figures], *, is_relative: bool, less_is_better: bool) -> tuple[Comparison, ...]:
    """Hold every variant against the first one."""
    reference, *others = figures
    gains = {other.variant: _gains(reference, other, is_relative=is_relative) for other in others}
    reasons = {other.variant: _why_not(reference, other, gains[other.variant]) for other in others}
    levels = holm_levels({number: gains[number] for number in gains if not reasons[number]})
    found = []
    for other in others:
        number, differences = other.variant, gains[other.variant]
        mean = fmean(differences) if differences else math.nan
        low = high = level = math.nan
        if number in levels:
            level, half = levels[number], half_width(differences, levels[number])
            low, high = mean - half, mean + half
        is_distinguishable = bool(low > 0 or high < 0)
        mean, low, high = (math.expm1(end) for end in (mean, low, high)) if is_relative else (mean, low, high)
        is_better = mean < 0 if less_is_better else mean > 0
        reason = reasons[number] or ("equal in every seed" if not any(differences) else "")
        found.append(
            Comparison(number, len(differences), mean, low, high, level, is_distinguishable, is_better, reason)
        )
    return tuple(found)


def _gains(reference: Figures, other: Figures, *, is_relative: bool) -> list[float]:
    """Return the differences seed by seed, of logarithms where they are relative; only finite ones."""
    before, after = dict(reference.values), dict(other.values)
    pairs = [(before[seed], after[seed]) for seed in before if seed in after]
    if is_relative:
        pairs = [(math.log(a), math.log(b)) for a, b in pairs if min(a, b) > 0 and math.isfinite(a + b)]
    return [b - a for a, b in pairs if math.isfinite(b - a)]


def _why_not(reference: Figures, other: Figures, differences: Sequence[float]) -> str:
    """Say why two variants cannot be judged; empty when they can."""
    for side, name in ((reference, "the reference"), (other, "this variant")):
        if side.lacking:
            return f"{len(side.lacking)} of {len(side.lacking) + len(side.values)} of {name}: {side.lacking[0]}"
        missed = sum(math.isinf(value) for _, value in side.values)
        if missed:
            return f"{missed} of {len(side.values)} of {name} missed the target"
    if len(differences) < 2:
        count = len(differences) or "no"
        return f"{count} seed{'' if count == 1 else 's'} on both sides: nothing can be told apart with fewer than 2"
    return ""


def holm_levels(differences: dict[int, list[float]]) -> dict[int, float]:
    """Return the level of the interval of each mean at which Holm's procedure looks at it.

    The smallest p is held against alpha / m, the next one against alpha / (m - 1), and so on until one fails; it and
    all that follow stay at that level.
    """
    order = sorted(differences, key=lambda number: p_value(differences[number]))
    levels: dict[int, float] = {}
    has_failed = False
    alpha = ALPHA
    for place, number in enumerate(order):
        alpha = alpha if has_failed else ALPHA / (len(order) - place)
        has_failed = has_failed or p_value(differences[number]) > alpha
        levels[number] = 1 - alpha
    return levels


def p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p of Student's t for a mean of 0; 0 where all differences are one number but 0."""
    mean, error = fmean(differences), stdev(differences) / math.sqrt(len(differences))
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    degrees = len(differences) - 1
    return beta_share(degrees / (degrees + (mean / error) ** 2), degrees / 2, 0.5)


def half_width(differences: Sequence[float], level: float) -> float:
    """Return half of the width of the interval of a mean of at least two differences."""
    error = stdev(differences) / math.sqrt(len(differences))
    return student_quantile(1 - level, len(differences) - 1) * error


def student_quantile(alpha: float, degrees: int) -> float:
    """Return what Student's t exceeds on either side with a chance of alpha."""
    share = beta_quantile(alpha, degrees / 2, 0.5)
    return math.sqrt(degrees * (1 - share) / share)
