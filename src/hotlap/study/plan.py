"""The heart of a study: what to do next, as a pure function of what happened so far.

Nothing is remembered between two calls, so a killed study goes on by folding its ledger into a History again.

baseline runs → propose → screen → confirm → fresh run → propose → … → record look → end
"""

from dataclasses import dataclass, replace
from typing import Final

from hotlap.core.durations import format_seconds
from hotlap.core.records import Decision, History, Proposal, RecordClaim, Role, RunRecord
from hotlap.search.audits import is_audited
from hotlap.search.cost import least_record_cost, limit_seconds, slower_seconds
from hotlap.search.drift import comparable_runs, suspected_drift
from hotlap.search.goal import reached_goal
from hotlap.search.judge import (
    FRESH_RUNS,
    is_beyond_luck,
    is_in_doubt,
    judge_ablation,
    judge_confirm,
    judge_fresh,
    judge_overtaken,
    judge_repetition,
    judge_screen,
    rival_of,
)
from hotlap.search.ladder import proposals_since_incumbent_ran, repetitions_in_a_row, tries_without_keep
from hotlap.search.noise import Noise, counted_runs, estimate, estimate_noise
from hotlap.search.record import (
    MAX_LOOKS,
    baseline_readings,
    current_look,
    is_claimed,
    judge_record,
    last_record,
    look_pace,
)
from hotlap.search.systems import TIMING_RUNS, Lane, judge_timing, systems_lane, timing_limit
from hotlap.study.room import can_ablate, can_propose, is_out_of_patience, seconds_left
from hotlap.study.settings import StudySettings

FIRST_CALIBRATION_RUNS: Final = 2
"""Baseline runs before the first proposal; the others wait until the noise decides something."""
MAX_REPEATS: Final = 3
"""Times in a row that a run lost to the machine is repeated."""
DRIFT_PROPOSALS: Final = 8
"""Decided proposals after which the incumbent is run once more."""
PASSED_PROPOSALS: Final = 2
"""The same, counting the present one, where a screen has passed: a faster machine must not pass for a faster recipe."""
PLAUSIBLE_DRIFT: Final = 1.5
"""A recipe that is faster by more than this needs no look at the machine."""
MOST_ABLATION_RUNS: Final = 2 * FRESH_RUNS
"""Runs without a change when the first two could not tell whether it does anything."""
MOST_REPETITIONS: Final = 12
"""Proposals in a row that were tried before: whoever makes them has nothing else, and would go on for ever."""
BROKEN_OUTCOMES: Final = ("crashed", "out_of_memory", "diverged", "invalid")


@dataclass(frozen=True, slots=True)
class StartRun:
    """Start one run and put its record into the history."""

    role: Role
    candidate: int
    seed: int
    limit_seconds: float
    """Bound on the judged clock."""
    is_raced: bool
    why: str


