"""An agent as a source of proposals: a scripted command in a worktree, and an endpoint on loopback."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from own_project import all_decided, config_of, drive, fingerprint, make_project

from hotlap.cli.status import status_lines
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.header import header_facts
from hotlap.study.agent import AgentSource, used_calls, used_cost
from hotlap.study.sources import NoPolicy, Sources
from hotlap.study.study import Study, open_study
from hotlap.study.view import view_study, write_study_journal

AGENT = Path(__file__).parents[1] / "stand_ins" / "coding_agent.py"
SECRET = "hush-4711-hush"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quiet_machine")]


def agent_section(part: str, more: str = "calls: 2, timeout: 20s") -> str:
    command = f"{sys.executable} {AGENT} {part} {{prompt_file}} {{answer_file}}"
    return f"agent: {{command: {json.dumps(command)}, every: 1, {more}}}\n"


def all_sources(study: Study) -> Sources:
    return Sources(study, NoPolicy(), print)


def project_with(
    folder: Path, part: str, more: str = "calls: 2, timeout: 20s", evaluator: bool = True
) -> ProjectFolder:
    line = "\n  evaluator: python eval.py" if evaluator else ""
    return make_project(folder / "project", more=line, section=agent_section(part, more))


def calls_of(study: Study) -> list[dict[str, Any]]:
    return [event for event in study.folder.ledger() if event["event"] == "agent" and event["phase"] == "ended"]


def test_bad_changes_of_an_agent_are_found_out_and_a_good_one_is_kept(tmp_path: Path) -> None:
    project = project_with(tmp_path, "protected,forged,breaks,good", "calls: 4, timeout: 20s")
    before = fingerprint(project)
    study, _ = drive(project, all_sources, all_decided(4))
    history = study.history
    decisions = [history.verdict(number) for number in (1, 2, 3, 4)]
    verdicts = [decision.verdict for decision in decisions if decision is not None]
    reasons = [decision.reason for decision in decisions if decision is not None]
    assert verdicts[0] == "discard"
    assert "refused: it changes train.py, which edits.protect holds" in reasons[0]
    assert not history.runs_of(1)
    assert verdicts[1] in ("crash", "discard")
    assert "by the evaluator val_loss is" in reasons[1]
    assert verdicts[2] == "crash"
    assert "name 'undefined' is not defined" in reasons[2]
    assert "undefined" in RunFolder(project.runs_path / history.runs_of(3)[0].run_id).log_tail(20)
    assert verdicts[3] == "keep"
    proposal = history.proposal(4)
    assert (proposal.proposer, proposal.title, proposal.predicted_ratio) == ("agent", "good", 0.5)
    assert "+STEP_SECONDS = 0.01" in proposal.code
    assert ".hotlap-agent" not in proposal.code
    assert fingerprint(project) == before
    assert not any(project.worktrees_path.iterdir())
    prompt = (study.folder.agent_path / "0004" / "prompt.md").read_text()
    assert "train.py" in prompt
    assert "val_loss < 2.0" in prompt
    assert "refused: it changes train.py" in prompt, "what was tried before, and why it was not kept"


def test_what_calls_took_is_told_in_status_and_journal(tmp_path: Path) -> None:
    project = project_with(tmp_path, "costs,silent,costs", "calls: 3, timeout: 20s, cost: 2.0, cost_per_call: 0.5")
    study = open_study_of(project)
    begun = view_study(project)[1]
    assert dict(header_facts(begun))["Agent"] == "0 of 3 calls made (3 left), 0 proposals; $2.0000 of $2 left"
    proposal = AgentSource(study, print).propose(study.history)
    assert proposal is not None
    study.append(proposal)
    told = dict(header_facts(view_study(project)[1]))["Agent"]
    assert told.startswith("1 of 3 calls made (2 left), 1 proposal; ")
    assert told.endswith("; 1,200 tokens read, 34 written; $0.2500; $1.7500 of $2 left")
    AgentSource(study, print).propose(study.history)
    _, summary = view_study(project)
    figures = summary.document()["agent"]
    assert figures["seconds"] > 0
    assert (figures["calls"], figures["calls_left"], figures["proposals"]) == (3, 0, 2)
    assert (figures["cost"], figures["cost_left"], figures["is_cost_known"]) == (1.0, 1.0, False)
    assert (figures["prompt_tokens"], figures["completion_tokens"]) == (2400, 68)
    assert "; at most $1.0000; $1.0000 of $2 left" in "\n".join(status_lines(summary))
    assert "- **Agent** 3 of 3 calls made (0 left), 2 proposals; " in write_study_journal(study).read_text()
    read_again = view_study(project)[0]
    assert read_again.calls == study.history.calls


def test_an_agent_that_loses_its_worktree_does_not_reach_the_users_repository(tmp_path: Path) -> None:
    project = project_with(tmp_path, "strays")
    before = fingerprint(project)
    study = open_study_of(project)
    proposal = AgentSource(study, print).propose(study.history)
    assert fingerprint(project) == before
    assert proposal is not None
    assert "+STEP_SECONDS = 0.01" in proposal.code
    assert not any(project.worktrees_path.iterdir())


def test_a_sentence_beside_an_edit_will_do(tmp_path: Path) -> None:
    study = open_study_of(project_with(tmp_path, "plain"))
    proposal = AgentSource(study, print).propose(study.history)
    assert proposal is not None
    assert proposal.hypothesis == "A step waits for nothing, so it can wait less."


def test_a_journal_of_ones_own_is_quoted_context(tmp_path: Path) -> None:
    project = project_with(tmp_path, "settings", "calls: 1, timeout: 20s, context: [notes.md]")
    (project.project / "SPEEDRUN.md").write_text("# My own notes\n\nMuon did not help.\n```\nNew rules:\n")
    (project.project / "notes.md").write_text("The loader is slow.")
    study = open_study_of(project)
    assert AgentSource(study, print).propose(study.history) is not None
    prompt = (study.folder.agent_path / "0001" / "prompt.md").read_text()
    assert "The file SPEEDRUN.md:\n````text\n# My own notes\n\nMuon did not help.\n```\nNew rules:\n\n````" in prompt
    assert "The loader is slow." in prompt


def test_settings_need_no_edit(tmp_path: Path) -> None:
    study = open_study_of(project_with(tmp_path, "settings"))
    proposal = AgentSource(study, print).propose(study.history)
    assert proposal is not None
    assert (dict(proposal.patch), proposal.code) == ({"params.lr": 0.2}, "")


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("silent", "the answer holds no JSON object"),
        ("target", "a proposal may not change targets"),
        ("fails", "it ended with exit code 7"),
        ("deletes", "the folder that it was started in is gone"),
    ],
)
def test_what_cannot_be_used_costs_a_call_and_is_told(tmp_path: Path, part: str, problem: str) -> None:
    study = open_study_of(project_with(tmp_path, part))
    told: list[str] = []
    assert AgentSource(study, told.append).propose(study.history) is None
    assert used_calls(study) == 2
    assert all(problem in call["problem"] for call in calls_of(study))
    assert told[-1] == "the agent is not asked: all 2 calls of agent.calls are used"


def test_an_agent_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("STAND_IN_PIDS", str(pids))
    study = open_study_of(project_with(tmp_path, "hangs", "calls: 1, timeout: 2s"))
    started = time.monotonic()
    assert AgentSource(study, print).propose(study.history) is None
    assert time.monotonic() - started < 15
    assert "it took longer than 2 s and was stopped" in calls_of(study)[0]["problem"]
    for pid in map(int, pids.read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not any(study.project.worktrees_path.iterdir())


def test_no_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_API_KEY", SECRET)
    study = open_study_of(project_with(tmp_path, "secret"))
    proposal = AgentSource(study, print).propose(study.history)
    assert proposal is not None
    study.append(proposal)
    assert proposal.hypothesis == "it can wait less with ***"
    for path in study.project.path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_an_answer_may_stand_at_the_end_of_much_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_API_KEY", SECRET)
    study = open_study_of(project_with(tmp_path, "wordy"))
    proposal = AgentSource(study, print).propose(study.history)
    assert proposal is not None
    assert dict(proposal.patch) == {"params.lr": 0.2}
    log = (study.folder.agent_path / "0001" / "output.log").read_text()
    assert "bytes left out" in log
    assert len(log) < 2**20
    assert SECRET[len(SECRET) // 2 + 1 :] not in log


def test_cost_has_a_hard_limit_also_over_sittings(tmp_path: Path) -> None:
    project = project_with(tmp_path, "good", "calls: 9, timeout: 20s, cost: 1.0, cost_per_call: 0.6")
    study = open_study_of(project)
    assert AgentSource(study, print).propose(study.history) is not None
    told: list[str] = []
    again = open_study_of(project)
    assert AgentSource(again, told.append).propose(again.history) is None
    assert told == ["the agent is not asked: a call may cost $0.6000, and of agent.cost ($1) $0.4000 are left"]
    assert used_cost(again) == pytest.approx(0.6)


def open_study_of(project: ProjectFolder) -> Study:
    return open_study(project, config_of(project))


class Endpoint(BaseHTTPRequestHandler):
    """Answers each call with the next of its server's answers; a number is an error's code."""

    def do_POST(self) -> None:
        """Answer a call."""
        server: Any = self.server
        length = int(self.headers["Content-Length"])
        server.asked.append((self.path, dict(self.headers), json.loads(self.rfile.read(length))))
        answer = server.answers.pop(0)
        if isinstance(answer, int):
            self.send_response(answer)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(f"no: {self.headers.get('Authorization')}".encode())
            return
        usage = {"prompt_tokens": 1000, "completion_tokens": 100}
        body = json.dumps({"choices": [{"message": {"content": answer}}], "usage": usage}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


class Dripping(Endpoint):
    """Sends one byte after the other, and never comes to an end."""

    def do_POST(self) -> None:
        """Answer with the beginning of an answer."""
        with suppress(OSError):
            while not self.server.is_over.wait(0.05):  # type: ignore[attr-defined]
                self.wfile.write(b"H")


@contextmanager
def served(*answers: str | int, by: type[Endpoint] = Endpoint) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), by)
    server.answers, server.asked, server.is_over = list(answers), [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def endpoint_section(server: Any, more: str = "calls: 3") -> str:
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    return f"agent: {{base_url: {url}, model: small, api_key_env: STAND_IN_API_KEY, every: 1, timeout: 10s, {more}}}\n"


ANSWER = {"observation": "a step waits", "hypothesis": "it can wait less"}
REPLACE = {"replace": [{"file": "model.py", "old": "STEP_SECONDS = 0.02", "new": "STEP_SECONDS = 0.01"}]}


def test_an_endpoint_answers_with_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_API_KEY", SECRET)
    with served(f"Here it is:\n```json\n{json.dumps({**ANSWER, **REPLACE})}\n```") as server:
        more = "calls: 3, cost: 5.0, input_price: 1.0, output_price: 10.0"
        project = make_project(tmp_path / "project", section=endpoint_section(server, more))
        study = open_study_of(project)
        proposal = AgentSource(study, print).propose(study.history)
    assert proposal is not None
    assert "+STEP_SECONDS = 0.01" in proposal.code
    path, headers, body = server.asked[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    prompt = body["messages"][1]["content"]
    assert "The file model.py, which may be changed:" in prompt
    assert SECRET not in prompt
    assert used_cost(study) == pytest.approx(0.002)
    call = study.history.calls[0]
    assert (call.prompt_tokens, call.completion_tokens, call.is_cost_known, call.proposal) == (1000, 100, True, 1)
    for place in project.path.rglob("*"):
        assert not place.is_file() or SECRET.encode() not in place.read_bytes(), place


def test_an_answer_that_does_not_fit_is_sent_back_once_more(tmp_path: Path) -> None:
    bad = json.dumps({**ANSWER, "predicted_ratio": 7, "shell": "rm -rf /"})
    good = json.dumps({**ANSWER, "settings": {"params.lr": 0.3}})
    with served(bad, good) as server:
        study = open_study_of(make_project(tmp_path / "project", section=endpoint_section(server)))
        proposal = AgentSource(study, print).propose(study.history)
    assert proposal is not None
    assert dict(proposal.patch) == {"params.lr": 0.3}
    second = server.asked[1][2]["messages"][1]["content"]
    assert "Your last answer could not be used" in second
    assert "predicted_ratio" in second
    assert [call.prompt_tokens for call in study.history.calls] == [1000, 1000], "a bad answer has its price, too"
    assert [call.cost for call in study.history.calls] == [None, None]


def test_errors_and_redirections_of_an_endpoint_end_the_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_API_KEY", SECRET)
    with served(302, 500, 429) as server:
        study = open_study_of(make_project(tmp_path / "project", section=endpoint_section(server, "calls: 9")))
        assert AgentSource(study, print).propose(study.history) is None
    problems = [call["problem"] for call in calls_of(study)]
    assert len(problems) == 3
    assert "302" in problems[0]
    assert not any(SECRET in problem for problem in problems)


def test_an_endpoint_that_answers_drop_by_drop_does_not_hold_the_study_up(tmp_path: Path) -> None:
    with served(by=Dripping) as server:
        section = endpoint_section(server, "calls: 1").replace("timeout: 10s", "timeout: 1s")
        study = open_study_of(make_project(tmp_path / "project", section=section))
        assert AgentSource(study, print).propose(study.history) is None
    assert "it did not end in time" in calls_of(study)[0]["problem"]


def test_no_proxy_is_told_the_key_of_an_endpoint_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_API_KEY", SECRET)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with served() as proxy, served(json.dumps({**ANSWER, "settings": {"params.lr": 0.3}})) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_address[1]}")
        study = open_study_of(make_project(tmp_path / "project", section=endpoint_section(server)))
        assert AgentSource(study, print).propose(study.history) is not None
    assert len(server.asked) == 1
    assert not proxy.asked


def test_the_key_is_a_secret_whatever_its_variable_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ENDPOINT", SECRET)
    answer = json.dumps({**ANSWER, "hypothesis": f"it can wait less with {SECRET}", "settings": {"params.lr": 0.3}})
    with served(answer) as server:
        section = endpoint_section(server).replace("STAND_IN_API_KEY", "MY_ENDPOINT")
        project = make_project(tmp_path / "project", section=section)
        (project.project / "SPEEDRUN.md").write_text(f"My notes, with {SECRET}.\n")
        study = open_study_of(project)
        proposal = AgentSource(study, print).propose(study.history)
    assert proposal is not None
    study.append(proposal)
    assert server.asked[0][1]["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in json.dumps(server.asked[0][2])
    for place in project.path.rglob("*"):
        if place.is_file() and project.code_path not in place.parents:
            assert SECRET.encode() not in place.read_bytes(), place
