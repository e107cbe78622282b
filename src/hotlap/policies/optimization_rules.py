"""Rules about the optimization: learning rate, batch, schedule, optimizer, regularisation, clipping."""

import math
from collections.abc import Iterator
from typing import Final

from hotlap.core.durations import format_seconds
from hotlap.policies.evidence import Evidence
from hotlap.policies.ideas import Idea, Rule
from hotlap.search.recipes import WITHOUT_WARMUP

_CURVE_STARTS_WORSE: Final = 0.6
"""Race exemption of families whose curves start worse than they end: schedules, batch size."""
_SHORTEST_WARMUP: Final = 5
"""Steps of warm-up that are never worth saving."""
_LONG_WARMUP: Final = 0.12
"""Share of the steps to target above which warm-up counts as long."""
_OVERFITTING: Final = 0.1
"""eval_loss minus train_loss above which the training data is being memorised."""
_MUON_STEPS_RATIO: Final = 0.4
"""Steps that Muon is expected to need, relative to AdamW's: the largest single gain in public records."""
_WITH_ADAM: Final = ("adamw_torch", "adamw_torch_fused", "muon")


def dropout(evidence: Evidence) -> Iterator[Idea]:
    """Dropout pays when the training data is seen often; in a short run it only costs."""
    model = evidence.gpt
    rates = {"embd": model.embd_pdrop, "attn": model.attn_pdrop, "resid": model.resid_pdrop}
    if not any(rates.values()):
        return
    gap = evidence.metric("eval_loss") - evidence.metric("recent_train_loss")
    yield Idea(
        family="dropout",
        title="no dropout",
        observation=(
            f"The target is reached after {evidence.epochs:.2f} passes over the training data{_memory(gap)}. Dropout "
            f"({', '.join(f'{k} {v:g}' for k, v in rates.items() if v)}) is on, "
            f"and the forward pass takes {evidence.share_of_step('forward'):.0%} of a step."
        ),
        hypothesis="Without dropout each step is cheaper and teaches more, and other changes show their full effect.",
        patch={f"model.{name}_pdrop": 0.0 for name, rate in rates.items() if rate},
        predicted_ratio=0.4,
        confidence=0.9 if evidence.epochs < 3 else 0.3 if gap > _OVERFITTING else 0.6,
        simplifies=True,
    )


def _memory(gap: float) -> str:
    """Say what the distance between evaluation and training loss tells, where it is known."""
    if math.isnan(gap):
        return ""
    return f", eval_loss minus train_loss is {gap:+.2f}{': nothing is being memorised' if gap <= _OVERFITTING else ''}"


def learning_rate(evidence: Evidence) -> Iterator[Idea]:
    """Follow the response: up while it helps, then down."""
    training = evidence.config.training
    yield from _scaled(
        evidence, "training.learning_rate", training.learning_rate, "learning_rate", (3.0, 1.7, 0.5, 0.7)
    )
    if training.optim == "muon":
        now = training.muon_learning_rate
        yield from _scaled(evidence, "training.muon_learning_rate", now, "muon_learning_rate", (1.5, 0.7, 2.0, 0.5))


def _scaled(evidence: Evidence, key: str, now: float, name: str, factors: tuple[float, ...]) -> Iterator[Idea]:
    """Yield the next multiple of a rate that the responses so far leave open."""
    tried = evidence.verdicts_for(key)
    went_up = [verdict for value, verdict in tried if value > now]
    went_down = [verdict for value, verdict in tried if value < now]
    just_kept_up = bool(tried) and tried[-1][1] == "keep"
    for factor in factors:
        if (factor > 1 and len(went_up) >= 2) or (factor < 1 and len(went_down) >= 2):
            continue
        value = float(f"{now * factor:.3g}")
        if evidence.was_tried({key: value}):
            continue
        history = ", ".join(f"{value:.3g} → {verdict}" for value, verdict in tried[-4:]) or "none yet"
        used = now * evidence.learning_rate_factor_at_target
        yield Idea(
            family="learning_rate",
            title=f"{name} {now:.3g} → {value:.3g}",
            observation=(
                f"{name} peaks at {now:.3g}; {used:.3g} was in use when the target was reached. "
                f"The gradient norm at the end is {evidence.metric('grad_norm'):.2f}. Tried around here: {history}."
            ),
            hypothesis=(
                f"A {'larger' if factor > 1 else 'smaller'} rate reaches the target in fewer steps at the same cost."
            ),
            patch={key: value},
            predicted_ratio=0.7 if factor >= 2 else 0.85,
            confidence=(_first_confidence(evidence) if not tried else 0.5 if just_kept_up and factor > 1 else 0.25)
            * (1 if factor > 1 else 0.6),
        )
        return


def _first_confidence(evidence: Evidence) -> float:
    """Chance that another rate helps: lower with Muon, whose steps have a fixed size."""
    return 0.4 if evidence.config.training.optim == "muon" else 0.55