@dataclass(frozen=True, slots=True)
class Decide:
    """Write a decision down."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class Claim:
    """Write the outcome of a record look down."""

    claim: RecordClaim


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask the policy for the next proposal; when it has none, call again with `ideas_left=False`."""

    is_ablation: bool = False
    """Only leave-one-out changes are wanted: patience is used up, and the ladder is to be cleaned."""


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is left to do, and why."""

    reason: str


Action = StartRun | Decide | Claim | Propose | End


def next_action(history: History, settings: StudySettings, ideas_left: bool = True, sitting_start: int = 0) -> Action:
    """Return what a study does next; the same history always gives the same answer.

    `ideas_left` is False once the policy had no proposal. `sitting_start` is the number of runs at the start of this
    sitting: machine failures of earlier sittings do not count, so a study can be taken up again after them.
    """
    ideas_left = ideas_left and repetitions_in_a_row(history) < MOST_REPETITIONS
    return (
        give_up(history, sitting_start)
        or _calibrate(history, settings)
        or _continue_look(history, settings)
        or _check_keep(history, settings)
        or _work_on_proposal(history, settings)
        or _stop_at_goal(history, settings)
        or _go_on(history, settings, ideas_left)
        or _wind_up(history, settings, ideas_left)
    )


def give_up(history: History, sitting_start: int) -> End | None:
    """End after too many runs in a row that the machine spoiled."""
    failures = 0
    for run in reversed(history.runs[sitting_start:]):
        if not run.is_infrastructure_failure:
            break
        failures += 1
    if failures <= MAX_REPEATS:
        return None
    last = history.runs[-1]
    why = last.contaminated or last.reason or last.outcome
    return End(f"{failures} runs in a row were spoiled by the machine (the last one, {last.run_id}: {why})")


def _calibrate(history: History, settings: StudySettings) -> Action | None:
    """Run the baseline for a first idea of the noise; a baseline that breaks is not worth a study."""
    runs = history.runs_of(0, "baseline")
    for run in runs[:FIRST_CALIBRATION_RUNS]:
        if run.outcome in BROKEN_OUTCOMES:
            why = f": {run.reason}" if run.reason else ""
            how = "is invalid" if run.outcome == "invalid" else run.outcome.replace("_", " ")
            advice = "repair the config and start it under another name"
            return End(f"the baseline run {run.run_id} {how}{why}; {advice}")
    if len(runs) >= min(FIRST_CALIBRATION_RUNS, settings.calibrate_runs):
        return None
    return _run_baseline(history, settings)


def _measure_bar(history: History, settings: StudySettings) -> Action | None:
    """Run what a screen that just passed is held against, where its time or the noise rests on too few runs.

    That is the incumbent's second fresh run, or the baseline's other calibration runs, unless other runs tell as much
    of the noise by now. A baseline that misses tells nothing of it.
    """
    if history.incumbent:
        fresh = comparable_runs(history, history.incumbent, "incumbent", "record")
        return _run_fresh(history, settings, len(fresh) + 1) if len(fresh) < FRESH_RUNS else None
    runs, known = history.runs_of(0, "baseline"), estimate_noise(history).degrees_of_freedom
    if len(runs) >= settings.calibrate_runs or known >= settings.calibrate_runs - 1:
        return None
    return _run_baseline(history, settings) if any(run.outcome == "reached" for run in runs) else None


def _run_baseline(history: History, settings: StudySettings) -> Action:
    number = len(history.runs_of(0, "baseline")) + 1
    why = f"baseline run {number} of {settings.calibrate_runs}: measures the time to beat and the noise"
    return _start(history, settings, "baseline", 0, settings.run_seconds, why)


def _check_keep(history: History, settings: StudySettings) -> Action | None:
    """Run a kept candidate afresh, and withdraw the keep if two such runs contradict it.

    Where the first is faster, the second one waits until a close screen is held against it, or it is due anyway. After
    its record look nothing of that is open, also where a drift has made some of its runs blind.
    """
    number = history.incumbent
    if not number or is_claimed(history, number):
        return None
    proposal = history.proposal(number)
    fresh = comparable_runs(history, number, "incumbent")
    if len(fresh) < FRESH_RUNS and is_in_doubt(history, proposal, fresh):
        return _run_fresh(history, settings, len(fresh) + 1)
    counted = (run for run in reversed(history.runs) if run.role not in ("manual", "audit"))
    last = next((run for run in counted if not run.is_infrastructure_failure), None)
    if len(fresh) > FRESH_RUNS or last is not fresh[-1]:
        return None  # judged once, right after its second fresh run; what comes later cannot reopen it
    decision = judge_fresh(history, proposal, estimate_noise(history))
    return Decide(decision) if decision else None


def _run_fresh(history: History, settings: StudySettings, turn: int) -> Action:
    number = history.incumbent
    limit = limit_seconds(history, rival_of(history, history.proposal(number)), settings.run_seconds)
    why = f"fresh run {turn} of the incumbent: the runs that chose it do not count"
    return _start(history, settings, "incumbent", number, limit, why)


def _work_on_proposal(history: History, settings: StudySettings) -> Action | None:
    """Take the first undecided proposal one step further that there is room for; a larger budget takes up the rest."""
    decided = {decision.proposal for decision in history.decisions}
    for proposal in history.proposals:
        if proposal.number in decided:
            continue
        is_ablation, is_new = proposal.role == "ablation", not history.runs_of(proposal.number)
        if is_new and (decision := judge_overtaken(history, proposal) or judge_repetition(history, proposal)):
            return Decide(decision)
        has_room = can_ablate if is_ablation else can_propose
        if not is_new or has_room(history, settings):
            return _ablate(history, settings, proposal) if is_ablation else _test(history, settings, proposal)
    return None


def _test(history: History, settings: StudySettings, proposal: Proposal) -> Action:
    number, noise = proposal.number, estimate_noise(history)
    lane = systems_lane(history, proposal)
    if lane is not None and not lane.is_left:
        return _time(history, settings, lane)
    screens = comparable_runs(history, number, "screen")
    if not screens and is_audited(number):
        why = f"screen of proposal {number}, not raced: an audit of racing"
        longest = estimate(history, history.incumbent).median_seconds  # who needs longer has failed, raced or not
        return _start(history, settings, "screen", number, min(settings.run_seconds, longest), why)
    if not screens:
        why = f"screen of proposal {number}"
        return _start(history, settings, "screen", number, settings.run_seconds, why)
    if decision := judge_screen(history, proposal, screens[0], noise):
        return Decide(decision)
    if confirms := history.runs_of(number, "confirm", "incumbent"):
        return Decide(judge_confirm(history, proposal, screens[0], confirms[0], noise, settings.allow_trade))
    return _confirm(history, settings, proposal, screens[0], noise)


def _confirm(history: History, settings: StudySettings, proposal: Proposal, screen: RunRecord, noise: Noise) -> Action:
    """Run what has passed its screen again, after a look at the bar or the machine where that may have helped.

    After a screen that was no matter of luck the second run chooses nothing any more, and counts as a fresh one.
    """
    number, before = proposal.number, estimate(history, history.incumbent).median_seconds
    is_sure = is_beyond_luck(history, proposal, screen, noise)
    is_close = PLAUSIBLE_DRIFT * screen.clock_to_target(history.clock) > before
    first = None if is_sure else _measure_bar(history, settings)
    first = first or (_remeasure(history, settings, PASSED_PROPOSALS) if is_close else None)
    if first is not None:
        return first
    limit = limit_seconds(history, history.incumbent, settings.run_seconds)
    why = f"the screen of proposal {number} passed{' far beyond luck' if is_sure else ''}: one run with another seed"
    return _start(history, settings, "incumbent" if is_sure else "confirm", number, limit, why)


def _time(history: History, settings: StudySettings, lane: Lane) -> Action:
    """Take a change of the step time alone one timing run further; all of them share one seed."""
    if decision := judge_timing(history, lane, settings.allow_trade):
        return Decide(decision)
    candidate, turn = lane.next_candidate, len(lane.new) + len(lane.old) + 1
    side = "the change" if candidate == lane.proposal.number else "the incumbent"
    why = f"timing run {turn} of {2 * TIMING_RUNS} of proposal {lane.proposal.number}, {side}: same seed, same work?"
    limit = timing_limit(history, lane, settings.run_seconds)
    return _start(history, settings, "timing", candidate, limit, why, lane.seed)


def _ablate(history: History, settings: StudySettings, proposal: Proposal) -> Action:
    """Run the incumbent without a kept change; where two runs cannot tell, both sides in turn."""
    runs = comparable_runs(history, proposal.number, "ablation")[:MOST_ABLATION_RUNS]
    if len(runs) >= FRESH_RUNS or any(run.outcome != "reached" for run in runs):
        decision = judge_ablation(history, proposal, runs, estimate_noise(history), settings.allow_trade)
        is_last = len(runs) == MOST_ABLATION_RUNS or not can_ablate(history, settings)
        if decision.verdict != "inconclusive" or is_last:
            return Decide(decision)
    limit = slower_seconds(history, history.incumbent, settings.run_seconds)
    if len(runs) >= max(FRESH_RUNS, len(counted_runs(history, history.incumbent))):
        why = "the incumbent again: nobody can tell yet whether it is faster than without the change"
        return _start(history, settings, "incumbent", history.incumbent, limit, why)
    why = f"run {len(runs) + 1} of proposal {proposal.number}: is the kept change still needed?"
    return _start(history, settings, "ablation", proposal.number, limit, why)


def _continue_look(history: History, settings: StudySettings) -> Action | None:
    """Go on with a record look that has begun, before anything else."""
    if not history.incumbent or is_claimed(history, history.incumbent) or not current_look(history).runs:
        return None
    return _look(history, settings)


def _look(history: History, settings: StudySettings) -> Action:
    look = current_look(history)
    if look.is_complete(settings.record_runs):
        pace = look_pace(history, look) if settings.clock == "train" else 1.0  # the rest of the wall clock is no steps
        baseline, noise = baseline_readings(history, look, pace), estimate_noise(history)
        return Claim(judge_record(look, settings.clock, settings.alpha, baseline, noise, pace))
    candidate = look.next_candidate(settings.record_runs)
    before = replace(history, runs=history.runs[: look.start])  # the same limit for every run of the look
    limit = slower_seconds(before, look.candidate, settings.run_seconds)
    side = "the incumbent" if candidate == look.candidate else "the last record"
    why = f"record look {look.number}, run {len(look.runs) + 1} of {2 * settings.record_runs}: {side}"
    return _start(history, settings, "record", candidate, limit, why)


def _go_on(history: History, settings: StudySettings, ideas_left: bool) -> Action | None:
    """Ask for the next idea, after a look at the incumbent's drift when that is due."""
    if not ideas_left or is_out_of_patience(history, settings) or not can_propose(history, settings):
        return None
    return _remeasure(history, settings, DRIFT_PROPOSALS) or Propose()


