"""Images in the rows of Parquet files, read a few at a time; a row that cannot be read is an entry
that says why.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from pauc_hub.errors import NoImages, PaucError, UsageError
from pauc_hub.sources.contract import Entry, Listing, fingerprint
from pauc_hub.sources.stored import File, Held, Unavailable, portion, total_size, why

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

KEY_OF_TABLES = b"pauc"  # of this package's tables of embeddings
SUFFIX_OF_ROWS = ".parquet"
ROWS_TOGETHER = 16  # an array of photographs takes some MB then
# bytes read together; without a buffer, Arrow reads all of a row group at once
READ_BUFFER = 1 << 20
# files whose ends are read at the same time: over a network it is waiting, not work
FOOTERS_TOGETHER = 16
# where nothing tells more
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "content")


@dataclass(frozen=True)
class Groups:
    """Some of the row groups of a file."""

    file: File
    column: str
    bounds: tuple[int, ...]
    """Numbers of the rows with which the groups of the file begin, and at last the number of its
    rows.
    """
    first: int
    last: int
    """Groups from `first` up to before `last`."""

    @property
    def rows(self) -> int:
        return self.bounds[self.last] - self.bounds[self.first]


@dataclass(frozen=True)
class ParquetRows:
    """A source of the images in a column of some Parquet files."""

    root: str
    parts: tuple[Groups, ...]
    column: str | None = None
    """Of images, where it was named."""

    @property
    def size(self) -> int | None:
        return total_size(part.file for part in self.parts)

    def listing(self) -> Listing:
        marks = [f"{part.file.mark}\0{part.first}\0{part.last}" for part in self.parts]
        named = [f"column {self.column}"] if self.column else []
        return Listing(sum(part.rows for part in self.parts), fingerprint(marks + named))

    def entries(self, start: int = 0) -> Iterator[Entry]:
        for part in self.parts:
            if start < part.rows:
                yield from _images(part, part.bounds[part.first] + start)
            start = max(0, start - part.rows)

    def share(self, rank: int, ranks: int) -> "ParquetRows":
        """Whole row groups, of about the same number of rows."""
        rows = [
            end - start
            for part in self.parts
            for start, end in pairwise(part.bounds[part.first : part.last + 1])
        ]
        cut, before, parts = portion(rows, rank, ranks), 0, []
        for part in self.parts:
            groups = range(part.first, part.last)[
                max(0, cut.start - before) : max(0, cut.stop - before)
            ]
            if groups:
                parts.append(replace(part, first=groups.start, last=groups.stop))
            before += part.last - part.first
        return replace(self, parts=tuple(parts))


def open_rows(root: str, files: Sequence[File], column: str | None = None) -> ParquetRows:
    """Look at the ends of all files, so that what is wrong with one of them shows before any work.

    Args:
        column: that holds the images; found out by the schema unless given.

    Raises:
        PaucError: a file is damaged, or has no column of images, or more than one.
        UsageError: tables of embeddings.
        NoImages: not one row.
    """
    with ThreadPoolExecutor(FOOTERS_TOGETHER) as pool:
        parts = tuple(pool.map(partial(_groups, column=column), files))
    if not any(part.rows for part in parts):
        raise NoImages(f"no images in '{root}': {len(parts)} Parquet files without a row.")
    return ParquetRows(root, parts, column)


def _groups(file: File, column: str | None) -> Groups:
    import pyarrow.parquet as pq

    try:
        with file.open() as stream, pq.ParquetFile(stream) as parquet:
            schema, metadata = parquet.schema_arrow, parquet.metadata
    except Exception as error:  # of Arrow, the system, the network
        raise PaucError(
            f"'{file.name}' cannot be read as Parquet ({why(error)[1]}). Fetch it anew, or take "
            "it away."
        ) from error
    counts = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    bounds = tuple(accumulate(counts, initial=0))
    return Groups(
        file, image_column(file.name, schema, column), bounds, first=0, last=len(bounds) - 1
    )


def image_column(name: str, schema: "pa.Schema", wanted: str | None = None) -> str:
    """The column that holds images: as Hugging Face's metadata say, else by its type, and its name
    where it must be.

    Args:
        wanted: what it is, if somebody knows.

    Raises:
        PaucError, UsageError: there is none, or several.
    """
    if KEY_OF_TABLES in (schema.metadata or {}):
        raise UsageError(
            f"'{name}' is a table of embeddings. Give the images that it was made from."
        )
    structs = [field.name for field in schema if _is_struct(field.type)]
    plain = [field.name for field in schema if _is_binary(field.type)]
    if wanted is not None:
        if wanted not in structs + plain:
            holding = f"; images may be in {', '.join(structs + plain)}" if structs + plain else ""
            raise UsageError(
                f"image_column={wanted} is no column of image files in '{name}'{holding}."
            )
        return wanted
    marked = [column for column in _marked(schema) if column in structs + plain]
    chosen = marked or structs + [column for column in plain if column in IMAGE_COLUMNS]
    if not chosen:
        raise PaucError(
            f"'{name}' has no column of images (its columns: {', '.join(schema.names)}). "
            "One should hold image files as struct<bytes, path>, or as binary, named "
            f"{' or '.join(IMAGE_COLUMNS[:3])}. "
            "Give another one's name as image_column=NAME."
        )
    if len(chosen) > 1 and IMAGE_COLUMNS[0] not in chosen:
        raise PaucError(
            f"'{name}' has several columns of images ({', '.join(chosen)}). Give "
            f"image_column={chosen[0]}, or another."
        )
    return chosen[0] if len(chosen) == 1 else IMAGE_COLUMNS[0]


def _marked(schema: "pa.Schema") -> list[str]:
    """Columns that the `datasets` library wrote as images."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [column for column, feature in features.items() if feature.get("_type") == "Image"]
    except (KeyError, ValueError, TypeError, AttributeError):
        return []


