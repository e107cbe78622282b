"""`hotlap generate` in this process, with a program of our own in the place of the one that loads torch."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hotlap
from hotlap.cli import main
from hotlap.config.load import config_from_values, config_text
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import generate as launch_generate
from hotlap.launch import prepare

PROGRAM = r"""
import json, sys
request = json.load(sys.stdin)
def say(**event): print(json.dumps(event), flush=True)
say(event="start", settings=request["settings"], device="cpu")
for text in request["prompts"] or ["of the config"]:
    say(event="prompt", text=text)
    say(event="text", text=" a t")
    say(event="text", text="ime\x1b[2J\n")
    say(event="end", tokens=7, ended_by="end_of_text", seconds=0.5, notice="longer" if text == "long" else "")
"""

Start = Callable[..., int]


@pytest.fixture
def folder(project: ProjectFolder) -> RunFolder:
    folder = RunFolder.create(project.runs_path)
    folder.write_config(config_text(config_from_values({})))
    folder.write("command", {"argv": ["python", "-m", "hotlap.worker"], "directory": str(project.project)})
    folder.write("result", {"outcome": "reached", "step": 1500, "metrics": {}})
    folder.weights_path.touch()
    return folder


@pytest.fixture
def start(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Call the entry point in the project, as a shell would; return the exit code."""
    monkeypatch.chdir(folder.path.parents[2])
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setattr(launch_generate, "GENERATOR", (sys.executable, "-c", PROGRAM))
    monkeypatch.setattr(prepare, "require_training_side", lambda: None)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hotlap", "generate", *words])
        with pytest.raises(SystemExit) as ended:
            main.run()
        return int(ended.value.code or 0)

    return call


def test_the_text_stands_behind_its_prompt(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("r1", "--prompt", "Once upon", "--prompt", "long") == 0
    told = capsys.readouterr()
    assert told.out == "Once upon a time\x1b[2J\n\n\nlong a time\x1b[2J\n\n", "a file gets the text as it is"
    assert told.err == "note: longer\nr0001 at step 1,500 (model.safetensors): 14 tokens, 14 tokens/s\n"


@pytest.mark.parametrize("name", ["r0001", "R1", "1", "@last", ".hotlap/runs/r0001", ".hotlap/runs/r0001/"])
def test_a_run_is_named_by_id_alias_or_folder(start: Start, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert start(name, "--json") == 0
    assert json.loads(capsys.readouterr().out)["run"] == "r0001"


def test_json_is_one_document(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--temperature", "0.8", "--top-k", "40", "--top-p", "0.9", "--seed", "3", "--max-new-tokens", "20"]
    assert start("@last", *options, "--prompt", "Жил", "--json") == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert json.loads(told.out) == {
        "schema": "hotlap/generation/1",
        "run": "r0001",
        "weights": "model.safetensors",
        "step": 1500,
        "settings": {"max_new_tokens": 20, "temperature": 0.8, "top_k": 40, "top_p": 0.9, "seed": 3},
        "samples": [
            {
                "prompt": "Жил",
                "generated": " a time\x1b[2J\n",
                "tokens": 7,
                "ended_by": "end_of_text",
                "seconds": 0.5,
                "notice": "",
            }
        ],
    }


def test_without_a_prompt_the_worker_chooses(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("r1") == 0
    assert capsys.readouterr().out.startswith("of the config a time")


def test_prompts_come_from_files_and_from_standard_input(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "prompt.txt").write_bytes("Ёлка\nв лесу\r\n".encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"typed\n\n")))
    words = ["--prompt-file", str(tmp_path / "prompt.txt"), "--prompt-file", "-", "--prompt", "given"]
    assert start("r1", *words, "--json") == 0
    prompts = [sample["prompt"] for sample in json.loads(capsys.readouterr().out)["samples"]]
    assert prompts == ["given", "Ёлка\nв лесу", "typed\n"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["r9"], "unknown run 'r9'; there are r0001 to r0001 and @last"),
        (["@bset"], "unknown alias '@bset'. Did you mean '@best'?"),
        (["@best"], "@best (the newest study's fastest run to target): there is no such run yet"),
        (["missing"], "there is no folder missing; give a run's id (r0042), an alias (@best) or its folder"),
        (["."], "is no run: there is no config.yaml in it"),
        (["r1", "-p", "nowhere"], "there is no .hotlap in "),
        (["r1", "--checkpoint", "20"], "r0001 has no complete checkpoint"),
        (["r1", "--temperature", "-1"], "--temperature: Input should be greater than or equal to 0, got -1.0"),
        (
            ["r1", "--top-p", "1.1", "--top-k", "0"],
            "--top-k: Input should be greater than or equal to 1, got 0; --top-p",
        ),
        (["r1", "--prompt-file", "none.txt"], "--prompt-file: cannot read none.txt: No such file or directory"),
        (["r1", "--prompt-file", "latin.txt"], "--prompt-file: latin.txt is not UTF-8: byte 4 begins no character"),
    ],
)
def test_what_cannot_be_done_is_one_clear_message(
    start: Start, capsys: pytest.CaptureFixture[str], project: ProjectFolder, words: list[str], told: str
) -> None:
    (project.project / "latin.txt").write_bytes(b"cab\xf1a")
    assert start(*words) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert told in shown.err and shown.err.startswith("hotlap: error: ")


def test_an_error_of_the_worker_is_ours(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import sys; print('the weights do not fit', file=sys.stderr); sys.exit(125)"
    monkeypatch.setattr(launch_generate, "GENERATOR", (sys.executable, "-c", program))
    assert start("r1", "--json") == 125
    assert capsys.readouterr() == ("", "hotlap: error: the weights do not fit\n")


def on_a_terminal(folder: RunFolder, program: str, then: Callable[[int, "subprocess.Popen[bytes]"], None]) -> Any:
    """Run the command on a terminal of its own; return what it showed there and its exit code."""
    code = (
        "import sys\nfrom hotlap.launch import generate, prepare\n"
        f"generate.GENERATOR = (sys.executable, '-c', {program!r})\n"
        "prepare.require_training_side = lambda: None\n"
        "sys.argv = ['hotlap', 'generate', 'r1', '--prompt', 'Once']\nfrom hotlap.cli.main import run\nrun()\n"
    )
    reader, writer = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1]), "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=writer,
        stdout=writer,
        stderr=writer,
        cwd=folder.path.parents[2],
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(writer)
        then(reader, process)
        shown = b""
        while True:
            try:
                part = os.read(reader, 4096)
            except OSError:
                break
            shown += part
            if not part:
                break
        os.close(reader)
        return shown.decode().replace("\r\n", "\n"), process.wait(30)


def test_a_terminal_is_not_given_what_it_would_obey(folder: RunFolder) -> None:
    shown, code = on_a_terminal(folder, PROGRAM, lambda *_: None)
    assert code == 0
    assert shown.startswith("Once a time\\x1b[2J\n")


def test_ctrl_c_ends_it_cleanly(folder: RunFolder) -> None:
    pids = folder.path / "pid"
    program = PROGRAM.replace(
        '    say(event="end"',
        f'    import os, time; open({str(pids)!r}, "w").write(str(os.getpid())); time.sleep(60)\n    say(event="end"',
    )

    def interrupt(_: int, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + 30
        while not pids.exists() or not pids.read_text():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)

    shown, code = on_a_terminal(folder, program, interrupt)
    assert code == 130
    assert shown == "Once a time\\x1b[2J\n\nhotlap: interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)
