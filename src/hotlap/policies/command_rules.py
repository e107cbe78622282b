"""Rules for the knobs of somebody else's command, by what their names mean: Hugging Face's, or others' for the same.

Such a run tells less than one of hotlap's own trainer, so the rules have fewer grounds: times, steps, metrics, and how
busy the machine was. What they propose lies within the bounds of the section `search`, where there is one.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any, Final

from hotlap.config.bounds import KnobSearch, fits_total_batch, knob_roles, knob_search, total_batch_knob
from hotlap.core.records import History
from hotlap.policies.evidence import Evidence
from hotlap.policies.ideas import Idea
from hotlap.policies.measured_speed import measured_ratio, measured_steps

_SLOW_FAMILIES: Final = ("batch_size", "horizon", "schedule")
_SLOW_START: Final = 0.6
"""Race exemption of these families: their curves start worse than they end."""
_RATES: Final = ("learning_rate", "muon_learning_rate", "embedding_learning_rate")
_FACTORS: Final = (3.0, 1.7, 0.5, 0.7)
_DECAYING: Final = ("linear", "cosine", "cosine_with_min_lr", "polynomial")
_CONSTANT: Final = ("constant", "constant_with_warmup")
_BATCH: Final = "per_device_train_batch_size"
_ACCUMULATION: Final = "gradient_accumulation_steps"
_PROMISING: Final = 0.85
_LEAST_PROMISE: Final = 0.95
_BUSY: Final = 90.0
"""Per cent of its time that a GPU with enough to do is busy for."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """The knobs of a command as rules see them: by Hugging Face's names, at the incumbent's values."""

    evidence: Evidence
    names: Mapping[str, str]
    """The knob of each role."""
    search: KnobSearch

    def value(self, role: str) -> Any:
        """Return the value of the knob with a role; None where there is none."""
        return self.evidence.config.params.get(self.names[role]) if role in self.names else None

    def number(self, role: str) -> float | None:
        """Return the value of the knob with a role where it is a number above 0."""
        value = self.value(role)
        return value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None

    def within(self, role: str, value: Any) -> Any:
        """Return a value that the knob may have, the nearest one on the way to that; None where there is none."""
        return self.search.towards(f"params.{self.names[role]}", self.value(role), value)


def command_ideas(evidence: Evidence) -> Iterator[Idea]:
    """Yield what the rules say to the knobs of a command; `evidence` is the incumbent's."""
    roles = knob_roles(evidence.config)
    names = {role: name for name, role in reversed(roles.items()) if role is not None}
    knobs = Knobs(evidence, names, knob_search(evidence.config))
    for rule in _RULES:
        yield from rule(knobs)


def _rates(knobs: Knobs) -> Iterator[Idea]:
    """Follow the response: up while it helps, then down."""
    evidence = knobs.evidence
    for role in _RATES:
        now = knobs.number(role)
        if now is None:
            continue
        name = knobs.names[role]
        tried = evidence.verdicts_for(f"params.{name}")
        up = sum(value > now for value, _ in tried)
        down = sum(value < now for value, _ in tried)
        for factor in _FACTORS:
            value = knobs.within(role, float(f"{now * factor:.3g}"))
            is_done = (up if factor > 1 else down) >= 2
            if value is None or is_done or evidence.was_tried({f"params.{name}": value}):
                continue
            history = ", ".join(f"{other:.3g} → {verdict}" for other, verdict in tried[-4:]) or "none yet"
            yield Idea(
                family="learning_rate",
                title=f"{name} {now:.3g} → {value:.3g}",
                observation=f"{name} is {now:.3g}. {_course(evidence)} Tried around here: {history}.",
                hypothesis=f"A {'larger' if factor > 1 else 'smaller'} rate reaches the target in fewer steps.",
                patch={f"params.{name}": value},
                predicted_ratio=0.7 if factor >= 2 else 0.85,
                confidence=0.5 if factor > 1 else 0.3,
            )
            break


def _measured(knobs: Knobs) -> Iterator[Idea]:
    """What the bench before the study found to be faster, as far as the knobs may have it."""
    for idea in measured_steps(knobs.evidence):
        if all(knobs.search.towards(key, None, value) == value for key, value in idea.patch.items()):
            yield idea


