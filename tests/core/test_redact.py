"""Text for others, without the secrets in it."""

import pytest

from hotlap.core.redact import redacted

SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    "text",
    [
        f"started with {SECRET}",
        f"WANDB_API_KEY={SECRET}",
        f'{{"api_key": "{SECRET}"}}',
        f"password: {SECRET}",
        f"machine api.wandb.ai login user password {SECRET}",
        f"python train.py --hub-token {SECRET} --lr 1",
        f"python train.py --api_key={SECRET}",
        f"https://me:{SECRET}@example.com/x",
        f"Authorization: Bearer {SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    shown = redacted(text, {"MY_TOKEN": SECRET} if text.startswith("started") else {})
    assert SECRET not in shown
    assert "***" in shown


@pytest.mark.parametrize("token", ["sk-" + "a1" * 12, "hf_" + "B2" * 10, "ghp_" + "c3" * 12, "AKIA" + "D4" * 8])
def test_known_tokens_are_masked_wherever_they_stand(token: str) -> None:
    assert redacted(f"got {token}.", {}) == "got ***."


@pytest.mark.parametrize(
    "text",
    [
        "num_tokens: 4096",
        "pad_token = </s>",
        "{'loss': 3.2, 'learning_rate': 0.001, 'tokens_per_second': 12}",
        "python train.py --lr 1e-3 --max_tokens 100",
        "step 1: val_loss 3.28",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redacted(text, {"HOME": "/root", "SHORT_KEY": "1"}) == text


@pytest.mark.parametrize("endless", ["x" * 200_000, "-a" * 100_000, "key" * 70_000, "a.b" * 70_000, "token " * 30_000])
@pytest.mark.timeout(60)
def test_a_text_without_end_takes_no_time_to_speak_of(endless: str) -> None:
    """An expression that begins anew at each letter of a word would take minutes."""
    assert redacted(f"{endless}\npassword={SECRET}", {}).endswith("password=***")
