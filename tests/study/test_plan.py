"""What a study does next, on simulated studies."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from simulated_study import START_UP_SECONDS, SimulatedStudy, noisy, proposal, run_record

from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.core.records import Decision, History, Outcome, RunRecord
from hotlap.search.audits import AUDIT_EVERY
from hotlap.search.ladder import seconds_without_keep, tries_without_keep
from hotlap.search.noise import SIGMA_FLOOR, estimate_noise
from hotlap.study.plan import MOST_REPETITIONS, Claim, Decide, End, Propose, StartRun, next_action
from hotlap.study.room import can_ablate, can_propose
from hotlap.study.settings import StudySettings

SETTINGS = StudySettings(total_seconds=36000.0, run_seconds=900.0)
EMPTY = History(clock="train", base_config={})


def started(study: SimulatedStudy, role: str) -> list[StartRun]:
    return [action for action in study.actions if isinstance(action, StartRun) and action.role == role]


def baselines(*seconds: float) -> tuple[RunRecord, ...]:
    return tuple(run_record(n, "baseline", 0, s) for n, s in enumerate(seconds, start=1))


def kept_study(patience: int = 12) -> SimulatedStudy:
    true = {0: 100.0, 1: 130.0, 2: 60.0, 3: 59.5, 4: 30.0}
    return SimulatedStudy(replace(SETTINGS, patience=patience), noisy(true, 0.03, 3), [proposal(1) for _ in range(4)])


def test_real_effects_are_kept_and_end_as_a_confirmed_record() -> None:
    study = kept_study()
    reason = study.run()
    history = study.history
    assert history.kept() == (2, 4)
    assert {d.proposal: d.verdict for d in history.decisions} == {1: "discard", 2: "keep", 3: "inconclusive", 4: "keep"}
    (claim,) = history.claims
    assert claim.confirmed and claim.candidate == 4 and claim.against == 0
    assert 27 < claim.median_seconds < 33
    assert "no ideas left" in reason and "is a record" in reason


def test_record_runs_alternate_and_share_one_limit() -> None:
    study = kept_study()
    study.run()
    runs = started(study, "record")
    assert [run.candidate for run in runs] == [4, 0, 0, 4, 4, 0, 0, 4]
    assert len({run.limit_seconds for run in runs}) == 1 and runs[0].limit_seconds < 70


def test_censored_record_runs_leave_the_estimate_of_the_old_side_alone() -> None:
    study = kept_study()
    study.run()
    censored = [run for run in study.history.runs if run.role == "record" and run.outcome == "out_of_budget"]
    assert len(censored) == 4 and {run.candidate for run in censored} == {0}


def test_a_claim_is_told_with_the_noise_of_its_study_in_view() -> None:
    calibration = baselines(60.0, 80.0, 107.0)
    fresh = [run_record(n, "incumbent", 1, seconds) for n, seconds in ((6, 45.0), (7, 65.0))]
    sides = zip((1, 0, 0, 1, 1, 0, 0, 1), (45.0, 66.0, 100.0, 65.0, 50.0, 75.0, 85.0, 60.0), strict=True)
    looked = [run_record(n, "record", candidate, seconds) for n, (candidate, seconds) in enumerate(sides, start=8)]
    keep = Decision(proposal=1, verdict="keep", reason="r")
    past = replace(EMPTY, runs=(*calibration, *fresh, *looked), proposals=(proposal(1),), decisions=(keep,))
    action = next_action(past, SETTINGS, ideas_left=False)
    assert isinstance(action, Claim) and action.claim.confirmed and "for luck" in action.claim.reason


def test_the_same_idea_is_discarded_without_a_run() -> None:
    study = SimulatedStudy(SETTINGS, noisy({0: 100.0}, 0.02, 3), [proposal(1)])
    study.run()
    past, (first,) = study.history, study.history.proposals
    action = next_action(replace(past, proposals=(first, replace(first, number=2)), ended=""), SETTINGS)
    assert isinstance(action, Decide) and action.decision.proposal == 2 and action.decision.verdict == "discard"
    other = replace(first, number=2, patch={"training.learning_rate": 0.1})
    assert isinstance(next_action(replace(past, proposals=(first, other), ended=""), SETTINGS), StartRun)


def test_what_never_ran_is_no_try_and_a_policy_that_repeats_itself_has_no_ideas_left() -> None:
    settings = replace(SETTINGS, patience=2, patience_seconds=1.0)
    study = SimulatedStudy(settings, noisy({0: 100.0}, 0.02, 3), [proposal(1)])
    study.run()
    (first,) = study.history.proposals
    decided = study.history
    for number in range(2, MOST_REPETITIONS + 2):
        assert next_action(decided, settings) == Propose(), number
        proposals = (*decided.proposals, replace(first, number=number))
        repeated = next_action(replace(decided, proposals=proposals), settings)
        assert isinstance(repeated, Decide)
        decided = replace(decided, proposals=proposals, decisions=(*decided.decisions, repeated.decision))
    assert tries_without_keep(decided) == 1
    ended = next_action(decided, settings)
    assert isinstance(ended, End) and "no ideas left" in ended.reason


def test_seeds_are_never_reused() -> None:
    study = kept_study()
    study.run()
    seeds = [run.seed for run in study.history.runs]
    assert len(seeds) == len(set(seeds))


def test_only_screens_are_raced_and_one_in_twelve_is_left_alone() -> None:
    ideas = [proposal(1) for _ in range(AUDIT_EVERY)]
    study = SimulatedStudy(replace(SETTINGS, patience=99), noisy({0: 100.0}, 0.02, 1), ideas)
    study.run()
    assert all(action.role == "screen" for action in study.actions if isinstance(action, StartRun) and action.is_raced)
    audits = [run for run in started(study, "screen") if not run.is_raced]
    assert [run.candidate for run in audits] == [AUDIT_EVERY] and audits[0].limit_seconds < 250


def test_every_action_is_a_pure_function_of_the_history() -> None:
    study = kept_study()
    for _ in range(200):
        action = next_action(study.history, study.settings, study.ideas_left)
        again = next_action(replace(study.history), study.settings, study.ideas_left)
        assert again == action
        if isinstance(action, End):
            return
        study.apply(action)
    raise AssertionError("no end")


def test_a_study_in_two_sittings_makes_the_same_runs() -> None:
    whole = kept_study()
    whole.run()
    prefix = replace(whole.history, decisions=whole.history.decisions[:3], claims=(), runs=whole.history.runs[:9])
    prefix = replace(prefix, proposals=whole.history.proposals[:3])
    assert next_action(prefix, SETTINGS) == next_action(replace(prefix), SETTINGS)
    missing = replace(whole.history, claims=())
    action = next_action(missing, SETTINGS)  # ideas_left is True again after a restart
    assert isinstance(action, Claim) and action.claim == whole.history.claims[0]


def test_a_baseline_that_misses_is_beaten_by_any_change_that_reaches() -> None:
    study = SimulatedStudy(SETTINGS, noisy({0: 2000.0, 1: 300.0}, 0.03, 1), [proposal(1)])
    study.run()
    assert [run.outcome for run in study.history.runs[:2]] == ["out_of_budget"] * 2
    assert len(study.history.runs_of(0, "baseline")) == 2  # a third miss would tell nothing of the noise
    assert study.history.kept() == (1,)
    assert study.history.claims[0].confirmed


def test_the_last_baseline_run_is_spared_where_a_faster_recipe_tells_as_much_of_the_noise() -> None:
    study = SimulatedStudy(SETTINGS, noisy({0: 100.0, 1: 40.0, 2: 40.0}, 0.03, 1), [proposal(1), proposal(2, 1)])
    study.run()
    assert study.history.kept() == (1,)
    assert len(study.history.runs_of(0, "baseline")) == 2
    assert estimate_noise(study.history).degrees_of_freedom >= SETTINGS.calibrate_runs - 1


@pytest.mark.parametrize(("seconds", "roles"), [(88.0, ["baseline", "confirm"]), (130.0, ["screen"])])
def test_the_last_baseline_run_waits_until_the_noise_decides_something(seconds: float, roles: list[str]) -> None:
    study = SimulatedStudy(SETTINGS, noisy({0: 100.0, 1: seconds, 2: 100.0}, 0.0, 1), [proposal(1), proposal(2)])
    study.run()
    assert [run.role for run in study.history.runs][:3] == ["baseline", "baseline", "screen"]
    assert [run.role for run in study.history.runs][3 : 3 + len(roles)] == roles


def test_the_second_fresh_run_waits_until_a_close_screen_is_held_against_it() -> None:
    true = {0: 100.0, 1: 60.0, 2: 70.0, 3: 54.5}
    study = SimulatedStudy(SETTINGS, noisy(true, 0.0, 1), [proposal(1), proposal(2), proposal(3)])
    study.run()
    made = [(run.role, run.candidate) for run in study.history.runs[2:9]]
    assert made[:2] == [("screen", 1), ("incumbent", 1)], "far beyond luck: the second run counts"
    assert made[2:] == [("screen", 2), ("screen", 3), ("incumbent", 1), ("confirm", 3), ("incumbent", 3)]


def test_a_first_fresh_run_in_doubt_is_followed_by_a_second() -> None:
    keep = Decision(proposal=1, verdict="keep", reason="fast")
    chosen = (run_record(4, "screen", 1, 90), run_record(5, "confirm", 1, 91))
    for seconds, action in ((95.0, Propose), (101.0, StartRun)):
        runs = (*baselines(100, 101, 99), *chosen, run_record(6, "incumbent", 1, seconds))
        history = replace(EMPTY, runs=runs, proposals=(proposal(1),), decisions=(keep,))
        assert isinstance(next_action(history, SETTINGS), action)


@pytest.mark.parametrize("outcome", ["crashed", "diverged", "out_of_memory"])
def test_a_broken_baseline_ends_the_study(outcome: str) -> None:
    study = SimulatedStudy(SETTINGS, noisy({0: 10.0}, 0.0, 1), [], outcomes={2: outcome})  # type: ignore[dict-item]
    assert "baseline" in study.run()
    assert len(study.history.runs) == 2


def test_lost_runs_are_repeated_with_their_seed_and_teach_nothing() -> None:
    study = kept_study()
    study.outcomes = {2: "lost", 5: "lost", 6: "interrupted", 20: "lost"}
    study.run()
    assert study.history.kept() == (2, 4) and study.history.claims[0].confirmed
    counted = [run for run in study.history.runs if not run.is_infrastructure_failure]
    assert [run.seed for run in counted] == list(range(SETTINGS.seed_base, SETTINGS.seed_base + len(counted)))
    for run, again in pairwise(study.history.runs):
        assert (run.seed == again.seed) == run.is_infrastructure_failure


def test_four_lost_runs_in_a_row_end_the_sitting_but_not_the_study() -> None:
    study = kept_study()
    study.outcomes = dict.fromkeys((5, 6, 7, 8), "lost")
    assert "4 runs in a row" in study.run()
    assert isinstance(next_action(study.history, SETTINGS, sitting_start=8), StartRun)


def test_contaminated_runs_are_repeated() -> None:
    noisy_run = replace(baselines(10.0)[0], contaminated="load 3.1")
    action = next_action(replace(EMPTY, runs=(noisy_run,)), SETTINGS)
    assert isinstance(action, StartRun) and action.role == "baseline" and "1 of 3" in action.why


def test_the_incumbent_is_measured_again_after_eight_proposals() -> None:
    ideas = [proposal(1) for _ in range(17)]
    study = SimulatedStudy(replace(SETTINGS, patience=99), noisy({0: 100.0}, 0.0, 1), ideas)
    study.run()
    drift = [n for n, action in enumerate(study.actions) if isinstance(action, StartRun) and action.role == "incumbent"]
    tried = [len({a.candidate for a in started(study, "screen") if study.actions.index(a) < n}) for n in drift]
    assert tried == [8, 16]


def test_fresh_runs_that_contradict_a_keep_withdraw_it() -> None:
    runs = (
        *baselines(100, 101, 99),
        run_record(4, "screen", 1, 80),
        run_record(5, "confirm", 1, 80),
        run_record(6, "incumbent", 1, 104),
        run_record(7, "incumbent", 1, 103),
    )
    keep = Decision(proposal=1, verdict="keep", reason="fast")
    history = replace(EMPTY, runs=runs, proposals=(proposal(1),), decisions=(keep,))
    action = next_action(history, SETTINGS)
    assert isinstance(action, Decide) and action.decision.verdict == "inconclusive"
    assert isinstance(next_action(replace(history, decisions=(keep, action.decision)), SETTINGS), Propose)


def test_a_keep_that_stood_is_not_judged_again() -> None:
    runs = (
        *baselines(100, 101, 99),
        run_record(4, "screen", 1, 80),
        run_record(5, "confirm", 1, 80),
        run_record(6, "incumbent", 1, 79),
        run_record(7, "incumbent", 1, 83),
        run_record(8, "incumbent", 1, 300),
    )
    keep = Decision(proposal=1, verdict="keep", reason="fast")
    history = replace(EMPTY, runs=runs, proposals=(proposal(1),), decisions=(keep,))
    assert isinstance(next_action(history, SETTINGS), Propose)


def test_patience_lasts_while_proposals_took_little_of_the_budget() -> None:
    settings = replace(SETTINGS, patience=2, patience_seconds=5 * (100.0 + START_UP_SECONDS) - 1)
    study = SimulatedStudy(settings, noisy({0: 100.0}, 0.0, 1), [proposal(1) for _ in range(9)])
    assert "the last 5 proposals were not kept" in study.run()
    assert seconds_without_keep(study.history) >= settings.patience_seconds
    config = RunConfig.model_validate({"targets": ["eval_loss < 1"], "budget": {"total": "1h"}})
    unnamed = StudySettings.from_config(config)
    named = StudySettings.from_config(config.model_copy(update={"patience": 2}))
    assert (unnamed.patience, unnamed.patience_seconds) == (12, 900)
    assert (named.patience, named.patience_seconds) == (2, 0)


def test_patience_ends_the_study() -> None:
    study = SimulatedStudy(replace(SETTINGS, patience=2), noisy({0: 100.0}, 0.02, 1), [proposal(1) for _ in range(9)])
    assert "the last 2 proposals were not kept" in study.run()
    assert len(study.history.proposals) == 2


def test_a_failed_look_is_not_repeated() -> None:
    study = kept_study()
    study.run()
    failed = replace(study.history, claims=(replace(study.history.claims[0], confirmed=False),))
    action = next_action(failed, SETTINGS, ideas_left=False)
    assert isinstance(action, End) and "not confirmed" in action.reason


def test_the_budget_keeps_room_for_the_record() -> None:
    ideas = [proposal(1), *(proposal(1) for _ in range(200))]
    settings = replace(SETTINGS, total_seconds=4000.0, patience=999)
    study = SimulatedStudy(settings, noisy({0: 100.0, 1: 50.0, 2: 49.0}, 0.02, 1), ideas)
    reason = study.run()
    assert study.history.claims[0].confirmed
    assert study.history.seconds_spent <= 4000.0
    assert "no room for another proposal" in reason


def test_a_record_look_that_takes_much_of_the_budget_waits_for_a_faster_incumbent() -> None:
    settings = replace(SETTINGS, total_seconds=460.0, calibrate_runs=2)
    ideas = [proposal(1), *(proposal(1) for _ in range(20))]
    true = {0: 43.0, 1: 20.0, **dict.fromkeys(range(2, 23), 8.0)}
    study = SimulatedStudy(settings, noisy(true, 0.02, 1), ideas)
    study.run()
    first_look = next(n for n, run in enumerate(study.history.runs) if run.role == "record")
    assert study.history.kept() == (1, 2)
    assert study.history.runs[first_look].candidate == 2 and study.history.claims[0].confirmed


def test_a_budget_too_small_for_a_record_says_so() -> None:
    settings = replace(SETTINGS, total_seconds=600.0)
    study = SimulatedStudy(settings, noisy({0: 100.0, 1: 50.0}, 0.02, 1), [proposal(1)])
    assert "no record could be claimed within the budget" in study.run()
    assert not study.history.claims


def test_a_budget_used_up_in_calibration_ends() -> None:
    study = SimulatedStudy(replace(SETTINGS, total_seconds=90.0), noisy({0: 100.0}, 0.02, 1), [])
    assert "used up" in study.run()


def test_limits_follow_the_incumbent() -> None:
    study = SimulatedStudy(SETTINGS, noisy({0: 100.0, 1: 88.0}, 0.0, 1), [proposal(1)])
    study.run()
    assert started(study, "baseline")[0].limit_seconds == 900
    assert started(study, "screen")[0].limit_seconds == 900
    assert started(study, "confirm")[0].limit_seconds == pytest.approx(200)
    assert started(study, "incumbent")[0].limit_seconds == pytest.approx(200)
    slower = 88 * math.exp(4 * SIGMA_FLOOR)
    assert started(study, "record")[0].limit_seconds == pytest.approx(slower) and slower < 110


def test_an_audit_goes_on_no_longer_than_a_screen_that_could_pass() -> None:
    ideas = [proposal(n) for n in range(1, AUDIT_EVERY + 1)]
    study = SimulatedStudy(replace(SETTINGS, patience=99), noisy({0: 100.0}, 0.0, 1), ideas)
    study.run()
    *others, audit = started(study, "screen")
    assert audit.candidate == AUDIT_EVERY and not audit.is_raced and audit.limit_seconds == pytest.approx(100)
    assert all(screen.is_raced and screen.limit_seconds == 900 for screen in others)


@pytest.mark.parametrize(
    ("seconds", "second"), [(50, ["incumbent"]), (80, ["incumbent"]), (84, ["confirm", "incumbent"])]
)
def test_after_a_screen_beyond_luck_the_next_run_counts_as_fresh(seconds: float, second: list[str]) -> None:
    study = SimulatedStudy(SETTINGS, noisy({0: 100.0, 1: 130.0, 2: seconds}, 0.0, 1), [proposal(1), proposal(2)])
    study.run()
    roles = [run.role for run in study.history.runs if run.candidate == 2 and run.role != "record"]
    assert roles == ["screen", *second]
    assert study.history.kept() == (2,)


def test_a_second_run_that_fails_is_no_keep_however_fast_the_screen_was() -> None:
    times = iter([100.0, 100.0, 130.0, 40.0, 99.0])
    study = SimulatedStudy(SETTINGS, lambda candidate, history: next(times, 100.0), [proposal(1), proposal(2)])
    study.run()
    assert [run.role for run in study.history.runs[3:5]] == ["screen", "incumbent"]
    assert study.history.kept() == () and study.history.verdict(2).verdict != "keep"  # type: ignore[union-attr]


def test_ablations_are_asked_for_when_patience_is_used_up() -> None:
    study = kept_study(patience=1)
    study.ideas = [proposal(1), proposal(1)]
    study.true_seconds = noisy({0: 100.0, 1: 60.0, 2: 30.0, 3: 30.0}, 0.0, 1)
    while not isinstance(action := next_action(study.history, study.settings), Propose) or study.ideas:
        study.apply(action)
    idle = replace(proposal(3, parent=2), role="ablation", simplifies=True)
    history = replace(study.history, proposals=(*study.history.proposals, idle))
    study.history = history
    actions = []
    while not isinstance(action := next_action(study.history, study.settings), Propose):
        actions.append(action)
        study.apply(action)
    roles = [a.role for a in actions if isinstance(a, StartRun)]
    assert roles == ["ablation", "ablation", "incumbent", "incumbent"], "runs that chose a removal do not count for it"
    assert study.history.incumbent == 3
    undone = Decision(proposal=3, verdict="discard", reason="needed")
    tired = replace(proposal(4, parent=2), number=4)
    done = replace(
        study.history,
        runs=(*study.history.runs, run_record(99, "screen", 4, 60.0)),
        proposals=(*study.history.proposals, tired),
        decisions=(*study.history.decisions, undone, replace(undone, proposal=4)),
    )
    assert next_action(done, study.settings) == Propose(is_ablation=True)


def test_a_removal_without_room_does_not_hold_up_what_has_room() -> None:
    keep = Decision(proposal=1, verdict="keep", reason="r")
    fresh = [run_record(n, "incumbent", 1, 50.0) for n in (6, 7)]
    waiting = replace(proposal(2, parent=1), role="ablation", simplifies=True)
    ideas = (proposal(1), waiting, proposal(3, parent=1))
    runs = (*baselines(100.0, 100.0, 100.0), *fresh)
    slower = math.exp(4 * SIGMA_FLOOR)
    look, cost = 8 * ((1 + slower) / 2 * 50.0 + START_UP_SECONDS), 50.0 + START_UP_SECONDS
    spent = SETTINGS.total_seconds - look - 3.9 * cost  # a removal may take four runs, a change less
    past = replace(EMPTY, runs=runs, proposals=ideas, decisions=(keep,), seconds_spent=spent)
    action = next_action(past, SETTINGS)
    assert isinstance(action, StartRun) and (action.role, action.candidate) == ("screen", 3)


def test_a_change_without_room_does_not_switch_leave_one_out_off() -> None:
    """While removals have room they are asked for, and the one that was proposed is run, so nothing goes in circles."""
    keep = Decision(proposal=1, verdict="keep", reason="r")
    fresh = [run_record(n, "incumbent", 2, 50.0) for n in (6, 7)]
    slower = math.exp(4 * SIGMA_FLOOR)
    look, cost = 8 * ((1 + slower) / 2 * 50.0 + START_UP_SECONDS), 50.0 + START_UP_SECONDS
    past = replace(
        EMPTY,
        runs=(*baselines(200.0, 200.0, 200.0), *fresh),
        proposals=(proposal(1, patch={"training.learning_rate": 0.01}), proposal(2, parent=1), proposal(3, parent=2)),
        decisions=(keep, replace(keep, proposal=2)),
        seconds_spent=SETTINGS.total_seconds - look - 4.02 * cost,
    )
    assert can_ablate(past, SETTINGS) and not can_propose(past, SETTINGS)
    assert next_action(past, SETTINGS) == Propose(is_ablation=True)
    removal = replace(proposal(4, parent=2), role="ablation", simplifies=True)
    action = next_action(replace(past, proposals=(*past.proposals, removal)), SETTINGS)
    assert isinstance(action, StartRun) and (action.role, action.candidate) == ("ablation", 4)


def test_settings_come_from_the_config() -> None:
    config = RunConfig.model_validate({"targets": ["eval_loss < 1"], "budget": {"run": "2m", "total": "1h"}})
    settings = StudySettings.from_config(config)
    assert (settings.run_seconds, settings.total_seconds, settings.record_runs) == (120, 3600, 4)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs targets"):
        StudySettings.from_config(RunConfig.model_validate({}))
    config = RunConfig.model_validate({"targets": ["eval_loss < 1"], "record": {"runs": 3}})
    with pytest.raises(ConfigError, match="1/20"):
        StudySettings.from_config(config)


def test_simulated_wall_clock_has_a_start_up() -> None:
    run = run_record(1, "baseline", 0, 10.0)
    assert run.wall_seconds == 10.0 + START_UP_SECONDS


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_runs_do_the_study_ends(seed: int) -> None:
    generator = random.Random(seed)
    endings: list[Outcome] = ["missed", "diverged", "out_of_memory", "crashed", "lost", "raced", "invalid"]
    outcomes = {number: generator.choice(endings) for number in range(4, 200) if generator.random() < seed / 60}
    true = {number: generator.choice([5.0, 30.0, 100.0, 950.0]) for number in range(13)}
    ideas = [proposal(1, simplifies=generator.random() < 0.3) for _ in range(12)]
    settings = replace(SETTINGS, total_seconds=generator.choice([2000.0, 8000.0, 90000.0]))
    study = SimulatedStudy(settings, noisy(true, 0.1, seed), ideas, outcomes=outcomes)
    assert study.run()
    assert len(study.history.claims) <= 3 and all(decision.reason for decision in study.history.decisions)
