"""Conversations as text: templates of tokenizers, given ones, and what a template must not do."""

import json
from pathlib import Path

import pytest

from hotlap.config.tokenizers import ByteTokenizerConfig, PretrainedTokenizerConfig
from hotlap.core.errors import ConfigError, DataError
from hotlap.tasks.chat import ChatTemplate

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
MARKED = """
{%- for message in messages %}
<|{{ message.role }}|>
{%- if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}
{%- else %}{{ message.content }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}
"""


def own(folder: Path) -> ChatTemplate:
    return ChatTemplate.own(PretrainedTokenizerConfig(path=folder.name), folder.parent)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Return a tokenizer's folder, as far as a template is concerned."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    settings = {"chat_template": MARKED, "eos_token": {"content": "</s>"}, "bos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_without_a_template_each_message_is_a_line() -> None:
    template = ChatTemplate.own(ByteTokenizerConfig(), Path())
    assert template.pair([USER, ANSWER, USER], [ANSWER]) == (
        "user: Hi\nassistant: Hello\nuser: Hi\nassistant: ",
        "Hello",
    )


def test_a_tokenizer_brings_its_template(tokenizer: Path) -> None:
    prefix, completion = own(tokenizer).pair([USER, ANSWER, USER], [ANSWER])
    assert prefix == "<|user|>Hi<|assistant|>Hello</s><|user|>Hi<|assistant|>"
    assert completion == "Hello", "the end of text, which hotlap adds itself, stands there once"


def test_a_template_may_lie_in_a_file_of_its_own_or_be_one_of_several(tokenizer: Path) -> None:
    settings = {"chat_template": [{"name": "tools", "template": "x"}, {"name": "default", "template": MARKED}]}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
    assert own(tokenizer).text == MARKED
    (tokenizer / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert own(tokenizer).text == "{{ messages[0].content }}"
    (tokenizer / "chat_template.jinja").unlink()
    (tokenizer / "tokenizer_config.json").write_text("{}")
    assert own(tokenizer).text is None


def test_a_given_template_is_text_or_a_file(tmp_path: Path) -> None:
    text = "{% for m in messages %}{{ m.content | trim }}!{% endfor %}"
    (tmp_path / "chat.jinja").write_text(text)
    for setting in (text, "chat.jinja"):
        template = ChatTemplate.given(setting, tmp_path, ByteTokenizerConfig())
        assert template.pair([USER], [ANSWER]) == ("Hi!", "Hello!")
    with pytest.raises(ConfigError, match=r"task\.chat_template: .*missing\.jinja cannot be read: .*; give a file, or"):
        ChatTemplate.given("missing.jinja", tmp_path, ByteTokenizerConfig())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", r"\(given\) refuses the conversation: roles must alternate"),
        ("{{ messages.nothing.more }}", "refuses the conversation: .*undefined|no attribute"),
        ("{{ ''.__class__.__mro__ }}", "refuses the conversation: .*unsafe"),
        ("{{ messages | length }} messages", "writes the conversation otherwise once the answer follows"),
    ],
)
def test_what_a_template_must_not_do_is_told(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ChatTemplate(text, {}, "given").pair([USER], [ANSWER])


def test_what_is_no_template_is_told(tokenizer: Path) -> None:
    with pytest.raises(ConfigError, match=r"task\.chat_template: given is not a Jinja template: line 1: "):
        ChatTemplate("{% for %}", {}, "given").pair([USER], [ANSWER])
    (tokenizer / "tokenizer_config.json").write_text("{")
    with pytest.raises(
        ConfigError, match=r"tokenizer\.path: the tokenizer_config\.json of tokenizer, .* cannot be read"
    ):
        own(tokenizer)


def test_a_template_finds_what_transformers_gives_it() -> None:
    text = "{% if tools is not none %}tools{% endif %}{{ messages | tojson(ensure_ascii=true, separators=(',', ':')) }}"
    expected = '[{"role":"user","content":"\\u00fc"}'
    rendered = ChatTemplate(text, {}, "given")._render([{"role": "user", "content": "ü"}], adds_prompt=True)
    assert rendered == f"{expected}]"
