"""Text in files: plain text, JSON lines, either of them packed with gzip; large files in stretches.

A stretch begins behind the first border at or after its nominal place: a document's separator, else a line's end, else
the start of a character. Every process that reads a stretch finds its borders by itself, from the file alone.
"""

import codecs
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from hotlap.core.errors import DataError
from hotlap.tasks.documents import Chunk, TextOptions, cut_at_lines, split_documents, text_problem
from hotlap.tasks.file_states import TextFile, refuse_changed
from hotlap.tasks.parquet_files import parquet_chunks

_FILES_PER_CHUNK: Final = 2048
_LINE_BYTES: Final = 1 << 20
"""How far a line's end is looked for before a line is cut."""
_BLOCK: Final = 1 << 16
_HEAD: Final = 4


@dataclass(frozen=True, slots=True)
class TextFiles:
    """The documents of files, in the order of the files."""

    files: tuple[TextFile, ...]
    options: TextOptions

    @property
    def identity(self) -> str:
        """Names the content of the files, wherever they lie, and how they are cut."""
        options = self.options
        read = [
            codecs.lookup(options.encoding).name,
            options.separator,
            options.key,
            options.longest,
            options.chunk_bytes,
        ]
        parts = [[file.kind, file.is_packed, file.digest] for file in self.files if file.size]
        return hashlib.sha256(json.dumps([read, parts]).encode()).hexdigest()

    @property
    def num_bytes(self) -> int:
        """Bytes of the files."""
        return sum(file.size for file in self.files)

    def chunks(self) -> Iterator[Chunk]:
        """Yield the stretches: several small files, a part of a large one, some row groups of a table."""
        small: list[tuple[TextFile, int, int]] = []
        size, most = 0, self.options.chunk_bytes
        for file in (one for one in self.files if one.size):
            is_small = file.kind != "table" and not file.is_packed and file.size <= most
            if small and (not is_small or size + file.size > most or len(small) == _FILES_PER_CHUNK):
                yield FileChunk(tuple(small), self.options)
                small, size = [], 0
            if is_small:
                small.append((file, 0, file.size))
                size += file.size
            else:
                yield from _large(file, self.options)
        if small:
            yield FileChunk(tuple(small), self.options)


def _large(file: TextFile, options: TextOptions) -> Iterator[Chunk]:
    if file.kind == "table":
        yield from parquet_chunks(file, options)
    elif file.is_packed:
        yield from _packed_chunks(file, options)
    else:
        for first in range(0, file.size, options.chunk_bytes):
            yield FileChunk(((file, first, min(first + options.chunk_bytes, file.size)),), options)


@dataclass(frozen=True, slots=True)
class FileChunk:
    """Stretches of files, each from the border at one byte to the border at another."""

    parts: tuple[tuple[TextFile, int, int], ...]
    options: TextOptions

    @property
    def num_bytes(self) -> int:
        """Bytes between the nominal places."""
        return sum(last - first for _, first, last in self.parts)

    def documents(self) -> Iterator[str]:
        """Yield the documents that begin in the stretches.

        Raises DataError for bytes that are no text, lines that are no JSON, and files that have changed.
        """
        for file, first, last in self.parts:
            data, begin, codec = _read(file, first, last, self.options)
            yield from _documents(_Stretch(file, data, begin, codec), self.options)


