"""Drivers and workers that are killed at a chosen moment: by themselves, with -9, just before they change a file.

    python doomed.py nest                   a driver for each line of options (JSON) on standard input
    python doomed.py drive OPTIONS          one driver
    python doomed.py real|fake RUN_FOLDER   a worker: the real one, or the fake one, without torch

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
SEEDS_OF_AN_ABLATION = 4
_CHANGES = ("open", "os.rename", "os.mkdir", "os.remove", "os.truncate", "shutil.rmtree", "subprocess.Popen")


# ---- dying


def kill_self(project: Path, what: str) -> None:
    """Note the kill, and die."""
    descriptor = os.open(project / "kills", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{what}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def at_change(project: Path, number: int, act: Callable[[str], object]) -> None:
    """Act just before the change with this number: of a file in the project, or by starting a process."""
    changes = itertools.count(1)
    inside = f"{project}{os.sep}"

    def look(event: str, args: tuple[Any, ...]) -> None:
        if event in _CHANGES and _changes(event, args, inside) and next(changes) == number:
            act(f"{event} {args[0]}")

    sys.addaudithook(look)


def _changes(event: str, args: tuple[Any, ...], inside: str) -> bool:
    if event == "subprocess.Popen":
        return True
    if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
        return False
    return str(args[0]).startswith(inside) and not str(args[0]).endswith(("/kills", "/driver.log"))


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


# ---- driving


def nest() -> int:
    """Fork a driver for each line of options, so that what takes a second to import is imported once.

    Tells its pid at once and its exit code (negative: the signal) when it has ended.
    """
    import optuna  # noqa: F401

    from hotlap.cli import ablate, errors, speedrun, status, sweep, sweep_screen  # noqa: F401
    from hotlap.runs import ingest
    from hotlap.study import ablate as _  # noqa: F401

    pid = 0
    for line in iter(sys.stdin.readline, ""):
        if pid:
            os.waitpid(pid, 0)  # only now may its number be somebody else's
        options = json.loads(line)
        for path in Path(options["project"]).glob(".hotlap/runs/*/config.yaml"):
            ingest._parse_config(path.read_text())  # drivers find it in the cache
        pid = os.fork()
        if pid == 0:
            be_driver(options)
        print(pid, flush=True)
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        print(end.si_status if end.si_code == os.CLD_EXITED else -end.si_status, flush=True)
    return 0


def be_driver(options: dict[str, Any]) -> None:
    """Drive a study in a forked process, which ends here."""
    code: object = 1
    try:
        os.chdir(options["project"])
        os.environ["XDG_RUNTIME_DIR"] = options["project"]
        for descriptor, name in ((0, os.devnull), (1, "driver.log"), (2, "driver.log")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND), descriptor)
        code = drive(options)
    except SystemExit as end:
        code = end.code
    finally:
        try:
            sys.stdout.flush()
        finally:
            os._exit(code if isinstance(code, int) else 1)


def drive(options: dict[str, Any]) -> int:
    """Drive the study as `hotlap speedrun` does; return the exit code."""
    from hotlap.cli import speedrun
    from hotlap.cli.errors import exit_plainly
    from hotlap.config.load import config_from_values
    from hotlap.launch import orphans, prepare
    from hotlap.launch.local import LocalLauncher
    from hotlap.study import guards, plan, runner, view

    project = Path(options["project"])
    own_boot(project)
    LocalLauncher.__init__.__defaults__ = ((sys.executable, __file__, options["worker"]),)
    plan.is_audited = lambda _: True  # no screen is raced
    runner.POLL_SECONDS = 0.01
    runner.contamination = runner.stood_still = lambda *_: ""
    guards.clock_problems = lambda *_: ()  # the fixed clock is none of this world
    orphans.reap_orphans.__defaults__ = (0.1,)  # a frozen worker does not end when it is asked to
    view.draw_progress = _draw
    if options["worker"] == "fake":
        prepare.prepare_data = lambda *_: "no corpus"
    if most_bytes := options.get("most_bytes"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    if options.get("doom"):
        (project / f"doom.{os.getpid()}").write_text(options["doom"])
    if options.get("missing"):
        die_in_a_line(project, options["at"], options["missing"])
    elif options.get("at"):
        at_change(project, options["at"], lambda change: kill_self(project, f"driver before {change}"))
    with exit_plainly():
        if "ablate" in options["config"]:
            return drive_ablation(options["config"], project)
        if "search" in options["config"]:
            return drive_sweep(options["config"], project)
        return speedrun.drive(config_from_values(options["config"]), project)


def drive_sweep(config: dict[str, Any], project: Path) -> int:
    """Drive a sweep as `hotlap sweep` does; the file `slots` of the project says how many runs go on at once."""
    from hotlap.cli.sweep_screen import SweepScreen
    from hotlap.config.sweep import load_sweep
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch import prepare
    from hotlap.study import sweep_drive, sweep_loop

    sweep_loop.POLL_SECONDS = 0.01
    sweep_drive.prepare_data = prepare.prepare_data
    slots = project / "slots"
    (project / "sweep.json").write_text(json.dumps(config))
    space, _ = load_sweep(project / "sweep.json")
    num_slots = int(slots.read_text()) if slots.exists() else 1
    settings = sweep_drive.settings_of(space, slots=num_slots, top=3, seeds=2)
    screen = SweepScreen(space.method, settings)
    study, end = sweep_drive.drive_sweep(space, ProjectFolder(project).create(), settings, screen)
    screen.finish(study, end.reason)
    return 0


def drive_ablation(config: dict[str, Any], project: Path) -> int:
    """Drive an ablation as `hotlap ablate` does, with the settings that stand under `ablate`."""
    from hotlap.cli import ablate
    from hotlap.config.ablation import load_ablation
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.study.ablate import plan_ablation

    path = project / "ablate.json"
    path.write_text(json.dumps({key: value for key, value in config.items() if key != "ablate"}))
    folder = ProjectFolder(project).create()
    plan = plan_ablation(folder, load_ablation(path, config["ablate"]), seeds=SEEDS_OF_AN_ABLATION)
    ablate._drive(folder, plan, quiet=False)
    return 0


def _draw(info: Any, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("<svg/>")  # matplotlib takes a second


# ---- working


def work(kind: str, folder: Path) -> int:
    """Be the worker of a run; the first one of a driver does as the driver's file `doom` says.

    `die 3` is killed before its third change of a file, `freeze 3` is stopped there: it no longer sees its driver go.
    """
    project = folder.parents[2]
    clock = fixed_clock() if kind == "real" else None
    own_boot(project)
    driver = json.loads((folder / "command.json").read_text())["driver"]
    doom = project / f"doom.{driver['pid']}"
    if doom.exists():
        how, number = doom.read_text().split()
        doom.unlink()
        end = {
            "die": lambda change: kill_self(project, f"worker before {change}"),
            "freeze": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
        }
        at_change(project, int(number), end[how])
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


def main() -> int:
    match sys.argv[1:]:
        case ["nest"]:
            return nest()
        case ["drive", options]:
            return drive(json.loads(options))
        case [kind, folder]:
            return work(kind, Path(folder))
    return 2


if __name__ == "__main__":
    sys.exit(main())
