"""Drivers and workers that are killed at a chosen moment: by themselves, with -9, just before they change a file.

    python doomed.py drive '{"project": "...", "config": {...}, "worker": "real", "at": 17}'
    python doomed.py real RUN_FOLDER        the real worker
    python doomed.py fake RUN_FOLDER        the fake worker, without torch

So that two studies can be compared word by word, nothing in them depends on the speed of the machine: the real worker
reads a clock that moves on by the same amount at each reading, whatever was done in between; the driver takes every
machine for a quiet one and leaves the screens to run out, since where a race ends one depends on when it looks.
The time of the boot stands in the file `boot` of the project, so that a machine can be restarted.
"""

import itertools
import json
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TICK_SECONDS = 1 / 128
"""What one look at the fixed clock takes; sums of it are exact."""
WALL_SECONDS = 2.0
"""Reading of the wall clock when the fixed one is first looked at."""
_CHANGES = ("open", "os.rename", "os.mkdir", "os.remove", "os.truncate", "shutil.rmtree", "subprocess.Popen")


def kill_self(project: Path, what: str) -> None:
    """Note the kill, and die."""
    descriptor = os.open(project / "kills", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{what}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(project: Path, number: int, who: str) -> None:
    """Be killed just before the change with this number, of a file in the project or by starting a process."""
    changes = itertools.count(1)
    inside = str(project)

    def look(event: str, args: tuple[Any, ...]) -> None:
        if event not in _CHANGES or not _changes(event, args, inside) or next(changes) != number:
            return
        kill_self(project, f"{who} before {event} {args[0]}")

    sys.addaudithook(look)


def _changes(event: str, args: tuple[Any, ...], inside: str) -> bool:
    if event == "subprocess.Popen":
        return True
    if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
        return False
    return str(args[0]).startswith(inside) and not str(args[0]).endswith(("/kills", "driver.log"))


def die_in_a_line(project: Path, number: int, missing: int) -> None:
    """Be killed when so many JSON lines are written and of the next one all but the last bytes."""
    from hotlap.core import files

    lines, whole = itertools.count(1), files._json_line

    def cut(value: Any) -> str:
        text = whole(value)
        if next(lines) != number:
            return text
        os.fsync = lambda _: kill_self(project, f"driver within {text[:60]}")  # once the piece is in the file
        return text[:-missing]

    files._json_line = cut


def own_boot(project: Path) -> None:
    """Read the boot id that the project tells."""
    from hotlap.core import processes

    processes.boot_id = lambda: (project / "boot").read_text()


def drive(options: dict[str, Any]) -> int:
    """Drive the study as `hotlap speedrun` does; return the exit code."""
    from hotlap.cli import speedrun
    from hotlap.cli.errors import exit_plainly
    from hotlap.config.load import config_from_values
    from hotlap.launch import prepare
    from hotlap.launch.local import LocalLauncher
    from hotlap.study import guards, plan, runner, view

    project = Path(options["project"])
    own_boot(project)
    program = (sys.executable, __file__, options["worker"])
    LocalLauncher.__init__.__defaults__ = (program,)
    plan.AUDIT_EVERY = 1  # no screen is raced
    runner.POLL_SECONDS = 0.02
    runner.contamination = runner.stood_still = lambda *_: ""
    guards.clock_problems = lambda *_: ()  # the fixed clock is none of this world
    view.draw_progress = _draw
    if options["worker"] == "fake":
        prepare.prepare_data = lambda *_: "no corpus"
    config = config_from_values(options["config"])
    if options.get("missing"):
        die_in_a_line(project, options["at"], options["missing"])
    elif options.get("at"):
        die_at(project, options["at"], "driver")
    with exit_plainly():
        return speedrun.drive(config, project)


def _draw(info: Any, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("<svg/>")  # matplotlib takes a second


def work(kind: str, folder: Path) -> int:
    """Be the worker of a run; the first one that finds the file `doom` in the project is killed as that says."""
    project = folder.parents[2]
    clock = fixed_clock() if kind == "real" else None
    own_boot(project)
    doom = project / "doom"
    if doom.exists():
        number = int(doom.read_text())
        doom.unlink()
        die_at(project, number, "worker")
    sys.argv = ["worker", str(folder)]
    if clock is None:
        from fake_worker import main

        return main()
    from hotlap.worker.session import Session

    wall = property(lambda _: WALL_SECONDS + clock())
    Session.wall_seconds = Session.process_seconds = wall  # type: ignore[method-assign,assignment]
    runpy.run_module("hotlap.worker", run_name="__main__")
    return 0


def fixed_clock() -> Callable[[], float]:
    """Put a clock that counts how often it is read in the place of the fine one; return what shows its reading."""
    shown = [0.0]

    def read() -> float:
        shown[0] += TICK_SECONDS
        return shown[0]

    time.perf_counter = read
    return lambda: shown[0]


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        sys.exit(drive(json.loads(sys.argv[2])))
    sys.exit(work(sys.argv[1], Path(sys.argv[2])))
