"""Measure a training's data: `python -m hotlap.worker.bench_data DIRECTORY CACHE PARENT`.

The request comes as JSON on standard input: `config` (its text), or `function` (`module:function` of the project's,
with `batch_size` and `seed`); `workers` (a list), `seconds` for each measurement. The answers, a JSON object a line:

    {"event": "stage", "text": "what is measured now"}
    {"event": "part", "part": {…}}          a part of the pipeline
    {"event": "need", "need": {…}}          what a step needs
    {"event": "loader", "loader": {…}}      what a number of workers gives
    {"event": "check", "check": {…}}
    {"event": "error", "text": "what cannot be done, and what to do"}
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hotlap.config.load import config_from_text
from hotlap.config.parts import custom_parts
from hotlap.core.errors import NotSupportedError
from hotlap.data.checks import checks
from hotlap.data.load import LoadedData
from hotlap.data.loader import BatchSource
from hotlap.data.speed import running_text, stages
from hotlap.train.build import build_parts, build_source
from hotlap.train.custom import load_part
from hotlap.train.data_speed import loader, needed, source_of, with_workers
from hotlap.train.distributed import World
from hotlap.train.measure import StepPlan
from hotlap.train.memory import keep_freed_memory
from hotlap.train.own_data import own_loader, own_source
from hotlap.train.own_data_checks import own_checks
from hotlap.train.parts import Parts
from hotlap.worker.asked import answer

_WARMUP_STEPS = 2
_STEPS = 3


def main() -> int:
    """Return 0, or the exit code of the error that was told."""
    return answer(events, places=2, advice="make the batch smaller: -s training.per_device_train_batch_size=…")


def events(directory: Path, cache: Path, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what was measured, part by part; raises what building the parts and the project's own code do."""
    if request.get("function"):
        yield from _of_function(directory, request)
    else:
        yield from _of_config(directory, cache, request)


def _of_config(directory: Path, cache: Path, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    config = config_from_text(request["config"], directory / "config.yaml")
    if config.backend == "hf":
        raise NotSupportedError("backend: hf has the Trainer's own loader; measure the config with -s backend=fast")
    keep_freed_memory()
    yield {"event": "stage", "text": "building the model and its data"}
    parts = build_parts(config, directory, cache)
    seconds, counts = float(request["seconds"]), list(request["workers"])
    plan = StepPlan(_WARMUP_STEPS, _STEPS, seconds)
    yield {"event": "stage", "text": "the parts of the pipeline, each alone"}
    data = LoadedData(parts.task, parts.tokenizer, parts.train, parts.eval)
    custom = {key: load_part(directory, name) for key, name in custom_parts(config).items()}
    for part in running_text(config, directory, cache, custom, parts.tokenizer, seconds):
        yield {"event": "part", "part": asdict(part)}
    source = source_of(parts, 0)
    for part in stages(config, data, source, parts.accumulation_steps, seconds):
        yield {"event": "part", "part": asdict(part)}
    source.close()
    yield {"event": "stage", "text": "training steps whose batches lie ready"}
    need = needed(parts, plan)
    yield {"event": "need", "need": {**asdict(need), "workers": config.training.dataloader_num_workers}}
    for count in counts:
        yield {"event": "stage", "text": f"batches by {count} worker(s), alone and in the training"}
        yield {"event": "loader", "loader": asdict(loader(parts, count, plan, need))}
    yield {"event": "stage", "text": "checks"}
    for check in checks(parts.task, lambda *place: _shared(parts, *place), min(2, max(counts, default=0))):
        yield {"event": "check", "check": asdict(check)}


def _shared(parts: Parts, rank: int, size: int, workers: int) -> BatchSource:
    """Return the source of one of several processes, whose steps together have the rows of one process's step."""
    rows = max(size, 2 * (parts.batch_size // 2)) if parts.batch_size > 1 else 1
    config = with_workers(parts.config, workers)
    world = World(rank, size, rank, parts.device, size)
    return build_source(config, world, parts.train, max(1, rows // size), parts.accumulation_steps)


def _of_function(directory: Path, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Measure what a function of the project's returns, in torch's DataLoader."""
    seconds, batch_size, seed = float(request["seconds"]), int(request["batch_size"]), int(request["seed"])
    own = own_source(directory, request["function"], seed)
    yield {"event": "stage", "text": f"{request['function']}: {own.kind}"}
    for count in request["workers"] if own.own_workers is None else [own.own_workers]:
        yield {"event": "stage", "text": f"batches by {count} worker(s)"}
        yield {"event": "loader", "loader": own_loader(own, count, batch_size, seconds)}
    yield {"event": "stage", "text": "checks"}
    for check in own_checks(own, min(2, max(request["workers"], default=0)), batch_size):
        yield {"event": "check", "check": asdict(check)}


if __name__ == "__main__":
    sys.exit(main())
