"""Text that is told token by token: whole characters only, and all of them in the end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.errors import ConfigError
from hotlap.data.text_stream import TextStream, continuation, prompt_tokens
from hotlap.data.tokenizers import END_OF_TEXT, ByteTokenizer, CharacterTokenizer, SubwordTokenizer, train_bpe

BYTES = ByteTokenizer()
END = bytes([BYTES.eos])


def streamed(tokens: list[int], prompt: list[int] | None = None) -> list[str]:
    stream = TextStream(BYTES, prompt or [])
    return [*(stream.push(token) for token in tokens), stream.finish()]


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60), prompt=st.text(max_size=12))
def test_no_piece_of_a_text_holds_half_a_character(text: str, prompt: str) -> None:
    content = text.encode().replace(END, b"!")
    text = content.decode()
    parts = streamed(list(content), list(prompt.encode()))
    assert "".join(parts) == text
    told = ""
    for count, part in enumerate(parts[:-1], start=1):
        told += part
        whole = content[:count].decode(errors="ignore")  # what is complete after so many bytes
        assert told in (whole, whole.removesuffix("\ufffd")), "a mark of the text's own may be held back"


@settings(max_examples=300, deadline=None)
@given(text=st.text(min_size=1, max_size=40), data=st.data())
def test_a_text_that_is_cut_at_any_byte_ends_with_one_mark_at_most(text: str, data: st.DataObject) -> None:
    content = text.encode().replace(END, b"!")
    cut = data.draw(st.integers(0, len(content)))
    assert "".join(streamed(list(content[:cut]))) == content[:cut].decode(errors="replace")


@settings(max_examples=500, deadline=None)
@given(content=st.binary(max_size=120), prompt=st.binary(max_size=12))
def test_bytes_that_are_no_text_are_told_as_they_are_decoded_at_once(content: bytes, prompt: bytes) -> None:
    content = content.replace(END, b"!")
    prompt = prompt.decode(errors="ignore").encode()  # a prompt is text
    assert "".join(streamed(list(content), list(prompt))) == content.decode(errors="replace")


def test_a_character_is_told_with_its_last_byte() -> None:
    assert streamed(list("aé😀b".encode())) == ["a", "", "é", "", "", "", "😀", "b", ""]
    assert streamed(list("😀".encode()[:3])) == ["", "", "", "\ufffd"]


def test_a_long_text_is_told_in_constant_pieces() -> None:
    content = ("дом и сад, 家と庭. " * 200).encode()
    stream = TextStream(BYTES)
    parts = [stream.push(token) for token in content]
    assert "".join(parts) == content.decode()
    assert len(stream._window) <= 40


def test_subwords_that_split_characters_are_held_back() -> None:
    content = train_bpe(lambda: ["any text will do, so that there are some pairs"], 300, 10**6)
    tokenizer = SubwordTokenizer(content)
    text = "any 家 text, 😀 дом"
    ids = tokenizer.encode(text).tolist()
    stream = TextStream(tokenizer, [tokenizer.eos])
    parts = [stream.push(token) for token in ids]
    assert "".join(parts) + stream.finish() == text
    assert "家" in parts and "😀" in parts and not any("\ufffd" in part for part in parts)
    assert len(ids) > len(text), "characters outside of the training text take several tokens"


def test_the_text_after_a_prompt_ends_with_the_end_of_text() -> None:
    said = [*b"yes", BYTES.eos, *b"no"]
    assert continuation(BYTES, list(b"say "), said) == "yes"
    assert continuation(BYTES, [], []) == ""


def test_a_prompt_stands_behind_what_starts_a_text() -> None:
    characters = CharacterTokenizer("abc")
    assert prompt_tokens(characters, "ab", characters.document_start) == [1, 3, 4]
    assert prompt_tokens(characters, "ab", None) == [3, 4]
    assert prompt_tokens(characters, "", characters.document_start) == [1]
    assert all(type(token) is int for token in prompt_tokens(BYTES, "é", None))


def test_prompts_that_give_nothing_to_go_on_from_are_refused() -> None:
    with pytest.raises(ConfigError, match="a prompt is empty, and with this task and tokenizer nothing stands before"):
        prompt_tokens(BYTES, "", None)
    with pytest.raises(ConfigError, match="is not valid UTF-8 at character 3"):
        prompt_tokens(BYTES, "ab\udcff", None)


def test_a_prompt_may_write_special_tokens_out() -> None:
    tokenizer = SubwordTokenizer(train_bpe(lambda: ["how do you do?"], 280, 10**6), END_OF_TEXT)
    for reads_specials in (False, True):
        ids = prompt_tokens(tokenizer, f"how{END_OF_TEXT}do", None, reads_specials=reads_specials)
        assert (tokenizer.eos in ids) == reads_specials
