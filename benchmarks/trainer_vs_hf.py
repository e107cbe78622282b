"""Tokens per second of hotlap, of transformers' Trainer and of a plain loop: same model, batches, precision, optimizer.

    python benchmarks/trainer_vs_hf.py                        # both cases, 3 repeats, under ten minutes on two cores
    python benchmarks/trainer_vs_hf.py --cases small --repeats 5

Cases: `small`, a GPT of 0.46M parameters on string repetition, batch 32, rows padded to the longest of their batch
(for hotlap also bucketed by length, which is what packing is on a CPU); `big`, one of 10.6M, batch 16 x 256, bf16, with
the share of the matrix-multiplication rate of the same cores that its steps reach. There is no dropout on any side.

hotlap and the Trainer run the same YAML, `backend: fast` and `backend: hf`, through `hotlap train`; the plain loop
stands in this file. Every measurement has a process of its own, one at a time, in turn (A B C, C B A, …). Counted are
tokens that the model computes and that are not padding, and the seconds from asking for a batch to the end of the
update; the first steps are left out on all sides. The Trainer's models compute the last token of a row as well (nothing
follows it): that counts for the Trainer.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from measuring import (
    FinishedRun,
    Spread,
    hardware,
    in_fresh_process,
    in_turn,
    table,
    train,
    write_config,
    write_results,
)

AIMS = {
    "small": "aims: hotlap at least 1.3 times the Trainer, bucketed at least 2 times",
    "big": "aims: hotlap at least 1.1 times the Trainer and at least 55 % of the matmul rate",
}
TRAINING: Mapping[str, Any] = {
    "optim": "adamw_torch_fused",
    "learning_rate": 6e-4,
    "lr_scheduler_type": "linear",
    "max_grad_norm": 1.0,
    "padding": "longest",
    "save_model": False,
}
SMALL: Mapping[str, Any] = {
    "name": "small",
    "task": {"name": "string_repetition", "max_length_bytes": 48, "max_eval_samples": 4},
    "model": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256},
    "training": {**TRAINING, "per_device_train_batch_size": 32},
    "budget": {"run": "10m"},
}
BIG: Mapping[str, Any] = {
    "name": "big",
    "task": {"name": "language_model", "block_size": 256, "max_eval_samples": 4},
    "model": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "max_position_embeddings": 256},
    "training": {**TRAINING, "per_device_train_batch_size": 16, "bf16": True},
    "budget": {"run": "10m"},
}
CASES = {"small": SMALL, "big": BIG}
SIDES = {
    "small": ("hotlap", "hotlap, bucketed", "plain loop", "Trainer"),
    "big": ("hotlap", "plain loop", "Trainer", "matmul"),
}
SETTINGS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("small", "hotlap"): (),
    ("small", "hotlap, bucketed"): ("training.padding=bucketed",),
    ("small", "Trainer"): ("backend=hf",),
    ("big", "hotlap"): (),
    ("big", "Trainer"): ("backend=hf", "task.block_size=255"),
}
"""How each side differs from its case. The Trainer's models take a row with its last token: 256 for a block of 255."""
MATMUL_SIZE = 2048
OWN_ATTENTION = (("attention", "has_own_attention"), ("gpt", "cuts_queries"))


def rates_of(run: FinishedRun, warmup: int, uncounted_rows: int = 0) -> dict[str, float]:
    """Return tokens and steps per second of a run, after its first logged steps.

    `uncounted_rows` is how many rows a step has whose last token is computed but not counted.
    """
    start = next(point for point in run.points if "train_loss" in point and point["step"] >= warmup)
    seconds = run.result["train_seconds"] - start["train_seconds"]
    steps = run.result["step"] - start["step"]
    tokens = run.result["tokens"] - start["tokens"] + steps * uncounted_rows
    return {"tokens": tokens / seconds, "steps": steps / seconds}


def plain_loop(config_path: Path, project: Path, warmup: int) -> dict[str, float]:
    """Train as a plain loop in nanoGPT's manner does, on the same model and batches; return its rates.

    One forward pass over whole rows, the head on every position, clip, AdamW, zero the gradients.
    """
    import torch
    import torch.nn.functional as F

    from hotlap.config.load import load_config
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.train.build import build_parts
    from hotlap.train.distributed import join_world

    config = load_config(config_path)
    parts = build_parts(config, project, ProjectFolder(project).cache_path, join_world(config.training))
    training, model, device = config.training, parts.model.train(), parts.device
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (training.adam_beta1, training.adam_beta2)
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=betas, eps=training.adam_epsilon, fused=True)
    tokens, seconds, counted = 0, 0.0, 0
    for step in range(training.max_steps):
        start = time.perf_counter()
        (batch,), _ = parts.source.micro_batches(step, 1)
        x = batch.input_ids.to(device)
        y = torch.full(x.shape, -1, dtype=torch.int64).flatten()
        y[batch.target_positions] = batch.targets
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * (1 - step / training.max_steps)
        with parts.autocast():
            logits = model.logits(model.hidden(x))
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.to(device), ignore_index=-1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        parts.synchronize()
        if step >= warmup:
            seconds += time.perf_counter() - start
            tokens += batch.num_tokens
            counted += 1
    return {"tokens": tokens / seconds, "steps": counted / seconds}