def _is_struct(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    at = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    return at >= 0 and _is_binary(kind.field(at).type)


def _is_binary(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return any(
        test(kind)
        for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    )


def _images(part: Groups, row: int) -> Iterator[Entry]:
    """The images from a row on, which is one of the part's."""
    import pyarrow.parquet as pq

    end = part.bounds[part.last]
    try:
        with (
            part.file.open() as stream,
            pq.ParquetFile(stream, pre_buffer=False, buffer_size=READ_BUFFER) as parquet,
        ):
            for group in range(bisect_right(part.bounds, row) - 1, part.last):
                yield from _group(part, parquet, group, row)
                row = part.bounds[group + 1]
    except Exception as error:  # it has gone, or changed, since its end was read
        yield from _lost(part, row, end, error)


def _group(part: Groups, parquet: "pq.ParquetFile", group: int, row: int) -> Iterator[Entry]:
    at, end = part.bounds[group : group + 2]
    try:
        for batch in parquet.iter_batches(
            ROWS_TOGETHER, row_groups=[group], columns=[part.column], use_threads=False
        ):
            for data, path in _cells(batch.column(0)):
                if row <= at < end:
                    yield _image(part, at, data, path)
                at += 1
        if at < end:
            raise EOFError("the group ends before its rows do")
    except Exception as error:  # of Arrow, the system, the network
        yield from _lost(part, max(at, row), end, error)


def _cells(column: "pa.Array") -> Iterator[tuple[bytes | None, bytes | None]]:
    """Bytes and path of each row; the path as bytes, since Arrow does not see to it that text is
    UTF-8.
    """
    import pyarrow as pa

    if not pa.types.is_struct(column.type):
        return ((data, None) for data in column.to_pylist())
    fields = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
    has_path = "path" in fields and not pa.types.is_nested(fields["path"].type)
    paths = fields["path"].cast(pa.binary()).to_pylist() if has_path else [None] * len(column)
    return zip(fields["bytes"].to_pylist(), paths, strict=True)


def _image(part: Groups, row: int, data: bytes | None, path: bytes | None) -> Entry:
    below = "" if path is None else "/" + path.decode("utf-8", "backslashreplace").lstrip("/")
    name = f"{part.file.name}/{row:09d}{below}"
    if not data:
        return Unavailable(
            name, "empty", "the row holds no bytes" + (", only a path" if path else "")
        )
    return Held(name, data)


def _lost(part: Groups, first: int, end: int, error: Exception) -> Iterator[Entry]:
    """One entry for each row, so that as many are counted as the file says there are."""
    kind, message = why(error)
    for row in range(first, end):
        yield Unavailable(f"{part.file.name}/{row:09d}", kind, f"the row cannot be read: {message}")
