"""Is it true what a study claims? Studies on recipes whose true times are known, judged by the real rules.

    python benchmarks/claims.py --write               # all settings, 200 studies each: about ten minutes on one core
    python benchmarks/claims.py --studies 50 --sigma 0.05

No training is simulated here, only its time: the true time of a recipe, seeds that need more or fewer steps, a clock
with noise of its own, the grid of evaluations, runs that the machine spoils, a machine that changes its speed. Planner,
judge and record looks are the real ones; how proposals come about plays no part.

*Null studies*: no proposal does anything. What share of them is kept, and how many studies claim a record?
*Mixed studies*: 70 % of the proposals do nothing, 20 % harm by 3 to 50 %, 10 % help by 3 to 30 %; a study is taken up
twice more with new proposals after its end, so that it has three record looks. Which records are not faster than the
record before, and how far is a claimed speedup from the true one?
*Drifting studies*: no proposal does anything, but the machine becomes faster or slower in the middle.
"""

import argparse
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

from hotlap.core.clock import GRID_RATIO
from hotlap.core.records import History, Outcome, Proposal, RecordClaim, RunRecord
from hotlap.search.audits import upper_share
from hotlap.search.drift import drifts
from hotlap.search.noise import estimate, estimate_noise, expected_false_keeps_of, screen_log_gain
from hotlap.study.plan import Claim, Decide, End, Propose, StartRun, next_action
from hotlap.study.settings import StudySettings

BASELINE_SECONDS: Final = 100.0
STEP_SECONDS: Final = 0.05
START_UP_SECONDS: Final = 3.0
CLOCK_SIGMA: Final = 0.01
MIXTURE: Final = (0.7, 0.2, 0.1)
"""Shares of proposals that do nothing, harm and help."""
SIGMAS: Final = (0.03, 0.05, 0.1, 0.25)
NOISY: Final = 0.2
MORE_OF_THE_NOISY: Final = 5
"""From such a sigma on records are rare: so many times as many mixed studies are played."""
SPEEDS: Final = (0.75, 1.25)
"""How much longer a step takes after the machine has changed."""
SETTINGS: Final = StudySettings(total_seconds=1e12, run_seconds=1e6, patience=10**6)

TITLE: Final = "# Is it true what a study claims?"
FIRST_SEED: Final = 10_000_000
"""No rule was chosen by studies with these seeds."""
RESULTS: Final = Path(__file__).parent / "results" / "claims.md"

Effect = Callable[[random.Random], float]
"""Draws the true time of a proposal, relative to its parent's."""


def null(_: random.Random) -> float:
    """Return the ratio of a change that does nothing."""
    return 1.0