def matmul_rate(seconds: float = 3.0) -> dict[str, float]:
    """Return FLOP/s of a bfloat16 multiplication of square matrices, the median over some seconds."""
    import statistics

    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    a = torch.randn(MATMUL_SIZE, MATMUL_SIZE, device=device).bfloat16()
    b = torch.randn(MATMUL_SIZE, MATMUL_SIZE, device=device).bfloat16()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        torch.matmul(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return {"flops": 2 * MATMUL_SIZE**3 / statistics.median(times[2:])}


def count_flops(config_path: Path, project: Path) -> dict[str, float]:
    """Return the FLOPs of one step's forward and backward passes, by torch's counter, with attention in full.

    Attention is spelled out as matrix products for the count; `masked` is the half of them that causality masks.
    hotlap's own attention leaves out a part of that half, which is its gain and not counted as work.
    """
    from unittest.mock import patch

    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from hotlap.config.load import load_config
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.train.build import build_parts
    from hotlap.train.distributed import join_world

    config = load_config(config_path)
    parts = build_parts(config, project, ProjectFolder(project).cache_path, join_world(config.training))
    (batch,), _ = parts.source.micro_batches(0, 1)
    nowhere = {f"hotlap.models.{name}.{function}": False for name, function in OWN_ATTENTION}
    with ExitStack() as held:
        for function, answer in nowhere.items():
            held.enter_context(patch(function, return_value=answer))
        held.enter_context(sdpa_kernel(SDPBackend.MATH))
        counter = held.enter_context(FlopCounterMode(display=False))
        with parts.autocast():
            hidden = parts.model.hidden(batch.input_ids.to(parts.device)).flatten(0, 1)
            logits = parts.model.logits(hidden[batch.target_positions.to(parts.device)])
        logits.float().logsumexp(-1).sum().backward()
    by_operation = counter.get_flop_counts()["Global"]
    attention = sum(count for operation, count in by_operation.items() if "bmm" in str(operation))
    rows, length = batch.input_ids.shape
    products = 6 * 2 * rows * length**2 * config.model.hidden_size * config.model.num_hidden_layers
    assert attention == products, (attention, products)  # two products forwards and four backwards a layer
    return {"total": counter.get_total_flops(), "masked": attention / 2}


def measure(case: str, arguments: argparse.Namespace, project: Path) -> dict[str, Any]:
    """Measure one case on all its sides; return the readings by side."""
    warmup, steps = (20, arguments.steps) if case == "small" else (3, arguments.big_steps)
    config = {**CASES[case], "training": {**CASES[case]["training"], "max_steps": warmup + steps}}
    config["training"] |= {"logging_steps": warmup, "seed": 1}
    path = write_config(project / f"{case}.yaml", config)
    rows = int(config["training"]["per_device_train_batch_size"])
    rates: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES[case]}
    environment: dict[str, Any] = {}
    for repeat, side in in_turn(SIDES[case], arguments.repeats):
        if (case, side) in SETTINGS:
            run = train(path, project, SETTINGS[case, side])
            environment |= run.environment  # the Trainer's names its version, too
            found = rates_of(run, warmup, rows if side == "Trainer" else 0)
        elif side == "matmul":
            found = in_fresh_process(__file__, "--only", "matmul")
        else:
            found = in_fresh_process(__file__, "--only", "plain", str(path), str(project), str(warmup))
        rates[side].append(found)
        shown = f"{found['flops'] / 1e9:,.0f} GFLOP/s" if side == "matmul" else f"{found['tokens']:,.0f} tokens/s"
        print(f"{case:<6} {repeat + 1} {side:<17} {shown}", flush=True)
    flops = in_fresh_process(__file__, "--only", "flops", str(path), str(project)) if case == "big" else None
    return {"rates": rates, "environment": environment, "flops": flops, "steps": steps, "warmup_steps": warmup}


def report(case: str, measured: Mapping[str, Any]) -> list[str]:
    """Return the lines of one case: the table, and what it is held against."""
    rates = measured["rates"]
    tokens = {side: Spread(tuple(found["tokens"] for found in rates[side])) for side in rates if side != "matmul"}
    header = ["side", "tokens/s: median (lowest to highest)", "times the Trainer"]
    rows = [
        [side, spread.text(4), f"{spread.median / tokens['Trainer'].median:.2f}"] for side, spread in tokens.items()
    ]
    lines = [f"## {case}", ""]
    if measured["flops"] is not None:
        header.append("share of the matmul rate")
        rate = Spread(tuple(found["flops"] for found in rates["matmul"])).median
        total, masked = measured["flops"]["total"], measured["flops"]["masked"]
        for row, side in zip(rows, tokens, strict=True):
            steps = Spread(tuple(found["steps"] for found in rates[side])).median
            row.append(f"{steps * total / rate:.0%} ({steps * (total - masked) / rate:.0%} without what is masked)")
        lines += [f"bf16 matmul of {MATMUL_SIZE}³: {rate / 1e9:,.0f} GFLOP/s; a step has {total / 1e9:,.0f} GFLOP", ""]
    counted = f"{measured['steps']} steps after {measured['warmup_steps']} that do not count"
    return [*lines, *table(header, rows), "", f"{counted}; {AIMS[case]}", ""]


def only(what: str, rest: list[str]) -> dict[str, float]:
    """Do one measurement in this process."""
    if what == "matmul":
        return matmul_rate()
    if what == "flops":
        return count_flops(Path(rest[0]), Path(rest[1]))
    return plain_loop(Path(rest[0]), Path(rest[1]), int(rest[2]))


def main() -> None:
    """Measure the cases and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each side")
    parser.add_argument("--steps", type=int, default=150, help="counted steps of the small model")
    parser.add_argument("--big-steps", type=int, default=12, help="counted steps of the big model")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)  # what a process of its own does
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(only(arguments.only[0], arguments.only[1:])))
        return
    values: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in arguments.cases:
            measured = measure(case, arguments, Path(folder))
            environment |= measured.pop("environment")
            values[case] = measured
            lines += report(case, measured)
    write_results("trainer_vs_hf", hardware(environment), values, lines)


if __name__ == "__main__":
    main()
