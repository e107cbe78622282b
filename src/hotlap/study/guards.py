"""The guards of a study: what is looked at, from outside, before a run may start and before its result is believed.

    guards = Guards(study)
    guards.refuse_changes()                          # protected files hold what they held
    guard = guards.open(folder)
    guard.clock.look(seconds, point, result)         # while it runs: the launcher's clock beside the run's
    contaminated = guard.close(folder, contaminated)  # writes guards.json; a failed guard makes the run `invalid`

Cheap checks look at every run. What a keep or a record rests on, and what is too good to be true, is also evaluated
again from its saved weights, in a separate process, on the evaluation data and on audit data that no run is judged by.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hotlap.config.load import get_dotted, load_config
from hotlap.config.schema import FREE_KEYS, PROTOCOL_KEYS
from hotlap.core.errors import RunFailedError, StudyError
from hotlap.core.records import History, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.launch.evaluate import NotEvaluatedError, evaluate_again, is_own
from hotlap.launch.locks import device_lock
from hotlap.runs.ingest import ingest
from hotlap.search.own_clock import own_clock_problem
from hotlap.search.trust import (
    ClockStamps,
    audit_gap,
    believed_sigma,
    claim_problems,
    clock_problems,
    data_problems,
    gap_problem,
    numbers,
    reproduction_problems,
    why_again,
)
from hotlap.study.code import UNVERIFIED
from hotlap.study.evaluator import evaluate_by_command
from hotlap.study.manifest import Manifest, digest, evaluator_files, source_files
from hotlap.study.study import Study
from hotlap.study.worktree import Workspace

Evaluate = Callable[[RunFolder, Callable[[], bool]], dict[str, Any]]

_SCHEMA: Final = "hotlap/guards/1"
_GIVEN_FILES: Final = ("config.yaml", "config.json", "proposal.json", "diff.patch")
"""What a run is given; it may read these files and not write them."""
_UNCHECKED: Final = ("pending", "skipped")
_SEEDS: Final = ("training.seed", "params.seed")
"""The study gives each run another one."""


@final
class Guards:
    """Looks at the runs of one sitting of a study."""

    def __init__(self, study: Study, evaluate: Evaluate = evaluate_again) -> None:
        self.evaluate = evaluate
        self.manifest = Manifest()
        self.study = study
        self._protects_data = False
        self.manifest.add([*evaluator_files(), *source_files(study.config, study.project.project)])
        if study.code is not None:
            self.manifest.expect(study.code.linked())

    def refuse_changes(self) -> None:
        """Raise StudyError when what the study measures with is not what it was when it began."""
        self._protect_data()
        if changed := self.manifest.changed():
            names = ", ".join(map(str, changed))
            raise StudyError(
                f"{names}: changed since the study {self.study.folder.name!r} began, so its runs can no longer be "
                "compared; put the old content back (what lies in .hotlap/cache may be deleted, it is prepared again), "
                "or start a study with another name"
            )
        made = self.study.history.runs[self.study.first_run :]
        if made and (problem := other_data(self.study.history, made[-1].environment)):
            raise StudyError(problem)

    def _protect_data(self) -> None:
        """Protect the prepared data as the study's first run had them; the ledger remembers what they held."""
        if self._protects_data:
            return
        project = self.study.project.project.absolute()
        held = next((event["files"] for event in self.study.folder.ledger() if event["event"] == "protected"), None)
        if held is None and (files := data_files(self.study.history)):
            inside = {path.relative_to(project) if path.is_relative_to(project) else path: path for path in files}
            held = {str(name): digest(path) for name, path in inside.items()}
            self.study.protect(held)
        if held is not None:
            self.manifest.expect({project / name: content for name, content in held.items()})
            self._protects_data = True

    def open(self, folder: RunFolder) -> "RunGuard":
        """Remember what a run is given, before it starts; raises StudyError when its config breaks the protocol."""
        if differing := protocol_differences(self.study.config.model_dump(mode="json"), folder):
            raise StudyError(
                f"{folder.config_path}: a proposal may not change {', '.join(differing)}, by which the study "
                f"{self.study.folder.name!r} compares its runs; drop the change, or start a study with another name"
            )
        given = {name: digest(folder.path / name) for name in _GIVEN_FILES}
        folder.write("guards", {"schema": _SCHEMA, "state": "pending", "given": given})
        return RunGuard(self, self.study.history, given, ClockStamps())

    def reopen(self, folder: RunFolder, before: History) -> "RunGuard":
        """Take up the guard of a run that ended while nobody was there to check it; its clock was not watched."""
        given = (folder.read("guards") or {}).get("given") or {}
        return RunGuard(self, before, {str(name): str(value) for name, value in given.items()}, ClockStamps())


