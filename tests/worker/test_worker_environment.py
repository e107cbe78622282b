"""The facts beside every measurement are those that the contract names."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hotlap.config.load import load_config
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.train.build import build_parts
from hotlap.train.parts import Parts
from hotlap.worker.environment import environment_facts

CONTRACT = Path(__file__).parents[2] / "docs" / "run-folder.md"


@pytest.fixture
def parts(project: ProjectFolder, make_run: Callable[..., RunFolder]) -> Parts:
    folder = make_run()
    return build_parts(load_config(folder.config_path), project.project, project.cache_path)


def test_the_facts_are_those_of_the_contract(parts: Parts, project: ProjectFolder) -> None:
    section = CONTRACT.read_text().partition("`environment.json`\n```json\n")[2].partition("```")[0]
    documented = json.loads(section)
    facts = environment_facts(parts, project.project)
    assert facts.keys() == documented.keys()
    assert facts["data"].keys() == documented["data"].keys()
    json.dumps(facts, allow_nan=False)


def test_the_facts_are_true(parts: Parts, project: ProjectFolder) -> None:
    facts = environment_facts(parts, project.project)
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == 1
    assert facts["num_parameters"] == sum(p.numel() for p in parts.model.parameters())
    assert facts["data"]["hash"] == parts.task.hash
    assert (facts["data"]["num_train"], facts["data"]["num_eval"]) == (len(parts.task.train), len(parts.task.eval))
    assert facts["data"]["source"] == "corpus.txt"  # as people know it, wherever the project lies
    assert environment_facts(parts, project.project / "elsewhere")["data"]["source"] == parts.task.source


def test_the_commit_is_that_of_the_users_repository(parts: Parts, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    assert environment_facts(parts, tmp_path / "missing")["git_commit"] is None
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=repository, check=True, capture_output=True)
    commit = environment_facts(parts, repository)["git_commit"]
    assert commit is not None
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
