"""What is added to a `docker run`, and what is taken out of it."""

from pathlib import Path

import pytest

from hotlap.core.errors import ConfigError
from hotlap.core.run_folder import RunFolder
from hotlap.knobs.docker_run import for_containers


def rewritten(tmp_path: Path, shell: str, *, has_terminal: bool = True) -> str:
    folder = RunFolder(tmp_path)
    variables = {"HOTLAP_METRICS_FILE": str(folder.logged_path.absolute()), "LR": "0.1"}
    text = for_containers(shell, folder, tmp_path, variables, has_terminal=has_terminal)
    added = (
        f'run --cidfile "$(mktemp -u {tmp_path}/containers/XXXXXXXXXX)" -v {tmp_path}/shared:/hotlap '
        "-e HOTLAP_METRICS_FILE=/hotlap/metrics.jsonl -e LR"
    )
    return text.replace(added, "RUN")


@pytest.mark.parametrize(
    ("given", "with_terminal", "without"),
    [
        ("docker run -it --rm img", "docker RUN -t --rm img", "docker RUN  --rm img"),
        ("docker run --rm -ti img -i", "docker RUN --rm -t img -i", "docker RUN --rm  img -i"),
        ("docker run --interactive --tty img", "docker RUN  --tty img", "docker RUN   img"),
        ("docker run -e A=1 -p 80:80 img --tty", "docker RUN -e A=1 -p 80:80 img --tty", None),
        ("docker build -t me . && docker run -i me", "docker build -t me . && docker RUN  me", None),
        ("python train.py run -it", "python train.py run -it", None),
    ],
)
def test_options(tmp_path: Path, given: str, with_terminal: str, without: str | None) -> None:
    assert rewritten(tmp_path, given) == with_terminal
    assert rewritten(tmp_path, given, has_terminal=False) == (without or with_terminal)


def test_every_container_of_a_loop_has_its_own_id(tmp_path: Path) -> None:
    shell = for_containers(
        "for i in 1 2; do docker run img; done", RunFolder(tmp_path), tmp_path, {}, has_terminal=True
    )
    assert "mktemp -u" in shell


def test_a_container_in_the_background_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="take the d out"):
        rewritten(tmp_path, "docker run -d img")


def test_compose_is_left_as_it_is(tmp_path: Path) -> None:
    assert rewritten(tmp_path, "docker compose run --rm -i trainer") == "docker compose run --rm -i trainer"
