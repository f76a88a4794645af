"""Embeddings alone in one flat file, .npy or .safetensors: written as they come, mapped when read.
N rows, D width.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.errors import TableError

NPY, SAFETENSORS = ".npy", ".safetensors"
Embeddings = npt.NDArray[np.float32 | np.float16]  # (N, D)
TENSOR = "embedding"
TABLE_KEY = "pauc"  # of safetensors, as of Parquet
# as safetensors names them
STORED_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
LONGEST_HEADER = 100_000_000  # what the safetensors library reads


def flat_header(suffix: str, rows: int, width: int, dtype: np.dtype[Any], about: str) -> bytes:
    """What stands before the (N, D) numbers, row by row; `about` is kept where the form has room
    for it.
    """
    if suffix == NPY:
        header = io.BytesIO()
        shape = {"descr": dtype.str, "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(header, shape)
        return header.getvalue()
    kind = next(name for name, each in STORED_DTYPES.items() if each == dtype)
    tensor = {
        "dtype": kind,
        "shape": [rows, width],
        "data_offsets": [0, rows * width * dtype.itemsize],
    }
    text = json.dumps(
        {"__metadata__": {TABLE_KEY: about}, TENSOR: tensor}, ensure_ascii=False
    ).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin where a processor likes them to
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class Flat:
    """A flat file that was looked at, and of which no number was read."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    """Bytes before the first number."""
    about: str | None
    """What the file says about them, where its form has room for that."""

    def map(self, start: int, stop: int) -> Embeddings:
        """Some rows, read when they are looked at; they leave the memory with the last use of this
        mapping.
        """
        width = self.shape[1]
        offset = self.offset + start * width * self.dtype.itemsize
        return np.memmap(
            self.path, self.dtype, mode="r", offset=offset, shape=(stop - start, width)
        )


def open_flat(path: Path) -> Flat:
    """Look at a flat file.

    Raises:
        TableError: it holds no embeddings, or not all of them.
    """
    try:
        flat = _look_at_npy(path) if path.suffix == NPY else _look_at_safetensors(path)
        if len(flat.shape) != 2 or flat.dtype not in STORED_DTYPES.values():
            raise TableError(
                f"'{path}' holds {flat.dtype} of shape {flat.shape}, and no rows of float32 or "
                "float16."
            )
        flat.map(0, flat.shape[0])
    except OSError as error:
        raise TableError(f"'{path}' cannot be read ({error.strerror or error}).") from error
    # an .npy begins with Python
    except (ValueError, KeyError, TypeError, EOFError, SyntaxError, TokenError) as error:
        raise TableError(f"'{path}' is damaged, or holds no embeddings.") from error
    return flat


def _look_at_npy(path: Path) -> Flat:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not array.flags.c_contiguous:
        raise ValueError("column by column")
    return Flat(path, array.dtype, array.shape, array.offset, None)


def _look_at_safetensors(path: Path) -> Flat:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LONGEST_HEADER:
            raise ValueError(length)
        header = json.loads(file.read(length))
        start = file.tell()
    tensor, about = header[TENSOR], header["__metadata__"][TABLE_KEY]
    return Flat(
        path,
        STORED_DTYPES[tensor["dtype"]],
        tuple(tensor["shape"]),
        start + tensor["data_offsets"][0],
        about,
    )
