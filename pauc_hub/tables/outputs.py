"""Where a table goes: Parquet, .npy or safetensors, by the end of its name. N rows, D width."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pauc_hub.errors import OutputExists, PaucError, UsageError
from pauc_hub.files.atomic import hidden_sibling, replacing
from pauc_hub.tables.pca import Pca
from pauc_hub.tables.table import (
    PARQUET,
    TABLE_SUFFIXES,
    Provenance,
    Sizes,
    companion,
    embedding_columns,
    errors_path,
    parquet_writer,
    table_schema,
    telling,
)
from pauc_hub.tables.vectors import Embeddings, flat_header

Dtype = Literal["float32", "float16"]

INDEX_SUFFIX = ".index.parquet"
PCA_SUFFIX = ".pca.safetensors"
# of embeddings held back until they are written together
BYTES_TOGETHER = 1 << 24
# of the metadata in Parquet
RECEIPT_KEY = b"pauc.run"


def files_of(output: Path) -> tuple[Path, ...]:
    """The files that a table consists of: the one with the embeddings, then that with the names, if
    it is another.
    """
    return (output,) if output.suffix == PARQUET else (output, companion(output, INDEX_SUFFIX))


def pca_path(output: Path) -> Path:
    """Where the projection lies that the embeddings went through, if they did."""
    return companion(output, PCA_SUFFIX)


def check_output(output: Path, overwrite: bool) -> None:
    """Find out before any work whether the table can be written.

    Raises:
        UsageError: not a name of a table, or in a folder where nothing can be written.
        OutputExists: it is there, or what belongs to a table of its name, and may not be
            overwritten.
    """
    if output.suffix not in TABLE_SUFFIXES:
        raise UsageError(
            f"the output '{output}' must end in {', '.join(TABLE_SUFFIXES[:-1])} or "
            f"{TABLE_SUFFIXES[-1]}."
        )
    files = (*files_of(output), errors_path(output), pca_path(output))
    try:
        # without a name, so that no kill can leave it behind
        with TemporaryFile(dir=output.parent):
            pass
        with suppress(FileNotFoundError):
            # the longest name that may be needed
            hidden_sibling(pca_path(output)).lstat()
    except OSError as error:
        raise UsageError(
            f"'{output}' cannot be written ({error.strerror}). Name another place."
        ) from error
    for path in files:
        if path.is_dir():
            raise OutputExists(f"'{path}' is a folder. Name another place.")
        if path.exists() and not overwrite:
            raise OutputExists(f"'{path}' exists. Name another place, or give overwrite=True.")


def in_half(paths: Sequence[str], embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """(N, D) embeddings of N images, rounded to float16.

    Raises:
        PaucError: a number is too large for it.
    """
    with np.errstate(over="ignore"):
        rounded = embeddings.astype(np.float16)
    too_large = np.argwhere(np.isinf(rounded) & np.isfinite(embeddings))
    if len(too_large):
        row, column = too_large[0]
        raise PaucError(
            f"the embedding of '{paths[row]}' holds {embeddings[row, column]:.6g}, and float16 "
            "ends at 65504. Give dtype=float32."
        )
    return rounded


class Writer:
    """What open_output() gives."""

    def __init__(
        self,
        width: int,
        dtype: np.dtype[Any],
        pca: Pca | None,
        parquet: pq.ParquetWriter,
        flat: BinaryIO | None,
    ) -> None:
        self.written = 0
        together = max(1, BYTES_TOGETHER // (4 * width))
        self._paths: list[str] = []
        self._sums: list[str | None] = []
        self._embeddings = np.empty((together, width), np.float32)
        self._sizes = np.empty((together, 2), np.int32)
        self._dtype = dtype
        self._pca = pca
        self._parquet = parquet
        self._flat = flat

    def write(
        self,
        paths: Sequence[str],
        embeddings: npt.NDArray[np.float32],
        sizes: Sizes,
        sums: Sequence[str | None] | None = None,
    ) -> None:
        """Add N rows: names, (N, D) embeddings, (N, 2) widths and heights, sha256 of the files
        where known.

        Groups of the same number of rows go to the file however these come, so that the same rows
        give the same file.

        Raises:
            PaucError: a number is too large for float16.
        """
        together, width = self._embeddings.shape
        if embeddings.shape != (len(paths), width):
            raise ValueError(
                f"{len(paths)} names with embeddings of shape {embeddings.shape}, not {width} wide"
            )
        taken = 0
        while taken < len(paths):
            held = len(self._paths)
            part = slice(taken, min(taken + together - held, len(paths)))
            self._paths += paths[part]
            self._sums += [None] * (part.stop - part.start) if sums is None else sums[part]
            self._embeddings[held : len(self._paths)] = embeddings[part]
            self._sizes[held : len(self._paths)] = sizes[part]
            taken = part.stop
            if len(self._paths) == together:
                self.flush()

    def flush(self) -> None:
        """Hand on what is held back: a whole group, or at the end the rest."""
        held = len(self._paths)
        if held:
            stored = self._stored(self._embeddings[:held])
            columns = embedding_columns(self._paths, stored, self._sizes[:held], self._sums)
            if self._flat:
                self._flat.write(columns.pop("embedding").flatten().to_numpy().data)
            self._parquet.write_table(pa.table(columns, schema=self._parquet.schema))
        self.written += held
        self._paths.clear()
        self._sums.clear()

    def _stored(self, embeddings: npt.NDArray[np.float32]) -> Embeddings:
        exact = self._pca.project(embeddings) if self._pca else embeddings
        if self._dtype == exact.dtype:
            return exact
        return in_half(self._paths, exact).astype(self._dtype, copy=False)


@contextmanager
def open_output(
    path: Path,
    width: int,
    rows: int,
    provenance: Provenance,
    dtype: Dtype = "float32",
    pca: Pca | None = None,
    receipt: Mapping[str, Any] | None = None,
) -> Iterator[Writer]:
    """A writer of a table, which appears at `path` when all of it is safe on the disk; nothing of
    it after an error.

    Args:
        width: of the embeddings that write() is given.
        rows: that write() will be given in all.
        dtype: of the numbers in the table.
        pca: projects the embeddings on their way, and lies beside the table then; `provenance` need
            not name it.
        receipt: what else is to be known of the run; read_receipt() gives it back.

    Raises:
        PaucError: it cannot be written.
    """
    provenance = replace(provenance, pca=pca.sha256) if pca else provenance
    number = np.dtype(dtype).newbyteorder("<")
    kept = pca.width if pca else width
    is_flat = path.suffix != PARQUET
    with telling(path), ExitStack() as stack:
        # the first one appears last
        files = [stack.enter_context(replacing(each)) for each in files_of(path)]
        if pca:
            files.append(stack.enter_context(replacing(pca_path(path))))
            files[-1].write(pca.content)
        if is_flat:
            files[0].write(flat_header(path.suffix, rows, kept, number, provenance.to_json()))
        schema = table_schema(provenance, None if is_flat else kept, number)
        schema = schema.with_metadata(
            schema.metadata | {RECEIPT_KEY: json.dumps(receipt or {}, ensure_ascii=False)}
        )
        with parquet_writer(files[int(is_flat)], schema) as parquet:
            writer = Writer(width, number, pca, parquet, files[0] if is_flat else None)
            yield writer
            writer.flush()
        if writer.written != rows:
            raise ValueError(f"{writer.written} rows were written to '{path}', and not {rows}")
        # all of them before the first appears
        for file in files:
            file.flush()
            os.fsync(file.fileno())