def _remeasure(history: History, settings: StudySettings, after_proposals: int) -> Action | None:
    """Run the incumbent again when so many proposals have run since, and once more when its steps took another time."""
    limit = limit_seconds(history, history.incumbent, settings.run_seconds)
    if slower := suspected_drift(history):
        why = f"the incumbent once more, whose steps took {slower:.2f} times as long as before: is it the machine?"
        return _start(history, settings, "incumbent", history.incumbent, limit, why)
    proposals = proposals_since_incumbent_ran(history)
    if proposals < after_proposals:
        return None
    why = f"the incumbent again after {proposals} proposals: has the machine drifted?"
    return _start(history, settings, "incumbent", history.incumbent, limit, why)


def _wind_up(history: History, settings: StudySettings, ideas_left: bool) -> Action:
    """Clean the ladder, take the last record look, and end."""
    if ideas_left and history.incumbent and can_ablate(history, settings):
        return Propose(is_ablation=True)
    return _claim_and_end(history, settings, _why_no_more(history, settings))


def _stop_at_goal(history: History, settings: StudySettings) -> Action | None:
    """Search no further once the incumbent is as fast as was asked; a record look says whether that is true."""
    reason = reached_goal(history, settings.goal) if settings.goal else ""
    return _claim_and_end(history, settings, reason) if reason else None


