"""What is proposed for the knobs of somebody else's command."""

from dataclasses import replace
from typing import Any

import pytest

from hotlap.config.bounds import knob_search
from hotlap.config.load import config_from_values
from hotlap.core.records import Decision, History, RunRecord
from hotlap.policies.command_policy import CommandPolicy
from hotlap.policies.command_rules import command_ideas
from hotlap.policies.evidence import gather_evidence

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
