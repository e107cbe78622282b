"""Files of text: formats, encodings, how they are cut, and what is told of those that cannot be used."""

import gzip
import json
import os
import pickle
import random
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.errors import DataError, MissingExtraError
from hotlap.tasks import file_states, text_files
from hotlap.tasks.documents import TextOptions, cut_at_lines
from hotlap.tasks.file_states import file_states as states_of
from hotlap.tasks.file_states import find_files
from hotlap.tasks.text_files import TextFiles


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for borders in small steps, so that some lie between two of them."""
    monkeypatch.setattr(text_files, "_BLOCK", 3)


def source(folder: Path, names: str | list[str] = "*", **options: object) -> TextFiles:
    return TextFiles(states_of(find_files(names, folder, "task.text"), folder / "cache"), TextOptions(**options))  # type: ignore[arg-type]


def read(texts: TextFiles) -> list[str]:
    """Read all documents as other processes would: every stretch by itself."""
    return [text for chunk in texts.chunks() for text in pickle.loads(pickle.dumps(chunk)).documents()]


def test_each_file_is_a_document_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "c.py"):
        (tmp_path / name).write_text(f"content of {name}")
    assert read(source(tmp_path)) == ["content of a.md", "content of b.txt", "content of c.py"]
    assert read(source(tmp_path, ["c.py", "*.txt", "b.txt"])) == ["content of c.py", "content of b.txt"]


def test_a_folder_stands_for_everything_below_it_that_is_not_hidden(tmp_path: Path) -> None:
    for name in ("deep/er/a.txt", "b.txt", ".hidden/c.txt", ".d.txt"):
        (tmp_path / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "corpus" / name).write_text(name)
    assert read(source(tmp_path, "corpus")) == ["b.txt", "deep/er/a.txt"]


@pytest.mark.parametrize("separator", ["\n%\n", "\n", "<|x|>", "¶"])
@pytest.mark.parametrize("size", [40, 64, 10**6])
def test_documents_are_what_stands_between_separators(tmp_path: Path, separator: str, size: int) -> None:
    draw = random.Random(size)
    texts = ["".join(draw.choices("abcdé🦊 ", k=draw.randint(1, 5))) + "." for _ in range(60)]
    (tmp_path / "a.txt").write_text(separator.join(texts) + separator, encoding="utf-8", newline="")
    assert read(source(tmp_path, "a.txt", separator=separator, chunk_bytes=size)) == texts


@given(
    text=st.text(st.sampled_from("ab\n🦊é%"), max_size=300),
    size=st.integers(4, 40),
    longest=st.integers(1, 30),
)
@settings(deadline=None, max_examples=200)
def test_nothing_is_lost_where_a_long_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int, longest: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    (folder / "a.txt").write_text("x" + text, encoding="utf-8", newline="")
    pieces = read(source(folder, longest=longest, chunk_bytes=size))
    assert all(0 < len(piece) <= longest for piece in pieces)
    assert "".join("".join(pieces).split("\n")) == "".join(("x" + text).split("\n"))  # blank stretches are left out


@given(text=st.text(st.sampled_from("ab\n"), max_size=60), longest=st.integers(1, 9))
def test_pieces_end_behind_line_breaks_and_make_up_the_text(text: str, longest: int) -> None:
    pieces = list(cut_at_lines(text, longest))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= longest for piece in pieces)
    for piece in pieces[:-1]:
        assert piece.endswith("\n") or "\n" not in piece


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be", "cp1251", "koi8-r", "gb18030"]
)
@pytest.mark.parametrize("size", [100, 10**6])
def test_a_declared_encoding_is_read(tmp_path: Path, encoding: str, size: int) -> None:
    texts = [f"Строка {number} текста" for number in range(20)]
    (tmp_path / "a.txt").write_bytes("\n".join(texts).encode(encoding))
    assert read(source(tmp_path, "a.txt", encoding=encoding, separator="\n", chunk_bytes=size)) == texts
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\n".join(texts).encode(encoding)))
    assert read(source(tmp_path, "a.txt.gz", encoding=encoding, separator="\n", chunk_bytes=size)) == texts


@pytest.mark.parametrize("size", [40, 10**6])
def test_json_lines_plain_and_packed(tmp_path: Path, size: int) -> None:
    texts = [f"line {number}\nof «text»\u2028" * (number % 3 + 1) for number in range(30)]
    rows = "\n".join(
        json.dumps({"id": 1, "content": text}, ensure_ascii=number % 2 == 0) for number, text in enumerate(texts)
    )
    (tmp_path / "a.jsonl").write_text(rows + "\n\n", encoding="utf-8")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    assert read(source(tmp_path, "a.jsonl", key="content", chunk_bytes=size)) == texts
    assert read(source(tmp_path, "b.jsonl.gz", key="content", chunk_bytes=size)) == texts


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_byte_order_mark_before_json_lines_is_no_text(tmp_path: Path, name: str) -> None:
    content = ('{"text": "one"}\r\n' * 9).encode("utf-8-sig")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read(source(tmp_path, name, chunk_bytes=40)) == ["one"] * 9


@pytest.mark.parametrize("size", [200, 10**6])
def test_parquet(tmp_path: Path, size: int) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = [f"row {number} é" for number in range(100)]
    table = arrow.table({"n": list(range(100)), "text": texts})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=9)
    found = source(tmp_path, "a.parquet", chunk_bytes=size)
    assert read(found) == texts
    assert (len(list(found.chunks())) > 1) == (size == 200)


def test_many_small_files_share_a_stretch(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number:02}.txt").write_text(f"{number:02} " * 4)
    found = source(tmp_path, "*.txt", chunk_bytes=100)
    assert len(list(found.chunks())) == 7
    assert sum(chunk.num_bytes for chunk in found.chunks()) == found.num_bytes == 600
    assert len(read(found)) == 50


def test_a_corpus_is_named_by_its_content_and_how_it_is_cut(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("one")
    (tmp_path / "c.jsonl").write_text("one")
    names = {source(tmp_path, name).identity for name in ("a.txt", "b.txt")}
    assert len(names) == 1
    names |= {source(tmp_path, "c.jsonl").identity, source(tmp_path, ["a.txt", "b.txt"]).identity}
    names |= {source(tmp_path, "a.txt", **option).identity for option in ({"separator": "x"}, {"encoding": "latin-1"})}
    assert len(names) == 5


def test_a_large_corpus_is_hashed_once_until_it_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_states, "_REMEMBERED_BYTES", 0)
    path = tmp_path / "a.txt"
    path.write_text("one two")
    os.utime(path, ns=(10**18, 10**18))
    now = path.stat().st_ctime_ns
    monkeypatch.setattr(file_states.time, "time_ns", lambda: now + 10 * 10**9)
    first = source(tmp_path, "a.txt").identity
    with monkeypatch.context() as patch:
        patch.setattr(file_states, "_digest", None)  # calling it would fail
        assert source(tmp_path, "a.txt").identity == first
    time.sleep(0.02)  # the file system's clock ticks every few milliseconds
    path.write_text("two one")  # as long as before, and given the old time again
    os.utime(path, ns=(10**18, 10**18))
    assert source(tmp_path, "a.txt").identity != first


def test_a_hash_of_a_file_that_was_just_written_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_states, "_REMEMBERED_BYTES", 0)
    (tmp_path / "a.txt").write_text("one two")
    source(tmp_path, "a.txt")
    source(tmp_path, "a.txt")
    assert (
        not list((tmp_path / "cache").glob("*")) or json.loads(next((tmp_path / "cache").iterdir()).read_text()) == {}
    )


BAD_JSON = [
    ('{"text": "a"}\n{"text": ', r"a\.jsonl: line 2: no JSON \("),
    ('{"text": "a"}\n\n["b"]', r"line 3: expected a JSON object with the key 'text', got list"),
    ('{"txt": "a", "n": 1}', r"line 1: no key 'text'; it has 'txt', 'n'; name it with task\.text_key"),
    ('{"text": "a"}\n{"text": 5}', r"line 2: 'text' is int, expected text"),
    ('{"text": null}', r"line 1: 'text' is empty, expected text"),
    ('{"text": "a\\ud83d"}', r"line 1: 'text' has half a character \(U\+D83D\) at place 1"),
]


@pytest.mark.parametrize(("content", "message"), BAD_JSON)
@pytest.mark.parametrize("size", [9, 10**6])
def test_a_line_that_is_no_document_is_told_with_its_number(
    tmp_path: Path, content: str, message: str, size: int
) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read(source(tmp_path, "a.jsonl", chunk_bytes=size))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [5, 10**6])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"abc\ndef\nghi\xff\n", r"a\.txt: not UTF-8 at byte 11 \(0xff\)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}', r"a\.jsonl: line 2: not UTF-8 at byte 24 \(0xe9\)"),
    ],
)
def test_a_bad_byte_is_told_with_its_place(tmp_path: Path, name: str, content: bytes, message: str, size: int) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    for one in (name, f"{name}.gz"):
        with pytest.raises(DataError, match=message.replace(r":", r"(\.gz)?:", 1)) as caught:
            read(source(tmp_path, one, chunk_bytes=size))
        assert str(caught.value).endswith("; mend the file, or say with task.encoding what its encoding is")


def test_a_bad_byte_of_another_encoding_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc\x98")
    with pytest.raises(DataError, match=r"a\.txt: not cp1251 at byte 3 \(0x98\)"):
        read(source(tmp_path, encoding="cp1251"))


def test_a_file_that_shrinks_or_changes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some text that is long")
    found = source(tmp_path)
    path.write_text("some text")
    with pytest.raises(
        DataError, match=r"a\.txt: shrank from 22 to 9 bytes while it was being read; let nothing write"
    ):
        read(found)
    path.write_text("some text that is longer now")
    with pytest.raises(DataError, match=r"a\.txt: changed while it was being read"):
        read(found)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.txt: cannot be read: No such file"):
        read(found)


def test_empty_files_are_told_when_there_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"a\.txt is empty; give text"):
        source(tmp_path)
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(DataError, match=r"all 2 files are empty, .*a\.txt the first"):
        source(tmp_path)
    (tmp_path / "c.txt").write_text("text")
    assert read(source(tmp_path)) == ["text"]


@pytest.mark.parametrize("name", ["nothing.txt", "*.nothing", "nowhere/*"])
def test_a_name_that_stands_for_no_file_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"task\.validation_text: no file matches"):
        find_files(["a.txt", name], tmp_path, "task.validation_text")


def test_other_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    for name, ending in (("a.txt.zst", ".zst"), ("a.tar.gz", ".tar.gz")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match=rf"\{ending} files cannot be read; unpack it"):
            source(tmp_path, name)
    (tmp_path / "deep.jsonl").write_text("[" * 200_000)
    with pytest.raises(DataError, match=r"deep\.jsonl: line 1: no JSON"):
        read(source(tmp_path, "deep.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"the folder .*empty holds no file"):
        source(tmp_path, "empty")


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"some text" * 999, mtime=0)[:-20]])
def test_a_packed_file_that_is_damaged_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.txt\.gz: damaged or cut off, gzip cannot unpack it"):
        read(source(tmp_path))


def test_a_table_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "a.parquet").write_bytes(b"no table at all")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as Parquet"):
        read(source(tmp_path))
    parquet.write_table(arrow.table({"body": ["a"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column 'text'; it has body, n; name it with task\.text_key"):
        read(source(tmp_path))
    parquet.write_table(arrow.table({"text": ["a", None]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"row 1: 'text' is empty, expected text"):
        read(source(tmp_path))


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"x")
    with pytest.raises(MissingExtraError, match=r"pyarrow is not installed; run: pip install 'hotlap\[data\]'"):
        read(source(tmp_path))
