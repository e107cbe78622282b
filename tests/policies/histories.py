"""Histories of studies that never ran: a GPT-2 recipe, runs with made-up figures, decided proposals."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.records import Decision, History, Proposal, RunRecord, Verdict
from hotlap.policies.evidence import Evidence, gather_evidence
from hotlap.policies.ideas import Idea
from hotlap.policies.rules import GPT_RULES, candidate_config

RECIPE = {
    "model.embd_pdrop": 0.1,
    "model.attn_pdrop": 0.1,
    "model.resid_pdrop": 0.1,
    "training.optim": "adamw_torch",
    "training.learning_rate": 6e-4,
    "training.weight_decay": 0.001,
    "training.per_device_train_batch_size": 32,
    "training.warmup_ratio": 0.05,
    "training.max_steps": 5000,
    "targets": ["eval_loss < 0.76"],
}
ENVIRONMENT = {
    "device": "cpu",
    "device_name": "a processor",
    "bf16_is_fast": False,
    "num_parameters": 445_952,
    "data": {"num_train": 40_000},
}
METRICS = {
    "eval_loss": 0.75,
    "train_loss": 0.8,
    "grad_norm": 0.9,
    "tokens_per_second": 1e5,
    "padding_ratio": 0.2,
    "clipped_ratio": 0.4,
    "eval_loss_gain_last_tenth": 0.5,
}
SECONDS = {"data": 0.05, "forward": 0.3, "backward": 0.5, "optimizer": 0.15}


def run(candidate: int = 0, seconds: float = 55.0, steps: int = 900, **facts: Any) -> RunRecord:
    """Make a finished run that took so many seconds and steps."""
    values: dict[str, Any] = {
        "run_id": "r0001",
        "role": "incumbent" if candidate else "baseline",
        "seed": 1,
        "outcome": "reached",
        "train_seconds": seconds,
        "wall_seconds": seconds + 8,
        "metrics": METRICS,
        "seconds": {part: share * seconds for part, share in SECONDS.items()},
        "environment": ENVIRONMENT,
        **facts,
    }
    times = {"train": seconds, "wall": seconds + 5, "step": steps} if values["outcome"] == "reached" else None
    return RunRecord(candidate=candidate, steps=steps, time_to_target=times, **values)


def study(patch: Mapping[str, Any] | None = None, runs: Sequence[RunRecord] | None = None, **facts: Any) -> History:
    """Make a study of the recipe (with a patch) whose baseline ran."""
    base = config_from_values({}, {**RECIPE, **(patch or {})}).model_dump(mode="json")
    return History(clock="train", base_config=base, runs=tuple(runs or [run()]), **facts)


def propose_by_hand(history: History, patch: Mapping[str, Any], **facts: Any) -> History:
    """Add a proposal on the incumbent that no rule made."""
    values: dict[str, Any] = {"family": "toy", "title": str(dict(patch)), "predicted_ratio": 0.9, **facts}
    number = len(history.proposals) + 1
    proposal = Proposal(number=number, parent=history.incumbent, patch=patch, observation="o", hypothesis="h", **values)
    return replace(history, proposals=(*history.proposals, proposal))


def decide(history: History, verdict: Verdict, *runs: RunRecord) -> History:
    """Decide the last proposal; what is kept needs runs."""
    number = len(history.proposals)
    decision = Decision(proposal=number, verdict=verdict, reason="r")
    added = tuple(replace(record, candidate=number) for record in runs)
    return replace(history, decisions=(*history.decisions, decision), runs=(*history.runs, *added))


def tried(history: History, patch: Mapping[str, Any], verdict: Verdict) -> History:
    """Add a proposal by hand and its decision; a kept one gets two runs as the new incumbent."""
    runs = [run(len(history.proposals) + 1)] * 2 if verdict == "keep" else []
    return decide(propose_by_hand(history, patch), verdict, *runs)


def incumbent_config(history: History) -> RunConfig:
    return candidate_config(history, history.incumbent)


def evidence_of(history: History) -> Evidence:
    return gather_evidence(history, incumbent_config(history))


def ideas(history: History, family: str | None = None) -> list[Idea]:
    """Return everything that the rules say, tried or not."""
    evidence = evidence_of(history)
    return [idea for rule in GPT_RULES for idea in rule(evidence) if family in (None, idea.family)]
