"""Embeddings alone in one flat file, .npy or .safetensors: written as they come, mapped when read. N rows, D width."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.errors import TableError

NPY, SAFETENSORS = ".npy", ".safetensors"
Embeddings = npt.NDArray[np.float32 | np.float16]  # (N, D)
TENSOR = "embedding"
METADATA_KEY = "pauc"  # of safetensors, as of Parquet
KINDS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}  # as safetensors names them
LONGEST_HEADER = 100_000_000  # what the safetensors library reads


def flat_header(suffix: str, rows: int, width: int, dtype: np.dtype[Any], about: str) -> bytes:
    """What stands before the (N, D) numbers, row by row; `about` is kept where the form has room for it."""
    if suffix == NPY:
        header = io.BytesIO()
        shape = {"descr": dtype.str, "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(header, shape)
        return header.getvalue()
    kind = next(name for name, each in KINDS.items() if each == dtype)
    tensor = {"dtype": kind, "shape": [rows, width], "data_offsets": [0, rows * width * dtype.itemsize]}
    text = json.dumps({"__metadata__": {METADATA_KEY: about}, TENSOR: tensor}, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin where a processor likes them to
    return len(text).to_bytes(8, "little") + text


def map_vectors(path: Path) -> tuple[Embeddings, str | None]:
    """The (N, D) numbers, mapped and not read, and what the file says about them.

    Raises:
        TableError: they are no embeddings, or not all there.
    """
    try:
        vectors, about = _map_npy(path) if path.suffix == NPY else _map_safetensors(path)
    except OSError as error:
        raise TableError(f"'{path}' cannot be read ({error.strerror or error}).") from error
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise TableError(f"'{path}' is damaged, or holds no embeddings.") from error
    if vectors.ndim != 2 or vectors.dtype not in KINDS.values():
        raise TableError(f"'{path}' holds {vectors.dtype} of shape {vectors.shape}, and no rows of float32 or float16.")
    return vectors, about


def _map_npy(path: Path) -> tuple[npt.NDArray[Any], None]:
    return np.load(path, mmap_mode="r", allow_pickle=False), None


def _map_safetensors(path: Path) -> tuple[npt.NDArray[Any], str]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LONGEST_HEADER:
            raise ValueError(length)
        header = json.loads(file.read(length))
        start = file.tell()
    tensor = header[TENSOR]
    shape, offset = tuple(tensor["shape"]), start + tensor["data_offsets"][0]
    return np.memmap(path, KINDS[tensor["dtype"]], mode="r", offset=offset, shape=shape), header["__metadata__"][
        METADATA_KEY
    ]
