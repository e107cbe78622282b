"""Scores of generated text."""

import pytest

from hotlap.tasks.scoring import generation_scores

EXPECTED = ["the cat sat on the mat", "a quick brown fox jumps over it"]


def test_a_perfect_repetition_has_full_scores() -> None:
    scores = generation_scores(EXPECTED, EXPECTED)
    assert scores == {
        "eval_chrf": pytest.approx(100),
        "eval_sacrebleu": pytest.approx(100),
        "eval_exact_match": 1,
    }


def test_scores_fall_with_each_mistake() -> None:
    half = generation_scores([EXPECTED[0], "nothing like that"], EXPECTED)
    near = generation_scores([EXPECTED[0], "a quick brown fox jumped over it"], EXPECTED)
    assert half["eval_exact_match"] == near["eval_exact_match"] == 0.5
    assert 0 < half["eval_chrf"] < near["eval_chrf"] < 100
    assert 0 < half["eval_sacrebleu"] < near["eval_sacrebleu"] < 100


def test_white_space_around_a_text_does_not_matter_for_a_match() -> None:
    assert generation_scores([" the cat sat on the mat "], EXPECTED[:1])["eval_exact_match"] == 1


def test_nothing_generated_scores_nothing() -> None:
    scores = generation_scores(["", ""], EXPECTED)
    assert scores == {"eval_chrf": 0, "eval_sacrebleu": 0, "eval_exact_match": 0}


def test_as_many_texts_are_needed_as_were_asked_for() -> None:
    with pytest.raises(ValueError, match="zip"):
        generation_scores(EXPECTED[:1], EXPECTED)
