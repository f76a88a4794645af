"""The sha256 of each image's bytes, where a table has them: copies of a file are known by it
without the file.
"""

from collections.abc import Iterator
from pathlib import Path

from pauc_hub.tables.outputs import files_of
from pauc_hub.tables.stored import BUFFER, TABLE_ROWS_TOGETHER, open_table
from pauc_hub.tables.table import SUM_COLUMN, parquet_file


def read_image_sums(path: Path) -> Iterator[str | None]:
    """The sha256 of each image's bytes, in the table's order; None where nobody knows it.

    Raises:
        TableError: as open_table().
    """
    for file in open_table(path).files:
        with parquet_file(file, buffer_size=BUFFER, pre_buffer=False) as parquet:
            known = SUM_COLUMN in parquet.schema_arrow.names
            for batch in parquet.iter_batches(
                TABLE_ROWS_TOGETHER, columns=[SUM_COLUMN if known else "width"]
            ):
                yield from batch[SUM_COLUMN].to_pylist() if known else [None] * batch.num_rows


def has_sums(path: Path) -> bool:
    """Whether a table has a column for them, as those of earlier versions have not."""
    with parquet_file(files_of(path)[-1]) as parquet:
        return SUM_COLUMN in parquet.schema_arrow.names