def _claim_and_end(history: History, settings: StudySettings, reason: str) -> Action:
    """Take the last record look where one is due and affordable, then end."""
    if not history.incumbent:
        return End(f"{reason}; nothing was kept over the baseline")
    if is_claimed(history, history.incumbent):
        standing = "a" if last_record(history) == history.incumbent else "not confirmed as a"
        return End(f"{reason}; candidate {history.incumbent} is {standing} record")
    if len(history.claims) >= MAX_LOOKS:
        return End(f"{reason}; all {MAX_LOOKS} record looks are used, candidate {history.incumbent} stays unconfirmed")
    cost = least_record_cost(history, settings.run_seconds, settings.record_runs)
    if cost > (left := seconds_left(history, settings)):
        return End(
            f"{reason}; no record could be claimed within the budget: the runs for candidate {history.incumbent} "
            f"need about {format_seconds(cost)}, {format_seconds(max(0.0, left))} are left"
        )
    return _look(history, settings)


def _why_no_more(history: History, settings: StudySettings) -> str:
    if not can_propose(history, settings):
        return f"the budget of {format_seconds(settings.total_seconds)} has no room for another proposal"
    if is_out_of_patience(history, settings):
        tries = tries_without_keep(history)
        return f"the last {tries} proposals were not kept" if tries > 1 else "the last proposal was not kept"
    return "there are no ideas left"


def _start(
    history: History,
    settings: StudySettings,
    role: Role,
    candidate: int,
    limit: float,
    why: str,
    shared_seed: int | None = None,
) -> Action:
    """Start a run with a seed that no run of the study had (or the one given), unless the budget is used up.

    What repeats a run that the machine spoiled keeps its seed: a kill changes nothing of the study, and nobody draws a
    luckier seed by stopping a run.
    """
    if history.seconds_spent >= settings.total_seconds:
        lost = "; no record could be claimed within it" if history.incumbent else ""
        return End(f"the budget of {format_seconds(settings.total_seconds)} is used up before: {why}{lost}")
    counted = [run for run in history.runs if not run.is_infrastructure_failure]
    used = {run.seed for run in counted}
    seed = settings.seed_base + len(counted)
    while seed in used:
        seed += 1
    is_raced = role == "screen" and not is_audited(candidate)
    return StartRun(role, candidate, seed if shared_seed is None else shared_seed, limit, is_raced, why)
