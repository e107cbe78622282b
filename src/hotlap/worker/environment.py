"""The facts about machine and software that stand beside every measurement."""

import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import hotlap
from hotlap.config.parts import source_hashes
from hotlap.core.processes import processor_name
from hotlap.core.relocate import within
from hotlap.data.streams import EndlessExamples
from hotlap.train.evaluate import evaluated_data
from hotlap.train.machine_speed import hardware_name
from hotlap.train.memory_advice import demand_of
from hotlap.train.parts import Parts, bf16_is_fast, document_start
from hotlap.worker.git import git_commit


def environment_facts(parts: Parts, directory: Path) -> dict[str, Any]:
    """Return versions, device, threads, load, git commit, model size and the data's hash."""
    device = parts.device
    return {
        "hotlap": hotlap.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "device": device.type,
        "device_name": hardware_name(device),
        "threads": torch.get_num_threads(),
        "bf16_is_fast": bf16_is_fast(device),
        "git_commit": git_commit(directory),
        "load_average": os.getloadavg()[0],
        "num_parameters": sum(p.numel() for p in parts.model.parameters()),
        "num_trained_parameters": sum(p.numel() for p in parts.parameters),
        "memory_estimate": asdict(demand_of(parts).estimate),
        "devices": parts.world.size,
        "batch_size": parts.batch_size,
        "accumulation_steps": parts.accumulation_steps,
        "batch_size_trials": [asdict(trial) for trial in parts.batch_size_trials],
        "max_steps": parts.horizon.max_steps,
        "sources": source_hashes(parts.config, directory),
        "data": {
            "hash": parts.task.hash,
            "num_train": None if isinstance(parts.train, EndlessExamples) else len(parts.train),
            "num_eval": len(parts.eval),
            "source": within(parts.task.source, directory),
            "files": [str(path) for path in parts.task.files],
            "tokenizer": parts.tokenizer.hash,
            "document_start": document_start(parts),
            "eval": evaluated_data(parts),
            "documents": dict(getattr(parts.task, "documents", {})),
        },
    }
