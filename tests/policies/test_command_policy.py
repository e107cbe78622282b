"""What is proposed for the knobs of somebody else's command."""

from dataclasses import replace
from typing import Any

import pytest

from hotlap.config.bounds import knob_search
from hotlap.config.load import config_from_values
from hotlap.core.records import Decision, History, RunRecord
from hotlap.core.speed import MeasuredSpeed, SpeedCell
from hotlap.policies.command_policy import CommandPolicy
from hotlap.policies.command_rules import command_ideas
from hotlap.policies.evidence import gather_evidence
from hotlap.policies.ideas import Idea
from hotlap.policies.measured_speed import step_families

PARAMS = {
    "learning_rate": 1e-3,
    "batch": 32,
    "dropout": 0.1,
    "warmup_steps": 100,
    "max_steps": 1000,
    "widget": 3.0,
    "seed": 0,
}


def base(**params: Any) -> dict[str, Any]:
    knobs = {**PARAMS, **params}
    run = "train " + " ".join(f"--{name} {{{name}}}" for name in knobs)
    values = {"command": {"run": run}, "params": knobs, "targets": ["val_loss < 2"]}
    return config_from_values(values).model_dump(mode="json")


def record(candidate: int, seconds: float = 10.0, number: int = 0) -> RunRecord:
    return RunRecord(
        run_id=f"r{candidate}{number}",
        candidate=candidate,
        role="baseline" if candidate == 0 else "screen",
        seed=number,
        outcome="reached",
        reason="",
        steps=300,
        train_seconds=seconds,
        wall_seconds=seconds,
        time_to_target={"train": seconds, "wall": seconds},
    )


def history(values: dict[str, Any], verdicts: int = 0, seed: int = 1) -> History:
    """Return a history in which so many proposals of the policy were discarded."""
    past = History(clock="wall", base_config=values, runs=(record(0), record(0, 10.2, 1)))
    for _ in range(verdicts):
        proposal = CommandPolicy(seed).propose(past)
        assert proposal is not None
        decision = Decision(proposal=proposal.number, verdict="discard", reason="slower", statistics={})
        past = History(
            clock="wall",
            base_config=values,
            runs=(*past.runs, record(proposal.number, 12.0)),
            proposals=(*past.proposals, proposal),
            decisions=(*past.decisions, decision),
        )
    return past


def test_the_rules_come_first_and_give_their_grounds() -> None:
    proposal = CommandPolicy().propose(history(base()))
    assert proposal is not None
    assert proposal.proposer == "rules"
    assert proposal.patch == {"params.dropout": 0.0}
    assert "10" in proposal.observation and "step 300" in proposal.observation


def test_the_same_history_gives_the_same_proposal_and_no_seed_is_touched() -> None:
    past = history(base(), verdicts=9)
    assert CommandPolicy(1).propose(past) == CommandPolicy(1).propose(past)
    patches = [proposal.patch for proposal in past.proposals]
    assert all("params.seed" not in patch for patch in patches)
    assert len({str(sorted(patch.items())) for patch in patches}) == len(patches)
    assert {proposal.proposer for proposal in past.proposals} >= {"rules", "mutation"}


def test_values_stay_within_what_makes_sense() -> None:
    values = base()
    spaces = knob_search(config_from_values(values)).parameters
    for proposal in history(values, verdicts=12).proposals:
        if proposal.proposer == "rules":
            continue
        for key, value in proposal.patch.items():
            assert spaces[key].can_be(value)


@pytest.mark.parametrize("params", [{"note": "text"}, {}])
def test_a_command_without_knobs_has_no_ideas(params: dict[str, Any]) -> None:
    run = "train " + " ".join(f"{{{name}}}" for name in params)
    values = config_from_values({"command": {"run": run}, "params": params, "targets": ["loss < 1"]})
    past = History(clock="wall", base_config=values.model_dump(mode="json"), runs=(record(0), record(0, 10.2, 1)))
    assert CommandPolicy().propose(past) is None


SEARCH = {
    "learning_rate": {"min": 5e-4, "max": 2e-3, "distribution": "log_uniform_values"},
    "params.batch": {"values": [16, 48]},
    "dropout": {"min": 0.04, "max": 0.2},
    "constraints": ["learning_rate * batch < 0.08"],
}


@pytest.mark.parametrize("seed", range(4))
def test_rules_and_draws_keep_to_the_section_search(seed: int) -> None:
    values = {**base(), "search": SEARCH}
    proposals = history(values, verdicts=14, seed=seed).proposals
    assert {proposal.proposer for proposal in proposals} >= {"rules", "mutation"}
    for proposal in proposals:
        assert proposal.patch.keys() <= {"params.learning_rate", "params.batch", "params.dropout"}
        now = {**{f"params.{name}": value for name, value in PARAMS.items()}, **proposal.patch}
        assert 5e-4 <= now["params.learning_rate"] <= 2e-3 and 0.04 <= now["params.dropout"] <= 0.2
        assert now["params.batch"] in (16, 32, 48) and now["params.learning_rate"] * now["params.batch"] < 0.08
    patches = [proposal.patch for proposal in proposals]
    assert {"params.dropout": 0.04} in patches, "a rule goes as far as it may"
    assert all(patch["params.batch"] != 32 for patch in patches if "params.batch" in patch)


