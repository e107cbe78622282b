"""Text in Parquet files (extra `data`): a column of one, some row groups at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from hotlap.core.errors import DataError, import_optional
from hotlap.tasks.documents import TextOptions, cut_at_lines, text_problem
from hotlap.tasks.file_states import TextFile, refuse_changed

_ROWS: Final = 512
_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ParquetChunk:
    """Some row groups of a file."""

    file: TextFile
    groups: tuple[int, ...]
    first_row: int
    num_bytes: int
    """The groups' share of the file."""
    options: TextOptions

    def documents(self) -> Iterator[str]:
        """Yield the column's texts; raises DataError for a row without text and for a file that changed."""
        key, row = self.options.key, self.first_row
        with _opened(self.file) as table:
            for batch in table.iter_batches(batch_size=_ROWS, row_groups=list(self.groups), columns=[key]):
                for value in batch.column(0).to_pylist():
                    problem = text_problem(value, key)
                    if problem:
                        raise DataError(f"{self.file.path}: row {row}: {problem}")
                    row += 1
                    yield from cut_at_lines(value, self.options.longest)
            refuse_changed(self.file, self.file.path.stat())


def parquet_chunks(file: TextFile, options: TextOptions) -> Iterator[ParquetChunk]:
    """Yield the stretches of a Parquet file.

    Raises DataError for a file that is none or has no such column, MissingExtraError without pyarrow.
    """
    with _opened(file) as table:
        names = table.schema_arrow.names
        if options.key not in names:
            raise DataError(
                f"{file.path}: no column {options.key!r}; it has {', '.join(names)}; name it with task.text_key"
            )
        metadata = table.metadata
        found = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        sizes, rows = [one.total_byte_size for one in found], [one.num_rows for one in found]
    total = sum(sizes) or 1
    first_group = first_row = held = 0
    for number, size in enumerate(sizes, start=1):
        held += size
        if held >= options.chunk_bytes or number == len(sizes):
            groups = tuple(range(first_group, number))
            yield ParquetChunk(file, groups, first_row, file.size * held // total, options)
            first_row += sum(rows[first_group:number])
            first_group, held = number, 0


@contextmanager
def _opened(file: TextFile) -> Iterator[Any]:
    """Open a Parquet file for reading; raises DataError when it is none or is damaged."""
    arrow, parquet = import_optional("pyarrow", "data"), import_optional("pyarrow.parquet", "data")
    try:
        refuse_changed(file, file.path.stat())
        with parquet.ParquetFile(file.path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as table:
            yield table
    except (arrow.ArrowException, OSError) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{file.path}: cannot be read as Parquet: {told}") from error
