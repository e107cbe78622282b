"""Every form of log lines, on excerpts with all that comes between: bars, colours, other processes, broken bytes."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hotlap.capture.capture import Capture
from hotlap.capture.lines import LineReader
from hotlap.capture.reading import CLOCK, Reading
from hotlap.core.errors import ConfigError

EXCERPTS = Path(__file__).parent / "excerpts"
NAN = math.nan

EXPECTED: dict[str, list[tuple[int | None, dict[str, float]]]] = {
    "trainer4": [
        (20, {"train_loss": 3.1412, "grad_norm": 1.8713045120239258, "epoch": 0.5}),
        (40, {"train_loss": 2.907}),
        (40, {"eval_loss": 2.8449206352233887, "eval_runtime": 0.4171}),
        (60, {"train_loss": NAN, "grad_norm": NAN}),
        (120, {"train_loss_mean": 2.9012345678, "train_runtime": 13.4417}),
    ],
    "trainer5": [
        (500, {"train_loss": 3.312, "learning_rate": 4.5e-05}),
        (500, {"eval_loss": 3.28, "eval_accuracy": 0.5}),
        (2000, {"train_loss_mean": 3.017}),
        (2000, {"eval_loss": 2.954, "eval_accuracy": 0.625, "eval_runtime": 62.31, "eval_samples": 400}),
    ],
    "trl": [
        (None, {"train_loss": 1.9183, "num_tokens": 40960.0, "mean_token_accuracy": 0.5847169160842896}),
        (None, {"train_loss": 0.6721, "rewards/chosen": -0.021341245621442795, "rewards/accuracies": 0.625}),
        (None, {"eval_loss": 1.7031255960464478, "eval_mean_token_accuracy": 0.6123}),
        (None, {"train_loss": 0.0421, "reward": 0.3125, "completions/mean_length": 118.2}),
    ],
    "nanogpt": [
        (0, {"train_loss": 4.2874, "val_loss": 4.2823}),
        (0, {"loss": 4.2661, "iteration_seconds": 38.2113}),
        (10, {"loss": 3.2413, "mfu_percent": 13.48}),
        (250, {"train_loss": 1.9601, "val_loss": 2.0648}),
        (250, {"loss": 2.0331}),
        (500, {"train_loss": 1.5247}),
        (750, {"train_loss": NAN, "val_loss": NAN}),
    ],
    "modded_nanogpt": [
        (0, {"val_loss": 10.8258, CLOCK: 0.0}),
        (1, {"train_time_seconds": 0.151, CLOCK: 0.151}),
        (125, {"val_loss": 4.6312, "step_avg_seconds": 0.09627, CLOCK: 12.034}),
        (1770, {"val_loss": 3.2798, CLOCK: 169.912}),
    ],
    "nanochat": [
        (0, {"val_bpb": 3.301822}),
        (0, {"train_loss": 11.090412, "tokens_per_second": 14824, CLOCK: 0.0}),
        (249, {"train_loss": 5.120344, "grad_norm": 0.4211, "dt_seconds": 0.40277, CLOCK: 96.6}),
        (250, {"val_bpb": 1.640021, CLOCK: 96.6}),
        (1000, {"core_metric": 0.0871}),
        (None, {"minimum_validation_bpb": 1.288412}),
    ],
    "autoresearch": [
        (0, {"train_loss": 9.01122}),
        (952, {"train_loss": 2.801733, "remaining_seconds": 0}),
        (953, {"val_bpb": 0.997913, "peak_vram_mb": 45060.2, CLOCK: 300.1}),
    ],
    "metric": [
        (None, {"val_loss": 3.2804, "tests_passed": 412}),
        (None, {"total_ms": 151.25, "accuracy": 0.875}),
    ],
    "jsonl": [
        (100, {"train.loss": 3.5121958255767822, "train.lr": 0.0003}),
        (100, {"val_loss": 3.4021958255767822}),
        (200, {"val_loss": NAN}),
    ],
    "csv": [
        (100, {"train_loss": 3.512, "val_loss": 3.41, "lr": 0.0003}),
        (200, {"train_loss": 3.301, "val_loss": 3.2}),
        (300, {"train_loss": 3.2, "lr": 0.00028}),
    ],
    "pairs": [
        (None, {"train_loss": 0.6931, "val_loss": 0.6702, "val_acc_percent": 58.25, "epoch": 1}),
        (None, {"best_val_loss": 0.6702}),
        (100, {"loss": 0.5213, "lr": 0.001}),
        (None, {"loss": 4.567, "ppl": 23.7, "epoch": 2}),
        (120, {"lm_loss": 7.123456, "learning_rate": 0.00015}),
        (10, {"loss": 7.1234, "memory_gib": 12.31, "tps": 41234}),
        (None, {"loss": 0.4127, "accuracy": 0.8125, "val_loss": 0.5019}),
        (None, {"train_loss": 2.3}),
    ],
    "ranks": [
        (10, {"train_loss": 3.25}),  # rank 1 was first, and is not asked any more once rank 0 has spoken
        (10, {"train_loss": 3.2, "val_loss": 3.3}),
        (20, {"train_loss": 3.0, "val_loss": 3.2}),
        (None, {"eval_loss": 3.1049206352233887}),
    ],
    "noisy": [
        (100, {"train_loss": 2.1, "val_loss": 2.2}),
        (None, {"val_loss": 2.1}),
        (None, {"loss": 0.52}),
        (None, {"loss": 0.51}),
        (300, {"train_loss": 1.9, "val_loss": 2.0}),
        (None, {"val_loss": 1.9}),
        (100, {"eval_loss": 2.19}),
    ],
}


def read(data: bytes, size: int = 1 << 16, **settings: Any) -> list[Reading]:
    """Return the readings of an output that comes in pieces of a size, all at once."""
    reader, capture, readings = LineReader(), Capture({"read": ["nothing.csv"], **settings}), []
    for start in range(0, len(data), size):
        for line in reader.feed(data[start : start + size]):
            readings += capture.feed(line, 0.0)
        readings += capture.poll(0.0, reader.tail)
    for line in reader.end():
        readings += capture.feed(line, 0.0)
    return readings + capture.end(0.0)


def lines(text: str, **settings: Any) -> list[Reading]:
    return read(text.encode(), **settings)


def only(text: str, **settings: Any) -> Reading:
    (reading,) = lines(text, **settings)
    return reading


def assert_readings(readings: list[Reading], expected: list[tuple[int | None, dict[str, float]]]) -> None:
    assert [each.step for each in readings] == [step for step, _ in expected]
    for reading, (_, numbers) in zip(readings, expected, strict=True):
        found = {**reading.metrics, CLOCK: reading.clock_seconds}
        assert {name: found.get(name) for name in numbers} == pytest.approx(numbers, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("size", [1 << 16, 4096, 97, 7, 1])
@pytest.mark.parametrize("name", EXPECTED)
def test_an_excerpt_tells_what_stands_in_it_however_it_is_cut(name: str, size: int) -> None:
    data = (EXCERPTS / f"{name}.txt").read_bytes()
    readings = read(data, size)
    if name == "noisy":  # the dict waits for its bar, which stands in another line where the pieces are small
        readings.sort(key=lambda each: "eval_loss" in each.metrics)
    assert_readings(readings, EXPECTED[name])


def test_every_excerpt_is_expected() -> None:
    assert {path.stem for path in EXCERPTS.iterdir()} == {*EXPECTED, "unlabelled_ranks"}


def test_processes_that_print_different_numbers_without_a_label_are_doubted() -> None:
    readings = read((EXCERPTS / "unlabelled_ranks.txt").read_bytes())
    losses = [
        (each.step, each.metrics["val_loss"], "val_loss" in each.doubts)
        for each in readings
        if "val_loss" in each.metrics
    ]
    assert losses == [(10, 3.3, False), (20, 3.2, False), (20, 3.29, True)]
    assert readings[-1].doubts["val_loss"] == "told twice for step 20, as 3.2 and as 3.29"


def test_a_metric_that_was_doubted_once_stays_so() -> None:
    readings = lines("step:1 val_loss:3.1000\nstep:1 val_loss:3.2000\nstep:2 val_loss:3.0000\n")
    assert ["val_loss" in each.doubts for each in readings] == [False, True, True]


def test_steps_that_are_guessed_make_no_doubts() -> None:
    dicts = "{'eval_loss': '3.10', 'epoch': '2.345'}\n{'eval_loss': '3.05', 'epoch': '2.345'}\n"
    bar = "  5%|▌         | 100/2000 [00:12<03:45,  8.40it/s]\n"
    expression = "at 3: loss is 2.5\nloss is 2.4\n"
    assert all(not each.doubts for each in lines(dicts))
    assert all(not each.doubts for each in lines(bar + dicts))
    assert all(not each.doubts for each in lines(expression, metrics={"quality": "is (.*)", "step": "at (.*):"}))


@pytest.mark.parametrize(
    ("line", "decimals"),
    [
        ("{'loss': 0.52, 'epoch': 1.0}", {"train_loss": 4}),
        ("{'eval_loss': 0.52, 'epoch': 1.0}", {}),
        ("{'loss': '0.52', 'epoch': '1'}", {"train_loss": 4, "epoch": 3}),
        ("{'eval_loss': '3.28', 'epoch': '1'}", {"eval_loss": 3, "epoch": 3}),
        (
            "{'eval_loss': '12.3', 'num_tokens': '1.235e+04', 'epoch': '1'}",
            {"eval_loss": 2, "num_tokens": -1, "epoch": 3},
        ),
        ("step 10: train loss 2.1000, val loss 2.2000", {"train_loss": 4, "val_loss": 4}),
        ("METRIC val_loss=3.28 n=12", {"val_loss": 2}),
        ('{"val_loss": 3.28}', {"val_loss": 2}),
        ('{"val_loss": 3.2804123901367188}', {}),
        ('{"val_loss": 3}', {}),
        ("val_loss: 3", {"val_loss": 0}),
        ("val_loss = 1.5e-03", {"val_loss": 4}),
    ],
)
def test_the_digits_that_a_number_is_good_for(line: str, decimals: dict[str, int]) -> None:
    assert only(line).decimals == decimals


def test_json_that_has_shown_many_digits_is_not_rounded() -> None:
    readings = lines('{"acc": 0.5}\n{"acc": 0.984375123}\n{"acc": 1.0}\n{"loss": 0.5234}\n{"loss": 0.5}\n')
    assert [dict(each.decimals) for each in readings] == [{"acc": 1}, {}, {}, {"loss": 4}, {"loss": 4}]


@pytest.mark.parametrize(
    "line",
    [
        "learning_rate: 0.001",
        "Overriding: batch_size = 12",
        "Namespace(lr=0.001, batch_size=32)",
        "Config: {'lr': 0.1, 'batch_size': 32, 'loss_weight': 0.5}",
        "loading shard 3 of 12: done",
        "listening on http://127.0.0.1:8080",
        "2026-03-04 10:00:00,123 INFO started",
        "target_loss: 0.5",
        "{'loss': 0.5, 'epoch': 1",
        "{'loss': 0.5WARNING, 'epoch': 1.0}",
        "step 10: train loss 2.05W0304 10:00 warn.py:7",
        "val_loss: 2.05W0304",
        "METRICS are 3=4",
        "METRIC ",
        "one, two, three",
        "a,b,c",
        "{not json}",
        '{"step": 3}',
        "100%|██████████| 640/640 [00:00<00:00, 9123.45 examples/s]",
        "Map:  50%|█████     | 320/640 [00:00<00:00, 9123.45 examples/s]",
        "***** Running Evaluation *****",
        "  Num examples = 64",
    ],
)
def test_what_is_no_metric_is_passed_over(line: str) -> None:
    assert lines(line) == []


@pytest.mark.parametrize(
    ("line", "metrics"),
    [
        ("{'loss': tensor(0.5, device='cuda:0'), 'acc': np.float64(0.75), 'n': None}", {"loss": 0.5, "acc": 0.75}),
        ("INFO:root:{'val_loss': 0.5, 'tags': ['a', 'b'], 'inner': {'x': 1}, 'step': 7}", {"val_loss": 0.5}),
        ("I0304 10:00:00.123456 17 train.py:12] val_loss: 0.5", {"val_loss": 0.5}),
        ("trainer-1  | val_loss=0.5", {"val_loss": 0.5}),
        ("2026-03-04 10:00:00,123 - __main__ - INFO - val_loss: 0.5", {"val_loss": 0.5}),
        ("Validation Loss = 0.5, Perplexity = 1,234.5", {"validation_loss": 0.5, "perplexity": 1234.5}),
        ("val_loss: -inf", {"val_loss": -math.inf}),
    ],
)
def test_other_ways_to_print_a_metric(line: str, metrics: dict[str, float]) -> None:
    assert only(line).metrics == metrics


def test_a_bar_that_was_drawn_again_gives_the_exact_step() -> None:
    capture = Capture({})
    assert capture.feed("  5%|▌         | 100/2000 [00:12<03:45,  8.40it/s]", 1.0) == []
    assert capture.feed("{'eval_loss': 2.5, 'epoch': 0.05}", 1.1) == []
    (reading,) = capture.poll(1.1, "  5%|▌         | 104/2000 [00:12<03:45,  8.40it/s]")
    assert (reading.step, reading.at_seconds) == (104, 1.1)


def test_a_dict_does_not_wait_long_for_a_bar() -> None:
    capture = Capture({})
    capture.feed("  5%|▌         | 100/2000 [00:12<03:45,  8.40it/s]", 1.0)
    assert capture.feed("{'eval_loss': 2.5, 'epoch': 0.05}", 1.1) == []
    assert capture.poll(1.12) == []
    (reading,) = capture.poll(1.2)
    assert (reading.step, reading.at_seconds) == (100, 1.1)


def test_an_evaluation_of_its_own_after_the_training_does_not_count_steps() -> None:
    bars = ["10%|█ | 4/40 [00:01<00:10, 4it/s]", "{'loss': 2.0, 'epoch': 0.1}", "100%|█| 40/40 [00:10<00:00, 4it/s]"]
    evaluation = ["50%|█ | 4/8 [00:01<00:01, 4it/s]", "100%|█| 8/8 [00:02<00:00, 4it/s]"]
    block = ["***** eval metrics *****", "  eval_loss   =  1.5"]
    readings = lines("\n".join([*bars, *evaluation, *block]))
    assert [each.step for each in readings] == [40, 40]


def test_figures_of_a_block_are_one_reading_and_wait_for_the_last_one() -> None:
    capture = Capture({})
    assert capture.feed("val_loss: 3.20", 1.0) == []
    assert capture.feed("val_acc: 0.50", 1.01) == []
    assert capture.poll(1.02) == []
    (reading,) = capture.poll(1.2)
    assert reading.metrics == {"val_loss": 3.2, "val_acc": 0.5}
    assert reading.at_seconds == 1.01


def test_keys_that_come_again_begin_the_next_reading() -> None:
    readings = lines("step: 10\nval_loss: 3.2\nstep: 20\nval_loss: 3.1\n")
    assert [(each.step, each.metrics["val_loss"]) for each in readings] == [(10, 3.2), (20, 3.1)]


def test_own_expressions_come_before_the_forms_that_are_known() -> None:
    text = "at 12k: quality is 0.81, val_loss=3.10\nval_loss=9.0 (ema 3.05)\n"
    own = {"val_loss": r"ema (\S+?)\)", "quality": "quality is ([0-9.]+)", "step": r"at (\d+)k"}
    readings = lines(text, metrics=own)
    assert [(each.step, dict(each.metrics)) for each in readings] == [(12, {"quality": 0.81}), (12, {"val_loss": 3.05})]


def test_expressions_see_lines_that_nothing_else_looks_at() -> None:
    assert only("quality<0.5>", metrics={"quality": "quality<(.*?)>"}).metrics == {"quality": 0.5}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"metrics": {"a": "("}}, r"command.metrics.a: '\(' is no regular expression"),
        ({"metrics": {"a": "x"}}, r"command.metrics.a: 'x' has 0 groups; write one, around the number"),
        ({"metrics": {"a": "(x)(y)"}}, "has 2 groups"),
        ({"formats": ["nanogtp"]}, "unknown format of log lines 'nanogtp'. Did you mean 'nanogpt'"),
    ],
)
def test_settings_that_cannot_be_used_are_named(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Capture(settings)


def test_only_the_forms_that_are_asked_for_are_read() -> None:
    text = "step 1: train loss 2.0, val loss 2.1\nMETRIC a_loss=1.0\n"
    assert [each.source for each in lines(text, formats=["metric"])] == ["metric"]
    assert [each.source for each in lines(text, formats=["nanogpt"])] == ["nanogpt"]


def test_a_clock_by_its_key() -> None:
    text = '{"step": 1, "loss": 3.0, "t": 1.5}\n{"step": 2, "loss": 2.9, "t": 2.5}\n'
    assert [each.clock_seconds for each in lines(text, clock_key="t")] == [1.5, 2.5]
    assert [each.clock_seconds for each in lines(text)] == [None, None]
    (reading,) = lines('{"step": 1, "loss": 3.0, "t_ms": 1500}\n', clock_key="t_ms")
    assert reading.clock_seconds == 1.5
    (reading,) = lines("step:1 val_loss:3.0000 train_time:1500ms\n", clock_key="train_time")
    assert reading.clock_seconds == 1.5


def test_a_clock_that_went_back_is_doubted() -> None:
    text = "step:1 val_loss:3.0000 train_time:1500ms\nstep:2 val_loss:2.9000 train_time:900ms\n"
    _, reading = lines(text)
    assert reading.clock_seconds is None
    assert reading.doubts[CLOCK] == "the clock went back from 1.5 s to 0.9 s"


def test_a_line_without_a_clock_has_that_of_the_step_before_only() -> None:
    text = '{"step": 9, "loss": 3.0, "t": 1.5}\n{"step": 10, "val_loss": 2.9}\n{"step": 12, "val_loss": 2.8}\n'
    assert [each.clock_seconds for each in lines(text, clock_key="t")] == [1.5, 1.5, None]


def test_what_a_file_told_with_all_digits_is_not_read_from_lines_any_more(tmp_path: Path) -> None:
    capture = Capture({"metrics_file": "logged.jsonl"}, tmp_path)
    assert len(capture.feed("step:1 val_loss:3.2804", 1.0)) == 1
    line = {"step": 1, "unix_seconds": 1e9, "val_loss": 3.28041}
    (tmp_path / "logged.jsonl").write_text(json.dumps(line) + "\n")
    (reading,) = capture.poll(1.1)
    assert (reading.metrics, reading.decimals, reading.source) == ({"val_loss": 3.28041}, {}, "log")
    assert (reading.at_seconds, reading.unix_seconds) == (1.0, 1e9)  # when it was printed with fewer digits
    assert capture.feed("step:2 val_loss:3.2700", 2.0) == []


def test_a_state_of_the_trainer_that_was_written_meanwhile_gives_the_printed_figures_their_digits(
    tmp_path: Path,
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "trainer_state.json").write_text(json.dumps({"log_history": [{"step": 1, "eval_loss": 1.0}]}))
    capture = Capture({}, tmp_path)
    readings = capture.feed("{'eval_loss': '3.28', 'epoch': '1'}", 5.0)
    readings += capture.feed("{'eval_loss': '3.27', 'epoch': '2'}", 9.0)
    history = [{"step": 10, "epoch": 1.0, "eval_loss": 3.2804}, {"step": 20, "epoch": 2.0, "eval_loss": 3.2698}]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    exact = capture.end(10.0)
    assert [(each.step, each.at_seconds, each.metrics["eval_loss"]) for each in exact] == [
        (10, 5.0, 3.2804),
        (20, 9.0, 3.2698),
    ]
    assert all(not each.decimals for each in exact)


def test_what_was_printed_with_all_digits_is_not_told_again_by_the_state(tmp_path: Path) -> None:
    capture = Capture({}, tmp_path)
    for number in (1, 2):
        assert capture.feed(f"{{'eval_loss': 3.2{number}0412345, 'eval_runtime': 0.2193, 'epoch': {number}.0}}", number)
    block = ["***** eval metrics *****", "  eval_loss = 3.1004", "  eval_runtime = 0:00:00.21"]
    for line in block:
        assert capture.feed(line, 3.0) == []
    losses = {1: 3.210412345, 2: 3.220412345, 3: 3.10038}
    history = [{"step": n, "epoch": n, "eval_loss": loss, "eval_runtime": 0.2193} for n, loss in losses.items()]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    rounded, exact = capture.end(9.0)
    assert rounded.metrics == {"eval_loss": 3.1004, "eval_runtime": 0.21}
    assert (exact.step, exact.at_seconds, exact.metrics["eval_loss"]) == (3, 3.0, 3.10038)


def test_a_log_that_invents_names_does_not_fill_the_memory() -> None:
    readings = lines("".join(f"loss_{number}_loss: 1.5\n---\n" for number in range(3000)))
    assert sum(len(each.metrics) for each in readings) == 2000


@pytest.mark.parametrize("excerpt", sorted(EXCERPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_lines_that_come_together_say_the_same(excerpt: Path) -> None:
    lines = [line for line in excerpt.read_bytes().decode("utf-8", "replace").split("\n") if line]
    one, all_at_once = Capture({}), Capture({})
    alone = [reading for line in lines for reading in one.feed(line, 1.0)] + one.end(1.0)
    together = [*all_at_once.feed_all(lines, 1.0), *all_at_once.end(1.0)]
    assert list(map(repr, together)) == list(map(repr, alone))  # NaN is none of its equals
    assert alone
