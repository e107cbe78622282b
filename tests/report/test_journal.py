"""SPEEDRUN.md: complete, the same bytes for the same facts, and never over somebody else's file."""

import math
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import CANDIDATES, MISSED_BASELINE, history, proposal, summary

from hotlap.config.load import load_config
from hotlap.core.errors import StorageError
from hotlap.core.records import Decision, History, RecordClaim
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.journal import MARKER, look_runs, render_journal, write_journal
from hotlap.runs.notes import Note


def journal(past: History) -> str:
    return render_journal(summary(past), past, picture="speedrun/toy.svg")


def section(text: str, title: str) -> str:
    """Return the text from a proposal's title to the next one."""
    rest = text.split(title, 1)[1]
    ends = [end for mark in ("<details>", "\n### ", "\n## ") if (end := rest.find(mark)) >= 0]
    return rest[: min(ends)]


def test_same_facts_same_bytes() -> None:
    assert journal(history()).encode() == journal(history()).encode()


def test_opens_with_the_marker_the_result_the_ladder_and_the_picture() -> None:
    text = journal(history())
    assert text.startswith(MARKER)
    assert text.index("5.18× faster") < text.index("## Ladder") < text.index("](speedrun/toy.svg)")
    result, measured = text.split("## Ladder")
    assert all(f"- **{fact}** " in result for fact in ("Targets", "Record", "Baseline", "Tries", "Noise", "Cost"))
    assert all(f"- **{fact}** " in measured for fact in ("Hardware", "Clock"))
    assert "| 3 | Muon for the hidden matrices | 14.0 s | 13.7 s to 14.3 s | 3 of 3 | −11.5 s | 1.82× |" in text


def test_every_proposal_and_every_run_is_told() -> None:
    past = history()
    text = journal(past)
    for change in past.proposals:
        assert text.count(f"{change.number} · ") == 1
    assert text.count("**Observation**") == text.count("**Hypothesis**") == text.count("```diff") == 9
    assert text.count("**Verdict**") == 8, "the last one is not decided yet"
    assert all(run.run_id in text for run in past.runs)


def test_kept_changes_are_open_and_the_others_folded() -> None:
    text = journal(history())
    assert text.count("<details>") == text.count("</details>") == 6
    assert "### 1 · no dropout: 55.2 s → 25.5 s (−29.7 s, 2.16× faster), keep" in text
    assert "<b>4 · wider model</b>: discard" in text
    assert "<b>5 · batch 512</b>: crash" in text
    assert "</b>: not decided yet</summary>" in text


def test_stopped_runs_are_censored_never_times() -> None:
    text = journal(history())
    assert "> 12.3 s (raced)" in section(text, "4 · wider model")
    assert "> 1.00 s (diverged)" in section(text, "6 · learning_rate × 50")
    assert "raced: far behind at equal clock" in text


def test_a_reason_is_told_once() -> None:
    past = history()
    told = tuple(
        replace(d, reason="stopped: far behind at equal clock") if d.proposal == 4 else d for d in past.decisions
    )
    text = section(journal(replace(past, decisions=told)), "4 · wider model")
    assert "**Verdict** discard: stopped: far behind at equal clock" in text and "(raced) |" in text
    assert "raced: far behind" not in text


def test_only_what_was_evaluated_is_a_final_evaluation() -> None:
    past = history()
    run = replace(past.runs[0], metrics={"eval_loss": 0.755, "eval_loss_gain_last_tenth": 0.03, "grad_norm": 1.0})
    assert "| eval_loss 0.755 | reached |" in journal(replace(past, runs=(run, *past.runs[1:])))


def test_a_withdrawn_keep_shows_both_decisions() -> None:
    text = section(journal(history()), "2 · learning_rate × 3</b>")
    assert text.index("**At first** keep") < text.index("**Verdict** inconclusive: withdrawn")


