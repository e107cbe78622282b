"""Between text and tokens while text is generated: prompts in, whole characters out."""

from collections.abc import Iterable, Sequence
from typing import Final

from hotlap.core.errors import ConfigError
from hotlap.data.tokenizers import Tokenizer

_REPLACEMENT: Final = "\ufffd"
"""What a decoder writes for bytes that are no UTF-8, or not yet."""
_CONTEXT: Final = 8
"""Tokens before the present one that its text may depend on: more than a character has bytes."""
_LONGEST: Final = 32


def prompt_tokens(tokenizer: Tokenizer, text: str, start: int | None, *, reads_specials: bool = False) -> list[int]:
    """Return a prompt's tokens, behind the one that starts a text where there is one.

    With `reads_specials` a special token that the prompt writes out is meant.
    Raises ConfigError for a prompt that leaves the model nothing to go on from, and for one that is no Unicode text.
    """
    try:
        ids = (tokenizer.with_specials if reads_specials else tokenizer).encode(text).tolist()
    except UnicodeEncodeError as error:
        raise ConfigError(f"the prompt {text!r} is not valid UTF-8 at character {error.start + 1}") from error
    if start is not None:
        return [start, *ids]
    if not ids:
        raise ConfigError(
            "a prompt is empty, and with this task and tokenizer nothing stands before a text: the model needs a "
            "token to go on from; give the prompt at least one character"
        )
    return [int(number) for number in ids]


class TextStream:
    """The text of tokens as they come: what the next token may still change is held back.

    That is a character of several bytes whose last byte has not come yet. Put together, what is given out is the text
    of all tokens.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = ()) -> None:
        """Begin behind a prompt's tokens: some tokenizers write a token differently at the start of a text."""
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._shown = 0
        text = [number for number in prompt[-_CONTEXT:] if number != tokenizer.eos]  # which may start it, too
        self._restart(text)

    def push(self, token: int) -> str:
        """Take one more token and return the text that is certain now; no token may be the end of text."""
        self._window.append(token)
        text = self._tokenizer.decode(self._window)
        is_open = text.endswith(_REPLACEMENT)
        end = len(text) - is_open
        certain = text[self._shown : end]
        self._shown = max(self._shown, end)
        if not is_open and len(self._window) > _LONGEST:
            self._restart(self._window[-_CONTEXT:])
        return certain

    def finish(self) -> str:
        """Return what was held back, now that no token follows."""
        return self._tokenizer.decode(self._window)[self._shown :]

    def _restart(self, tokens: Sequence[int]) -> None:
        """Read from these tokens on: their own text has been given out."""
        self._window = list(tokens)
        self._shown = len(self._tokenizer.decode(self._window))


def continuation(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Iterable[int]) -> str:
    """Return the text of tokens that follow a prompt, up to the first end of text."""
    stream = TextStream(tokenizer, prompt)
    parts = []
    for token in tokens:
        if token == tokenizer.eos:
            break
        parts.append(stream.push(token))
    return "".join([*parts, stream.finish()])