def batch_size(evidence: Evidence) -> Iterator[Idea]:
    """Small models learn more per second from small batches, down to where the device is no longer busy."""
    training = evidence.config.training
    now = training.per_device_train_batch_size
    if now == "auto" or training.total_batch_tokens is not None:
        return  # the worker chooses what fits fastest; the total is for the person who set it
    speed = evidence.metric("tokens_per_second")
    on_cpu = evidence.environment.get("device") == "cpu"
    for value, confidence in ((now // 2, 0.6 if on_cpu else 0.3), (now * 2, 0.2)):
        patch = {"training.per_device_train_batch_size": value}
        if value < 2 or evidence.was_tried(patch):
            continue
        smaller = value < now
        yield Idea(
            family="batch_size",
            title=f"batch {now} → {value}",
            observation=(
                f"{evidence.steps_to_target} steps of {evidence.examples_per_step} examples reach the target, "
                f"{evidence.runs[-1].seconds_per_step * 1e3:.0f} ms each ({speed:,.0f} tokens/s); the gradient norm is "
                f"{evidence.metric('grad_norm'):.2f}."
            ),
            hypothesis=(
                "Twice as many updates per second outweigh their noise."
                if smaller
                else "The gradient is noisy and the device not full: fewer, better updates win."
            ),
            patch=patch,
            predicted_ratio=(0.8 if training.optim == "muon" else 0.7) if smaller else 0.85,
            confidence=confidence,
            exempt_from_race_until=_CURVE_STARTS_WORSE,
        )
    if training.gradient_accumulation_steps > 1:
        steps = training.gradient_accumulation_steps
        yield Idea(
            family="batch_size",
            title=f"accumulation {steps} → 1",
            observation=f"Each step adds up {steps} micro-batches of {now} examples.",
            hypothesis="One micro-batch per step gives more updates per second.",
            patch={"training.gradient_accumulation_steps": 1},
            predicted_ratio=0.7,
            confidence=0.5,
            exempt_from_race_until=_CURVE_STARTS_WORSE,
        )


def warmup(evidence: Evidence) -> Iterator[Idea]:
    """Warm-up is lost time once the run is not much longer than it."""
    training = evidence.config.training
    steps = training.warmup_steps_of(evidence.max_steps)
    if training.schedule_by != "steps" or training.lr_scheduler_type in WITHOUT_WARMUP:
        return  # a fraction of another horizon, or none at all
    share = steps / evidence.steps_to_target
    if share < _LONG_WARMUP or steps <= _SHORTEST_WARMUP:
        return
    patch = _short_warmup(evidence.steps_to_target)
    shorter = patch["training.warmup_steps"]
    yield Idea(
        family="warmup",
        title=f"warm-up {steps} → {shorter:.0f} steps",
        observation=(
            f"The target is reached at step {evidence.steps_to_target}, and the learning rate rises until step "
            f"{steps}: "
            f"{min(share, 1):.0%} of the run is warm-up."
        ),
        hypothesis="A short warm-up is enough for stability; the run no longer waits for its learning rate.",
        patch=patch,
        predicted_ratio=1 - 0.5 * min(share, 1),
        confidence=0.7,
    )


def _short_warmup(steps_to_target: float) -> dict[str, float]:
    """Return the patch to a warm-up of a twentieth of the steps to target."""
    steps = max(_SHORTEST_WARMUP, round(0.05 * steps_to_target))
    return {"training.warmup_steps": float(steps), "training.warmup_ratio": 0.0}


def horizon(evidence: Evidence) -> Iterator[Idea]:
    """A schedule that ends far behind the target never anneals; one that ends before it misses."""
    training = evidence.config.training
    if training.schedule_by != "steps" or training.is_by_epochs:
        return  # the budget or the epochs are the horizon
    reached = evidence.seconds_to_target < float("inf")
    if not reached:
        if all(run.outcome != "missed" for run in evidence.runs):
            return  # another limit came first: the schedule did not end
        target = training.max_steps * 2
        yield Idea(
            family="horizon",
            title=f"max_steps {training.max_steps} → {target}",
            observation=f"The schedule ends at step {training.max_steps} and the targets do not hold by then.",
            hypothesis="A longer schedule reaches the targets.",
            patch={"training.max_steps": target},
            predicted_ratio=0.9,
            confidence=0.4,
        )
        return
    if training.lr_scheduler_type.startswith("constant") or evidence.learning_rate_factor_at_target < 0.25:
        return
    target = max(20, round(1.5 * evidence.steps_to_target))
    if target >= training.max_steps:
        return
    yield Idea(
        family="horizon",
        title=f"max_steps {training.max_steps} → {target}",
        observation=(
            f"The target falls at step {evidence.steps_to_target} of {training.max_steps}, at "
            f"{evidence.learning_rate_factor_at_target:.0%} of the peak learning rate."
        ),
        hypothesis="A decay that ends soon behind the target anneals the weights in time and saves steps.",
        patch={"training.max_steps": target},
        predicted_ratio=0.85,
        confidence=0.2,
        exempt_from_race_until=_CURVE_STARTS_WORSE,
    )


def optimizer(evidence: Evidence) -> Iterator[Idea]:
    """Muon for the hidden matrices; the fused AdamW where Muon does not pay."""
    training = evidence.config.training
    share = evidence.share_of_step("optimizer")
    if training.optim != "muon":
        patch: dict[str, object] = {"training.optim": "muon"}
        if training.optim_args:
            patch["training.optim_args"] = None  # they were for the optimizer before
        expected_steps = _MUON_STEPS_RATIO * evidence.steps_to_target
        warmup_note = ""
        warmup_steps = training.warmup_steps_of(evidence.max_steps)
        has_warmup = training.schedule_by == "steps" and training.lr_scheduler_type not in WITHOUT_WARMUP
        if has_warmup and warmup_steps > max(_SHORTEST_WARMUP, _LONG_WARMUP * expected_steps):
            patch |= _short_warmup(expected_steps)
            warmup_note = (
                f" The learning rate rises until step {warmup_steps}, which Muon might not even need; its "
                "updates have a bounded size from the first step, so its warm-up is made short with it."
            )
        yield Idea(
            family="optimizer",
            title=f"optim {training.optim} → muon",
            observation=(
                f"{evidence.steps_to_target} {training.optim} steps reach the target; the optimizer takes {share:.0%} "
                f"of a step, so a dearer update that learns more per step would be affordable.{warmup_note}"
            ),
            hypothesis="Orthogonalised updates of the hidden matrices need less than half the steps.",
            patch=patch,
            predicted_ratio=_MUON_STEPS_RATIO,
            confidence=0.6,
        )
    if training.optim == "adamw_torch":
        yield Idea(
            family="optimizer",
            title="optim adamw_torch → adamw_torch_fused",
            observation=f"The optimizer takes {share:.0%} of a step.",
            hypothesis="The fused update computes the same in one pass.",
            patch={"training.optim": "adamw_torch_fused"},
            predicted_ratio=1 - 0.5 * share,
            confidence=0.7,
        )


def adam_betas(evidence: Evidence) -> Iterator[Idea]:
    """A long memory of squared gradients suits long runs."""
    training, beta2 = evidence.config.training, evidence.config.training.adam_beta2
    if training.optim not in _WITH_ADAM or beta2 <= 0.95 or 1 / (1 - beta2) < 0.25 * evidence.steps_to_target:
        return
    yield Idea(
        family="adam_betas",
        title=f"adam_beta2 {beta2:g} → 0.95",
        observation=(
            f"adam_beta2 {beta2:g} remembers about {1 / (1 - beta2):.0f} steps; the whole run takes "
            f"{evidence.steps_to_target}."
        ),
        hypothesis="A memory shorter than the run follows the falling gradients and takes larger steps late.",
        patch={"training.adam_beta2": 0.95},
        predicted_ratio=0.9,
        confidence=0.35,
    )


def clipping(evidence: Evidence) -> Iterator[Idea]:
    """Clipping costs a pass over the gradients, and where it always acts it hides the learning rate."""
    training = evidence.config.training
    if training.max_grad_norm == 0:
        return
    clipped = evidence.metric("clipped_ratio")
    yield Idea(
        family="clipping",
        title="no gradient clipping",
        observation=(
            f"Gradients are clipped to {training.max_grad_norm:g} in {clipped:.0%} of the steps; the norm is "
            f"computed in all."
        ),
        hypothesis=(
            "Without clipping steps are cheaper and none is cut; optimizers that normalise their updates need it least."
        ),
        patch={"training.max_grad_norm": 0.0},
        predicted_ratio=0.95,
        confidence=0.4,
        simplifies=True,
    )


def weight_decay(evidence: Evidence) -> Iterator[Idea]:
    """Weight decay shapes long runs; over few steps it does next to nothing."""
    training = evidence.config.training
    if training.weight_decay == 0:
        return
    shrink = training.weight_decay * training.learning_rate * evidence.steps_to_target
    yield Idea(
        family="weight_decay",
        title="no weight decay",
        observation=(
            f"weight_decay {training.weight_decay:g} shrinks the weights by at most {shrink:.2%} over the "
            f"{format_seconds(evidence.seconds_to_target)} of the run."
        ),
        hypothesis="It can go without a loss.",
        patch={"training.weight_decay": 0.0},
        predicted_ratio=0.99,
        confidence=0.3,
        simplifies=True,
    )


OPTIMIZATION_RULES: Final[tuple[Rule, ...]] = (
    learning_rate,
    batch_size,
    warmup,
    horizon,
    optimizer,
    adam_betas,
    clipping,
    weight_decay,
)