TRAINER: dict[str, Any] = {
    "learning_rate": 5e-5,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,
    "warmup_ratio": 0.2,
    "lr_scheduler_type": "linear",
    "num_train_epochs": 10.0,
    "optim": "adamw_torch",
    "bf16": False,
    "dataloader_num_workers": 0,
    "torch_compile": False,
    "weight_decay": 0.1,
    "label_smoothing_factor": 0.1,
}
WISHES: dict[str, Any] = {
    "learning_rate": 1.5e-4,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "warmup_ratio": 0.1,
    "lr_scheduler_type": "constant_with_warmup",
    "num_train_epochs": 3.0,
    "optim": "adamw_torch_fused",
    "bf16": True,
    "dataloader_num_workers": 2,
    "torch_compile": True,
    "weight_decay": 0.0,
}


def trainer_config(*, in_file: bool) -> dict[str, Any]:
    """Return the config of a Trainer script, its settings in flags or in a YAML file."""
    flags = "" if in_file else " ".join(f"--{name} {{{name}}}" for name in TRAINER)
    command: dict[str, Any] = {"run": f"python train.py {flags or 'conf.yaml'}"}
    if in_file:
        command["files"] = {"conf.yaml": {name: name for name in TRAINER}}
    return {"command": command, "params": TRAINER, "targets": ["eval_loss < 2"]}


@pytest.mark.parametrize("in_file", [False, True], ids=["flags", "keys of a file"])
def test_the_names_of_the_trainer_have_rules_with_grounds(in_file: bool) -> None:
    values = config_from_values(trainer_config(in_file=in_file)).model_dump(mode="json")
    usage = {"usage": {"gpu_percent": 40.0, "cores": 8.0, "run_cores": 1.2}}
    runs = tuple(replace(record(0, 300.0, number), metrics={"epoch": 2.0}, environment=usage) for number in range(2))
    past = History(clock="wall", base_config=values, runs=runs)
    evidence = gather_evidence(past, config_from_values(values))
    ideas = {
        key: idea for idea in command_ideas(evidence) for key in idea.patch if idea.patch[key] == WISHES.get(key[7:])
    }
    assert {key.removeprefix("params.") for key in ideas} == WISHES.keys()
    assert all("300 s at step 300" in idea.observation for idea in ideas.values())
    assert "The GPU is busy for 40 % of the time." in ideas["params.bf16"].observation
    assert "The run keeps 1.2 of 8 cores busy." in ideas["params.dataloader_num_workers"].observation
    assert "epoch 2 of 10" in ideas["params.num_train_epochs"].hypothesis
    assert all("params.label_smoothing_factor" not in idea.patch for idea in command_ideas(evidence)), (
        "it is evaluated with"
    )


def measured_ideas(speed: dict[tuple[int, bool], float], **params: Any) -> dict[str, Idea]:
    """Return ideas by the settings that they change, where a bench found such seconds for batch size and bf16."""
    values = base(**params)
    settings = ({"params.batch_size": rows, "params.bf16": bf16} for rows, bf16 in speed)
    cells = tuple(SpeedCell(each, seconds) for each, seconds in zip(settings, speed.values(), strict=True))
    past = History(clock="wall", base_config=values, runs=(record(0),), speed=MeasuredSpeed("b0001", 9.0, cells))
    ideas = command_ideas(gather_evidence(past, config_from_values(values)))
    return {" ".join(f"{key[7:]}={value}" for key, value in idea.patch.items()): idea for idea in ideas}


SPEED = {(8, False): 0.09, (16, False): 0.1, (32, False): 0.12, (16, True): 0.06}


def test_knobs_that_were_measured_to_be_faster_are_proposed_with_their_figures() -> None:
    found = measured_ideas(SPEED, batch_size=16, bf16=False)
    assert found["bf16=True"].predicted_ratio == pytest.approx(0.6)
    assert "0.60 times as long in b0001" in found["bf16=True"].observation
    slower = measured_ideas({**SPEED, (16, True): 0.3}, batch_size=16, bf16=False)
    assert "bf16=True" not in slower, "the guess has no word where there are figures"
    assert measured_ideas({(16, False): 0.1}, batch_size=16, bf16=False)["bf16=True"].predicted_ratio == 0.7


def test_a_batch_is_weighed_by_what_its_steps_were_measured_to_take() -> None:
    found = measured_ideas(SPEED, batch_size=16, bf16=False)
    larger, smaller = found["batch_size=32"], found["batch_size=8"]
    assert "With 32 a step took 1.20 times as long in b0001" in larger.observation
    assert "1.67 times as many examples per second" in larger.hypothesis
    assert larger.predicted_ratio == pytest.approx(1.2 / 2**0.5)
    assert (smaller.predicted_ratio, smaller.confidence) == (0.95, 0.1), "its steps are hardly shorter"
    assert larger.expected_gain > smaller.expected_gain
    told = measured_ideas(SPEED, batch_size=16, bf16=False, grad_accum=4)["batch_size=32"].observation
    assert "With 4 passes a step learns from 128 examples instead of 64." in told