@dataclass(frozen=True, slots=True)
class PackedChunk:
    """A stretch of what gzip packed, unpacked by the process that reads the file."""

    stretch: "_Stretch"
    num_bytes: int
    """Packed bytes that it was read from."""
    options: TextOptions

    def documents(self) -> Iterator[str]:
        """Yield the documents; raises DataError for bytes that are no text and lines that are no JSON."""
        return _documents(self.stretch, self.options)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Bytes of a file, where they stand in it (unpacked), and how they are decoded."""

    file: TextFile
    data: bytes
    begin: int
    codec: str
    num_lines_before: int | None = None
    """Lines before it, where somebody counted."""

    def line(self, place: int) -> int:
        """Return the number of the line, from 1, that a byte of the stretch stands in."""
        before = self.num_lines_before
        if before is None:
            before = _count_lines(self.file.path, self.begin)
        return before + self.data.count(b"\n", 0, place) + 1


def _documents(stretch: _Stretch, options: TextOptions) -> Iterator[str]:
    path, is_lines = stretch.file.path, stretch.file.kind == "lines"
    try:
        text = stretch.data.decode(stretch.codec)
    except UnicodeDecodeError as error:
        line = f"line {stretch.line(error.start)}: " if is_lines else ""
        wanted = "UTF-8" if stretch.codec == "utf-8" else options.encoding
        raise DataError(
            f"{path}: {line}not {wanted} at byte {stretch.begin + error.start} (0x{stretch.data[error.start]:02x}); "
            "mend the file, or say with task.encoding what its encoding is"
        ) from error
    if not is_lines:
        yield from split_documents(text, options)
        return
    for number, line in enumerate(text.split("\n")):
        if line and not line.isspace():
            found, problem = _value(line, options.key)
            if problem:
                raise DataError(f"{path}: line {stretch.line(0) + number}: {problem}")
            yield from cut_at_lines(found, options.longest)


def _value(line: str, key: str) -> tuple[str, str | None]:
    """Return the text at a key of a line of JSON, and what is wrong with the line if something is."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return "", f"no JSON ({error})"
    if not isinstance(row, dict):
        return "", f"expected a JSON object with the key {key!r}, got {type(row).__name__}"
    if key not in row:
        return "", f"no key {key!r}; it has {', '.join(map(repr, row)) or 'none'}; name it with task.text_key"
    return row[key], text_problem(row[key], key)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file's bytes make up text, and where it may be cut."""

    codec: str
    begin: int
    """Bytes of the mark that a file may begin with."""
    unit: int
    """Bytes of the smallest character."""
    separator: bytes | None
    newline: bytes
    is_lines: bool
    """Whether only a line's end will do."""
    chunk_bytes: int


def _layout(file: TextFile, head: bytes, options: TextOptions) -> _Layout:
    codec, begin, unit = _codec(options.encoding, head)
    if file.kind == "lines" and codec == "utf-8" and head.startswith(codecs.BOM_UTF8):
        begin = len(codecs.BOM_UTF8)  # JSON has no such sign before it
    separator = None if options.separator is None else options.separator.encode(codec)
    return _Layout(codec, begin, unit, separator, "\n".encode(codec), file.kind == "lines", options.chunk_bytes)


def _codec(encoding: str, head: bytes) -> tuple[str, int, int]:
    """Return what a file is decoded with, the bytes of its byte order mark, and the bytes of the smallest character."""
    name = codecs.lookup(encoding).name
    if name == "utf-8-sig":
        return "utf-8", len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0, 1
    unit = 2 if name.startswith("utf-16") else 4 if name.startswith("utf-32") else 1
    if name not in ("utf-16", "utf-32"):
        return name, 0, unit
    little, big = (codecs.lookup(f"{name}-{order}") for order in ("le", "be"))
    for codec in (little, big):
        mark = codec.encode("\ufeff")[0]
        if head.startswith(mark):
            return codec.name, len(mark), unit
    return little.name, 0, unit


def _read(file: TextFile, first: int, last: int, options: TextOptions) -> tuple[bytes, int, str]:
    """Return the bytes from the border at `first` to the border at `last`, where they begin, and what they are."""
    try:
        with file.path.open("rb") as stream:
            refuse_changed(file, os.fstat(stream.fileno()))
            layout = _layout(file, stream.read(_HEAD), options)
            begin, end = (_border(stream, place, file.size, layout) for place in (first, last))
            stream.seek(begin)
            data = stream.read(end - begin)
            refuse_changed(file, os.fstat(stream.fileno()))
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from error
    if len(data) != end - begin:
        raise DataError(f"{file.path}: ends at byte {begin + len(data)}, expected {end}; it changed while it was read")
    return data, begin, layout.codec