def _batch(knobs: Knobs) -> Iterator[Idea]:
    """Small batches give more updates per second, down to where the device is no longer busy."""
    now = knobs.number(_BATCH)
    if isinstance(now, int):
        total = total_batch_knob(knobs.evidence.config)
        yield from _rows(knobs, now) if total is None else _passes(knobs, now, total)
    steps = knobs.number(_ACCUMULATION)
    if steps is not None and steps > 1:
        why = "Fewer micro-batches per step give more updates per second."
        yield from _idea(knobs, _ACCUMULATION, 1, "batch_size", why, (0.7, 0.5))


def _rows(knobs: Knobs, now: int) -> Iterator[Idea]:
    """Half and twice the batch: other steps, so what they are worth shows in the runs alone."""
    busy = _gpu_percent(knobs.evidence)
    is_idle = busy is not None and busy < _BUSY
    seen = "" if busy is None else f" {_gpu_text(busy)}"
    passes = knobs.number(_ACCUMULATION) or 1
    for wanted, chance in ((now // 2, 0.2 if is_idle else 0.4), (now * 2, 0.4 if is_idle else 0.2)):
        rows = knobs.within(_BATCH, wanted) if wanted else None
        if rows is None:
            continue
        why, odds, told = _guessed(now, rows), (0.75, chance), seen
        ratio = measured_ratio(knobs.evidence, f"params.{knobs.names[_BATCH]}", rows)
        if ratio is not None:
            why, odds = _weighed(now, rows, ratio)
            told += f" With {rows} a step took {ratio:.2f} times as long in {_bench(knobs)}, before the first run."
        if passes > 1:
            told += (
                f" With {passes:g} passes a step learns from {rows * passes:g} examples instead of {now * passes:g}."
            )
        yield from _idea(knobs, _BATCH, rows, "batch_size", why, odds, seen=told)


def _guessed(now: int, rows: float) -> str:
    """Return why a batch of another size may pay of whose steps nothing is known."""
    if rows > now:
        return "The gradient is noisy and the device not full: fewer, better updates win."
    times = "Twice" if 2 * rows == now else f"{now / rows:.2f} times"
    return f"{times} as many updates per second outweigh their noise."


def _weighed(now: int, rows: float, ratio: float) -> tuple[str, tuple[float, float]]:
    """Return why a batch of another size may pay whose steps take so many times as long, and the odds.

    Twice the batch needs between half as many steps (all noise) and as many (none): the middle is expected.
    """
    expected = ratio * math.sqrt(now / rows)
    chance = 0.4 if expected < _PROMISING else 0.2 if expected < 1 else 0.1
    if rows < now:
        why = f"{1 / ratio:.2f} times as many updates per second outweigh their noise."
    else:
        why = f"{rows / now / ratio:.2f} times as many examples per second, and fewer, better updates."
    return why, (min(expected, _LEAST_PROMISE), chance)


def _passes(knobs: Knobs, now: int, total: str) -> Iterator[Idea]:
    """Where another knob holds the batch of a step, more rows take it in fewer passes: nothing else is learnt."""
    config, rows = knobs.evidence.config, knobs.within(_BATCH, 2 * now)
    if not isinstance(rows, int) or not fits_total_batch(config, rows):
        return
    if measured_ratio(knobs.evidence, f"params.{knobs.names[_BATCH]}", rows) is None:
        fewer = "half as many" if rows == 2 * now else f"{now / rows:.2f} times as many"
        why = f"{total} stays {text_of(config.params[total])}: the same steps, each in {fewer} passes."
        yield from _idea(knobs, _BATCH, rows, "passes", why, (0.9, 0.3))


def _bench(knobs: Knobs) -> str:
    assert knobs.evidence.speed is not None
    return knobs.evidence.speed.bench


def _warmup(knobs: Knobs) -> Iterator[Idea]:
    """Warm-up is lost time in a short run."""
    needed = knobs.evidence.steps_to_target
    steps = knobs.number("warmup_steps")
    if steps is not None and steps >= 1 and needed > 1 and steps > max(5, 0.12 * needed):
        shorter = max(5, round(0.05 * needed))
        why = f"The target is reached at step {needed}: a short warm-up is enough for stability."
        yield from _idea(knobs, "warmup_steps", shorter, "warmup", why, (0.85, 0.6))
    for role in ("warmup_ratio", "warmup_steps"):  # the Trainer of transformers 5 takes steps below 1 for a share
        share = knobs.number(role)
        if share is not None and 0.04 < share < 1:
            why = f"A share of {share:g} of the whole schedule is spent below the full rate; half of it is enough."
            yield from _idea(knobs, role, float(f"{share / 2:.3g}"), "warmup", why, (0.92, 0.4))


def _schedule(knobs: Knobs) -> Iterator[Idea]:
    """A decay that ends far behind the target never anneals, and one that ends before it stops learning."""
    evidence, scheduler = knobs.evidence, knobs.value("lr_scheduler_type")
    if math.isinf(evidence.seconds_to_target):
        return
    needed, horizon = evidence.steps_to_target, knobs.value("max_steps")
    is_decaying = scheduler is None or scheduler in _DECAYING
    has_steps = isinstance(horizon, int) and horizon > 0
    if has_steps and is_decaying and needed > 1 and max(20, round(1.5 * needed)) < 0.8 * horizon:
        why = f"The target falls at step {needed} of {horizon}: a decay that ends soon behind it anneals in time."
        target = max(20, round(1.5 * needed))
        yield from _idea(knobs, "max_steps", target, "horizon", why, (0.85, 0.3))
    epochs, told = knobs.number("num_train_epochs"), evidence.metric("epoch")
    if epochs is not None and not has_steps and is_decaying and 0 < 1.5 * told < 0.8 * epochs:
        fewer = math.ceil(1.5 * told) if isinstance(epochs, int) else float(f"{1.5 * told:.3g}")
        why = f"The target falls in epoch {told:.3g} of {epochs:g}: a decay that ends soon behind it anneals in time."
        yield from _idea(knobs, "num_train_epochs", fewer, "horizon", why, (0.85, 0.3))
    if scheduler in _DECAYING:
        why = "A run that ends at its target needs no decay; the rate stays where it teaches most."
        yield from _idea(knobs, "lr_scheduler_type", "constant_with_warmup", "schedule", why, (0.92, 0.25))
    elif scheduler in _CONSTANT:
        why = "A rate that falls takes the noise out of the last steps before the target."
        yield from _idea(knobs, "lr_scheduler_type", "linear", "schedule", why, (0.9, 0.3))


def _regularisation(knobs: Knobs) -> Iterator[Idea]:
    """What keeps long runs from memorising only costs in a short one."""
    of_dropout = "Without dropout each step teaches more; a run to a target is too short to need it."
    of_decay = "Over so few steps it shrinks next to nothing, and can go."
    for role, why, odds in (("dropout", of_dropout, (0.6, 0.6)), ("weight_decay", of_decay, (0.99, 0.3))):
        if knobs.number(role) is not None:
            yield from _idea(knobs, role, 0.0, role, why, odds, simplifies=True)


def _optimizer(knobs: Knobs) -> Iterator[Idea]:
    steps = knobs.evidence.steps_to_target
    if knobs.value("optim") == "adamw_torch":
        why = "The fused update computes the same in one pass."
        yield from _idea(knobs, "optim", "adamw_torch_fused", "optimizer", why, (0.93, 0.6))
    beta2 = knobs.number("adam_beta2")
    if beta2 is not None and 0.95 < beta2 < 1 and 1 / (1 - beta2) >= 0.25 * steps:
        why = f"A memory of about {1 / (1 - beta2):.0f} steps is long for a run of {steps}."
        yield from _idea(knobs, "adam_beta2", 0.95, "adam_betas", why, (0.9, 0.35))
    momentum = knobs.value("momentum")
    if isinstance(momentum, int | float) and 0 <= momentum < 0.85 and not isinstance(momentum, bool):
        why = "Momentum adds up steps that agree, at no cost."
        yield from _idea(knobs, "momentum", 0.9, "momentum", why, (0.7, 0.4))


def _machine(knobs: Knobs) -> Iterator[Idea]:
    """Settings that change what a step costs and hardly what it teaches."""
    evidence = knobs.evidence
    busy = _gpu_percent(evidence)
    has_gpu = busy is not None
    seen = f" {_gpu_text(busy)}" if busy is not None else " No GPU was at work."
    of_bf16 = "Half the bytes per number: steps are shorter where the hardware has bf16."
    of_tf32 = "Matrix products in tf32 are faster, and exact enough."
    for role, wanted, why, ratio, chance in (
        ("bf16", True, of_bf16, 0.7, 0.7 if has_gpu else 0.2),
        ("tf32", True, of_tf32, 0.9, 0.6 if has_gpu else 0.05),
        ("gradient_checkpointing", False, "What fits into memory need not be computed twice.", 0.8, 0.5),
        ("group_by_length", True, "Sentences of a length waste less padding.", 0.9, 0.3),
    ):
        if knobs.value(role) is (not wanted) and not _was_measured(knobs, role, wanted):
            yield from _idea(knobs, role, wanted, "machine", why, (ratio, chance), simplifies=not wanted, seen=seen)
    is_compiled = knobs.value("torch_compile") is not False or _was_measured(knobs, "torch_compile", True)
    if not is_compiled and evidence.seconds_to_target > 120:
        why = "Compiled kernels shorten each step; a run of this length pays for compiling."
        odds = (0.8, 0.4 if has_gpu else 0.2)
        yield from _idea(knobs, "torch_compile", True, "machine", why, odds, seen=seen)
    cores, used = _usage(evidence, "cores"), _usage(evidence, "run_cores")
    workers = knobs.value("dataloader_num_workers")
    is_without = (
        workers == 0 and not isinstance(workers, bool) and not _was_measured(knobs, "dataloader_num_workers", 2)
    )
    if is_without and cores is not None and used is not None and cores - used >= 1:
        seen = f" The run keeps {used:.1f} of {cores:.0f} cores busy.{seen}"
        chance = 0.4 if busy is not None and busy < _BUSY else 0.1
        why = "Batches that other processes make ready in time are not waited for."
        yield from _idea(knobs, "dataloader_num_workers", 2, "machine", why, (0.85, chance), seen=seen)


def _was_measured(knobs: Knobs, role: str, value: Any) -> bool:
    """Say whether the bench before the study knows what a value does to a step: then its figures decide."""
    return measured_ratio(knobs.evidence, f"params.{knobs.names[role]}", value) is not None


_RULES: Final[tuple[Callable[[Knobs], Iterator[Idea]], ...]] = (
    *(_measured, _rates, _batch, _warmup, _schedule),
    *(_regularisation, _optimizer, _machine),
)


def _usage(evidence: Evidence, name: str) -> float | None:
    """Return a mean over the incumbent's runs of how busy the machine was; None where nobody looked."""
    found = [run.environment.get("usage", {}).get(name) for run in evidence.runs]
    values = [value for value in found if isinstance(value, int | float)]
    return mean(values) if values else None


def _gpu_percent(evidence: Evidence) -> float | None:
    """Return for which share of the time the busiest GPU had something to do; None where none had."""
    return _usage(evidence, "gpu_percent")


def _gpu_text(busy: float) -> str:
    return f"The GPU is busy for {busy:.0f} % of the time."


def _idea(
    knobs: Knobs,
    role: str,
    value: Any,
    family: str,
    why: str,
    odds: tuple[float, float],
    *,
    simplifies: bool = False,
    seen: str = "",
) -> Iterator[Idea]:
    """Yield the idea of setting a knob, as far as its bounds allow; `odds` are the ratio and the chance of it.

    `seen` is what has been seen beside the course of the runs.
    """
    name, now = knobs.names[role], knobs.value(role)
    allowed = knobs.within(role, value)
    if allowed is None:
        return
    yield Idea(
        family=family,
        title=f"{name} {text_of(now)} → {text_of(allowed)}",
        observation=f"{name} is {text_of(now)}. {_course(knobs.evidence)}{seen}",
        hypothesis=why,
        patch={f"params.{name}": allowed},
        predicted_ratio=odds[0],
        confidence=odds[1],
        simplifies=simplifies,
        exempt_from_race_until=_SLOW_START if family in _SLOW_FAMILIES else 0.0,
    )


def _course(evidence: Evidence) -> str:
    """Say how the incumbent's runs went."""
    if math.isinf(evidence.seconds_to_target):
        return "The targets were not reached."
    steps = f" at step {evidence.steps_to_target}" if evidence.steps_to_target > 1 else ""
    return f"The targets are reached after {evidence.seconds_to_target:.3g} s{steps}."


def text_of(value: Any) -> str:
    """Return a value for a reader, numbers with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def has_command(history: History) -> bool:
    """Say whether a study is about somebody else's command."""
    return bool(history.base_config.get("command"))