def test_where_another_knob_holds_the_whole_batch_more_rows_are_the_same_steps() -> None:
    found = measured_ideas(SPEED, batch_size=16, bf16=False, total_batch_size=64)
    assert "batch_size=32" not in found, "measured to be slower, all else the same"
    assert "The same steps, each 10% shorter." in found["batch_size=8"].hypothesis
    guessed = measured_ideas({(16, False): 0.1}, batch_size=16, bf16=False, total_batch_size=64)["batch_size=32"]
    assert "total_batch_size stays 64: the same steps" in guessed.hypothesis
    odd = measured_ideas({(16, False): 0.1}, batch_size=16, bf16=False, total_batch_size=48)
    assert "batch_size=32" not in odd, "the batch would not be whole"
    assert "params.batch_size" in step_families(config_from_values(base(batch_size=16, total_batch_size=64)))
    assert "params.batch_size" not in step_families(config_from_values(base(batch_size=16)))


def ideas_within(search: dict[str, Any], *cells: SpeedCell, **params: Any) -> list[Idea]:
    """Return the ideas about the batch size, within bounds."""
    values = {**base(**params), "search": search}
    past = History(clock="wall", base_config=values, runs=(record(0),), speed=MeasuredSpeed("b0001", 9.0, cells))
    ideas = command_ideas(gather_evidence(past, config_from_values(values)))
    return [idea for idea in ideas if "params.batch_size" in idea.patch]


def test_rows_that_bounds_change_are_checked_weighed_and_told_as_they_will_be() -> None:
    bounds = {"batch_size": {"min": 16, "max": 32}}
    assert ideas_within(bounds, batch_size=24, total_batch_size=240) == [], "32 does not divide it"
    (idea,) = ideas_within(bounds, batch_size=24, total_batch_size=96)
    assert idea.patch == {"params.batch_size": 32} and "in 0.75 times as many passes" in idea.hypothesis
    cells = [SpeedCell({"params.batch_size": rows}, seconds) for rows, seconds in ((16, 0.5), (24, 1.0), (32, 1.02))]
    fewer, more = ideas_within(bounds, *cells, batch_size=24)
    assert (fewer.patch, more.patch) == ({"params.batch_size": 16}, {"params.batch_size": 32})
    assert "With 32 a step took 1.02 times as long" in more.observation
    assert more.predicted_ratio == pytest.approx(1.02 * (24 / 32) ** 0.5)
    guessed, _ = ideas_within(bounds, batch_size=24)
    assert guessed.hypothesis.startswith("1.50 times as many updates per second")


def test_a_batch_is_weighed_by_small_differences_too() -> None:
    """Half the rows in 0.95 of the time, give or take 7 %: no gain of twice the updates is left to hope for."""
    cells = [SpeedCell({"params.batch_size": rows}, seconds, 0.05) for rows, seconds in ((8, 0.095), (16, 0.1))]
    (fewer, _) = ideas_within({"batch_size": {"values": [8, 16, 32]}}, *cells, batch_size=16)
    assert fewer.patch == {"params.batch_size": 8} and fewer.confidence == 0.1


def test_what_was_measured_is_proposed_only_where_the_study_may_set_it() -> None:
    values = {**base(batch_size=16, bf16=False), "search": {"learning_rate": {"min": 1e-4, "max": 1e-2}}}
    cells = tuple(SpeedCell({"params.bf16": bf16}, 0.1 - 0.05 * bf16) for bf16 in (False, True))
    past = History(clock="wall", base_config=values, runs=(record(0),), speed=MeasuredSpeed("b0001", 9.0, cells))
    ideas = command_ideas(gather_evidence(past, config_from_values(values)))
    assert {key for idea in ideas for key in idea.patch} == {"params.learning_rate"}


def test_no_draw_goes_back_to_what_the_bench_knows_to_be_slower() -> None:
    values = base(bf16=True)
    cells = tuple(SpeedCell({"params.bf16": bf16}, 0.1 - 0.05 * bf16) for bf16 in (False, True))
    past = replace(history(values, verdicts=12), speed=None)
    assert any(False in proposal.patch.values() for proposal in past.proposals), "it is drawn where nothing is known"
    known = replace(history(values), speed=MeasuredSpeed("b0001", 9.0, cells))
    for number in range(12):
        proposal = CommandPolicy(1).propose(known)
        assert proposal is not None and "params.bf16" not in proposal.patch
        decision = Decision(proposal=number + 1, verdict="discard", reason="slower", statistics={})
        proposals, decisions = (*known.proposals, proposal), (*known.decisions, decision)
        runs = (*known.runs, record(proposal.number, 12.0))
        known = replace(known, proposals=proposals, decisions=decisions, runs=runs)
