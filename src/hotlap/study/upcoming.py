"""What a study takes up before its own ideas: queued proposals, patch files, the agent. Nothing is written.

for each in upcoming(project, folder, config, history, patches):
    print(each.proposal.title, each.files, each.problem)
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from hotlap.config.edits import AgentConfig
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.core.records import History, Proposal
from hotlap.core.study_folder import ProjectFolder, StudyFolder
from hotlap.study.code import StudyCode, needed_code, protected_edits
from hotlap.study.code_store import CodeStore, Snapshot
from hotlap.study.patch_folder import read_patches, untried
from hotlap.study.proposing import Draft, make_proposal_of
from hotlap.study.queue import waiting
from hotlap.study.sources import is_same

_FILE: Final = re.compile(r"^diff --git a/.* b/(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcoming:
    """A proposal that somebody has handed in and the study has not taken up yet."""

    source: str
    """Where it comes from: a patch file, or the queue."""
    title: str
    proposal: Proposal | None = None
    """What it would be; None for one that cannot be used."""
    problem: str = ""
    """Why it would be refused; empty when it would not."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it changes."""
        return changed_files(self.proposal.code) if self.proposal is not None else ()

    def document(self) -> dict[str, Any]:
        """Return it as a part of a JSON document."""
        proposal = asdict(self.proposal) if self.proposal is not None else None
        facts = {"source": self.source, "title": self.title, "files": list(self.files), "problem": self.problem}
        return {**facts, "proposal": proposal}


def changed_files(code: str) -> tuple[str, ...]:
    """Return the files that a change of code touches."""
    return tuple(_FILE.findall(code))


def upcoming(
    project: ProjectFolder, folder: StudyFolder, config: RunConfig, history: History, patches: Path | None
) -> list[Upcoming]:
    """Return what a study takes up before its own ideas, each as if none before it were kept.

    Raises ConfigError for a folder of patches that cannot be read, or where nobody may change code.
    """
    drafts = [(draft, proposer, f"queued by {proposer}") for _, draft, proposer in waiting(folder)]
    with _code_to_look_at(project, folder, config) as code:
        if patches is not None:
            needed_code(code)
            files = untried(history, read_patches(patches))
            drafts += [(file.draft(), "patches", str(file.path)) for file in files]
        found = [_looked_at(code, history, *each) for each in drafts]
    known = history.proposals
    return [each for each in found if each.proposal is None or not any(is_same(each.proposal, p) for p in known)]


def agents_turn(agent: AgentConfig | None, history: History, has_others: bool) -> str:
    """Say when a study's agent is asked, which nobody does in a preview; empty without an agent."""
    if agent is None:
        return ""
    left = f"{max(0, agent.calls - len(history.calls))} of {agent.calls} calls left"
    is_next = (len(history.proposals) + 1) % agent.every == 0
    what = "the next proposal" if is_next else f"one proposal in {agent.every}"
    when = "once these are tried, " if has_others and is_next else ""
    return f"{when}{what} comes from the agent, and what it will change nobody knows before it is asked ({left})"


def _looked_at(code: StudyCode | None, history: History, draft: Draft, proposer: str, source: str) -> Upcoming:
    try:
        proposal = make_proposal_of(code, history, draft, proposer)
    except ConfigError as error:
        return Upcoming(source=source, title=draft.title or draft.hypothesis, problem=str(error))
    problem = code.problem_with(history, proposal) if code is not None else ""
    return Upcoming(source=source, title=proposal.title, proposal=proposal, problem=problem)


@contextmanager
def _code_to_look_at(project: ProjectFolder, folder: StudyFolder, config: RunConfig) -> Iterator[StudyCode | None]:
    """Open the code of a study, begun or not, in a repository that is gone afterwards."""
    if config.edits is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="hotlap-preview-") as scratch:
        stored = folder.code()
        store = CodeStore(project, Path(scratch) / "code.git").create(CodeStore(project) if stored else None)
        snapshot = Snapshot.from_facts(stored) if stored else store.snapshot()
        yield StudyCode(project, folder, protected_edits(config, snapshot, store), snapshot, store)
