"""Mirror a run to trackio, which keeps it on this machine: `trackio show`.

TRACKIO_DIR and TRACKIO_SPACE_ID mean what they mean there; TRACKIO_PROJECT names the project.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, final

from hotlap.core.errors import import_optional
from hotlap.launch.trackers import TrackedRun


@final
class TrackioTracker:
    """Mirrors into one run of trackio, which a resumed training goes on with."""

    def __init__(self) -> None:
        self._trackio: Any = import_optional("trackio", "trackio")
        self._run: Any = None

    def start(self, run: TrackedRun) -> Mapping[str, str]:
        """Open the run, or an earlier one again."""
        name = run.before.get("name")
        project = run.before.get("project") or os.environ.get("TRACKIO_PROJECT") or run.project
        self._run = self._trackio.init(
            project=project,
            name=name or run.name,
            group=run.study or None,
            config=dict(run.config),
            resume="allow" if name else "never",
            embed=False,
            auto_log_gpu=False,
        )
        return {"name": str(getattr(self._run, "name", run.name)), "project": project}

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log one point, without the figures that its database has no place for."""
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        if finite:
            self._run.log(finite, step=step)

    def show(self, step: int, samples: Sequence[Mapping[str, str]]) -> None:
        """Log samples as a text."""
        told = "\n\n".join("\n\n".join(f"**{name}**\n\n{text}" for name, text in each.items()) for each in samples)
        self._run.log({"samples": self._trackio.Markdown(told)}, step=step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep the last figures as a point of the last step, and close the run."""
        last = {key: value for key, value in summary.items() if isinstance(value, int | float)}
        if last:
            self._run.log(last, step=int(summary.get("step") or 0))
        self._run.finish()
