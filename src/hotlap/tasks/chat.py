"""Conversations as text: the tokenizer's own template, one that is given, or a line for each message.

template = ChatTemplate.own(config.tokenizer, directory)
template.pair([{"role": "user", "content": "Hi"}], [{"role": "assistant", "content": "Hello"}])

A template is Jinja, as transformers has it, run in a sandbox (Jinja2 comes with the extra `train`). It knows neither
the date nor the time, so that the same data give the same text every day.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn

from hotlap.config.base import Section
from hotlap.config.tasks import is_template
from hotlap.config.tokenizers import PretrainedTokenizerConfig
from hotlap.core.errors import ConfigError, DataError, import_optional

Message = Mapping[str, str]

ANSWERER: Final = "assistant"
"""The role whose turns are learned."""
_SPECIALS: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_SETTINGS_NAME: Final = "tokenizer_config.json"
_TEMPLATE_NAME: Final = "chat_template.jinja"


@dataclass(frozen=True)
class ChatTemplate:
    """How conversations are written; without a text each message is a line `role: content`."""

    text: str | None = None
    """Jinja, as in a tokenizer_config.json."""
    specials: Mapping[str, str] = field(default_factory=dict)
    """Special tokens that the template may name, such as eos_token."""
    source: str = "hotlap's plain one"
    """Where it comes from, for people."""

    @classmethod
    def given(cls, setting: str, directory: Path, tokenizer: Section) -> "ChatTemplate":
        """Return the template of a setting: its text, or that of the file that it names.

        Raises ConfigError when the file cannot be read.
        """
        specials = _own_settings(tokenizer, directory)[0]
        if is_template(setting):
            return cls(setting, _special_tokens(specials), "task.chat_template")
        try:
            text = (directory / setting).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"task.chat_template: {directory / setting} cannot be read: {error}; give a file, or the template"
            ) from error
        return cls(text, _special_tokens(specials), setting)

    @classmethod
    def own(cls, tokenizer: Section, directory: Path) -> "ChatTemplate":
        """Return the template that a pretrained tokenizer brings along, else the plain one.

        Raises ConfigError when what the tokenizer brings cannot be read.
        """
        settings, text = _own_settings(tokenizer, directory)
        if text is None:
            found = settings.get("chat_template")
            if isinstance(found, list):  # several, by name
                named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
                found = named.get("default")
            text = found if isinstance(found, str) else None
        if text is None:
            return cls()
        return cls(text, _special_tokens(settings), f"the template of {getattr(tokenizer, 'path', 'the tokenizer')}")

    def pair(self, before: Sequence[Message], answer: Sequence[Message]) -> tuple[str, str]:
        """Return the text before an answer, and the answer's, which ends before the token that ends it.

        Raises DataError when the template refuses the conversation, or writes what stands before the answer
        otherwise once the answer follows.
        """
        prefix = self._render(before, adds_prompt=True)
        whole = self._render([*before, *answer], adds_prompt=False)
        if not whole.startswith(prefix):
            raise DataError(
                f"the chat template ({self.source}) writes the conversation otherwise once the answer follows, so "
                "where the answer begins cannot be told; give another with task.chat_template"
            )
        completion = whole.removeprefix(prefix)
        if self.text is None:
            return prefix, completion.removesuffix("\n")
        end = self.specials.get("eos_token")  # hotlap ends each completion with it
        stripped = completion.rstrip()
        return prefix, stripped.removesuffix(end) if end and stripped.endswith(end) else completion

    def _render(self, messages: Sequence[Message], *, adds_prompt: bool) -> str:
        if self.text is None:
            lines = "".join(f"{message['role']}: {message['content']}\n" for message in messages)
            return f"{lines}{ANSWERER}: " if adds_prompt else lines
        jinja: Any = import_optional("jinja2", "train")
        try:
            text: str = self._compiled.render(
                messages=list(messages), tools=None, documents=None, add_generation_prompt=adds_prompt, **self.specials
            )
        except (jinja.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise DataError(f"the chat template ({self.source}) refuses the conversation: {error}") from error
        return text

    @cached_property
    def _compiled(self) -> Any:
        """The template, ready to be filled in; raises ConfigError when it is not Jinja."""
        jinja: Any = import_optional("jinja2", "train")
        sandbox: Any = import_optional("jinja2.sandbox", "train")
        environment = sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _generation_block()]
        )
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = _to_json
        try:
            return environment.from_string(self.text)
        except jinja.TemplateSyntaxError as error:
            raise ConfigError(
                f"task.chat_template: {self.source} is not a Jinja template: line {error.lineno}: {error.message}"
            ) from error


def _refuse(message: str) -> NoReturn:
    """Stand for transformers' raise_exception."""
    raise ValueError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Stand for transformers' tojson, which escapes nothing for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _generation_block() -> Any:
    """Return the tag {% generation %} of transformers, which marks answers: here it leaves them as they are."""
    extension: Any = import_optional("jinja2.ext", "train")
    base: Any = extension.Extension

    class Generation(base):
        """A block without an effect."""

        tags = frozenset({"generation"})

        def parse(self, parser: Any) -> Any:
            """Return what stands between the tags."""
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return Generation


def _own_settings(tokenizer: Section, directory: Path) -> tuple[dict[str, Any], str | None]:
    """Return a pretrained tokenizer's settings, and the template of a file of its own; nothing where it has none.

    Raises ConfigError when they cannot be read.
    """
    if not isinstance(tokenizer, PretrainedTokenizerConfig):
        return {}, None
    folder = directory / tokenizer.path
    if folder.is_file():  # a bare tokenizer.json
        return {}, None
    try:
        if folder.is_dir():
            paths = {name: folder / name for name in (_SETTINGS_NAME, _TEMPLATE_NAME)}
        else:
            paths = _downloaded(tokenizer.path)
        texts = {name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.is_file()}
        settings = json.loads(texts.get(_SETTINGS_NAME, "{}"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"tokenizer.path: the {_SETTINGS_NAME} of {tokenizer.path}, where its chat template stands, cannot be "
            f"read: {error}; give one with task.chat_template"
        ) from error
    return (settings if isinstance(settings, dict) else {}), texts.get(_TEMPLATE_NAME)


def _downloaded(name: str) -> dict[str, Path]:
    """Return the files of a tokenizer on Hugging Face's hub; raises OSError when it cannot be reached."""
    hub: Any = import_optional("huggingface_hub", "hf")
    found: dict[str, Path] = {}
    for file in (_SETTINGS_NAME, _TEMPLATE_NAME):
        try:
            found[file] = Path(hub.hf_hub_download(name, file))
        except hub.errors.EntryNotFoundError:
            continue
        except Exception as error:  # of many kinds: no network, no such name
            raise OSError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    return found


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens by their names; each stands there as a text or as a mapping with its content."""
    found = {}
    for name in _SPECIALS:
        value = settings.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found