def mixed(generator: random.Random) -> float:
    """Return the ratio of a change out of the mixture."""
    nothing, harm, _ = MIXTURE
    drawn = generator.random()
    if drawn < nothing:
        return 1.0
    return 1 + generator.uniform(0.03, 0.5) if drawn < nothing + harm else 1 - generator.uniform(0.03, 0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a study runs in."""

    sigma: float
    """Standard deviation of the log of the steps that seeds need."""
    effect: Effect = null
    spoiled_share: float = 0.02
    """Runs that somebody else on the machine makes half as long again; they are seen and repeated."""
    speeds: tuple[tuple[int, float], ...] = ()
    """From which run on a step takes how many times as long."""


@dataclass
class ClaimStudy:
    """Drives the real `next_action` over runs that take the time that is true of their recipe, with noise."""

    world: World
    seed: int
    settings: StudySettings = SETTINGS
    history: History = field(default_factory=lambda: History(clock="train", base_config={}))
    true_seconds: dict[int, float] = field(default_factory=lambda: {0: BASELINE_SECONDS})

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def sit(self, tries: int) -> str:
        """Take the study up with so many new proposals, until it ends; return why it did."""
        self.history = replace(self.history, ended="")
        left, first_run = tries, len(self.history.runs)
        ideas_left = True
        while True:
            action = next_action(self.history, self.settings, ideas_left, first_run)
            match action:
                case End(reason):
                    return reason
                case Propose(is_ablation):
                    ideas_left = not is_ablation and left > 0
                    left -= 1
                    if ideas_left:
                        self._propose()
                case StartRun():
                    run = self._run(action)
                    spent = self.history.seconds_spent + run.wall_seconds
                    self.history = replace(self.history, runs=(*self.history.runs, run), seconds_spent=spent)
                case Decide(decision):
                    self.history = replace(self.history, decisions=(*self.history.decisions, decision))
                case Claim(claim):
                    self.history = replace(self.history, claims=(*self.history.claims, claim))

    def _propose(self) -> None:
        number, parent = len(self.history.proposals) + 1, self.history.incumbent
        self.true_seconds[number] = self.true_seconds[parent] * self.world.effect(self._random)
        idea = Proposal(
            number=number,
            parent=parent,
            family="drawn",
            title=f"idea {number}",
            observation="none",
            hypothesis="none",
            patch={"training.learning_rate": float(number)},
            predicted_ratio=0.9,
        )
        self.history = replace(self.history, proposals=(*self.history.proposals, idea))

    def _run(self, action: StartRun) -> RunRecord:
        draw, number = self._random, len(self.history.runs)
        speed = math.prod(ratio for first, ratio in self.world.speeds if number >= first)
        step_seconds = STEP_SECONDS * speed * math.exp(draw.gauss(0.0, CLOCK_SIGMA))
        is_spoiled = draw.random() < self.world.spoiled_share
        steps = self.true_seconds[action.candidate] / STEP_SECONDS * math.exp(draw.gauss(0.0, self.world.sigma))
        seconds = on_grid(steps * step_seconds) + draw.random() * step_seconds
        outcome: Outcome = "reached"
        for limit, other in ((action.limit_seconds, "out_of_budget"), (self._cap(action), "raced")):
            if seconds > limit:
                outcome, seconds = other, limit  # type: ignore[assignment]
        times = {"train": seconds, "wall": seconds + START_UP_SECONDS, "step": round(seconds / step_seconds)}
        return RunRecord(
            run_id=f"r{number:05}",
            role=action.role,
            candidate=action.candidate,
            seed=action.seed,
            outcome=outcome,
            steps=max(1, round(seconds / step_seconds)),
            train_seconds=seconds * (1.5 if is_spoiled else 1.0),
            wall_seconds=seconds + START_UP_SECONDS,
            time_to_target=times if outcome == "reached" else None,
            contaminated="somebody else was there" if is_spoiled else "",
        )

    def _cap(self, action: StartRun) -> float:
        """Return where racing stops a screen that can no longer pass."""
        if not action.is_raced:
            return math.inf
        margin = screen_log_gain(estimate_noise(self.history))
        median = estimate(self.history, self.history.incumbent).median_seconds
        return median * math.exp(-margin) * GRID_RATIO["train"]


def on_grid(seconds: float) -> float:
    """Return the first reading of the evaluation grid that is not below."""
    ratio = math.log(GRID_RATIO["train"])
    return math.exp(ratio * math.ceil(math.log(seconds) / ratio))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One confirmed claim beside the truth."""

    claimed: float
    """Speedup over the baseline."""
    true: float
    low: float
    high: float
    is_false: bool
    """Whether it is truly no faster than the record before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one study kept and claimed."""

    tries: int
    kept: int
    false_keeps: int
    """Kept changes that are truly no faster than what they were held against."""
    expected_false_keeps: float
    """What its journal says of them."""
    drifts: int
    records: tuple[Record, ...]


def play(world: World, seed: int, tries: int, sittings: int = 1) -> Finding:
    """Play one study to its end, and compare what it says with what is true."""
    study = ClaimStudy(world, seed)
    for _ in range(sittings):
        study.sit(tries)
    history, true = study.history, study.true_seconds
    kept = history.kept()
    before = {number: max((other for other in kept if other < number), default=0) for number in kept}
    return Finding(
        tries=len(history.proposals),
        kept=len(kept),
        false_keeps=sum(true[number] >= true[before[number]] for number in kept),
        expected_false_keeps=expected_false_keeps_of(history),
        drifts=len(drifts(history)),
        records=tuple(_records(history.claims, true)),
    )


def _records(claims: Sequence[RecordClaim], true: dict[int, float]) -> Iterator[Record]:
    for claim in claims:
        if claim.confirmed and claim.speedup is not None and claim.speedup_interval is not None:
            low, high = claim.speedup_interval
            yield Record(
                claimed=claim.speedup,
                true=true[0] / true[claim.candidate],
                low=low,
                high=high,
                is_false=true[claim.candidate] >= true[claim.against],
            )


@dataclass(frozen=True, slots=True)
class Truth:
    """Many studies together."""

    findings: Sequence[Finding]

    @property
    def records(self) -> list[Record]:
        """All confirmed claims."""
        return [record for finding in self.findings for record in finding.records]

    @property
    def kept_share(self) -> float:
        """Share of the tries that were kept."""
        return sum(finding.kept for finding in self.findings) / sum(finding.tries for finding in self.findings)

    @property
    def false_keep_share(self) -> float:
        """Share of the tries that were kept and are no faster than what they were held against."""
        return sum(finding.false_keeps for finding in self.findings) / sum(finding.tries for finding in self.findings)

    @property
    def expected_false_keep_share(self) -> float:
        """What the journals say of that share."""
        expected = sum(finding.expected_false_keeps for finding in self.findings)
        return expected / sum(finding.tries for finding in self.findings)

    @property
    def studies_with_a_false_record(self) -> int:
        """Studies that claim something untrue."""
        return sum(any(record.is_false for record in finding.records) for finding in self.findings)

    @property
    def false_record_bound(self) -> float:
        """Upper 95 % bound of the share of studies with a false record."""
        return upper_share(self.studies_with_a_false_record, len(self.findings))

    @property
    def false_record_share(self) -> float:
        """Share of the records that are no faster than the record before."""
        return sum(record.is_false for record in self.records) / max(1, len(self.records))

    @property
    def mean_inflation(self) -> float:
        """Mean of claimed over true speedup."""
        found = [record.claimed / record.true for record in self.records]
        return statistics.fmean(found) if found else math.nan

    @property
    def inflation_error(self) -> float:
        """Standard error of that mean."""
        found = [record.claimed / record.true for record in self.records]
        return statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else math.nan

    @property
    def coverage(self) -> float:
        """Share of the records whose true speedup lies in the claimed interval."""
        return sum(r.low <= r.true <= r.high for r in self.records) / max(1, len(self.records))


def null_studies(sigma: float, studies: int, tries: int = 100, first_seed: int = 0) -> Truth:
    """Play studies in which no proposal does anything."""
    world = World(sigma=sigma)
    return Truth([play(world, first_seed + number, tries) for number in range(studies)])


def mixed_studies(sigma: float, studies: int, tries: int = 20, sittings: int = 3, first_seed: int = 0) -> Truth:
    """Play studies with proposals out of the mixture."""
    world = World(sigma=sigma, effect=mixed)
    return Truth([play(world, first_seed + number, tries, sittings) for number in range(studies)])


def drifting_studies(sigma: float, speed: float, studies: int, tries: int = 40, first_seed: int = 0) -> Truth:
    """Play null studies in which a step takes `speed` times as long from a run on that nobody is told."""
    drawn = random.Random(first_seed)
    worlds = [World(sigma=sigma, speeds=((drawn.randint(8, 50), speed),)) for _ in range(studies)]
    return Truth([play(world, first_seed + number, tries) for number, world in enumerate(worlds)])


def null_table(studies: int, sigmas: Sequence[float]) -> Iterator[str]:
    """Yield the lines of the table on studies of nothing."""
    yield f"Null studies of 100 tries, {studies} for each σ.\n"
    yield "| σ | tries kept | the journal expects | studies with a false record | upper 95 % bound |"
    yield "|--:|--:|--:|--:|--:|"
    for sigma in sigmas:
        truth = null_studies(sigma, studies, first_seed=FIRST_SEED + round(1e6 * sigma))
        yield (
            f"| {percent(sigma)} | {percent(truth.kept_share, 2)} | {percent(truth.expected_false_keep_share, 2)} "
            f"| {truth.studies_with_a_false_record} of {studies} | {percent(truth.false_record_bound, 1)} |"
        )


def mixed_table(studies: int, sigmas: Sequence[float]) -> Iterator[str]:
    """Yield the lines of the table on mixed studies."""
    yield "\nMixed studies of three times 20 tries; claimed / true is the mean over the records ± its standard error.\n"
    yield "| σ | studies | tries kept | of them false | records | of them false | claimed / true | interval holds |"
    yield "|--:|--:|--:|--:|--:|--:|--:|--:|"
    for sigma in sigmas:
        number = studies * (1 if sigma < NOISY else MORE_OF_THE_NOISY)
        truth = mixed_studies(sigma, number, first_seed=FIRST_SEED + round(2e6 * sigma))
        yield (
            f"| {percent(sigma)} | {number} | {percent(truth.kept_share, 1)} "
            f"| {percent(truth.false_keep_share / max(truth.kept_share, 1e-9))} | {len(truth.records)} "
            f"| {percent(truth.false_record_share, 1)} | {truth.mean_inflation:.3f} ± {truth.inflation_error:.3f} "
            f"| {percent(truth.coverage)} |"
        )


def drifting_table(studies: int, sigmas: Sequence[float]) -> Iterator[str]:
    """Yield the lines of the table on machines that change their speed."""
    yield f"\nNull studies of 40 tries whose machine changes its speed, {studies} for each line.\n"
    yield "| σ | step time | drift noticed | tries kept | studies with a false record |"
    yield "|--:|--:|--:|--:|--:|"
    for sigma in sigmas:
        for speed in SPEEDS:
            truth = drifting_studies(sigma, speed, studies, first_seed=FIRST_SEED + round(3e6 * sigma))
            noticed = sum(finding.drifts > 0 for finding in truth.findings) / studies
            yield (
                f"| {percent(sigma)} | × {speed:g} | {percent(noticed)} | {percent(truth.kept_share, 2)} "
                f"| {truth.studies_with_a_false_record} of {studies} |"
            )


def percent(share: float, digits: int = 0) -> str:
    """Return a share as `12 %`."""
    return f"{100 * share:.{digits}f} %"


def main() -> None:
    """Play the settings, print the tables and write them down when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--sigma", type=float, nargs="*", default=list(SIGMAS))
    parser.add_argument("--write", action="store_true", help=f"write the tables to {RESULTS}")
    arguments = parser.parse_args()
    lines = []
    for table in (null_table, mixed_table, drifting_table):
        for line in table(arguments.studies, arguments.sigma):
            print(line, flush=True)
            lines.append(line)
    if arguments.write:
        text = f"{TITLE}\n\nhotlap {version('hotlap')}; `python benchmarks/claims.py --write`\n\n" + "\n".join(lines)
        RESULTS.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
