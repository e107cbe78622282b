"""Tokenizers: round trips, byte ends, pickling, what is cached, and messages."""

import json
import pickle
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.config.tokenizers import (
    BPETokenizerConfig,
    ByteTokenizerConfig,
    CharacterTokenizerConfig,
    PretrainedTokenizerConfig,
)
from hotlap.core.errors import ConfigError, DataError
from hotlap.data.tokenizers import (
    END_OF_TEXT,
    ByteTokenizer,
    CharacterTokenizer,
    SubwordTokenizer,
    Tokenizer,
    id_type,
    load_tokenizer,
    train_bpe,
)

TEXTS = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "Быстрая лиса перепрыгнула через ленивую собаку; собака не возражала.",
    "El zorro veloz saltó sobre el perro; ¡qué día!",
    "水は低きに流れる。🦊🐕",
] * 5
ALPHABET = "".join(sorted(set("".join(TEXTS))))
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
KNOWN_TEXT = st.text(ALPHABET, max_size=60)


@cache
def bpe() -> SubwordTokenizer:
    return SubwordTokenizer(train_bpe(lambda: TEXTS, 400, 10**6), END_OF_TEXT)


def tokenizers() -> list[Any]:
    return [
        pytest.param(ByteTokenizer, id="byte"),
        pytest.param(lambda: CharacterTokenizer(ALPHABET), id="character"),
        pytest.param(bpe, id="bpe"),
    ]


each_tokenizer = pytest.mark.parametrize("make", tokenizers())


@each_tokenizer
@given(text=KNOWN_TEXT)
@settings(deadline=None)
def test_text_of_known_characters_comes_back(make: Callable[[], Tokenizer], text: str) -> None:
    tokenizer = make()
    ids = tokenizer.encode(text)
    assert ids.dtype == id_type(tokenizer.vocab_size)
    assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.decode([*ids.tolist(), tokenizer.eos, *ids.tolist()]) == text


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\x03"), max_size=60))
@settings(deadline=None)
def test_bytes_write_any_text(text: str) -> None:
    assert ByteTokenizer().decode(ByteTokenizer().encode(text).tolist()) == text


@given(text=ANY_TEXT)
@settings(deadline=None)
def test_byte_pairs_write_any_text(text: str) -> None:
    assert bpe().decode(bpe().encode(text).tolist()) == text


@given(text=ANY_TEXT)
@settings(deadline=None)
def test_an_unknown_character_becomes_one_token_and_a_sign(text: str) -> None:
    tokenizer = CharacterTokenizer("abc")
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids.tolist()) == "".join(c if c in "abc" else "\ufffd" for c in text)


def test_the_end_of_text_written_out_is_text() -> None:
    text = f"a {END_OF_TEXT} b"
    ids = bpe().encode(text)
    assert bpe().eos not in ids
    assert bpe().decode(ids.tolist()) == text


@each_tokenizer
@given(text=ANY_TEXT)
@settings(deadline=None)
def test_ends_never_fall_and_the_last_one_is_the_texts_length(make: Callable[[], Tokenizer], text: str) -> None:
    ids, ends = make().encode_with_ends(text)
    assert ids.tolist() == make().encode(text).tolist()
    assert len(ends) == len(ids)
    assert ends.dtype == np.int64
    assert (np.diff(ends, prepend=0) >= 0).all()
    assert (ends[-1] if len(ends) else 0) == len(text.encode())


@given(text=KNOWN_TEXT)
@settings(deadline=None)
def test_ends_of_characters_are_exact(text: str) -> None:
    _, ends = CharacterTokenizer(ALPHABET).encode_with_ends(text)
    assert ends.tolist() == [len(text[: place + 1].encode()) for place in range(len(text))]


