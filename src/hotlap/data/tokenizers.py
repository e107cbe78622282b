"""Text to tokens and back: bytes, characters, byte pairs trained here, and tokenizers that exist.

Nothing here needs torch, so that the processes that prepare a corpus start quickly and stay small. What was trained or
downloaded lies in the project's cache and is found there again.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from hotlap.core.errors import ConfigError, DataError, import_optional
from hotlap.core.files import read_json, write_atomic, write_json

if TYPE_CHECKING:  # the processes that make batches and prepare text do without pydantic
    from hotlap.config.tokenizers import (
        BPETokenizerConfig,
        ByteTokenizerConfig,
        CharacterTokenizerConfig,
        PretrainedTokenizerConfig,
    )

Ids = NDArray[np.unsignedinteger[Any]]
"""Tokens, shape (T,), in the smallest type that holds the vocabulary."""
Texts = Callable[[], Iterable[str]]
"""The training documents, from the first one on at each call."""

END_OF_TEXT: Final = "<|endoftext|>"
"""What ends a document, as GPT-2 has it."""
_END_NAMES: Final = (END_OF_TEXT, "</s>", "<eos>", "<|im_end|>", "[SEP]")
_SETTINGS_NAME: Final = "tokenizer_config.json"
_BYTE_PAD, _BYTE_EOS = 0, 3
_CHARACTER_PAD, _CHARACTER_EOS, _UNKNOWN = 0, 1, 2
_CHARACTER_SPECIALS: Final = 3


class Tokenizer(Protocol):
    """What data, evaluation and generation ask of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Tokens that there are; ids go from 0 to one less."""

    @property
    def pad(self) -> int:
        """What fills up rows; no target is one."""

    @property
    def eos(self) -> int:
        """What ends a completion, and a document where `document_start` is set."""

    @property
    def document_start(self) -> int | None:
        """What stands before each document, so that its first token can be a target; None: nothing does."""

    @property
    def hash(self) -> str:
        """Names the vocabulary."""

    @property
    def with_specials(self) -> "Tokenizer":
        """The same one for texts in which a special token that is written out is meant, such as a chat's marks."""

    def encode(self, text: str) -> Ids:
        """Return a text's tokens, none of them special."""

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the tokens of several texts, on several cores where the tokenizer can."""

    def encode_with_ends(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        """Return a text's tokens, and for each the bytes of UTF-8 up to its end, both (T,)."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens up to the first `eos`; bytes that are not UTF-8 become U+FFFD."""


