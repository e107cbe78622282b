"""One measured run of a command, from its config to the end of its run: what `hotlap exec` and a probe have in common.

folder = measure_once(config, project, hand_on=sys.stdout.buffer.write, limit_seconds=30.0)
"""

import time
from collections.abc import Callable
from typing import Final

from hotlap.config.load import config_text
from hotlap.config.schema import RunConfig
from hotlap.core.capped_log import LogFollower
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.devices import run_devices
from hotlap.launch.local import Job, LaunchFacts, LocalLauncher
from hotlap.launch.locks import device_lock
from hotlap.launch.system import SystemSampler

GRACE_SECONDS: Final = 30.0
"""What a run gets to end by itself after Ctrl-C; a second one does not wait."""
_POLL_SECONDS: Final = 0.05


def measure_once(
    config: RunConfig,
    project: ProjectFolder,
    hand_on: Callable[[bytes], object] = lambda data: None,
    say: Callable[[str], None] | None = None,
    limit_seconds: float | None = None,
) -> RunFolder:
    """Run a command in a new run folder until it ends; `hand_on` is given its output, secrets masked.

    Ctrl-C ends the run as interrupted. Without a limit (seconds on the wall clock) it takes as long as it takes. `say`
    is told what the run waits for. Raises LaunchError when it cannot be started, StorageError when nothing can be
    written.
    """
    with device_lock(run_devices(config.devices, use_cpu=config.training.use_cpu), say):
        folder = RunFolder.create(project.runs_path)
        folder.write_config(config_text(config), config.model_dump(mode="json"))
        limits = {"wall_seconds": limit_seconds}
        facts = LaunchFacts(directory=project.project, seed=config.seed, limits=limits, devices=config.devices)
        job = LocalLauncher().start(folder, facts)
        with SystemSampler(folder, job.pid):
            _follow(job, LogFollower(folder.stdout_path), hand_on)
    return folder


def _follow(job: Job, log: LogFollower, hand_on: Callable[[bytes], object]) -> None:
    """Hand on what a run prints until it has ended."""
    has_ended = False
    while not has_ended:
        try:  # Ctrl-C may come at any place
            has_ended = job.poll()
            for data in log.read():
                hand_on(data)
            time.sleep(0 if has_ended else _POLL_SECONDS)
        except KeyboardInterrupt:
            stop_for_user(job)
    log.close()


def stop_for_user(job: Job) -> None:
    """End a run for the user with time to save its state; pressing Ctrl-C again ends it at once."""
    try:
        job.stop("interrupted", "stopped by the user", GRACE_SECONDS)
    except KeyboardInterrupt:
        job.stop("interrupted", "stopped by the user", 0.0)