def test_what_would_reopen_a_discard_is_told_with_it() -> None:
    past = history()
    conditions = {4: {"keeps": 3.0}, 6: {"keeps": 1.0, "sigma_below": 0.021}, 8: {"keeps": 0.0}}
    decisions = tuple(replace(d, revisit_if=conditions.get(d.proposal, {})) for d in past.decisions)
    text = journal(replace(past, decisions=decisions))
    assert "*Revisit if* 3 more changes are kept" in section(text, "4 · wider model")
    assert "*Revisit if* 1 more change is kept or σ falls below 2.1 %" in section(text, "6 · learning_rate × 50")
    assert "*Revisit if* it is proposed again" in section(text, "8 · without")
    assert text.count("*Revisit if*") == 3


def test_a_look_tells_the_speedup_over_the_baseline() -> None:
    past = history()
    claim = replace(past.claims[0], speedup=5.0, speedup_interval=(4.6, 5.4))
    assert "Speedup over the baseline 5.00×, 90 % interval 4.60× to 5.40×." in journal(replace(past, claims=(claim,)))
    assert "Speedup over" not in journal(past)


def test_contaminated_runs_say_so() -> None:
    assert "reached, repeated: steal was 20 %" in journal(history())


def test_predictions_are_stated() -> None:
    text = journal(history())
    assert "*Predicted: 50.0 % less time than the baseline* (rules)" in text
    assert "*Predicted: as fast as #7* (ablation)" in text


def test_text_of_others_cannot_break_the_page() -> None:
    nasty = proposal(1, 0, "a | b\n</details>", observation="x </details>\n# y", diff="+```\n+evil\n", patch={"a": 1})
    past = replace(history(), proposals=(nasty,), decisions=(), claims=())
    text = journal(past)
    assert text.count("</details>") - text.count("\\</details>") == 1
    assert "\n# y" not in text
    assert "````diff" in text


def test_log_tails_are_fenced_apart_from_the_reason() -> None:
    text = section(journal(history()), "5 · batch 512</b>")
    assert "**Verdict** crash: the screen run crashed at 0.00 s\n\n````\nTraceback\n```\nboom\n````" in text


def test_not_finite_numbers_are_written_not_raised() -> None:
    past = history("missed", is_confirmed=False)
    broken = replace(past.runs[3], metrics={"eval_loss": math.nan}, train_seconds=math.inf, wall_seconds=math.nan)
    decisions = (*past.decisions, Decision(proposal=9, verdict="discard", reason="x", statistics={"ratio": math.nan}))
    past = replace(past, runs=(*past.runs[:3], broken, *past.runs[4:]), decisions=decisions)
    text = render_journal(summary(past, {**CANDIDATES, 0: MISSED_BASELINE}), past)
    assert "a miss → 10.7 s: ≥ 5.16× faster, not confirmed as a record" in text
    assert "eval_loss –" in text and "ratio –" in text
    assert "nan" not in text.replace("finance", "") and "inf " not in text


def test_an_empty_study_has_a_journal() -> None:
    past = History(clock="train", base_config={})
    text = render_journal(summary(past, {}), past, no_picture_because="run: pip install 'hotlap[report]'")
    assert "It has not run yet." in text and "None yet." in text and "No record was claimed yet" in text
    assert "*No picture: run: pip install 'hotlap[report]'*" in text


def test_records_list_every_time_of_the_look() -> None:
    text = journal(history())
    assert "**Look 1** #7 against the baseline: confirmed: all runs were faster." in text
    assert "- #7: r0026 10.5 s, r0028 10.6 s, r0030 10.7 s, r0032 10.8 s" in text
    assert "- the baseline: r0025 > 22.0 s (out of budget)," in text


def test_a_look_that_was_broken_off_does_not_count() -> None:
    past = history()
    (claim,) = past.claims
    stale = [replace(run, run_id=f"s{run.run_id}") for run in past.runs[-4:]]
    drift = replace(past.runs[22], run_id="drift")
    mixed = replace(past, runs=(*past.runs[:-8], *stale, drift, *past.runs[-8:]))
    assert [run.run_id for run in look_runs(mixed, claim)] == [f"r{number:04}" for number in range(25, 33)]
    assert look_runs(replace(past, runs=past.runs[:5]), claim) == []