def id_type(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest type that holds the ids of a vocabulary."""
    return np.uint8 if vocab_size <= 2**8 else np.uint16 if vocab_size <= 2**16 else np.uint32


class ByteTokenizer:
    """Ids 0-255 are the UTF-8 bytes themselves, PAD 0x00 and EOS 0x03 among them."""

    vocab_size: Final = 256
    pad: Final = _BYTE_PAD
    eos: Final = _BYTE_EOS
    document_start: Final = None
    hash: Final = "bytes"

    @property
    def with_specials(self) -> "ByteTokenizer":
        """The same one: a text has nothing but its bytes."""
        return self

    def encode(self, text: str) -> Ids:
        """Return the text's bytes."""
        return np.frombuffer(text.encode(), dtype=np.uint8)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the bytes of each text."""
        return [self.encode(text) for text in texts]

    def encode_with_ends(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        """Return the text's bytes, and 1, 2, 3, …"""
        ids = self.encode(text)
        return ids, np.arange(1, len(ids) + 1)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of bytes up to the first EOS."""
        return bytes(_up_to(ids, self.eos)).decode("utf-8", errors="replace")


class CharacterTokenizer:
    """A token for each character that a text was seen to have, beside padding, end and unknown."""

    pad: Final = _CHARACTER_PAD
    eos: Final = _CHARACTER_EOS
    document_start: Final = _CHARACTER_EOS

    def __init__(self, characters: str) -> None:
        """Take the vocabulary, in the order of the characters' code points."""
        self._points = np.frombuffer(characters.encode("utf-32-le"), dtype=np.uint32)
        self._characters = characters
        self.vocab_size = _CHARACTER_SPECIALS + len(characters)
        self._type = id_type(self.vocab_size)
        self.hash = hashlib.sha256(f"characters {characters}".encode()).hexdigest()[:16]

    @property
    def with_specials(self) -> "CharacterTokenizer":
        """The same one: no special token can be written out."""
        return self

    def encode(self, text: str) -> Ids:
        """Return a token for each character."""
        points = _points(text)
        places = np.minimum(np.searchsorted(self._points, points), len(self._points) - 1)
        is_known = self._points[places] == points
        return np.where(is_known, places + _CHARACTER_SPECIALS, _UNKNOWN).astype(self._type)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the tokens of each text."""
        return [self.encode(text) for text in texts]

    def encode_with_ends(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        """Return the tokens, and the bytes of UTF-8 up to the end of each."""
        return self.encode(text), _byte_ends(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the characters of tokens up to the first `eos`."""
        wanted = [number for number in _up_to(ids, self.eos) if number != self.pad]
        first = _CHARACTER_SPECIALS
        return "".join(
            self._characters[number - first] if first <= number < self.vocab_size else "\ufffd" for number in wanted
        )


class SubwordTokenizer:
    """A tokenizer of the package `tokenizers`, trained here or read from a file."""

    def __init__(
        self, content: str, end: str | None = None, source: str = "tokenizer", *, reads_specials: bool = False
    ) -> None:
        """Read the text of a tokenizer.json; `end` is the token that ends a text, where its name is known.

        `source` is what messages call it. With `reads_specials` a text that writes a special token out means it, else
        its letters. Raises ConfigError when it cannot be read or has no token that ends a text.
        """
        self._content, self._end, self._reads_specials = content, end, reads_specials
        library = import_optional("tokenizers", "train")
        try:
            self._inner = library.Tokenizer.from_str(content)
        except Exception as error:  # the package raises bare exceptions
            raise ConfigError(f"{source}: cannot be read: {error}; expected the content of a tokenizer.json") from error
        self._inner.no_padding()
        self._inner.no_truncation()
        self._inner.encode_special_tokens = not reads_specials
        self.vocab_size = max(self._inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        ends = [self._inner.token_to_id(name) for name in ((end,) if end else _END_NAMES)]
        known = [number for number in ends if number is not None]
        if not known:
            raise ConfigError(
                f"{source}: it has no token that ends a text; looked for {end or ', '.join(_END_NAMES)}; name it with "
                "eos_token in tokenizer_config.json"
            )
        self.eos = self.pad = int(known[0])
        self.document_start = self.eos
        self._type = id_type(self.vocab_size)
        self.hash = hashlib.sha256(f"{self.eos} {content}".encode()).hexdigest()[:16]

    def __reduce__(self) -> tuple[Any, ...]:
        return _subword_tokenizer, (self._content, self._end, self._reads_specials)

    @property
    def content(self) -> str:
        """The text of its tokenizer.json."""
        return self._content

    @cached_property
    def with_specials(self) -> "SubwordTokenizer":
        """The same one for texts in which a special token that is written out is meant."""
        return SubwordTokenizer(self._content, self._end, reads_specials=True)

    def encode(self, text: str) -> Ids:
        """Return a text's tokens."""
        return np.array(self._inner.encode(text, add_special_tokens=False).ids, dtype=self._type)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the tokens of several texts, on all cores unless TOKENIZERS_PARALLELISM says otherwise."""
        encoded = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, dtype=self._type) for one in encoded]

    def encode_with_ends(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        """Return the tokens, and the bytes of UTF-8 up to the end of each; the last one takes what none covers."""
        encoded = self._inner.encode(text, add_special_tokens=False)
        ids = np.array(encoded.ids, dtype=self._type)
        if not len(ids):
            return ids, np.zeros(0, dtype=np.int64)
        bytes_before = np.concatenate([[0], _byte_ends(text)])
        characters = np.array([last for _, last in encoded.offsets], dtype=np.int64)
        ends: NDArray[np.int64] = np.maximum.accumulate(bytes_before[characters])
        ends[-1] = bytes_before[-1]
        return ids, ends

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens up to the first `eos`."""
        text: str = self._inner.decode(list(_up_to(ids, self.eos)), skip_special_tokens=True)
        return text


def _subword_tokenizer(content: str, end: str | None, reads_specials: bool) -> SubwordTokenizer:
    return SubwordTokenizer(content, end, reads_specials=reads_specials)


def load_tokenizer(
    config: "ByteTokenizerConfig | CharacterTokenizerConfig | BPETokenizerConfig | PretrainedTokenizerConfig",
    texts: Texts,
    identity: str,
    directory: Path,
    cache: Path,
) -> Tokenizer:
    """Return the tokenizer that the config names, trained on `texts` where it has to be and kept in `cache`.

    `identity` names the texts' content; a relative path starts from `directory`. Raises ConfigError for a tokenizer
    that cannot be found or read, and DataError for texts that give none.
    """
    if config.name == "byte":
        return ByteTokenizer()
    if config.name == "pretrained":
        return _pretrained(config.path, directory)
    key = hashlib.sha256(json.dumps([identity, config.model_dump()]).encode()).hexdigest()[:16]
    path = cache / f"tokenizer-{config.name}-{key}.json"
    cache.mkdir(parents=True, exist_ok=True)
    if config.name == "character":
        kept = read_json(path)
        if kept is None:
            kept = {"characters": _characters(texts(), config.vocab_size)}
            write_json(path, kept)
        return CharacterTokenizer(kept["characters"])
    if not path.is_file():
        write_atomic(path, train_bpe(texts, config.vocab_size, config.max_training_bytes))
    return SubwordTokenizer(path.read_text(encoding="utf-8"), END_OF_TEXT)


def train_bpe(texts: Texts, vocab_size: int, max_bytes: int) -> str:
    """Return the tokenizer.json of byte pairs as GPT-2 has them (Radford 2019), trained on a share of the texts.

    With more than `max_bytes` of text every n-th document is read. Raises DataError when there is no text.
    """
    library = import_optional("tokenizers", "train")
    total = sum(len(text.encode()) for text in texts())
    if not total:
        raise DataError("tokenizer: there is no text to train it on; give text with task.text")
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_share(texts(), -(-total // max_bytes)), trainer)
    content: str = tokenizer.to_str()
    return content


def _share(texts: Iterable[str], every: int) -> Iterator[str]:
    return (text for number, text in enumerate(texts) if number % every == 0)


def _characters(texts: Iterable[str], vocab_size: int | None) -> str:
    """Return the characters of texts, the most frequent ones where there is a limit, by code point."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    if not counts:
        raise DataError("tokenizer: there is no text to take characters from; give text with task.text")
    limit = None if vocab_size is None else vocab_size - _CHARACTER_SPECIALS
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    return "".join(sorted(ranked[:limit]))


def _pretrained(name: str, directory: Path) -> SubwordTokenizer:
    """Return the tokenizer of a file, of a folder, or of a name of Hugging Face's hub."""
    path = directory / name
    if path.is_dir():
        return _from_folder(path)
    if path.is_file():
        return SubwordTokenizer(_text_of(path), source=str(path))
    if path.suffix == ".json" or name.startswith((".", "/", "~")):
        raise ConfigError(f"tokenizer.path: {path} does not exist; give a tokenizer.json or a folder that holds one")
    hub: Any = import_optional("huggingface_hub", "hf")
    try:
        content, end = _text_of(_from_hub(hub, name, "tokenizer.json")), None
        with suppress(hub.errors.EntryNotFoundError):  # not every tokenizer has settings
            end = _end_in(_from_hub(hub, name, _SETTINGS_NAME))
    except ConfigError:
        raise
    except Exception as error:  # of many kinds: no network, no such name, no such file
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"tokenizer.path: {name} is neither a file nor a folder in {directory}, and Hugging Face's hub does not "
            f"give it ({what}); give a tokenizer.json, or a folder that holds one"
        ) from error
    return SubwordTokenizer(content, end, name)


def _from_hub(hub: Any, name: str, file: str) -> Path:
    """Return a file that is in the hub's cache, else one that was downloaded."""
    with suppress(OSError, ValueError):
        return Path(hub.hf_hub_download(name, file, local_files_only=True))
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each of its tries
    return Path(hub.hf_hub_download(name, file, local_files_only=False))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"tokenizer.path: {path} cannot be read: {error}; give a tokenizer.json, or a folder that holds one"
        ) from error


def _end_in(path: Path) -> str | None:
    """Return the token that ends a text by a tokenizer_config.json, None where that does not say or is not there."""
    if not path.is_file():
        return None
    try:
        settings = json.loads(_text_of(path))
    except ValueError as error:
        raise ConfigError(f"tokenizer.path: {path} is no JSON: {error}") from error
    end = settings.get("eos_token") if isinstance(settings, dict) else None
    name = end.get("content") if isinstance(end, dict) else end
    return name if isinstance(name, str) else None


def _from_folder(folder: Path) -> SubwordTokenizer:
    name = _end_in(folder / _SETTINGS_NAME)
    if (folder / "tokenizer.json").is_file():
        return SubwordTokenizer(_text_of(folder / "tokenizer.json"), name, str(folder / "tokenizer.json"))
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocabulary.is_file() and merges.is_file()):
        raise ConfigError(f"tokenizer.path: {folder} holds neither a tokenizer.json nor vocab.json and merges.txt")
    library = import_optional("tokenizers", "train")
    try:
        tokenizer = library.Tokenizer(library.models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:  # the package raises bare exceptions
        raise ConfigError(f"tokenizer.path: {vocabulary} and merges.txt cannot be read: {error}") from error
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    tokenizer.add_special_tokens([name or END_OF_TEXT])
    return SubwordTokenizer(tokenizer.to_str(), name or END_OF_TEXT)


def _up_to(ids: Sequence[int], end: int) -> Sequence[int]:
    return ids[: ids.index(end)] if end in ids else ids


def _points(text: str) -> NDArray[np.uint32]:
    """Return the code points of a text."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _byte_ends(text: str) -> NDArray[np.int64]:
    """Return for each character of a text the bytes of UTF-8 up to its end."""
    points = _points(text)
    sizes = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.cumsum(sizes)
