"""Shards: what became of a stretch of images, in one small file each, until they are joined. N
images, D width.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pauc_hub.files.atomic import replacing
from pauc_hub.tables.table import SUM_COLUMN, Unreadable, embedding_columns

# of the first image, and of the first one after the last
NAME = re.compile(r"(\d{12})-(\d{12})\.arrow")
UNREADABLE_KEY, NEWEST, REMARKS = b"unreadable", b"newest", b"remarks"  # keys of a shard's metadata


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of consecutive images: some are embedded, the others have a reason why not."""

    paths: list[str]
    embeddings: npt.NDArray[np.float32]  # (N, D)
    sizes: npt.NDArray[np.int32]  # (N, 2) width, height as seen
    sums: list[str | None]
    """sha256 of each image's bytes, where they were at hand."""
    unreadable: list[Unreadable]
    newest: float
    """When the last changed of their files was changed, in seconds since 1970; 0 where they are not
    files.
    """
    remarks: Counter[str] = field(default_factory=Counter)
    """How many images each remark of images.decoding holds for."""

    @property
    def count(self) -> int:
        return len(self.paths) + len(self.unreadable)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """One of several, which must not be none."""
        return cls(
            [path for part in parts for path in part.paths],
            np.concatenate([part.embeddings for part in parts]),
            np.concatenate([part.sizes for part in parts]),
            [each for part in parts for each in part.sums],
            [reason for part in parts for reason in part.unreadable],
            max(part.newest for part in parts),
            sum((part.remarks for part in parts), Counter()),
        )


def write_shard(folder: Path, start: int, outcomes: Outcomes) -> Path:
    """Put the outcomes of images `start` and following in a file of their own, whole or not at
    all.
    """
    path = folder / f"{start:012}-{start + outcomes.count:012}.arrow"
    reasons = json.dumps(outcomes.unreadable, ensure_ascii=False).encode()
    columns = embedding_columns(outcomes.paths, outcomes.embeddings, outcomes.sizes, outcomes.sums)
    about = {
        UNREADABLE_KEY: reasons,
        NEWEST: json.dumps(outcomes.newest),
        REMARKS: json.dumps(outcomes.remarks),
    }
    batch = pa.record_batch(columns).replace_schema_metadata(about)
    with replacing(path) as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    return path


def read_shard(path: Path) -> Outcomes:
    """Read one.

    Raises:
        OSError, ValueError: it is damaged.
    """
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        rows = reader.read_all().combine_chunks()
        reasons = json.loads(reader.schema.metadata[UNREADABLE_KEY])
        vectors = rows["embedding"].chunk(0)
        return Outcomes(
            rows["path"].to_pylist(),
            vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size),
            np.stack([rows["width"].to_numpy(), rows["height"].to_numpy()], axis=1),
            rows[SUM_COLUMN].to_pylist(),
            [Unreadable(*reason) for reason in reasons],
            json.loads(reader.schema.metadata[NEWEST]),
            Counter(json.loads(reader.schema.metadata[REMARKS])),
        )


def shards_in_a_row(files: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    """The shards that follow one another from image 0 without a gap, each with the number of images
    up to its end.

    A damaged one ends the row: what it held is embedded again.
    """
    done = 0
    of_start = {
        int(found[1]): (path, int(found[2]))
        for path in files
        if (found := NAME.fullmatch(path.name))
    }
    while done in of_start:
        path, stop = of_start[done]
        if not _holds(path, stop - done):
            return
        done = stop
        yield path, done


def _holds(path: Path, count: int) -> bool:
    try:
        return read_shard(path).count == count
    except (OSError, ValueError, KeyError, TypeError):  # whatever a power cut left of it
        return False
