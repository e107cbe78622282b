"""What stands before a line."""

import pytest

from hotlap.capture.ranks import split_rank, without_logger


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[rank0]: loss 1", (0, "loss 1")),
        ("[default3]:[rank11]: loss 1", (11, "loss 1")),
        ("[1,2]<stdout>: loss 1", (2, "loss 1")),
        ("(rank 4) loss 1", (4, "loss 1")),
        ("Rank 5: loss 1", (5, "loss 1")),
        ("[gpu 1] loss 1", (1, "loss 1")),
        ("[10] loss 1", (None, "[10] loss 1")),
        ("ranking 5: good", (None, "ranking 5: good")),
        ("loss 1 [rank0]", (None, "loss 1 [rank0]")),
    ],
)
def test_labels_of_processes(line: str, expected: tuple[int | None, str]) -> None:
    assert split_rank(line) == expected


@pytest.mark.parametrize(
    "before",
    [
        "2026-03-04 10:00:00,123 - INFO - ",
        "[2026-03-04T10:00:00.123Z] [INFO] ",
        "10:00:00 | INFO | ",
        "I0304 10:00:00.123456 17 train.py:12] ",
        "INFO:trainer.loop:",
        "trainer-1  | ",
        "3: ",
        "(RayTrainWorker pid=123, ip=10.0.0.1) ",
        "",
    ],
)
def test_times_levels_and_names_are_taken_off(before: str) -> None:
    assert without_logger(f"{before}val_loss: 0.5") == "val_loss: 0.5"