@given(text=KNOWN_TEXT)
@settings(deadline=None)
def test_ends_of_byte_pairs_are_where_the_text_so_far_ends(text: str) -> None:
    ids, ends = bpe().encode_with_ends(text)
    for count in range(1, len(ids) + 1):
        written = bpe().decode(ids[:count].tolist())
        if "\ufffd" not in written:  # a token that ends within a character takes all of it
            assert ends[count - 1] == len(written.encode())


@each_tokenizer
@given(texts=st.lists(ANY_TEXT, max_size=5))
@settings(deadline=None, max_examples=30)
def test_several_texts_are_encoded_as_one_by_one(make: Callable[[], Tokenizer], texts: list[str]) -> None:
    tokenizer = make()
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [tokenizer.encode(t).tolist() for t in texts]


@each_tokenizer
def test_it_can_be_sent_to_another_process(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    copied = pickle.loads(pickle.dumps(tokenizer))
    assert copied.hash == tokenizer.hash
    assert copied.vocab_size == tokenizer.vocab_size
    assert (copied.eos, copied.pad, copied.document_start) == (tokenizer.eos, tokenizer.pad, tokenizer.document_start)
    assert copied.encode(TEXTS[2]).tolist() == tokenizer.encode(TEXTS[2]).tolist()


@each_tokenizer
def test_no_text_has_a_special_token(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    if tokenizer.document_start is None:
        return
    for text in TEXTS:
        assert not {tokenizer.eos, tokenizer.document_start} & set(tokenizer.encode(text).tolist())


@pytest.mark.parametrize(("size", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.uint16), (2**16 + 1, np.uint32)])
def test_ids_take_as_little_room_as_they_can(size: int, dtype: type) -> None:
    assert id_type(size) is dtype


def load(config: Any, folder: Path, texts: list[str] | None = None, identity: str = "texts") -> Tokenizer:
    return load_tokenizer(config, lambda: TEXTS if texts is None else texts, identity, folder, folder / "cache")


def test_what_was_trained_is_found_again(tmp_path: Path) -> None:
    for config in (CharacterTokenizerConfig(), BPETokenizerConfig(vocab_size=300)):
        first = load(config, tmp_path)
        again = load(config, tmp_path, texts=[])  # training on nothing would fail
        assert again.hash == first.hash
        assert load(config, tmp_path, texts=["other text " * 9], identity="others").hash != first.hash
    assert load(ByteTokenizerConfig(), tmp_path).vocab_size == 256


def test_the_most_frequent_characters_are_kept(tmp_path: Path) -> None:
    tokenizer = load(CharacterTokenizerConfig(vocab_size=8), tmp_path, texts=["aaaaabbbbccccddddeef"])
    assert tokenizer.vocab_size == 8
    assert tokenizer.decode(tokenizer.encode("abcdef").tolist()) == "abcde\ufffd"


def test_byte_pairs_have_the_size_that_is_asked_for(tmp_path: Path) -> None:
    tokenizer = load(BPETokenizerConfig(vocab_size=300), tmp_path)
    assert tokenizer.vocab_size == 300
    assert len(tokenizer.encode(TEXTS[0])) < len(TEXTS[0])


def test_a_share_of_a_long_text_is_trained_on() -> None:
    texts = ["aaaa bbbb " * 10, "cccc dddd " * 10] * 20
    assert train_bpe(lambda: texts, 270, 10**9) != train_bpe(lambda: texts, 270, 2000)


@pytest.mark.parametrize("config", [CharacterTokenizerConfig(), BPETokenizerConfig()])
def test_no_text_is_told(tmp_path: Path, config: Any) -> None:
    with pytest.raises(DataError, match="tokenizer: there is no text to"):
        load(config, tmp_path, texts=[])


def test_a_tokenizer_is_read_from_a_file_and_from_folders(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(bpe().content, encoding="utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(bpe().content, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": END_OF_TEXT}}))
    model = json.loads(bpe().content)["model"]
    old = tmp_path / "old"
    old.mkdir()
    (old / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (old / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges), encoding="utf-8")
    for path in ("own.json", "folder", "old"):
        found = load(PretrainedTokenizerConfig(path=path), tmp_path)
        assert found.encode(TEXTS[1]).tolist() == bpe().encode(TEXTS[1]).tolist(), path
        assert found.eos == bpe().eos


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", r"own\.json: cannot be read"),
        (b"no json", r"own\.json: cannot be read"),
        (b"\x0a\xff\xfe", r"own\.json cannot be read: .*give a tokenizer\.json"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "own.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load(PretrainedTokenizerConfig(path="own.json"), tmp_path)


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"holds neither a tokenizer.json nor vocab.json and merges.txt"):
        load(PretrainedTokenizerConfig(path="empty"), tmp_path)


