"""A command with the values of its knobs, and the copies that it reads; the user's files stay as they are."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.command import CommandConfig
from hotlap.core.errors import ConfigError
from hotlap.knobs.render import Rendered, render

DOCKER = (
    "docker build -t welt . && docker run -it --rm --gpus all --ipc=host --ulimit memlock=-1 "
    '-v "$(pwd)/welt:/app/welt" -v "$(pwd)/welt_training:/app/welt_training" '
    "-v ~/.netrc:/root/.netrc:ro -e WANDB_PROJECT=string-repetition "
    "-e WANDB_NAME=benchmark-run -e CONFIG=welt_training/experiments/easy-tasks/benchmark-run.yaml welt"
)
CONFIG = "welt_training/experiments/easy-tasks/benchmark-run.yaml"


def write(project: Path, name: str, text: str) -> Path:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def rendered(project: Path, params: dict[str, Any], **command: Any) -> Rendered:
    return render(CommandConfig(**command), params, project, project / ".hotlap" / "scratch")


def run(project: Path, result: Rendered) -> str:
    """Run what was rendered where the harness would; return what it prints."""
    environment = {**os.environ, **result.env}
    ended = subprocess.run(
        result.shell, shell=True, cwd=project, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return ended.stdout


def test_placeholders_are_quoted_for_where_they_stand(tmp_path: Path) -> None:
    text = "print {lr} {word} 'in {word}' \"in {word}\" {{lr}} ${HOME} {on?--on} {off?--on:--no} {a,b}"
    got = rendered(tmp_path, {"lr": 3e-4, "word": "it's $5", "on": True, "off": False}, run=text)
    assert got.shell == ("""print 0.0003 'it'"'"'s $5' 'in it'\\''s $5' "in it's \\$5" {lr} ${HOME} --on --no {a,b}""")


def test_variables_also_where_the_command_sets_them_itself(tmp_path: Path) -> None:
    got = rendered(
        tmp_path, {"lr": 0.5, "fast": True}, run="LR=1 sh -c 'echo $LR $FAST'", env={"LR": "{lr}", "FAST": "{fast}"}
    )
    assert got.shell == "LR=0.5 sh -c 'echo $LR $FAST'"
    assert run(tmp_path, got) == "0.5 true\n"


@pytest.mark.parametrize(
    ("name", "text", "key", "expected"),
    [
        ("a.yaml", "# top\nopt:\n  lr: 1e-3  # rate\n", "opt.lr", "# top\nopt:\n  lr: 0.5  # rate\n"),
        ("a.json", '{\n\t"opt": {"lr": 1e-3} // rate\n}\n', "opt.lr", '{\n\t"opt": {"lr": 0.5} // rate\n}\n'),
        ("a.toml", "[opt]\nlr = 1e-3 # rate\n", "opt.lr", "[opt]\nlr = 0.5 # rate\n"),
    ],
)
def test_files_are_copied_with_their_comments(tmp_path: Path, name: str, text: str, key: str, expected: str) -> None:
    original = write(tmp_path, f"conf/{name}", text)
    got = rendered(
        tmp_path, {"lr": 0.5}, run=f"cat --config=conf/{name} ./conf/{name}", files={f"conf/{name}": {key: "lr"}}
    )
    copy = got.files[original]
    assert copy.read_text() == expected
    assert original.read_text() == text
    assert got.shell == f"cat --config={copy} {copy}"


def test_a_file_in_a_variable_of_the_command_or_of_the_config(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "lr: 1\n")
    got = rendered(tmp_path, {"lr": 2}, run='CONFIG="$PWD/a.yaml" cat a', files={"a.yaml": {"lr": "lr"}})
    assert got.shell == f"CONFIG={got.files[tmp_path / 'a.yaml']} cat a"
    got = rendered(tmp_path, {"lr": 2}, run='cat "$CONFIG"', env={"CONFIG": "a.yaml"}, files={"a.yaml": {"lr": "lr"}})
    assert run(tmp_path, got) == "lr: 2\n"


def test_a_file_in_a_variable_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.yaml", "lr: 1\n")
    monkeypatch.setenv("CONFIG", str(tmp_path / "a.yaml"))
    got = rendered(tmp_path, {"lr": 2}, run='cat "$CONFIG"', files={"a.yaml": {"lr": "lr"}})
    assert run(tmp_path, got) == "lr: 2\n"


def test_a_copy_that_would_not_be_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "lr: 1\n")
    with pytest.raises(ConfigError, match=r"a\.yaml has knobs in it, but neither .* pass a\.yaml to the command"):
        rendered(tmp_path, {"lr": 2}, run="python train.py", files={"a.yaml": {"lr": "lr"}})


