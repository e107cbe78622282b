"""A command as a child process: what it prints arrives whole, on a terminal and through a pipe."""

import os
import sys
from pathlib import Path

import pytest

from hotlap.worker.child import ChildProcess

PRINTS = f"{sys.executable} -c \"import sys; sys.stdout.write(''.join('%06d\\\\n' % i for i in range(100000)))\""


def started(shell: str, *, has_terminal: bool) -> ChildProcess:
    return ChildProcess(shell, os.environ, Path(), has_terminal=has_terminal)


@pytest.mark.parametrize("has_terminal", [True, False])
def test_everything_arrives_in_its_order(has_terminal: bool) -> None:
    child, pieces = started(PRINTS, has_terminal=has_terminal), list[bytes]()
    while (data := child.read(1.0)) != b"":
        pieces.append(data or b"")
    child.wait(10.0)
    child.close()
    assert b"".join(pieces) == b"".join(b"%06d\n" % number for number in range(100000))
    assert child.exit_code == 0


@pytest.mark.parametrize("has_terminal", [True, False])
def test_a_line_is_not_held_back_by_what_may_follow(has_terminal: bool) -> None:
    child = started("echo 1; sleep 0.5; seq 2 1000; sleep 30", has_terminal=has_terminal)
    assert child.read(20.0) == b"1\n"
    seen = b""
    while (data := child.read(1.0)) is not None:
        seen += data
    child.kill()
    child.close()
    assert seen.split() == [b"%d" % number for number in range(2, 1001)]


def test_nothing_comes_in_time_and_the_end_is_told(tmp_path: Path) -> None:
    child = started("sleep 0.5; echo done", has_terminal=True)
    assert child.read(0.01) is None
    seen = b""
    while (data := child.read(2.0)) != b"":
        seen += data or b""
    assert seen == b"done\n"
    child.wait(10.0)
    child.close()


def test_lines_in_quick_succession_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("hotlap.worker.child.time.sleep", waited.append)
    child = started("sleep 0.3; echo 1; sleep 0.3; echo 2; sleep 0.3; printf 3; sleep 30", has_terminal=True)
    seen = [child.read(20.0) for _ in range(3)]
    assert not waited or max(waited) <= 0.004
    assert len(waited) == 2, "behind a whole line others may follow; the first one was not waited for"
    assert seen == [b"1\n", b"2\n", b"3"]
    assert child.read(0.01) is None
    assert len(waited) == 2, "a line that is not whole is read on at once"
    child.kill()
    child.close()
