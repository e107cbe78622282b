"""Scores of generated text, as pure functions of strings."""

from collections.abc import Sequence

from hotlap.core.errors import import_optional


def generation_scores(generated: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """Return chrF and BLEU on sacrebleu's 0-100 scale (its defaults) and the share of exact matches.

    chrF: Popović 2015; BLEU: sacrebleu, 13a tokenisation, exponential smoothing (Post 2018).
    """
    sacrebleu = import_optional("sacrebleu", "train")
    references = [list(expected)]
    pairs = zip(generated, expected, strict=True)
    return {
        "eval_chrf": float(sacrebleu.CHRF().corpus_score(list(generated), references).score),
        "eval_sacrebleu": float(sacrebleu.BLEU().corpus_score(list(generated), references).score),
        "eval_exact_match": sum(g.strip() == e.strip() for g, e in pairs) / len(expected),
    }
