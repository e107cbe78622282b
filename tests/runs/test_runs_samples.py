"""Samples of several runs, put beside each other."""

from typing import Any

from hotlap.runs.samples import Answer, last_samples, side_by_side


def line(step: int, prompt: str, text: str, index: int | None = None, expected: str = "") -> dict[str, Any]:
    place = {} if index is None else {"prompt_index": index}
    return {
        "step": step,
        "train_seconds": step / 10,
        "prompt": prompt,
        "generated": text,
        "expected": expected,
        **place,
    }


FIRST = [
    line(0, "a", "a0", 0),
    line(0, "b", "b0", 1),
    line(5, "say", "what?", expected="yes"),
    line(5, "a", "a5", 0),
    line(5, "b", "b5", 1),
    line(9, "a", "a9", 0),
    line(9, "b", "b9", 1),
]
SECOND = [line(0, "c", "c0", 0), line(0, "a", "A0", 1), line(7, "c", "c7", 0), line(7, "a", "A7", 1)]


def test_prompts_of_the_config_come_first_with_their_last_answers() -> None:
    assert [(prompt, told["generated"]) for prompt, told in last_samples(FIRST).items()] == [
        ("a", "a9"),
        ("b", "b9"),
        ("say", "what?"),
    ]
    assert last_samples([]) == {}


def test_runs_stand_beside_each_other_with_what_they_have() -> None:
    found = {answers.prompt: answers for answers in side_by_side([FIRST, SECOND])}
    assert list(found) == ["a", "b", "say", "c"]
    assert found["a"].untrained == (Answer(0, "a0", 0.0), Answer(0, "A0", 0.0))
    assert found["a"].trained == (Answer(9, "a9", 0.9), Answer(7, "A7", 0.7))
    assert found["b"].trained == (Answer(9, "b9", 0.9), None)
    assert found["say"].expected == "yes" and found["say"].untrained == (None, None)


def test_a_step_is_the_last_one_that_counts() -> None:
    found = {answers.prompt: answers.trained for answers in side_by_side([FIRST, SECOND], step=6)}
    assert found["a"] == (Answer(5, "a5", 0.5), None)
    assert found["c"] == (None, None), "the untrained model's answer is still there"
    assert [answers.prompt for answers in side_by_side([FIRST], step=0)] == ["a", "b"]


def test_runs_without_samples_have_nothing_to_show() -> None:
    assert side_by_side([[], []]) == ()