@pytest.mark.parametrize(("settings_text", "end"), [('{"eos_token": "<|stop|>"}', "<|stop|>"), (None, END_OF_TEXT)])
def test_a_tokenizer_of_the_hub_ends_texts_as_its_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings_text: str | None, end: str
) -> None:
    content = json.loads(bpe().content)
    content["added_tokens"].append({**content["added_tokens"][0], "id": bpe().vocab_size, "content": "<|stop|>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    if settings_text is not None:
        (tmp_path / "tokenizer_config.json").write_text(settings_text)
    asked = []

    def download(name: str, file: str, *, local_files_only: bool) -> str:
        asked.append((file, local_files_only))
        if local_files_only or not (tmp_path / file).is_file():
            raise FileNotFoundError(file)
        return str(tmp_path / file)

    hub = SimpleNamespace(hf_hub_download=download, errors=SimpleNamespace(EntryNotFoundError=FileNotFoundError))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    found = load(PretrainedTokenizerConfig(path="somebody/own"), tmp_path / "project")
    assert isinstance(found, SubwordTokenizer)
    assert found.eos == {"<|stop|>": bpe().vocab_size, END_OF_TEXT: bpe().eos}[end]
    assert [is_cached for file, is_cached in asked if file == "tokenizer.json"] == [True, False]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab.json": "nope", "merges.txt": "#version: 0.2"}, r"vocab\.json and merges\.txt cannot be read: "),
        ({"tokenizer.json": "{}", "tokenizer_config.json": "{bad"}, r"tokenizer_config\.json is no JSON: "),
        ({"tokenizer.json": "{}", "tokenizer_config.json": "[1]"}, r"tokenizer\.json: cannot be read"),
    ],
)
def test_a_folder_with_a_damaged_file_is_told(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        load(PretrainedTokenizerConfig(path=str(tmp_path)), tmp_path)


def test_a_tokenizer_without_an_end_is_told() -> None:
    content = json.loads(bpe().content)
    content["added_tokens"] = []
    content["model"]["vocab"].pop(END_OF_TEXT)
    with pytest.raises(ConfigError, match=r"it has no token that ends a text; looked for <\|endoftext\|>"):
        SubwordTokenizer(json.dumps(content), END_OF_TEXT)


def test_special_tokens_that_are_written_out_are_read_where_they_are_meant() -> None:
    tokenizer = bpe()
    text = f"a{END_OF_TEXT}b"
    assert tokenizer.eos not in tokenizer.encode(text)
    expected = [*tokenizer.encode("a").tolist(), tokenizer.eos, *tokenizer.encode("b").tolist()]
    for reader in (tokenizer.with_specials, pickle.loads(pickle.dumps(tokenizer.with_specials))):
        assert reader.encode(text).tolist() == expected
        assert [ids.tolist() for ids in reader.encode_batch([text])] == [expected]
        assert (reader.hash, reader.vocab_size) == (tokenizer.hash, tokenizer.vocab_size)
    assert tokenizer.eos not in tokenizer.encode(text), "the tokenizer itself stays as it was"
    assert ByteTokenizer().with_specials.encode("<").tolist() == [60]