def test_constants_of_a_script_with_its_imports(tmp_path: Path) -> None:
    original = write(
        tmp_path, "src/train.py", "import model\nlr = 6e-4 # rate\nsteps: int = 10\nprint(lr, steps, model.WIDTH)\n"
    )
    write(tmp_path, "src/model.py", "WIDTH = 7\n")
    before = original.read_bytes()
    got = rendered(
        tmp_path,
        {"lr": 1e-5, "n": 3},
        run=f"{sys.executable} src/train.py",
        constants={"src/train.py": {"lr": "lr", "steps": "n"}},
    )
    assert run(tmp_path, got) == "1e-05 3 7\n"
    assert original.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "src").iterdir()) == ["model.py", "train.py"]


def test_constants_of_a_module_that_the_script_imports(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "from settings import Settings\nprint(Settings.depth)\n")
    write(tmp_path, "settings.py", "class Settings:\n    depth = 2\n")
    got = rendered(
        tmp_path, {"d": 9}, run=f"{sys.executable} train.py", constants={"settings.py": {"Settings.depth": "d"}}
    )
    assert run(tmp_path, got) == "9\n"


def test_constants_of_a_module_that_is_run_by_name(tmp_path: Path) -> None:
    write(tmp_path, "pkg/__init__.py", "")
    write(tmp_path, "pkg/train.py", "from pkg.model import WIDTH\nLR = 1\nprint(LR, WIDTH)\n")
    write(tmp_path, "pkg/model.py", "WIDTH = 7\n")
    got = rendered(tmp_path, {"lr": 2}, run=f"{sys.executable} -m pkg.train", constants={"pkg/train.py": {"LR": "lr"}})
    assert run(tmp_path, got) == "2 7\n"


def test_variables_of_a_shell_script_and_files_that_it_names(tmp_path: Path) -> None:
    write(tmp_path, "run.sh", "#!/bin/sh\nLR=${LR:-0.1}\nN=3\necho $LR $N\ncat conf.json\n")
    write(tmp_path, "conf.json", '{"a": 1}\n')
    got = rendered(
        tmp_path,
        {"lr": 0.5, "n": 4, "a": 2},
        run="sh run.sh",
        constants={"run.sh": {"LR": "lr", "N": "n"}},
        files={"conf.json": {"a": "a"}},
    )
    assert run(tmp_path, got) == '0.5 4\n{"a": 2}\n'


def test_a_script_in_a_linked_folder_stays_untouched(tmp_path: Path) -> None:
    """Its folder is a link among the copies; what is written there must not go through it."""
    write(tmp_path, "train.py", "LR = 1\nprint(LR)\n")
    script = write(tmp_path, "jobs/run.sh", f"{sys.executable} train.py\ncat jobs/other.txt\n")
    write(tmp_path, "jobs/other.txt", "other\n")
    before = script.read_bytes()
    for _ in range(2):  # the second time the folders of the first are there
        got = rendered(tmp_path, {"lr": 2}, run="sh jobs/run.sh", constants={"train.py": {"LR": "lr"}})
        assert run(tmp_path, got) == "2\nother\n"
    assert script.read_bytes() == before and not script.is_symlink()


def test_a_file_that_names_its_neighbours_keeps_them(tmp_path: Path) -> None:
    write(tmp_path, "conf/run.yaml", "extends: base.yaml\nlr: 1\n")
    write(tmp_path, "conf/base.yaml", "depth: 2\n")
    got = rendered(
        tmp_path, {"lr": 2}, run='f=conf/run.yaml; cat "$(dirname $f)/base.yaml"', files={"conf/run.yaml": {"lr": "lr"}}
    )
    assert run(tmp_path, got) == "depth: 2\n"


def test_the_line_of_a_container_gets_the_copy_that_its_variable_names(tmp_path: Path) -> None:
    original = write(tmp_path, CONFIG, "# easy\nlearning_rate: 3e-4\nbf16: true\n")
    got = rendered(tmp_path, {"lr": 1e-3}, run=DOCKER, files={CONFIG: {"learning_rate": "lr"}})
    copy = got.files[original]
    assert copy.read_text() == "# easy\nlearning_rate: 0.001\nbf16: true\n"
    expected = DOCKER.replace("docker run", f"docker run -v {copy}:/hotlap_files/0/benchmark-run.yaml:ro")
    assert got.shell == expected.replace(f"CONFIG={CONFIG}", "CONFIG=/hotlap_files/0/benchmark-run.yaml")
    assert original.read_text() == "# easy\nlearning_rate: 3e-4\nbf16: true\n"


