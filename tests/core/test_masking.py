"""Secrets in streams of bytes and in command lines."""

import os
import subprocess

import pytest

from hotlap.core.errors import ConfigError
from hotlap.core.masking import Mask, hide_secrets, secret_values, with_secrets

TOKEN = "hf_abcDEF123"


def test_values_of_variables_with_secret_names_are_secrets() -> None:
    environment = {
        "HF_TOKEN": TOKEN,
        "WANDB_API_KEY": "0123456789abcdef",
        "SSH_KEY_PATH": "/home/me/.ssh/id",
        "MAX_TOKENS": "8192000",
        "SHORT_KEY": "abc",
        "HOME": "/home/me",
    }
    assert set(secret_values(environment)) == {TOKEN, "0123456789abcdef"}


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_secret_that_is_cut_in_two_is_masked(cut: int) -> None:
    data = b"login " + TOKEN.encode() + b" done hf_ab"
    mask = Mask([TOKEN])
    shown = mask.hide(data[:cut]) + mask.hide(data[cut:]) + mask.end()
    assert shown == b"login *** done hf_ab"


def test_without_secrets_nothing_waits() -> None:
    mask = Mask([])
    assert mask.hide(b"loss 0.5") == b"loss 0.5"
    assert mask.text("plain") == "plain"


@pytest.mark.parametrize("cut", range(0, 60, 3))
@pytest.mark.parametrize("token", ["hf_" + "aB1" * 12, "ghp_" + "c2" * 18, "sk-proj-" + "dE3" * 12, "AKIA" + "F4" * 8])
def test_a_token_of_a_known_form_is_masked_without_a_variable(token: str, cut: int) -> None:
    data, mask = f"logged in with {token}\n".encode(), Mask([])
    assert mask.hide(data[:cut]) + mask.hide(data[cut:]) + mask.end() == b"logged in with ***\n"
    assert mask.text(f"with {token}") == "with ***"


def test_what_only_begins_like_a_token_stays() -> None:
    data = b"hf_internal_testing task-1234567890123456789012345678901234567890 sk-learn"
    mask = Mask([])
    assert mask.hide(data) + mask.end() == data


def test_a_short_secret_of_the_command_is_masked() -> None:
    hidden, variables = hide_secrets("train.py --password abcd", {})
    assert hidden == 'train.py --password "${HOTLAP_SECRET_PASSWORD}"'
    assert Mask(secret_values(variables)).text("it is abcd") == "it is ***"


def test_references_are_filled_in_from_the_environment() -> None:
    assert with_secrets("a ${HOTLAP_SECRET_X} ${OTHER}", {"HOTLAP_SECRET_X": "b"}) == "a b ${OTHER}"
    with pytest.raises(ConfigError, match=r"the secret \$HOTLAP_SECRET_X is not set"):
        with_secrets("${HOTLAP_SECRET_X}", {})


@pytest.mark.parametrize(
    "text",
    [
        "echo --hub_token hf_abcDEF123 --lr 3",
        "echo --hub-token=hf_abcDEF123",
        "HUB_TOKEN=hf_abcDEF123 sh -c 'echo $HUB_TOKEN'",
        "echo 'HUB_TOKEN=hf_abcDEF123'",
        'echo -e "HUB_TOKEN=hf_abcDEF123"',
        "echo https://me:hf_abcDEF123@example.org/a.git",
        """echo '{"api_key": "hf_abcDEF123"}'""",
        "echo -e HUB_TOKEN=hf_abcDEF123 -e API_KEY=hf_abcDEF1234",
    ],
)
def test_secrets_leave_a_command_that_does_the_same(text: str) -> None:
    hidden, variables = hide_secrets(text, {})
    assert TOKEN not in hidden
    assert TOKEN in variables.values()
    shown = [
        subprocess.check_output(["/bin/sh", "-c", command], env={**os.environ, **variables}, text=True)
        for command in (text, hidden)
    ]
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    "text",
    [
        "train.py --max_tokens 4096000 --pad_token '<pad>'",
        "train.py --ssh_key ~/.ssh/id_rsa --api_key $API_KEY --token {hub_token}",
        "train.py --use_auth_token true --sort-key --verbose",
        "docker run -v ~/.netrc:/root/.netrc:ro -e WANDB_API_KEY welt",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hide_secrets(text, {"HOME": "/home/me"}) == (text, {})


def test_a_value_of_the_environment_is_taken_from_there() -> None:
    hidden, variables = hide_secrets(f"train.py --name {TOKEN}", {"HF_TOKEN": TOKEN})
    assert hidden == 'train.py --name "${HF_TOKEN}"'
    assert variables == {}
