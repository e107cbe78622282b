"""Mirror a run to wandb; without an account it is kept offline in `.hotlap/wandb`, for `wandb sync`.

WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_DIR and the other variables of wandb mean what they mean there.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from hotlap.core.errors import import_optional
from hotlap.launch.trackers import TrackedRun, wandb_mode

STEP: Final = "train/global_step"
SHOWN_ENTRIES: Final = ("prompt", "expected", "generated")
QUIET_SETTINGS: Final[Mapping[str, Any]] = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
"""Settings that keep wandb from looking around: it is given what the run folder tells, and nothing else."""


@final
class WandbTracker:
    """Mirrors into one run of wandb, which a resumed training goes on with."""

    def __init__(self) -> None:
        self._wandb: Any = import_optional("wandb", "wandb")
        self._run: Any = None
        self._mode = ""

    def start(self, run: TrackedRun) -> Mapping[str, str]:
        """Open the run, or an earlier one again."""
        self._mode = wandb_mode(os.environ)
        run_id = run.before.get("id") or secrets.token_hex(4)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or run.project,
            name=os.environ.get("WANDB_NAME") or run.name,
            group=os.environ.get("WANDB_RUN_GROUP") or run.study or None,
            id=run_id,
            resume="allow" if run.before.get("id") and self._mode == "online" else None,
            config=dict(run.config),
            dir=os.environ.get("WANDB_DIR") or str(run.home),
            mode=self._mode,
            settings=self._settings(),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)
        url = getattr(self._run, "url", None)
        return {"id": run_id, "mode": self._mode, **({"url": str(url)} if url else {})}

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log one point; its step is a figure, as the Trainer has it, so that a resumed run may go over it again."""
        self._run.log({**metrics, STEP: step})

    def show(self, step: int, samples: Sequence[Mapping[str, str]]) -> None:
        """Log samples as a table."""
        rows = [[step, *(sample.get(name, "") for name in SHOWN_ENTRIES)] for sample in samples]
        table = self._wandb.Table(columns=["step", *SHOWN_ENTRIES], data=rows)
        self._run.log({"samples": table, STEP: step})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep how the run ended, and close it."""
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if summary.get("outcome") in ("reached", "missed", "out_of_budget") else 1)

    def _settings(self) -> Any:
        """Return the settings, as far as the installed version knows them."""
        known = getattr(self._wandb.Settings, "model_fields", None)
        chosen = {key: value for key, value in QUIET_SETTINGS.items() if known is None or key in known}
        return self._wandb.Settings(**chosen) if known is not None else None