@final
class RunGuard:
    """Looks at one run."""

    def __init__(self, guards: Guards, before: History, given: Mapping[str, str], clock: ClockStamps) -> None:
        self.clock = clock
        """Takes the launcher's stamps while the run goes on."""
        self.workspace: Workspace | None = None
        """The worktree that the run happens in, where code may be changed."""
        self._guards = guards
        self._before = before
        self._given = given

    def close(self, folder: RunFolder, contaminated: str, is_stopped: Callable[[], bool] = lambda: False) -> str:
        """Check a run that has ended, and write guards.json; return why it has to be repeated, if it has to be.

        A run that is repeated anyway is not looked at. One whose check the user breaks off stays pending;
        `check_left_over` does it later.
        """
        run = ingest(folder, contaminated)
        assert run is not None, f"{folder.path} has ended"
        if run.is_infrastructure_failure:
            self._write(folder, "skipped", [], {})
            return contaminated
        problems = list(self._cheap_problems(folder, run))
        facts: dict[str, Any] = {"clock_shortfall": self.clock.shortfall}
        if self._ask_evaluator(folder, run, problems, facts, is_stopped):
            return ""
        has_weights = is_own(folder) and self._guards.study.config.training.save_model
        why = why_again(self._before, run) if has_weights and not problems else ""
        if why:
            facts["evaluated_again"] = why
            try:
                evaluation = self._guards.evaluate(folder, is_stopped)
            except NotEvaluatedError as error:
                if is_stopped():
                    return ""
                self._write(folder, "skipped", [], facts)
                return f"its weights could not be evaluated again: {error}"
            except RunFailedError as error:
                problems.append(f"its weights cannot be evaluated again: {error}")
            else:
                problems += _evaluation_problems(run, evaluation, self._before, facts)
        self._write(folder, "failed" if problems else "passed", problems, facts)
        return ""

    def _cheap_problems(self, folder: RunFolder, run: RunRecord) -> Iterator[str]:
        for path in self._guards.manifest.changed():
            yield f"{path} was changed while it ran"
        for name, before in self._given.items():
            if digest(folder.path / name) != before:
                yield f"its {name} was changed while it ran; a run may read what the study gave it, and not write it"
        if run.outcome == "reached":
            config, result = self._guards.study.config, folder.read("result") or {}
            targets, is_own_trainer = config.parsed_targets(), config.command is None
            yield from claim_problems(result, folder.points(), targets, config.clock, is_own=is_own_trainer)
            yield from data_problems(run.environment, result, first_environment(self._before) or run.environment)
        if run.outcome == "reached" or (run.role == "timing" and run.outcome in ("missed", "out_of_budget")):
            yield from clock_problems(run, self.clock, self._before.runs_of(0, "baseline"))

    def _ask_evaluator(
        self,
        folder: RunFolder,
        run: RunRecord,
        problems: list[str],
        facts: dict[str, Any],
        is_stopped: Callable[[], bool],
    ) -> bool:
        """Let the project's evaluator look at what a command has reached; return whether the user broke it off.

        What it finds is added to `problems`, its figures to `facts`.
        """
        study, workspace = self._guards.study, self.workspace
        command = study.config.command
        if workspace is not None and study.code is not None:
            problems += workspace.problems(study.code.store)
        if command is not None and study.config.clock == "train" and self._before.code_of(run.candidate):
            found = own_clock_problem(run, self._before.runs_of(0, "baseline"))
            problems += [found] if found else []
        if command is None or run.outcome != "reached" or problems:
            return False
        if command.evaluator is None:
            if self._before.code_of(run.candidate):
                facts["unverified"] = UNVERIFIED
            return False
        project = study.project.project
        place, original = (workspace.directory, project) if workspace is not None else (project, None)
        config = load_config(folder.config_path)
        verification = evaluate_by_command(folder, config, place, run.metrics, is_stopped, original)
        problems += verification.problems
        facts["verified"] = dict(verification.metrics)
        return verification.was_stopped

    def _write(self, folder: RunFolder, state: str, problems: list[str], facts: Mapping[str, Any]) -> None:
        fixed = {"schema": _SCHEMA, "state": state, "problems": problems, "given": dict(self._given)}
        folder.write("guards", {**fixed, **facts})


def check_left_over(study: Study, evaluate: Evaluate = evaluate_again) -> None:
    """Check the runs that ended while their driver was being killed, before anything is decided on them.

    A check that was skipped, since the run was to be made again, is made up for where the driver was killed before it
    had noted why: the run counts now.
    """
    ended = (run for run in study.history.runs if not run.is_infrastructure_failure)  # the others are made again
    left = [run for run in ended if run.guards.get("state") in _UNCHECKED]
    if not left:
        return
    guards = Guards(study, evaluate)
    guards.refuse_changes()
    with device_lock(study.devices):  # what is evaluated again must not disturb a run that somebody times
        for run in left:
            _check_one(study, guards, run)


