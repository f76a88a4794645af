"""Embedding inside other engines (Ray Data, Spark, datasets): a batch of N rows in, the same rows
out. D width.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

import pauc_hub
from pauc_hub.errors import PaucError, UsageError
from pauc_hub.images.reading import Ranges, as_reading
from pauc_hub.models.catalog import DEFAULT_MODEL
from pauc_hub.origin import Origin

if TYPE_CHECKING:  # they take seconds to import
    from torch import Tensor

    from pauc_hub.inference.model import Model
    from pauc_hub.inference.streaming import Decoded

EMBEDDING_COLUMN, ERROR_COLUMN = "embedding", "error"


class Embedder:
    """Embed the images in one column of a batch; add the columns `embedding` and `error`.

        >>> embedder = Embedder("pauc_resnet18", column="image")
        >>> found = embedder({"id": [7], "image": ["photos/camera.jpg"]})
        >>> list(found), found["embedding"].shape
        (['id', 'image', 'embedding', 'error'], (1, 512))

    With Ray Data, `dataset.map_batches(Embedder, …)`; with datasets, `dataset.map(embedder,
    batched=True)` (docs/scale.md). It can be pickled; the model is loaded at the first call, once
    in each process.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        column: str = "image",
        *,
        on_error: str = "null",
        space: str = "backbone",
        device: str = "auto",
        precision: str = "auto",
        image_size: int | None = None,
        batch_size: int = 64,
        workers: int | None = None,
        value_range: Ranges = None,
        bands: Sequence[int] = (),
    ) -> None:
        """What to embed, and how.

        Args:
            model: whatever `load` takes.
            column: holds paths, encoded bytes, structs of `bytes` and `path` as in Hugging Face's
                datasets, PIL images, or arrays (H, W) or (H, W, 3).
            on_error: `null` leaves the embedding of an unreadable image empty and says why in
                `error`; `raise` stops.
            space, device, precision, image_size: as for `load` and `Model.embed`.
            batch_size: images that go through the network together.
            workers: threads that decode; one for each core unless given.
            value_range, bands: as for `Model.embed`.
        """
        if on_error not in ("null", "raise"):
            raise UsageError(f"on_error='{on_error}' is neither 'null' nor 'raise'.")
        self.model = model
        self.column = column
        self.on_error = on_error
        self.space = space
        self.device = device
        self.precision = precision
        self.image_size = image_size
        self.batch_size = batch_size
        self.workers = workers
        self.reading = as_reading(value_range, bands)
        self._loaded: Model | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loaded": None}

    def __call__(self, batch: Any) -> Any:
        """The same rows and columns, and two more.

        Args:
            batch: a pyarrow Table or RecordBatch, or a dict of equally long columns.

        Returns:
            `embedding`: fixed_size_list<float>[D], null where the image cannot be read; in a dict
            (N, D) float32, rows of NaN there. `error`: why, or null. Of an Arrow batch, the origin
            of the embeddings (model, weights, preprocessing) is in the field's metadata under
            `pauc`.

        Raises:
            UsageError: there is no such column, or one named `embedding` or `error`.
            PaucError: an image cannot be read, with `on_error="raise"`.
        """
        names = list(batch) if isinstance(batch, Mapping) else batch.schema.names
        self._check(names)
        column = batch[self.column]
        images = (
            column.to_pylist() if isinstance(column, pa.Array | pa.ChunkedArray) else list(column)
        )
        embeddings, errors = self._embed(images)
        if isinstance(batch, Mapping):
            return {**batch, EMBEDDING_COLUMN: embeddings, ERROR_COLUMN: errors}
        return self._with_columns(batch, embeddings, errors)

    def _check(self, names: Sequence[str]) -> None:
        if self.column not in names:
            raise UsageError(
                f"column='{self.column}' is not in the batch, which has {', '.join(names)}."
            )
        if taken := [name for name in (EMBEDDING_COLUMN, ERROR_COLUMN) if name in names]:
            raise UsageError(f"the batch has a column '{taken[0]}' already: rename it first.")

    def _open(self) -> "Model":
        if self._loaded is None:
            from pauc_hub.inference.model import load

            self._loaded = load(
                self.model, device=self.device, precision=self.precision, image_size=self.image_size
            )
        return self._loaded

    def _embed(self, images: Sequence[Any]) -> tuple[npt.NDArray[np.float32], list[str | None]]:
        from pauc_hub.inference.features import features
        from pauc_hub.inference.streaming import (
            Decoded,
            batch_encoder,
            choose_decoder,
            open_image,
            square,
        )
        from pauc_hub.threads import decode_ahead

        model = self._open()
        decoder = choose_decoder(model)

        def read(numbered: tuple[int, Any]) -> "Decoded | str":
            row, value = numbered
            name = f"row {row}"
            try:
                if (image := _image(value)) is None:
                    raise PaucError(f"{name} has no image.")
                return square(
                    name, open_image(name, image, decoder, self.reading), model.preprocessing
                )
            except PaucError as error:
                if self.on_error == "raise":
                    raise
                return str(error)

        embeddings = np.full((len(images), model.width_in(self.space)), np.nan, np.float32)
        errors: list[str | None] = []
        encode = batch_encoder(model, self.space)

        def embed(group: "Sequence[Decoded | str]") -> "Tensor":
            return encode([found for found in group if isinstance(found, Decoded)])

        with closing(
            decode_ahead(read, enumerate(images), self.workers, 2 * self.batch_size)
        ) as results:
            groups = iter(lambda: list(islice(results, self.batch_size)), [])
            for found, group in features(embed, groups, lanes=1):
                errors += [each if isinstance(each, str) else None for each in group]
                rows = [
                    row
                    for row in range(len(errors) - len(group), len(errors))
                    if errors[row] is None
                ]
                embeddings[rows] = found.numpy()
        return embeddings, errors

    def _origin(self) -> Origin:
        model = self._open()
        return Origin(
            weights_sha256=model.weights_sha256,
            space=self.space,
            preprocessing=model.preprocessing.to_config() | self.reading.to_config(),
            model=model.name,
            precision=model.precision,
            package_version=pauc_hub.__version__,
        )

    def _with_columns(
        self,
        batch: pa.Table | pa.RecordBatch,
        embeddings: npt.NDArray[np.float32],
        errors: list[str | None],
    ) -> pa.Table | pa.RecordBatch:
        width = embeddings.shape[1]
        unreadable = pa.array([error is not None for error in errors], pa.bool_())
        values = pa.FixedSizeListArray.from_arrays(
            pa.array(embeddings.ravel()), width, mask=unreadable
        )
        field = pa.field(
            EMBEDDING_COLUMN, values.type, metadata={"pauc": json.dumps(self._origin().to_dict())}
        )
        with_embeddings = batch.append_column(field, values)
        return with_embeddings.append_column(ERROR_COLUMN, pa.array(errors, pa.string()))


def _image(value: Any) -> Any:
    """What open_image() takes; a struct of bytes and path as either."""
    if isinstance(value, Mapping):
        return value.get("bytes") or value.get("path")
    return value
