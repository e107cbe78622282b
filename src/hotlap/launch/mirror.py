"""Mirror one run to one tracker until it ends: the process that calls a tracker, `python -m hotlap.launch.mirror`.

It reads the run folder and tells its supervisor, in JSON lines through a pipe, how far it has come. Everything that a
tracker is given passes through here, so this is where secrets are taken out, also of this process's environment.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from hotlap.core.files import LineReader
from hotlap.core.masking import secret_values
from hotlap.core.run_folder import RunFolder
from hotlap.core.secret_names import is_secret
from hotlap.launch.tracked import (
    masked,
    point_kind,
    sample_texts,
    tracked_point,
    tracked_summary,
    without_secrets,
)
from hotlap.launch.trackers import TrackedRun, Tracker, stored_config

POLL_SECONDS: Final = 1.0
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "wandb": ("WANDB_API_KEY",),
    "trackio": ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "TRACKIO_WRITE_TOKEN"),
}
"""Secret variables that a tracker logs in with; it sees no others."""

Tell = Callable[[Mapping[str, Any]], None]


class Position:
    """How far a run was mirrored: the last step, and the kinds of points that it had there."""

    def __init__(self, step: int = -1, kinds: tuple[str, ...] = ()) -> None:
        self.step = step
        self.kinds = set(kinds)

    def is_new(self, point: Mapping[str, Any]) -> bool:
        """Say whether a point was not mirrored yet, and take note of it; a resumed run takes steps a second time."""
        step, kind = int(point.get("step") or 0), point_kind(point)
        if step < self.step or (step == self.step and kind in self.kinds):
            return False
        self.kinds = {kind} if step > self.step else self.kinds | {kind}
        self.step = step
        return True

    def has_passed(self, step: int) -> bool:
        """Say whether everything of a step was written: its evaluation comes last."""
        return step < self.step or (step == self.step and "eval" in self.kinds)


def mirror(
    folder: RunFolder,
    tracker: Tracker,
    run: TrackedRun,
    secrets: tuple[str, ...],
    tell: Tell,
    is_alone: Callable[[], bool] = lambda: False,
) -> None:
    """Mirror a run to its end; `run.before` holds what earlier attempts left, `is_alone` says that nobody waits."""
    position = Position(int(run.before.get("step", -1)), tuple(run.before.get("kinds", "").split()))
    told = dict(tracker.start(run))
    tell({"phase": "log", "told": told})
    points, samples = folder.point_reader(), _SampleReader(folder, position, secrets)
    while True:
        is_over = folder.ending() is not None or not folder.path.is_dir() or is_alone()  # asked before the last look
        is_moved = False
        for point in filter(position.is_new, points.read_new()):
            tracker.log(*tracked_point(point))
            is_moved = True
        for step, texts in samples.read_whole(is_over=is_over):
            tracker.show(step, texts)
        if is_moved:
            tell({"position": {"step": position.step, "kinds": " ".join(sorted(position.kinds))}})
        if is_over:
            break
        time.sleep(POLL_SECONDS)
    tell({"phase": "finish"})
    tracker.finish(masked(tracked_summary(folder.ending(), folder.read("result") or {}), secrets))
    tell({"state": "finished"})


class _SampleReader:
    """Follows the samples of a run; those of one step are handed out together, once the run has gone on from it."""

    def __init__(self, folder: RunFolder, position: Position, secrets: tuple[str, ...]) -> None:
        self._reader = LineReader(folder.samples_path)
        self._position = position
        self._secrets = secrets
        self._shown = position.step
        self._waiting: dict[int, list[dict[str, str]]] = {}

    def read_whole(self, *, is_over: bool) -> Iterator[tuple[int, list[dict[str, str]]]]:
        """Yield steps with their samples; call it after the points were read."""
        for sample in self._reader.read_new():
            step = int(sample.get("step") or 0)
            if step > self._shown:
                self._waiting.setdefault(step, []).append(sample_texts(sample, self._secrets))
        for step in sorted(self._waiting):
            if is_over or self._position.has_passed(step):
                self._shown = step
                yield step, self._waiting.pop(step)


def tracked_run(folder: RunFolder, before: Mapping[str, str], secrets: tuple[str, ...]) -> TrackedRun:
    """Return what a tracker is told of a run."""
    config = stored_config(folder)
    study = str((folder.read("command") or {}).get("study") or "")
    home = folder.path.absolute().parents[1]
    name = f"{study or config.get('name') or 'run'}-{folder.run_id}"
    return TrackedRun(
        run_id=folder.run_id,
        name=without_secrets(name, secrets),
        project=without_secrets(home.parent.name or "hotlap", secrets),
        study=without_secrets(study, secrets),
        config=masked(config, secrets),
        directory=folder.path.absolute(),
        home=home,
        before=before,
    )


def without_foreign_secrets(name: str) -> None:
    """Take the secrets out of this process's environment that its tracker does not log in with."""
    for variable in [variable for variable in os.environ if is_secret(variable)]:
        if variable not in NEEDED.get(name, ()):
            del os.environ[variable]


def load_tracker(factory: str) -> Tracker:
    """Return a new tracker of `module:class`."""
    module, _, name = factory.partition(":")
    tracker: Tracker = getattr(import_module(module), name)()
    return tracker


def main() -> int:
    """Mirror the run of the command line: FOLDER NAME FACTORY DESCRIPTOR BEFORE (JSON)."""
    path, name, factory, descriptor, before = sys.argv[1:]
    os.set_inheritable(int(descriptor), False)
    parent, folder = os.getppid(), RunFolder(Path(path))
    secrets = secret_values(os.environ)
    with os.fdopen(int(descriptor), "w", buffering=1, encoding="utf-8") as pipe:

        def tell(message: Mapping[str, Any]) -> None:
            pipe.write(json.dumps(message) + "\n")

        try:
            without_foreign_secrets(name)
            run = tracked_run(folder, json.loads(before), secrets)
            mirror(folder, load_tracker(factory), run, secrets, tell, lambda: os.getppid() != parent)
        except BaseException as error:  # noqa: BLE001  a tracker may raise anything, and its supervisor tells it
            reason = without_secrets(" ".join(f"{type(error).__name__}: {error}".split()), secrets)
            tell({"state": "failed", "problem": reason[:500]})
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