def test_an_unconfirmed_look_is_told_like_a_confirmed_one() -> None:
    past = history(is_confirmed=False)
    assert "**Look 1** #7 against the baseline: not confirmed: all runs were faster." in journal(past)


def test_notes_stand_with_their_runs() -> None:
    past = history()
    note = Note(run_id="r0016", at="2026-11-21T06:12:00+00:00", text="the width\nwas a guess")
    base = Note(run_id="r0001", at="2026-11-21T06:12:00+00:00", text="cold machine")
    text = render_journal(summary(past), past, {"r0016": [note], "r0001": [base]})
    assert "**Note** on r0016: the width was a guess" in section(text, "4 · wider model")
    assert "**Note** on r0001: cold machine" in text


def test_the_reproduce_command_gives_the_best_config(tmp_path: Path) -> None:
    past = history()
    command = journal(past).split("# the best config\n")[1].split("\n#")[0].replace("\\\n", " ")
    words = shlex.split(command)
    assert words[:3] == ["hotlap", "train", "hotlap.yaml"]
    config = tmp_path / "hotlap.yaml"
    config.write_text("name: toy\n")
    loaded = load_config(config, [word for word in words[3:] if word != "-s"])
    assert (loaded.training.optim, loaded.model.positions, loaded.model.embd_pdrop) == ("muon", "rope", 0.0)


def test_a_record_by_an_older_incumbent_is_what_gets_reproduced() -> None:
    claim = RecordClaim(
        look=1, candidate=1, against=0, p_value=0.01, alpha=0.016, confirmed=True, median_seconds=25.5, reason="x"
    )
    text = journal(replace(history(), claims=(claim,)))
    best = text.split("# the best config\n")[1]
    assert "embd_pdrop" in best and "muon" not in best


def test_the_journal_is_written_and_written_again(project: ProjectFolder) -> None:
    path = write_journal(f"{MARKER}\none\n", project)
    assert path == project.project / "SPEEDRUN.md"
    assert write_journal(f"{MARKER}\ntwo\n", project) == path
    assert path.read_text() == f"{MARKER}\ntwo\n"


@pytest.mark.parametrize("foreign", ["# My speedrun\n", "", f"x\n{MARKER}\n"])
def test_a_foreign_journal_is_left_alone(project: ProjectFolder, foreign: str) -> None:
    mine = project.project / "SPEEDRUN.md"
    mine.write_text(foreign)
    path = write_journal(f"{MARKER}\ntext\n", project)
    assert path.name == "SPEEDRUN.hotlap.md"
    assert mine.read_text() == foreign


def test_a_folder_that_cannot_be_written_is_one_plain_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        write_journal("text", ProjectFolder(tmp_path / "absent"))


def test_what_the_guards_found_is_told_where_there_were_any() -> None:
    past = history()
    assert "**Guards**" not in journal(past), "a study from before there were guards"
    passed = {"state": "passed", "problems": [], "evaluated_again": "a keep rests on it", "audit_gap": math.log(1.021)}
    failed = {"state": "failed", "problems": ["eval_loss is nan in a result that says reached"]}
    first, second, *others = past.runs
    invalid = replace(second, outcome="invalid", reason=failed["problems"][0], guards=failed)
    text = journal(replace(past, runs=(replace(first, guards=passed), invalid, *others)))
    assert (
        "- **Guards** 2 runs checked, 1 of them evaluated again from their saved weights; loss on audit data "
        f"+2.1 to +2.1 % against the evaluation data; invalid: {second.run_id}\n"
    ) in text
    assert "evaluated again (a keep rests on it)" in text
    assert "invalid: eval_loss is nan in a result that says reached" in text