def _border(stream: IO[bytes], nominal: int, size: int, layout: _Layout) -> int:
    """Return where a stretch begins that is to begin at `nominal`."""
    if nominal <= layout.begin:
        return layout.begin
    if nominal >= size:
        return size
    start = nominal - nominal % layout.unit
    if layout.is_lines:
        return _after(stream, layout.newline, (start, size), layout.unit) or size
    marks = [(layout.newline, min(_LINE_BYTES, layout.chunk_bytes // 2))]
    if layout.separator is not None:
        marks.insert(0, (layout.separator, layout.chunk_bytes))  # no farther, or stretches would overlap
    for mark, reach in marks:
        found = _after(stream, mark, (start, min(size, start + reach)), layout.unit)
        if found is not None or start + reach >= size:
            return found or size
    stream.seek(start)
    return start + _first_character(stream.read(_HEAD)) if layout.codec == "utf-8" else start


def _first_character(data: bytes) -> int:
    """Return where the first character of UTF-8 begins, at most three bytes on."""
    return next((place for place, byte in enumerate(data) if byte & 0xC0 != 0x80), len(data))


def _after(stream: IO[bytes], mark: bytes, between: tuple[int, int], unit: int) -> int | None:
    """Return the place behind the first mark that lies wholly between two places; None where there is none."""
    base, stop = between
    stream.seek(base)
    kept = b""
    while base + len(kept) < stop:
        block = stream.read(min(_BLOCK, stop - base - len(kept)))
        if not block:
            return None
        buffer = kept + block
        place = _find(buffer, mark, base, unit)
        if place is not None:
            return base + place + len(mark)
        kept = buffer[max(0, len(buffer) - len(mark) + 1) :]
        base += len(buffer) - len(kept)
    return None


def _find(buffer: bytes, mark: bytes, base: int, unit: int) -> int | None:
    """Return where a mark first stands in bytes from `base` on, at a whole number of units."""
    place = buffer.find(mark)
    while place >= 0 and (base + place) % unit:
        place = buffer.find(mark, place + 1)
    return place if place >= 0 else None


def _count_lines(path: Path, stop: int) -> int:
    """Return how many line ends stand in a file before a byte."""
    count = 0
    with path.open("rb") as stream:
        while stop > 0:
            block = stream.read(min(_LINE_BYTES, stop))
            if not block:
                break
            count += block.count(b"\n")
            stop -= len(block)
    return count


def _packed_chunks(file: TextFile, options: TextOptions) -> Iterator[PackedChunk]:
    """Yield the stretches of a file that gzip packed; they come one after the other, from one process."""
    begin = lines = packed = 0
    rest = b""
    try:
        with file.path.open("rb") as raw, gzip.open(raw, "rb") as stream:
            layout: _Layout | None = None
            while True:
                block = stream.read(options.chunk_bytes)
                buffer = rest + block
                if layout is None:
                    layout = _layout(file, buffer[:_HEAD], options)
                    buffer, begin = buffer[layout.begin :], layout.begin
                end = _last_border(buffer, begin, layout) if block else len(buffer)
                data, rest = buffer[:end], buffer[end:]
                refuse_changed(file, os.fstat(raw.fileno()))
                if data:
                    used, packed = raw.tell() - packed, raw.tell()
                    yield PackedChunk(_Stretch(file, data, begin, layout.codec, lines), used, options)
                begin, lines = begin + len(data), lines + data.count(b"\n")
                if not block:
                    return
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file.path}: damaged or cut off, gzip cannot unpack it: {error}") from error
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from error


def _last_border(buffer: bytes, base: int, layout: _Layout) -> int:
    """Return where a stretch of unpacked bytes ends, with more to come; 0: it has to be longer."""
    is_long = len(buffer) >= 2 * layout.chunk_bytes
    marks = [layout.newline] if layout.separator is None or layout.is_lines else [layout.separator]
    if layout.separator is not None and not layout.is_lines and is_long:
        marks.append(layout.newline)
    for mark in marks:
        place = buffer.rfind(mark)
        while place >= 0 and (base + place) % layout.unit:
            place = buffer.rfind(mark, 0, place + len(mark) - 1)
        if place >= 0:
            return place + len(mark)
    if layout.is_lines or not is_long:
        return 0
    end = len(buffer) - (base + len(buffer)) % layout.unit
    while layout.codec == "utf-8" and end > 1 and buffer[end - 1] & 0xC0 == 0x80:
        end -= 1
    return end - 1 if layout.codec == "utf-8" and buffer[end - 1] >= 0xC0 else end
