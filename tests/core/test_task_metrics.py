"""Metrics of the single tasks of a mixture."""

import pytest

from hotlap.core.evaluations import brief_evaluations
from hotlap.core.targets import is_task_metric, parse_target, task_metrics


def test_each_task_has_metrics_of_its_own() -> None:
    names = task_metrics(["sums", "a_b"])
    assert names[:4] == ("eval_sums_loss", "eval_sums_accuracy", "eval_sums_byte_accuracy", "eval_sums_word_accuracy")
    assert all(map(is_task_metric, names))
    assert parse_target("eval_a_b_loss < 1").is_cheap


@pytest.mark.parametrize(
    "name", ["eval_loss", "eval_byte_accuracy", "eval_word_accuracy", "train_loss", "eval_chrf", "eval__loss"]
)
def test_metrics_of_all_tasks_are_none_of_theirs(name: str) -> None:
    assert not is_task_metric(name)


def test_evaluations_in_brief_keep_what_targets_may_name() -> None:
    point = {"step": 3, "train_seconds": 1.0, "eval_loss": 2.0, "eval_sums_loss": 1.5, "eval_runtime": 0.1}
    (kept,) = brief_evaluations([point])
    assert kept == {"step": 3, "train_seconds": 1.0, "eval_loss": 2.0, "eval_sums_loss": 1.5}
