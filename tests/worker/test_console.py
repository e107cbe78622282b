"""What a run prints has the Trainer's form, character by character."""

import ast

import pytest

from hotlap.worker.console import log_line, metrics_block


def test_a_log_line_is_the_trainers() -> None:
    values = {"loss": 0.69164, "grad_norm": 0.466796875, "learning_rate": 4.259999999999999e-05, "epoch": 0.09}
    line = log_line(values)
    assert line == "{'loss': 0.6916, 'grad_norm': 0.466796875, 'learning_rate': 4.259999999999999e-05, 'epoch': 0.09}"
    assert ast.literal_eval(line) == {**values, "loss": 0.6916}


def test_every_loss_is_rounded_and_nothing_else() -> None:
    line = log_line({"eval_loss": 0.123456, "eval_byte_accuracy": 0.123456})
    assert line == "{'eval_loss': 0.1235, 'eval_byte_accuracy': 0.123456}"


def test_the_metrics_block_is_the_trainers() -> None:
    metrics = {
        "perplexity": 2.13974,
        "num_input_tokens_seen": 32763904,
        "eval_word_accuracy": 0.6277,
        "eval_steps_per_second": 0.07,
        "eval_samples_per_second": 2.238,
        "eval_samples": 32,
        "eval_sacrebleu": 0.301,
        "eval_runtime": 14.2951,
        "eval_loss": 0.76071,
        "eval_chrf": 8.60068,
        "eval_byte_accuracy": 0.7652,
        "epoch": 0.10818,
    }
    assert (
        metrics_block("eval", metrics)
        == """\
***** eval metrics *****
  epoch                   =     0.1082
  eval_byte_accuracy      =     0.7652
  eval_chrf               =     8.6007
  eval_loss               =     0.7607
  eval_runtime            = 0:00:14.29
  eval_sacrebleu          =      0.301
  eval_samples            =         32
  eval_samples_per_second =      2.238
  eval_steps_per_second   =       0.07
  eval_word_accuracy      =     0.6277
  num_input_tokens_seen   =   32763904
  perplexity              =     2.1397"""
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0:00:00.00"), (0.999, "0:00:00.99"), (61.5, "0:01:01.50"), (45296.25, "12:34:56.25")],
)
def test_a_runtime_is_written_as_hours_minutes_seconds(seconds: float, text: str) -> None:
    assert metrics_block("train", {"train_runtime": seconds}).splitlines()[1] == f"  train_runtime = {text}"