def _check_one(study: Study, guards: Guards, run: RunRecord) -> None:
    """Check a run that is in the history already, and put its record as it is now in the old one's place."""
    folder, history = RunFolder(study.project.runs_path / run.run_id), study.history
    before = replace(history, runs=history.runs[: history.runs.index(run)])
    guard = guards.reopen(folder, before)
    guard.workspace = study.code.left_workspace(history, run.candidate, run.run_id) if study.code else None
    is_lost = study.code is not None and guard.workspace is None
    contaminated = guard.close(
        folder, run.contaminated or ("its worktree was gone before its check" if is_lost else "")
    )
    if contaminated != run.contaminated:
        facts = {"run": run.run_id, "role": run.role, "candidate": run.candidate, "seed": run.seed}
        study.append_run({**facts, "phase": "ended", "outcome": run.outcome, "contaminated": contaminated})
    checked = ingest(folder, contaminated)
    assert checked is not None, f"{folder.path} has ended"
    checked = replace(checked, role=run.role, candidate=run.candidate, seed=run.seed)
    runs = tuple(checked if known is run else known for known in study.history.runs)
    study.history = replace(study.history, runs=runs)


def calibrated_gaps(history: History) -> list[float]:
    """Return the gaps between audit and evaluation loss of the baseline's runs; of those that reached, if two did."""
    runs = [run for run in history.runs_of(0, "baseline") if run.guards.get("audit_gap") is not None]
    reached = [run for run in runs if run.outcome == "reached"]
    return [float(run.guards["audit_gap"]) for run in (reached if len(reached) >= 2 else runs)]


def first_environment(history: History) -> Mapping[str, Any]:
    """Return what the first run of a study told of itself and its data; empty before there is one."""
    return next((run.environment for run in history.runs if run.environment.get("data")), {})


def data_files(history: History) -> list[Path]:
    """Return the prepared files that the runs of a study read their examples from, as the first of them says."""
    return [Path(name) for name in first_environment(history).get("data", {}).get("files") or ()]


def other_data(history: History, environment: Mapping[str, Any]) -> str:
    """Say so when a run saw other data than the study's first one; its time cannot be compared."""
    before, now = (facts.get("data", {}).get("hash") for facts in (first_environment(history), environment))
    if before is None or now is None or before == now:
        return ""
    return (
        f"the corpus has changed during the study (hash {before} before, {now} now): put it back, or start a new study"
    )


def protocol_differences(base: Mapping[str, Any], folder: RunFolder) -> list[str]:
    """Return the keys of the protocol, the seed apart, that a run's config.yaml says otherwise than the study."""
    try:
        values = YAML(typ="safe").load(folder.config_path.read_text(encoding="utf-8"))
    except (OSError, YAMLError):
        return ["all of it"]
    free = (*_SEEDS, *FREE_KEYS)
    return [key for key in PROTOCOL_KEYS if key not in free and _value(values, key) != _value(base, key)]


def _value(values: object, key: str) -> Any:
    try:
        return get_dotted(values, key) if isinstance(values, Mapping) else None
    except (KeyError, TypeError):
        return None


def _evaluation_problems(
    run: RunRecord, evaluation: Mapping[str, Any], before: History, facts: dict[str, Any]
) -> Iterator[str]:
    """Say what the evaluation from the saved weights holds against a run, and note its figures in `facts`."""
    again = evaluation.get("eval") or {}
    if probes := evaluation.get("probes"):
        yield from map(str, probes.get("problems") or ())
        facts["probes"] = {name: value for name, value in probes.items() if name != "problems"}
    facts["eval_loss_again"] = numbers(again.get("metrics")).get("eval_loss")
    facts["audit_gap"] = gap = audit_gap(evaluation)
    known = (run.environment.get("data") or {}).get("eval") or {}
    for key in known:
        if again.get(key) != known[key]:
            yield f"evaluation data, {key}: {known[key]} as the run says, {again.get(key)} in its task's files"
    if shared := evaluation.get("shared"):
        yield (
            f"{shared} of {again.get('num_examples')} evaluation examples stand in the training data, too; take them "
            "out, and start a study with another name"
        )
    yield from reproduction_problems(run.metrics, again)
    if gap is not None and run.role != "baseline":
        found = gap_problem(gap, calibrated_gaps(before), believed_sigma(evaluation))
        yield from [found] if found else []
