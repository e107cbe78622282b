"""Which words name a metric, and how a printed name becomes one: `Val Loss` is `val_loss`."""

import re
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_METRIC_WORDS: Final = _words(
    "loss nll acc accuracy ppl perplexity bpb bpc bpw bleu sacrebleu chrf rouge rouge1 rouge2 rougel f1 auc auroc "
    "reward rewards score mse rmse mae cer wer miou iou psnr ssim fid kl entropy mcc spearman pearson"
)
_SETTING_WORDS: Final = _words(
    "weight weights coef coeff coefficient scale scaling factor fn func function type name threshold target targets "
    "smoothing lambda alpha beta gamma patience model every interval frequency freq limit max_len budget"
)
"""Beside a metric's word they make a setting of it: `loss_weight`, `target_loss`."""
_QUALIFIERS: Final = _words(
    "train training trn val valid validation eval evaluation test dev avg average mean smooth smoothed running total "
    "best min minimum max maximum lowest highest final last ema lm ce kl grad gradient learning global"
)
"""Words before a name that belong to it: best val loss is no val_loss."""
_WORDS: Final = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")


def is_metric(name: str) -> bool:
    """Say whether a name is one of a metric, as far as its words tell."""
    words = [word.lower() for word in _WORDS.split(name) if word]
    if not _SETTING_WORDS.isdisjoint(words):
        return False
    return any(word in _METRIC_WORDS or word.endswith("loss") for word in words)


def tidy(name: str) -> str:
    """Return a printed name as one word; capitals go where the name is written like a title."""
    joined = "_".join(name.split())
    return joined.lower() if " " in name.strip() or joined[:1].isupper() else joined


def without_chatter(name: str) -> str:
    """Return the end of some words before a number that is the name: `saved, Val Loss` names the `Val Loss`."""
    words = name.split()
    start = len(words) - 1
    while start > 0 and words[start - 1].lower() in _QUALIFIERS:
        start -= 1
    return " ".join(words[start:])