@pytest.mark.parametrize(
    ("run_text", "expected"),
    [
        (
            "docker run -v ./conf:/c img --config /c/a.yaml",
            "-v {copy}:/hotlap_files/0/a.yaml:ro -v ./conf:/c img --config /hotlap_files/0/a.yaml",
        ),
        (
            "docker run -w /w -v ./conf:/w/conf img --config=conf/a.yaml",
            "-v {copy}:/hotlap_files/0/a.yaml:ro -w /w -v ./conf:/w/conf img --config=/hotlap_files/0/a.yaml",
        ),
        ("docker run -v ./conf:/c img", "-v {copy}:/c/a.yaml:ro -v ./conf:/c img"),
        ("docker run -v ./conf/a.yaml:/a.yaml:ro img", "-v {copy}:/a.yaml:ro img"),
        (
            "docker run --mount type=bind,source=./conf,target=/c img /c/a.yaml",
            "-v {copy}:/hotlap_files/0/a.yaml:ro --mount type=bind,source=./conf,target=/c img /hotlap_files/0/a.yaml",
        ),
        ("docker run img conf/a.yaml", "-v {copy}:/hotlap_files/0/a.yaml:ro img /hotlap_files/0/a.yaml"),
    ],
)
def test_paths_inside_containers(tmp_path: Path, run_text: str, expected: str) -> None:
    original = write(tmp_path, "conf/a.yaml", "lr: 1\n")
    got = rendered(tmp_path, {"lr": 2}, run=run_text, files={"conf/a.yaml": {"lr": "lr"}})
    expected = expected.format(copy=got.files[original]).replace("{copy}", "")
    assert got.shell == (f"docker run {expected}" if not expected.startswith("docker") else expected)


def test_a_file_with_neighbours_is_mounted_over_the_original(tmp_path: Path) -> None:
    original = write(tmp_path, "conf/a.yaml", "base: b.yaml\nlr: 1\n")
    write(tmp_path, "conf/b.yaml", "x: 1\n")
    got = rendered(
        tmp_path, {"lr": 2}, run="docker run -v ./conf:/c img /c/a.yaml", files={"conf/a.yaml": {"lr": "lr"}}
    )
    assert got.shell == f"docker run -v {got.files[original]}:/c/a.yaml:ro -v ./conf:/c img /c/a.yaml"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "lr: [", "a.yaml: line 1: not valid YAML"),
        ("a.json", "{", "a.json: not valid JSON"),
        ("a.toml", "lr = ", "a.toml: not valid TOML"),
        ("a.yaml", "x: &a 1\nlr: *a\n", "lr cannot be changed safely"),
        ("a.ini", "lr=1", "expected a file of settings"),
    ],
)
def test_files_that_cannot_be_edited(tmp_path: Path, name: str, text: str, message: str) -> None:
    write(tmp_path, name, text)
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        rendered(tmp_path, {"lr": 2}, run=f"cat {name}", files={name: {"lr": "lr"}})


def test_a_script_without_the_constant_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "rate = 1\n")
    with pytest.raises(ConfigError, match=r"train\.py: lr is no constant at the top of the script; there are: rate"):
        rendered(tmp_path, {"lr": 2}, run="python train.py", constants={"train.py": {"lr": "lr"}})
    with pytest.raises(ConfigError, match=r"absent\.py: no such file"):
        rendered(tmp_path, {"lr": 2}, run="python absent.py", constants={"absent.py": {"lr": "lr"}})


def test_values_keep_their_kind_in_each_language(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "a: 1\nb: 1\nc: x\nd: 1\n")
    write(tmp_path, "a.json", '{"a": 1, "b": 1, "c": "x", "d": 1}')
    write(tmp_path, "a.py", "a = 1\nb = 1\nc = 'x'\nd = 1\n")
    keys = {name: name for name in "abcd"}
    params = {"a": 1e-05, "b": True, "c": "yes", "d": None}
    got = rendered(
        tmp_path,
        params,
        run="python a.py a.yaml a.json",
        files={"a.yaml": keys, "a.json": keys},
        constants={"a.py": keys},
    )
    assert got.files[tmp_path / "a.yaml"].read_text() == 'a: 1.0e-05\nb: true\nc: "yes"\nd: null\n'
    assert json.loads(got.files[tmp_path / "a.json"].read_text()) == params
    assert got.files[tmp_path / "a.py"].read_text() == "a = 1e-05\nb = True\nc = 'yes'\nd = None\n"


def test_the_folder_that_a_command_goes_to_counts(tmp_path: Path) -> None:
    write(tmp_path, "sub/a.yaml", "lr: 1\n")
    got = rendered(tmp_path, {"lr": 2}, run="cd sub && cat a.yaml", files={"sub/a.yaml": {"lr": "lr"}})
    assert run(tmp_path, got) == "lr: 2\n"
